"""Offer the commands that look at the whole ledger: queues, workers, what runs now, why, and the views themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
import typer

from ledger import keys
from ledger.api import Ledger
from ledger.clock import from_us, to_us
from ledger.limits import Running
from ledger.statements import statements
from ledger.task import WAITING, TaskState
from projections import controls as control_view
from projections import queue as queue_view
from projections.heartbeat import Heartbeat
from runner import past_rows
from runner.at import At, past_of
from runner.control_rows import CONTROL_COLUMNS, control_rows, holds, leaving_for, mark_row
from runner.heartbeat import all_of
from runner.parameters import Form, TaskId
from runner.render import Output, clean, print_line, print_list, print_object
from runner.running import COLUMNS, running_rows, table_rows
from runner.session import Session
from runner.why import why

SQL = statements("projections", "sql/sqlite/reading.sql")

queues = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the queues.")
workers = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the workers.")


@queues.command("list")
def queue_list(context: typer.Context, at: At = None, output: Form = Output.table) -> None:
    """List the queues that have live tasks or are paused: waiting (due, later), running, the oldest due time.

    Example: workledger queue list -o json
    """
    rows = _queue_rows(_caught_up(context.obj)) if at is None else past_rows.queue_rows(past_of(context.obj, at))
    columns = ("queue", "waiting_due", "waiting_later", "running", "oldest_due", "paused")
    if output is Output.table:
        rows = [
            {**row, "paused": (paused := row["paused"]) and f"by {paused['actor']}: {paused['reason']}"} for row in rows
        ]
    print_list(rows, columns, output, "no live tasks in any queue")


def _queue_rows(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.store.read() as snapshot:
        found = snapshot.rows(SQL["queue_totals"], (to_us(snapshot.now),))
        controls = control_view.read(snapshot)
    known = {row[0] for row in found}
    found += [(queue, 0, 0, 0, None) for queue in controls.paused_queues() if queue not in known]
    return [
        {
            "queue": name,
            "waiting_due": due,
            "waiting_later": later,
            "running": running,
            "oldest_due": _moment(oldest),
            "paused": None if (paused := controls.paused(name)) is None else mark_row(paused),
        }
        for name, due, later, running, oldest in found
    ]


def now(context: typer.Context, at: At = None, output: Form = Output.table) -> None:
    """Show what runs now: task, who asked, as whom it runs, worker, host, pid, since when, attempt, progress, slowness.

    Before it stands what keeps work from going on: disabled runners, paused queues, workers that were told to leave; in
    JSON as `control`.


    Example: workledger now
    """
    session: Session = context.obj
    slow, stuck = session.settings.health_running_warning, session.settings.health_running_critical
    if at is not None:
        past = past_of(session, at)
        rows, controls = past_rows.running_rows(past, slow, stuck), past_rows.marks_rows(past)
    else:
        with _caught_up(session).store.read() as snapshot:
            rows = running_rows(snapshot, slow, stuck)
            controls = control_rows(control_view.read(snapshot), all_of(snapshot))
    columns = COLUMNS
    if output is Output.table:
        rows, columns = table_rows(rows)
        if controls:
            print_list(controls, CONTROL_COLUMNS, output, "")
            print_line("")
    else:
        rows = [*controls, *rows]
    print_list(rows, columns, output, "nothing is running")


def explain(context: typer.Context, task_id: TaskId, at: At = None, output: Form = Output.table) -> None:
    """Explain why one task is or is not running; with --at what the runner saw then, and what its plan makes of that.

    Example: workledger why 01890a5d-ac96-774b-bcce-b302099a8057
    """
    session: Session = context.obj
    if at is None:
        status, found = _why_now(session, task_id)
    else:
        from runner.past_why import why_then  # few ask for it

        past = past_of(session, at)
        status, found = past.get(task_id).state.status, why_then(session.existing(), task_id, past)
    sentences = [clean(sentence) for sentence in found]
    if output is Output.table:
        print_line("\n".join(sentences))
    else:
        print_object({"id": task_id, "state": status, "why": sentences}, output)


def _why_now(session: Session, task_id: str) -> tuple[str, list[str]]:
    record = session.existing().get(task_id).record
    ledger = _caught_up(session)
    record = ledger.get(task_id).record
    with ledger.store.read() as snapshot:
        present = snapshot.now
        assert record.queued_position is not None  # catching up has taken in what waited in the inbox
        before = _count_before(ledger, record.state, record.queued_position, present)
        key_stream = record.queued.key_stream
        key_holder = None if key_stream is None else keys.holder(snapshot.last(key_stream))
        running = Running(snapshot.rows(queue_view.SQL["running_counts"]))
        held_up = holds(record.state, control_view.read(snapshot), running)
    return record.state.status, why(record, present, _heartbeats(ledger), before, key_holder, held_up)


@workers.command("list")
def worker_list(context: typer.Context, at: At = None, output: Form = Output.table) -> None:
    """List the workers that have a heartbeat, whether it is fresh, and who told them to leave.

    Heartbeats are not kept: of the past it lists the workers that had started and not ended.

    Example: workledger worker list
    """
    rows = _worker_rows(_caught_up(context.obj)) if at is None else past_rows.worker_rows(past_of(context.obj, at))
    columns = ("id", "name", "host", "pid", "state", "started_at", "beat_at", "threads", "queues", "running", "leaving")
    if output is Output.table:
        rows = [{**row, "queues": ", ".join(row["queues"]) or "all"} for row in rows]
    print_list(rows, columns, output, "no workers")


def _worker_rows(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.store.read() as snapshot:
        present = snapshot.now
        running = dict(snapshot.rows(SQL["running_per_worker"]))
        controls = control_view.read(snapshot)
    return [
        {
            "id": worker.worker_id,
            "name": worker.name,
            "host": worker.host,
            "pid": worker.pid,
            "state": "silent" if worker.is_silent(to_us(present)) else "alive",
            "started_at": _moment(worker.started_us),
            "beat_at": _moment(worker.beat_us),
            "threads": worker.threads,
            "queues": orjson.loads(worker.queues),
            "running": running.get(worker.worker_id, 0),
            "leaving": leaving_for(worker, controls),
        }
        for worker in _heartbeats(ledger)
    ]


def _caught_up(session: Session) -> Ledger:
    """Return the ledger with its queue view at the head, so that what no runner has folded yet is seen."""
    ledger = session.existing()
    queue_view.catch_up_all(ledger)
    return ledger


def _heartbeats(ledger: Ledger) -> list[Heartbeat]:
    with ledger.store.read() as snapshot:
        return all_of(snapshot)


def _count_before(ledger: Ledger, state: TaskState, position: int, present: datetime) -> int:
    """Return how many due tasks of the same queue go before this one: higher priority, earlier due, earlier queued."""
    if state.status != WAITING:
        return 0
    parameters = (state.queue, to_us(present), state.priority, state.due_us, position)
    with ledger.store.read() as snapshot:
        return int(snapshot.rows(SQL["count_before"], parameters)[0][0])


def _moment(microseconds: Any) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
