"""Offer the commands on the inbox: what waits to be taken into the log, and to try again or discard what could not be."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger import inbox
from projections.queue import is_prepared, prepare
from runner.parameters import Form, Reason, TaskId
from runner.render import Output, clean, print_line, print_list, print_object

MOST_SHOWN = 1_000

inboxes = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See what callers queued in transactions of their own."
)


@inboxes.command("list")
def list_(
    context: typer.Context,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="Only what could not be taken into the log.")] = False,
    output: Form = Output.table,
) -> None:
    """List what was queued in callers' transactions and is not in the log yet; what was set aside comes first.

    Example: workledger inbox list --set-aside
    """
    ledger = context.obj.existing()
    with ledger.store.read() as snapshot:
        entries = inbox.set_aside(snapshot, MOST_SHOWN)
        waiting = [] if set_aside else inbox.waiting(snapshot, MOST_SHOWN)
    rows: list[dict[str, Any]] = [
        {"id": entry.task_id, "state": "set aside", "name": None, "queued_at": None, "error": entry.error}
        for entry in entries
    ]
    for event in waiting:
        task_id = event.originator_id.removeprefix("task:")
        row = {"id": task_id, "state": "waiting", "name": event.name, "queued_at": event.at, "error": None}
        rows.append(row)
    print_list(rows, ("id", "state", "name", "queued_at", "error"), output, "nothing waits in the inbox")


@inboxes.command("retry")
def retry(
    context: typer.Context,
    task_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Only these; all without.")] = None,
    output: Form = Output.table,
) -> None:
    """Try once more to take in what was set aside; exit 1 if some of it still cannot be.

    Example: workledger inbox retry
    """
    ledger = context.obj.existing()
    with ledger.store.write() as unit:
        if not is_prepared(unit):
            prepare(unit)
        tried = inbox.try_again(unit, task_ids or ())
    if output is Output.table:
        for task_id, error in tried:
            print_line(clean(f"{task_id} {'is in the log' if error is None else f'cannot be taken in: {error}'}"))
        if not tried:
            print_line("nothing was set aside")
    else:
        print_list([{"id": task_id, "error": error} for task_id, error in tried], (), output, "")
    if any(error is not None for _, error in tried):
        raise typer.Exit(1)


@inboxes.command("discard")
def discard(context: typer.Context, task_id: TaskId, reason: Reason, output: Form = Output.table) -> None:
    """Give up what was set aside: its row is deleted; the log keeps its digest, its error, who did it and why.

    Example: workledger inbox discard 01890a5d-ac96-774b-bcce-b302099a8057 --reason "written by a test"
    """
    ledger = context.obj.existing()
    with ledger.store.write() as unit:
        event = inbox.discard(unit, task_id, ledger.act(unit, context.obj.actor, reason))
    if output is Output.table:
        print_line(clean(f"{event.task} is discarded; it was set aside because {event.error}"))
    else:
        print_object({"id": event.task, "error": event.error, "sha256": event.sha256}, output)
