"""Offer the commands that list and show tasks."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Any

import typer

from ledger import reads
from ledger.forks import forks_of
from ledger.hidden import shown_event
from ledger.ids import task_stream
from ledger.store import Recorded
from ledger.task import STATES
from projections import arriving
from projections.listing import Filter
from projections.reports import Reports
from projections.tasks import stamp
from runner import completion, past_rows
from runner.at import At, past_of
from runner.parameters import Form, TaskId
from runner.render import Output, print_line, print_list, print_object, to_json

_ENVELOPE = ("originator_id", "originator_version", "command", "at", "actor", "reason")
_LIST_COLUMNS = ("id", "name", "queue", "state", "attempt", "left", "due_at", "actor", "run_as", "error")
_EVENT_COLUMNS = ("position", "version", "type", "at", "actor", "reason", "data")

tasks = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and change tasks.")

Name = Annotated[
    str | None, typer.Option(help="Only tasks queued under this name.", autocompletion=completion.task_names)
]
State = Annotated[
    str | None, typer.Option(help=f"Only these: {', '.join(STATES)}.", autocompletion=lambda: list(STATES))
]
Queue = Annotated[str | None, typer.Option(help="Only tasks of this queue.", autocompletion=completion.queues)]
RunAs = Annotated[str | None, typer.Option(help="Only tasks that run as this identity.")]
QueuedBy = Annotated[str | None, typer.Option(metavar="ACTOR", help="Only tasks that this actor queued (user:ann).")]
Label = Annotated[str | None, typer.Option(help="Only tasks with this label.")]
Where = Annotated[str, typer.Option("--filter", metavar="TERMS", help="Only tasks like args.user_id:5 since:24h.")]


def filter_of(
    name: str | None,
    state: str | None,
    queue: str | None,
    run_as: str | None,
    queued_by: str | None,
    label: str | None,
    where: str,
) -> Filter:
    """Return the filter that these flags give.

    Raises:
        InvalidOption: One is outside what is allowed.
    """
    return Filter(name=name, state=state, queue=queue, run_as=run_as, actor=queued_by, label=label, where=where)


@tasks.command("list")
def list_(
    context: typer.Context,
    state: State = None,
    name: Name = None,
    queue: Queue = None,
    run_as: RunAs = None,
    queued_by: QueuedBy = None,
    label: Label = None,
    where: Where = "",
    failed_only: Annotated[
        bool, typer.Option("--failed-only", help="Only what has failed, or waits or runs again after a failure.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this task of the last page.")] = None,
    at: At = None,
    output: Form = Output.table,
) -> None:
    """List tasks, newest first.

    Example: workledger task list --state failed --limit 20
    """
    having = replace(filter_of(name, state, queue, run_as, queued_by, label, where), failed_only=failed_only)
    ledger = context.obj.existing()
    if at is not None:
        position = None if after is None else ledger.get(after).record.queued_position
        found = past_rows.task_records(ledger, past_of(context.obj, at), having, limit, position)
        rows = [record.summary() for record in found]
    else:
        rows = [row.summary() for row in arriving.page(ledger, Reports(ledger), having.parameters(), limit, after)]
    if output is not Output.table:
        context.obj.note_read(ledger, (row["id"] for row in rows), reads.ARGUMENTS, reads.RESULT)
    else:
        for row in rows:
            row["error"] = row["error"] and f"{row['error']['type']}: {row['error']['message']}"
            row["left"] = "unlimited" if row["attempts_left"] is None else row["attempts_left"]
    print_list(rows, _LIST_COLUMNS, output, "no tasks")


@tasks.command("show")
def show(context: typer.Context, task_id: TaskId, at: At = None, output: Form = Output.table) -> None:
    """Show one task: its request, its state and its attempts.

    Example: workledger task show 01890a5d-ac96-774b-bcce-b302099a8057 -o json
    """
    ledger = context.obj.existing()
    record = ledger.get(task_id).record if at is None else past_of(context.obj, at).get(task_id)
    with ledger.store.read() as snapshot:
        forks = forks_of(snapshot, task_id)
    links = {"forked_from": record.queued.forked_from, "forks": forks, "duplicate_of": record.duplicate_of}
    context.obj.note_read(ledger, [task_id], reads.ARGUMENTS, reads.RESULT)
    summary = record.summary() | {key: value for key, value in links.items() if value}
    if output is not Output.table:
        print_object(summary, output)
        return
    if record.progress is not None:
        summary["progress"] = " ".join(filter(None, (record.progress.text, record.progress.message)))
    if summary["error"]:
        summary["error"] = f"{summary['error'].get('type')}: {summary['error'].get('message')}"
    print_object(summary, output)
    if record.attempts:
        print_line("")
        attempts = [
            {
                "attempt": attempt.number,
                "outcome": attempt.outcome,
                "worker": attempt.worker,
                "claimed_at": attempt.claimed_at,
                "ended_at": attempt.ended_at,
                "acted_as": ", ".join(attempt.acted_as) or None,
                "code_version": attempt.code_version,
                "cause": attempt.cause or (attempt.error or {}).get("message"),
            }
            for attempt in record.attempts
        ]
        print_list(attempts, list(attempts[0]), output, "")


@tasks.command("events")
def events(context: typer.Context, task_id: TaskId, at: At = None, output: Form = Output.table) -> None:
    """Show every event of one task, oldest first.

    Example: workledger task events 01890a5d-ac96-774b-bcce-b302099a8057 -o jsonl
    """
    ledger = context.obj.existing()
    ledger.get(task_id)
    with ledger.store.read() as snapshot:
        found = snapshot.stream(task_stream(task_id))
    context.obj.note_read(ledger, [task_id], reads.ARGUMENTS, reads.RESULT)
    upto = None if at is None else past_of(context.obj, at).position
    rows = [event_row(recorded) for recorded in found if upto is None or recorded.position <= upto]
    if output is Output.table:
        rows = [{**row, "data": to_json(row["data"])} for row in rows]
    print_list(rows, _EVENT_COLUMNS, output, "no events")


def event_row(recorded: Recorded) -> dict[str, Any]:
    """Return one event as ``task events`` shows it; *data* is what the envelope does not have, hidden arguments masked."""
    event = shown_event(recorded.event)
    return {
        "position": recorded.position,
        "version": event.originator_version,
        "type": type(event).__name__,
        "at": stamp(event.at),
        "actor": event.actor,
        "reason": event.reason,
        "data": {one.name: getattr(event, one.name) for one in fields(event) if one.name not in _ENVELOPE},
    }
