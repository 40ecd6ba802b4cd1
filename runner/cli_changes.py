"""Offer the commands that change the course of tasks, one or many at a time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ledger.api import Ledger
from ledger.clock import SystemClock, from_us
from ledger.errors import InvalidOption
from projections.listing import Filter
from projections.tasks import stamp
from runner import bulk, completion
from runner.cli_enqueue import parse_moment
from runner.cli_tasks import Label, Name, Queue, QueuedBy, RunAs, State, Where, filter_of
from runner.parameters import Form, Reason, TaskId
from runner.render import Output, clean, print_line, print_object
from runner.session import Session

OneId = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", help="The task's id; without one the filters say which.", autocompletion=completion.task_ids
    ),
]
All = Annotated[bool, typer.Option("--all", help="Every task in such a state, where no filter is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many tasks it would be.")]


def retry(
    context: typer.Context,
    reason: Reason,
    task_id: OneId = None,
    state: State = None,
    name: Name = None,
    queue: Queue = None,
    run_as: RunAs = None,
    queued_by: QueuedBy = None,
    label: Label = None,
    where: Where = "",
    all_: All = False,
    dry_run: DryRun = False,
    output: Form = Output.table,
) -> None:
    """Let a failed or cancelled task wait again, due at once, with all its attempts; or all failed ones by a filter.

    Example: workledger task retry --name send_digest --reason "mail server is back" --dry-run
    """
    session: Session = context.obj
    having = _which(task_id, filter_of(name, state, queue, run_as, queued_by, label, where), "retry", all_, dry_run)
    ledger = session.existing()
    if task_id is None:
        done = bulk.retry_all(ledger, having, reason=reason, actor=session.actor, dry_run=dry_run)
        print_changed(done, "retried", output, dry_run=dry_run)
        return
    ledger.retry(task_id, reason=reason, actor=session.actor)
    _print_outcome(ledger, task_id, output)


def cancel(
    context: typer.Context,
    reason: Reason,
    task_id: OneId = None,
    state: State = None,
    name: Name = None,
    queue: Queue = None,
    run_as: RunAs = None,
    queued_by: QueuedBy = None,
    label: Label = None,
    where: Where = "",
    all_: All = False,
    dry_run: DryRun = False,
    output: Form = Output.table,
) -> None:
    """End a waiting task, or ask a running one to end; or all of them by a filter. The log keeps what was cancelled.

    Example: workledger task cancel 01890a5d-ac96-774b-bcce-b302099a8057 --reason "sent by hand"
    """
    session: Session = context.obj
    having = _which(task_id, filter_of(name, state, queue, run_as, queued_by, label, where), "cancel", all_, dry_run)
    ledger = session.existing()
    if task_id is None:
        done = bulk.cancel_all(ledger, having, reason=reason, actor=session.actor, dry_run=dry_run)
        print_changed(done, "cancelled", output, dry_run=dry_run)
        return
    ledger.cancel(task_id, reason=reason, actor=session.actor)
    _print_outcome(ledger, task_id, output)


def _which(task_id: str | None, having: Filter, verb: str, is_all: bool, is_dry: bool) -> Filter:
    """Return the filter; refuse what does not say plainly which tasks are meant."""
    if task_id is not None and (not having.is_empty or is_all or is_dry):
        raise InvalidOption("an id excludes filters, --all and --dry-run: they are for many tasks")
    if task_id is None and having.is_empty and not is_all:
        raise InvalidOption(f"{verb} needs an id, a filter such as --name, or --all for every such task")
    return having


def print_changed(done: bulk.Changed, what: str, output: Output, *, dry_run: bool) -> None:
    """Print what became of many tasks."""
    if output is not Output.table:
        print_object({**asdict(done), "by_name": dict(done.by_name), "dry_run": dry_run}, output)
        return
    names = ", ".join(f"{count} {name}" for name, count in sorted(done.by_name.items()))
    of = f"{done.found} task{'' if done.found == 1 else 's'}" + (f" ({names})" if names else "")
    if dry_run:
        print_line(clean(f"{of} would be {what}"))
        return
    print_line(clean(f"{done.changed} of {of} {what}"))
    for sentence in done.refusals:
        print_line(clean(f"left: {sentence}"))
    if done.conflicts > len(done.refusals):
        print_line(f"left: {done.conflicts - len(done.refusals)} more")


def reschedule(
    context: typer.Context,
    task_id: TaskId,
    run_after: Annotated[str, typer.Option(metavar="SECONDS|ISO", help="Not before then.")],
    reason: Reason,
    expires: Annotated[
        str | None, typer.Option(metavar="SECONDS|ISO", help="Its new expiry, or so long after it is due.")
    ] = None,
    output: Form = Output.table,
) -> None:
    """Make a waiting task due at another time.

    Example: workledger task reschedule 01890a5d-ac96-774b-bcce-b302099a8057 --run-after 0 --reason "needed now"
    """
    session: Session = context.obj
    moment = parse_moment(run_after)
    expiry = None if expires is None else parse_moment(expires, "--expires")
    ledger = session.existing()
    ledger.reschedule(task_id, moment, reason=reason, actor=session.actor, expires=expiry)
    _print_outcome(ledger, task_id, output)


def _print_outcome(ledger: Ledger, task_id: str, output: Output) -> None:
    record = ledger.get(task_id).record
    if output is not Output.table:
        print_object(record.summary(), output)
        return
    state = record.state
    due_at = from_us(state.due_us)
    when = f", due {stamp(due_at)}" if state.status == "waiting" and due_at > SystemClock().now() else ""
    asked = " and was asked to end" if state.cancel_us is not None else ""
    print_line(f"task {state.task_id} is {state.status}{asked}{when}")
