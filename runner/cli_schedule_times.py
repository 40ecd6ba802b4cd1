"""Offer the commands that only compute: when a schedule fires, in its own time zone and in UTC, and in words."""

from __future__ import annotations

import sys
from datetime import datetime
from random import SystemRandom
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from ledger.clock import SystemClock
from ledger.cron import Fields, Rule, parse_expression, resolve
from ledger.cron_words import Preview, describe
from ledger.cron_words import preview as coming
from ledger.errors import InvalidOption, InvalidSchedule, NeverFires
from ledger.zones import once, zone_named
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_list
from runner.session import Session

MOST_FIRINGS = 10_000

Count = Annotated[int, typer.Option("-n", min=1, max=MOST_FIRINGS, help="How many firings.")]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Firings later than this; by default now.")]
Zone = Annotated[str | None, typer.Option("--timezone", metavar="AREA/CITY", help="By default the setting timezone.")]


def preview(
    context: typer.Context,
    expression: Annotated[str | None, typer.Argument(metavar="EXPR", help="minute hour day month dayofweek")] = None,
    timezone: Zone = None,
    since: Since = None,
    count: Count = 10,
    minute: Annotated[str | None, typer.Option(help="0-59, in place of EXPR like the next four.")] = None,
    hour: Annotated[str | None, typer.Option(help="0-23")] = None,
    day: Annotated[str | None, typer.Option(help="1-31")] = None,
    month: Annotated[str | None, typer.Option(help="1-12 or jan-dec")] = None,
    dayofweek: Annotated[str | None, typer.Option(help="0-7 or sun-sat")] = None,
    name: Annotated[str, typer.Option(help="The schedule's name, from which H follows.")] = "preview",
    output: Form = Output.table,
) -> None:
    """List the firings that a schedule would have, and warn where a change of the clock meets it.

    Example: workledger schedule preview "30 2 * * *" --timezone Europe/Berlin --from 2026-03-28 -n 3
    """
    given = {"minute": minute, "hour": hour, "day": day, "month": month, "dayofweek": dayofweek}
    fields = resolve(_fields(expression, given), name, SystemRandom().randint)
    session: Session = context.obj
    zone = zone_named(timezone or session.settings.timezone)
    after = parse_time("--from", since, zone) if since is not None else SystemClock().now()
    try:
        rule = Rule(fields, zone.key)
    except NeverFires as error:
        print_list([], ("at", "local"), output, clean(error))
        return
    show(coming(rule, after, count), f"{' '.join(fields)} in {zone.key}: {describe(fields)}", output)


def show(found: Preview, heading: str, output: Output) -> None:
    """Print firings with both their times; a table has the *heading* above it, and the warnings go below or to stderr."""
    if output is Output.table:
        print_line(clean(heading))
    rows = [{"at": firing.at, "local": firing.local.isoformat()} for firing in found.firings]
    print_list(rows, ("at", "local"), output, "no firings")
    for warning in found.warnings:
        print(f"warning: {clean(warning)}", file=sys.stdout if output is Output.table else sys.stderr)


def parse_time(option: str, text: str, zone: ZoneInfo) -> datetime:
    """Return the moment that an ISO 8601 *text* gives; without an offset it is a time on the clock of *zone*.

    Raises:
        InvalidOption: It is no such time.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidOption(
            f"{option} is {clean(text)!r}; allowed are ISO 8601 times such as 2031-05-01T12:00 or 2031-05-01T12:00:00+02:00"
        ) from None
    try:
        return once(zone, moment) if moment.tzinfo is None else moment
    except OverflowError:
        raise InvalidOption(f"{option} is {clean(text)!r}; allowed are the years 1901 to 8999") from None


def _fields(expression: str | None, given: dict[str, str | None]) -> Fields:
    named = {name: text for name, text in given.items() if text is not None}
    if (expression is None) == (not named):
        raise InvalidSchedule(
            "a schedule is one expression of five fields, or --minute, --hour and so on: one of the two"
        )
    return parse_expression(expression) if expression is not None else Fields(**named)
