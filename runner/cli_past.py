"""Offer the commands that compare the past with itself: `diff` of two moments, and `replay decisions`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from runner.at import parse_at
from runner.changes import Changes, changes
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_list, print_object, to_json
from runner.session import Session

MOST_SHOWN = 50


def diff(
    context: typer.Context,
    since: Annotated[str, typer.Option("--from", metavar="TIME|POSITION", help="The earlier moment.")],
    upto: Annotated[
        str | None, typer.Option("--to", metavar="TIME|POSITION", help="The later; by default now.")
    ] = None,
    output: Form = Output.table,
) -> None:
    """Show what changed between two moments: tasks, schedules, limits and pauses, and who did what, and why.

    Example: workledger diff --from 2031-05-01T12:00:00Z --to 2031-05-01T13:00:00Z
    """
    session: Session = context.obj
    ledger = session.existing()
    with ledger.store.read() as snapshot:
        end = parse_at(upto, "--to") if upto is not None else snapshot.head()
    found = changes(ledger, parse_at(since, "--from"), end)
    if output is Output.table:
        _print(found)
        return
    ends = {"from": found.since.position, "to": found.upto.position}
    rows = {"tasks": found.tasks, "schedules": found.schedules, "controls": found.controls, "acts": found.acts}
    print_object({**ends, **rows}, output)


def _print(found: Changes) -> None:
    first, last = found.since.position + 1, found.upto.position
    print_line(f"positions {first} to {last}" if first <= last else "nothing happened between them")
    moves: dict[str, int] = {}
    for row in found.tasks:
        move = f"{row['from'] or 'new'} -> {row['to']}"
        moves[move] = moves.get(move, 0) + 1
    told = ", ".join(f"{count} {move}" for move, count in sorted(moves.items())) or "none changed"
    _section(f"tasks: {told}", found.tasks, ("task", "name", "from", "to", "attempts"))
    schedules = [{**row, "changes": _changed(row["changes"])} for row in found.schedules]
    _section("schedules", schedules, ("schedule", "fired", "missed", "changes"))
    _section("limits and pauses", found.controls, ("what", "from", "to"))
    acts = [
        {**act, "what": ", ".join(f"{kind} x{n}" if n > 1 else kind for kind, n in act["what"].items())}
        | {"about": act["about"][0] + (f" and {len(act['about']) - 1} more" if len(act["about"]) > 1 else "")}
        for act in found.acts
    ]
    _section("who did what", acts, ("at", "actor", "what", "about", "reason"))


def _section(heading: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    print_line(f"\n{clean(heading)}")
    print_list(rows[-MOST_SHOWN:], columns, Output.table, "none")
    if len(rows) > MOST_SHOWN:
        print_line(f"… and {len(rows) - MOST_SHOWN:,} before these; -o json has them all")


def _changed(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {to_json(one['from'])} -> {to_json(one['to'])}" for name, one in found.items())


replays = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Decide again what was decided.")


@replays.callback()
def group() -> None:
    """Decide again what was decided."""


@replays.command("decisions")
def replay_decisions(
    context: typer.Context,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME|POSITION", help="After there; by default the beginning.")
    ] = "0",
    upto: Annotated[str | None, typer.Option("--to", metavar="TIME|POSITION", help="By default the head.")] = None,
    output: Form = Output.table,
) -> None:
    """Fold the log again and compare firings, retry times and claims with what is decided now; exit 1 if one differs.

    The first difference is named by its position. With --app tasks count under the names they have now.

    Example: workledger replay decisions --from 2031-05-01T00:00:00Z
    """
    from runner.decisions import decisions  # few ask for it
    from runner.names import present_name

    session: Session = context.obj
    ledger = session.app_ledger() if session.app else session.existing()
    end = None if upto is None else parse_at(upto, "--to")
    found = decisions(ledger, parse_at(since, "--from"), end, present_name(ledger.functions))
    counts = {"firings": found.firings, "retries": found.retries, "claims": found.claims}
    if output is Output.table:
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        print_line(f"positions {found.since + 1} to {found.upto}: {told} compared")
        one = found.difference
        print_line(
            "all are decided so now" if one is None else clean(f"differs at position {one.position}: {one.text}")
        )
    else:
        difference = None if found.difference is None else found.difference._asdict()
        print_object({"from": found.since, "to": found.upto, **counts, "difference": difference}, output)
    raise typer.Exit(0 if found.difference is None else 1)
