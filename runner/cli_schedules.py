"""Offer the commands that look at schedules: list and show them, when they run next, what happened to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from ledger.api import Ledger
from ledger.cron import Fields, Rule, parse_expression, resolve
from ledger.cron_forecast import forecast as runs_per_hour
from ledger.cron_words import Firing, Preview, warnings
from ledger.declarations import override_of
from ledger.errors import InvalidOption, NotFound
from ledger.schedule import DECLARED, ScheduleState, in_force, loads
from ledger.schedule_history import Change
from ledger.schedules import coming
from ledger.slots import rule_of
from ledger.zones import zone_named
from projections.queue import catch_up_all
from projections.schedules import all_states, live_runs
from projections.tasks import stamp
from runner import cli_schedule_changes, cli_schedule_times, completion
from runner.at import At, past_of
from runner.cli_schedule_times import Count, parse_time, show
from runner.parameters import Form
from runner.past_rows import schedule_details, schedule_rows
from runner.render import Output, clean, print_line, print_list, print_object, to_json
from runner.schedule_rows import LIST_COLUMNS, details_of, in_words, row_of, state_of, table_row
from runner.session import Session

schedules = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at schedules and change them.")
schedules.command("preview")(cli_schedule_times.preview)
cli_schedule_changes.add_to(schedules)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", autocompletion=completion.schedules)]


@schedules.callback()
def group() -> None:
    """Look at schedules and change them."""


@schedules.command("list")
def list_(
    context: typer.Context,
    component: Annotated[
        str | None, typer.Option(help="Only those of this component.", autocompletion=completion.components)
    ] = None,
    retired: Annotated[bool, typer.Option("--retired", help="Also those whose code is gone.")] = False,
    at: At = None,
    output: Form = Output.table,
) -> None:
    """List the schedules: how they went last, when they run next, and where they differ from their code.

    Example: workledger schedule list --component mail
    """
    if at is not None:
        found = schedule_rows(past_of(context.obj, at), component, retired=retired)
    else:
        with _caught_up(context.obj).store.read() as snapshot:
            runs, now = live_runs(snapshot), snapshot.now
            states = [state for state in all_states(snapshot) if retired or state.status == DECLARED]
        found = [row_of(state, runs.get(state.name), now) for state in states if component in (None, state.component)]
    found.sort(key=lambda row: (row["component"] or "", row["name"]))
    if output is Output.table:
        found = [table_row(row) for row in found]
    print_list(found, LIST_COLUMNS, output, "no schedules")


@schedules.command("show")
def show_one(context: typer.Context, name: Name, at: At = None, output: Form = Output.table) -> None:
    """Show one schedule: its fields, its default, its last and its next run, and how its runs are made.

    Example: workledger schedule show nightly_cleanup -o json
    """
    if at is not None:
        print_object(schedule_details(past_of(context.obj, at), name), output)
        return
    ledger = _caught_up(context.obj)
    state = ledger.schedules.get(name)
    with ledger.store.read() as snapshot:
        run, now = live_runs(snapshot).get(name), snapshot.now
    print_object({**details_of(state, run, now), "state": state_of(run, now)}, output)


@schedules.command("next")
def next_(context: typer.Context, name: Name, count: Count = 10, at: At = None, output: Form = Output.table) -> None:
    """List the coming firings of a schedule, in UTC and on its own clock, and warn of changes of the clock.

    Example: workledger schedule next nightly_cleanup -n 20
    """
    ledger = context.obj.existing()
    past = None if at is None else past_of(context.obj, at)
    state, now = (ledger.schedules.get(name), ledger.clock.now()) if past is None else (past.schedule(name), past.at)
    zone = zone_named(state.timezone)
    firings = [Firing(slot, slot.astimezone(zone)) for slot in coming(state, count, now)]
    said = tuple(warnings(rule_of(state), now, firings[-1].at)) if firings else ()
    why = "" if firings else f" ({_why_not(state)})"
    heading = f"{' '.join(in_force(state).fields)} in {state.timezone}: {in_words(state)}{why}"
    show(Preview(tuple(firings), said), heading, output)


def _why_not(state: ScheduleState) -> str:
    if state.status != DECLARED:
        return "it is retired: its code is gone"
    return "its component is disabled" if state.is_component_off else "it is disabled"


@schedules.command("history")
def history(
    context: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    changes: Annotated[bool, typer.Option("--changes", help="Only changes, no slots fired or missed.")] = False,
    at: At = None,
    output: Form = Output.table,
) -> None:
    """Show who changed what of a schedule, when, why, from what to what; and what was fired and missed.

    Example: workledger schedule history nightly_cleanup --changes
    """
    found = context.obj.existing().schedules.history(name)
    if at is not None:
        upto = past_of(context.obj, at).position
        found = [change for change in found if change.position <= upto]
    if changes:
        found = [change for change in found if change.what not in ("SlotFired", "SlotsMissed")]
    rows = [_history_row(change) for change in found[-limit:]]
    if output is Output.table:
        rows = [{**row, "what": f"{row['what']}: {_told(row)}".rstrip(": ")} for row in rows]
        for row in rows:
            print_line(
                clean(
                    f"{stamp(row['at'])}  {row['actor']}  {row['what']}"
                    + (f"  ({row['reason']})" if row["reason"] else "")
                )
            )
        return
    print_list(rows, (), output, "")


def _history_row(change: Change) -> dict[str, Any]:
    return {
        "position": change.position,
        "version": change.version,
        "at": change.at,
        "actor": change.actor,
        "what": change.what,
        "changes": {name: {"from": before, "to": after} for name, (before, after) in change.changes.items()},
        "details": change.details,
        "reason": change.reason,
    }


def _told(row: dict[str, Any]) -> str:
    is_new = row["changes"].get("status", {}).get("from", "") is None
    names = ("schedule", "resolved", "timezone", "enabled") if is_new else tuple(row["changes"])
    parts = [
        f"{name} {_short(values['to'])}" if is_new else f"{name} {_short(values['from'])} → {_short(values['to'])}"
        for name, values in row["changes"].items()
        if name in names
    ]
    parts += [f"{name} {_short(value)}" for name, value in row["details"].items() if value not in (None, False)]
    return ", ".join(parts)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else stamp(value) if isinstance(value, datetime) else to_json(value)


@schedules.command("override")
def override(context: typer.Context, output: Form = Output.table) -> None:
    """List what the configuration file says of schedules (schedule_overrides), and whether it is in force yet.

    Example: workledger --config workledger.toml schedule override
    """
    session: Session = context.obj
    ledger = _caught_up(session)
    overrides = session.settings.schedule_overrides
    with ledger.store.read() as snapshot:
        states = [state for state in all_states(snapshot) if state.status == DECLARED]
    rows = [row for state in states if (row := _override_row(state, overrides))]
    used = {row["pattern"] for row in rows}
    rows += [
        {"schedule": None, "pattern": pattern, "in_force": "fits no schedule"}
        for pattern in overrides
        if pattern not in used
    ]
    columns = ("schedule", "pattern", "fields", "timezone", "enabled", "in_force")
    print_list(rows, columns, output, "no overrides")


def _override_row(state: ScheduleState, overrides: dict[str, Any]) -> dict[str, Any] | None:
    command = override_of(state.name, overrides, state)
    recorded = loads(state.override) if state.override else {}
    if command is None:
        return {**_of_layer(state, recorded), "in_force": "yes; gone from the file"} if recorded else None
    wanted = {"fields": command.fields, "timezone": command.timezone, "enabled": command.enabled}
    has = {"fields": tuple(recorded.get("fields", ())) or None} | {
        name: recorded.get(name) for name in ("timezone", "enabled")
    }
    is_same = bool(recorded) and wanted == has
    given = {**wanted, "override": command.override}
    return {**_of_layer(state, given), "in_force": "yes" if is_same else "from the next sync or start of a worker"}


def _of_layer(state: ScheduleState, layer: dict[str, Any]) -> dict[str, Any]:
    fields = layer.get("fields")
    return {
        "schedule": state.name,
        "pattern": layer.get("override"),
        "fields": " ".join(fields) if fields else None,
        "timezone": layer.get("timezone"),
        "enabled": layer.get("enabled"),
    }


@schedules.command("forecast")
def forecast(
    context: typer.Context,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="By default now.")] = None,
    upto: Annotated[str | None, typer.Option("--to", metavar="TIME", help="By default a day later.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=EXPR", help="A proposed schedule, or NAME=off; may be given several times."),
    ] = None,
    at: At = None,
    output: Form = Output.table,
) -> None:
    """Tell how many runs start in each hour under the schedules in force, and under a proposed change.

    Example: workledger schedule forecast --from 2026-03-01T00:00 --to 2026-03-02T00:00 --change "nightly_cleanup=0 3 * * *"
    """
    session: Session = context.obj
    zone = zone_named(session.settings.timezone)
    found, now = _states(session, at)
    states = {state.name: state for state in found}
    start = now if since is None else parse_time("--from", since, zone)
    end = start + timedelta(days=1) if upto is None else parse_time("--to", upto, zone)
    rules = {name: rule_of(state) for name, state in states.items() if state.is_active}
    proposed = dict(_proposed(one, states) for one in change or ())
    rows = [
        {"hour": hour.at, "runs": hour.runs, **({"proposed": hour.proposed} if proposed else {})}
        for hour in runs_per_hour(rules, start, end, proposed)
    ]
    print_list(rows, ("hour", "runs", "proposed") if proposed else ("hour", "runs"), output, "no hours")


def _proposed(text: str, states: dict[str, ScheduleState]) -> tuple[str, Rule | None]:
    name, is_given, expression = text.partition("=")
    if not is_given:
        raise InvalidOption(f"--change is {clean(text)!r}; allowed is NAME=EXPR or NAME=off")
    state = states.get(name)
    if state is None:
        raise NotFound(f"there is no schedule {clean(name)!r} in this ledger")
    if expression.strip() == "off":
        return name, None
    fields = Fields(*resolve(parse_expression(expression), name, _low))
    return name, Rule(fields, state.timezone)


def _low(low: int, _: int) -> int:
    """Stand for a value not drawn yet: a forecast draws nothing."""
    return low


def _states(session: Session, at: str | None) -> tuple[list[ScheduleState], datetime]:
    """Return all schedules as they are, or were, and the moment that this is."""
    if at is not None:
        past = past_of(session, at)
        return past.schedules(), past.at
    with _caught_up(session).store.read() as snapshot:
        return list(all_states(snapshot)), snapshot.now


def _caught_up(session: Session) -> Ledger:
    ledger = session.existing()
    catch_up_all(ledger)
    return ledger
