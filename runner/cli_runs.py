"""Offer the commands that run tasks by hand, and the one that reveals hidden arguments, on record."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated

import typer

from ledger import reads
from ledger.api import Ledger
from ledger.clock import from_us
from ledger.settings import Settings
from ledger.task import SUCCEEDED, WAITING
from projections.listing import Filter
from projections.tasks import stamp
from runner import bulk
from runner.cli_changes import DryRun, print_changed
from runner.cli_tasks import Label, Name, Queue, QueuedBy, RunAs, State, Where, filter_of
from runner.parameters import Form, Reason, TaskId
from runner.render import Output, clean, print_line, print_object
from runner.session import Session

INTERRUPTED = 130


def run(
    context: typer.Context,
    task_id: TaskId,
    reason: Annotated[
        str | None, typer.Option(help="Why; needed for a task that has ended or is not due, and kept in the log.")
    ] = None,
    output: Form = Output.table,
) -> None:
    """Run one task here and now, in the foreground: also if it is not due, has failed, or nobody works its queue.

    The exit code is 0 if it succeeded, 1 if not, 4 if somebody else holds it.

    Example: workledger --app tasks:ledger task run 01890a5d-ac96-774b-bcce-b302099a8057 --reason "to see it fail"
    """
    session: Session = context.obj
    raise typer.Exit(_run_here(session, session.app_ledger(), task_id, reason, output))


def _run_here(session: Session, ledger: Ledger, task_id: str, reason: str | None, output: Output) -> int:
    from runner.code_version import code_version
    from runner.foreground import run_in_foreground  # the other commands need none of it
    from runner.options import RunOptions

    shared = {field.name for field in fields(RunOptions)} & Settings.model_fields.keys() - {"app"}
    options = RunOptions(app=session.app or "", **session.settings.model_dump(include=shared))
    options = replace(options, code_version=options.code_version or code_version(session.app))
    try:
        ran = run_in_foreground(ledger, task_id, options, reason=reason, actor=session.actor)
    except KeyboardInterrupt:
        print_line(f"task {task_id} was given back: interrupted")
        return INTERRUPTED
    record = ledger.get(task_id).record
    state = record.state
    if output is not Output.table:
        session.note_read(ledger, [task_id], reads.ARGUMENTS, reads.RESULT)
        print_object(record.summary(), output)
    else:
        late = "; its result was rejected: the attempt had been taken from this process" if ran.is_late else ""
        due = f", due {stamp(from_us(state.due_us))}" if state.status == WAITING else ""
        error = f": {record.error.get('type')}: {record.error.get('message')}" if record.error else ""
        print_line(clean(f"task {task_id} is {state.status} after attempt {ran.attempt}{due}{error}{late}"))
    return 0 if state.status == SUCCEEDED and not ran.is_late else 1


def run_failed(
    context: typer.Context,
    reason: Reason,
    state: State = None,
    name: Name = None,
    queue: Queue = None,
    run_as: RunAs = None,
    queued_by: QueuedBy = None,
    label: Label = None,
    where: Where = "",
    dry_run: DryRun = False,
    output: Form = Output.table,
) -> None:
    """Make every task that has failed due now, oldest first: ended ones are retried, waiting retries pulled forward.

    The workers run them.

    Example: workledger task run-failed --name send_digest --reason "mail server is back"
    """
    session: Session = context.obj
    having: Filter = filter_of(name, state, queue, run_as, queued_by, label, where)
    done = bulk.run_failed(session.existing(), having, reason=reason, actor=session.actor, dry_run=dry_run)
    print_changed(done, "made due", output, dry_run=dry_run)


def reveal(context: typer.Context, task_id: TaskId, reason: Reason, output: Form = Output.table) -> None:
    """Show the arguments of a task with those that are hidden; that you saw them is recorded first.

    Example: workledger task reveal 01890a5d-ac96-774b-bcce-b302099a8057 --reason "customer asks what was sent"
    """
    session: Session = context.obj
    print_object(session.existing().get(task_id).reveal(reason=reason, actor=session.actor), output)
