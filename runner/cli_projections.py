"""Offer the commands on the views: list them, build them anew, verify them, keep them at the head."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ledger.api import Ledger
from ledger.errors import InvalidOption
from ledger.store import HOT_VIEWS
from projections import controls as control_view
from projections import queue as queue_view
from projections import schedules as schedule_view
from projections.reports import Reports
from runner.follower import follow as follow_reports
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_list
from runner.session import Session

HOT = ("queue", "schedules", "controls")
"""The views in the ledger's own database; the others are reports. The report of the schedules has this prefix."""
REPORT_PREFIX = "report:"

projection = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, keep, rebuild and verify the views.")

OneView = Annotated[
    str | None, typer.Option("--view", metavar="NAME", help="Only this view; `projection list` has their names.")
]


@projection.command("list")
def list_(context: typer.Context, output: Form = Output.table) -> None:
    """List the views: how far each is folded, and since when.

    Example: workledger projection list
    """
    ledger = _ledger(context.obj)
    reports = Reports(ledger)
    with ledger.store.read() as snapshot:
        head, hot = snapshot.head(), snapshot.checkpoint(HOT_VIEWS)
    rows: list[dict[str, Any]] = [
        {"view": name, "version": None, "checkpoint": hot, "head": head, "lag": head - hot} for name in HOT
    ]
    known = set(reports.names())
    for kept in reports.state():
        row = {"view": _shown(kept.view), "version": kept.version, "checkpoint": kept.checkpoint, "head": head}
        said = kept.error or ("" if kept.view in known else "no code of it here: give --app")
        rows.append(
            row | {"lag": head - kept.checkpoint, "newest_at": kept.newest_at, "built_at": kept.built_at, "note": said}
        )
    columns = ("view", "version", "checkpoint", "head", "lag", "newest_at", "built_at", "note")
    print_list(rows, columns, output, "no views")


@projection.command("rebuild")
def rebuild(context: typer.Context, view: OneView = None) -> None:
    """Build views anew from the log beside the live ones, and swap them; readers do not notice.

    Example: workledger projection rebuild --view hourly
    """
    ledger = _ledger(context.obj)
    reports = Reports(ledger)
    names = _checked(reports, view)
    if view in (None, "queue"):
        print_line(f"queue: rebuilt from {queue_view.rebuild(ledger)} events")
    if view in (None, "schedules"):
        print_line(f"schedules: rebuilt from {schedule_view.rebuild(ledger)} events")
    if view in (None, "controls"):
        print_line(f"controls: rebuilt from {control_view.rebuild(ledger)} events")
    if names:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("folding the log", total=None)
            count = reports.rebuild(names, lambda at, upto: progress.update(bar, completed=at, total=upto))
        for name in names:
            print_line(f"{clean(_shown(name))}: rebuilt from {count} events")


@projection.command("verify")
def verify(context: typer.Context, view: OneView = None, output: Form = Output.table) -> None:
    """Compare the views with a fresh fold of the log; exit 1 if they differ.

    Example: workledger projection verify
    """
    ledger = _ledger(context.obj)
    reports = Reports(ledger)
    names = _checked(reports, view)
    differences: dict[str, list[str]] = {}
    if view in (None, "queue"):
        differences["queue"] = queue_view.verify(ledger)
    if view in (None, "schedules"):
        differences["schedules"] = schedule_view.verify(ledger)
    if view in (None, "controls"):
        differences["controls"] = control_view.verify(ledger)
    if names:
        found = reports.verify_each(names)
        differences.update({_shown(name): lines for name, lines in found.items()})
    if output is not Output.table:
        rows: list[dict[str, Any]] = [
            {"view": name, "is_equal": not found, "differences": found} for name, found in differences.items()
        ]
        print_list(rows, ("view", "is_equal", "differences"), output, "")
    for name, lines in differences.items() if output is Output.table else ():
        print_line(f"{name}: equal to the fold of the log" if not lines else f"{name}: {len(lines)} differences")
        for sentence in lines[:20]:
            print_line(f"  {clean(sentence)}")
    if any(differences.values()):
        raise typer.Exit(1)


@projection.command("drop")
def drop(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The projection.")]) -> None:
    """Delete the rows of a projection that no code declares any more.

    Example: workledger --app tasks:ledger projection drop spending
    """
    Reports(_ledger(context.obj)).drop(name)
    print_line(f"{clean(name)}: dropped")


@projection.command("follow")
def follow(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End when the views are at the head.")] = False,
) -> None:
    """Keep the report views at the head of the log until a signal stops it, as every `run` does beside its workers.

    Example: workledger projection follow
    """
    ledger = _ledger(context.obj)
    if once:
        print_line(f"reports: at position {Reports(ledger).catch_up()}")
        return
    try:
        follow_reports(ledger, lambda: False)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def _ledger(session: Session) -> Ledger:
    """Return the ledger, with the projections of the app if one is named."""
    ledger = session.app_ledger() if session.app else session.ledger()
    with ledger.store.read():
        return ledger


def _shown(name: str) -> str:
    return REPORT_PREFIX + name if name in HOT else name


def _checked(reports: Reports, view: str | None) -> list[str]:
    """Return the names of the report views that *view* (None: every view) means; none for one beside the log."""
    names = {_shown(name): name for name in reports.names()}
    if view is None:
        return list(names.values())
    if view in HOT:
        return []
    if view not in names:
        raise InvalidOption(f"there is no view {view!r}; there are: {', '.join((*HOT, *names))}")
    return [names[view]]
