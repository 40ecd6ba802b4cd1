"""Offer the command that lists notices: what needed a person, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from ledger.errors import InvalidOption
from ledger.ids import TASK_PREFIX
from ledger.ledger_events import NoticeRaised
from ledger.notices import KINDS, Notice, notice
from ledger.schedule import LEDGER_STREAM, SCHEDULE_PREFIX
from ledger.zones import zone_named
from projections.tasks import stamp
from runner.at import At, past_of
from runner.cli_schedule_times import parse_time
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_list
from runner.session import Session


def notices(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(KINDS)}.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those about tasks or a schedule of this name.")] = None,
    about: Annotated[str | None, typer.Option(metavar="ID|SCHEDULE", help="Only those about this one.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only from then on.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    at: At = None,
    output: Form = Output.table,
) -> None:
    """List what needed a person, oldest first: delays at their cap, tasks out of attempts, schedules overdue.

    Example: workledger notices --kind out_of_attempts --since 2026-03-01
    """
    if kind is not None and kind not in KINDS:
        raise InvalidOption(f"--kind is {kind!r}; allowed are {', '.join(KINDS)}")
    session: Session = context.obj
    earliest = None if since is None else parse_time("--since", since, zone_named(session.settings.timezone))
    ledger = session.existing()
    with ledger.store.read() as snapshot:
        stored = [one for one in snapshot.stream(LEDGER_STREAM) if isinstance(one.event, NoticeRaised)]
    upto = None if at is None else past_of(session, at).position
    told = [notice(one) for one in stored if upto is None or one.position <= upto]
    wanted = [one for one in told if _is_wanted(one, kind, name, about, earliest)]
    if output is Output.table:
        print_line("\n".join(map(_line, wanted[-limit:])) or "no notices")
    else:
        print_list([one.summary() for one in wanted[-limit:]], (), output, "")


def _line(one: Notice) -> str:
    task_id = f" ({one.about.removeprefix(TASK_PREFIX)})" if one.about.startswith(TASK_PREFIX) else ""
    return clean(f"{stamp(one.at)}  {one.kind}  {one.name}{task_id}: {one.text}")


def _is_wanted(one: Notice, kind: str | None, name: str | None, about: str | None, earliest: datetime | None) -> bool:
    streams = (about, TASK_PREFIX + (about or ""), SCHEDULE_PREFIX + (about or ""))
    return (
        kind in (None, one.kind)
        and name in (None, one.name)
        and (about is None or one.about in streams)
        and (earliest is None or one.at >= earliest)
    )
