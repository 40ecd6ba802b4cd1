"""Take in what callers have queued in transactions of their own: rows of the inbox, turned into events in batches.

A row holds a task's TaskQueued as it is to be stored, with the caller's time, actor and reason. It is deleted in the
transaction that appends the event, so a task is in the inbox or in the log, and never in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from ledger import commands as c
from ledger import keys
from ledger.acts import Batch, NewTask
from ledger.codec import EventMapper
from ledger.commands import Act, next_envelope
from ledger.errors import Conflict, CorruptEvent, LedgerError, NotFound, NotTakenIn, StorageUnavailable
from ledger.events import TaskQueued
from ledger.ids import task_stream
from ledger.inbox_rules import require_sound
from ledger.ledger_events import InboxDiscarded
from ledger.record import TaskRecord, fold_record
from ledger.statements import statements
from ledger.store import Recorded, Snapshot, Unit
from ledger.task import TaskState, decide

SQL = statements("ledger", "sql/sqlite/inbox.sql")
INBOX_PREFIX = "inbox:"
BATCH = 1_000
_ALL = 1_000_000
MOST_ERROR = 1_000
MAPPER = EventMapper()


class Entry(NamedTuple):
    """A row: a TaskQueued as text, and what is to happen if its unique key is held (None without one)."""

    number: int
    task_id: str
    topic: str
    state: str
    duplicates: str | None
    error: str | None
    """Why it could not be taken in; None while it waits for that."""


def rows_for(tasks: Sequence[NewTask], act: Act, command_ids: Sequence[str]) -> str:
    """Return the rows of *tasks* as the JSON that `put` takes; each is an act of its own, so that any may go alone."""
    rows = []
    for new, command_id in zip(tasks, command_ids, strict=True):
        [event] = decide(TaskState(new.task_id), new.command, replace(act, id=command_id))
        _, _, topic, state = MAPPER.encode(event)
        duplicates = None
        if new.command.key_stream is not None:
            held = {"then": new.on_duplicate, "is_due_given": new.is_due_given, "former": new.former_streams}
            duplicates = orjson.dumps(held).decode()
        rows.append((new.task_id, topic, state.decode(), duplicates))
    return orjson.dumps(rows).decode()


def take_in(unit: Unit, limit: int = BATCH) -> bool:
    """Turn at most *limit* rows, oldest first, into events; return whether those were all.

    A task whose unique key is held is queued and cancelled. A row that cannot be taken in is set aside with its error.
    """
    entries = [Entry._make(row) for row in unit.rows(SQL["pending"], (limit,))]
    if entries:
        _take(unit, entries)
    return len(entries) < limit


def take_in_one(unit: Unit, task_id: str) -> None:
    """Turn the row of one task into events before anything is done to it; without a row do nothing.

    Raises:
        InvalidOption: No database could hold such an id.
    """
    task_stream(task_id)
    if not unit.rows(SQL["of_task"], (task_id,)):
        return  # without a lock: a replay may look at the inbox, and take nothing from it
    if entries := [Entry._make(row) for row in unit.rows(SQL["pending_of_task"], (task_id,))]:
        _take(unit, entries)


def _take(unit: Unit, entries: Sequence[Entry]) -> None:
    streams = orjson.dumps(["task:" + entry.task_id for entry in entries]).decode()
    queued = {stream for (stream,) in unit.rows(SQL["queued_already"], (streams,))}
    batch = Batch(unit, keep_duplicates=True)
    taken: list[int] = []
    for entry in entries:
        try:
            event = event_of(entry)
            if event.originator_id in queued:
                raise Conflict(f"the ledger has a task {entry.task_id} already")
            act = Act(id=event.command, at=unit.now, actor=event.actor, reason=event.reason)
            batch.add(_request(entry, event), act, event)
        except StorageUnavailable:
            raise
        except (LedgerError, ValueError, TypeError, LookupError) as error:
            said = f"{type(error).__name__}: {error}"
            unit.run(SQL["set_aside"], (said[:MOST_ERROR].replace("\x00", ""), entry.number))
        else:
            taken.append(entry.number)
            queued.add(event.originator_id)
    unit.run(SQL["delete"], (orjson.dumps(taken).decode(),))
    unit.append(batch.events)


def event_of(entry: Entry) -> TaskQueued:
    """Return the TaskQueued of a row.

    Raises:
        CorruptEvent: It is none that the ledger can have, or not one this version knows.
    """
    try:
        event = MAPPER.decode(task_stream(entry.task_id), 1, entry.topic, entry.state.encode())
        if not isinstance(event, TaskQueued):
            raise CorruptEvent(f"it is a {entry.topic}; in the inbox is what was queued")
        require_sound(event)
    except LedgerError as error:
        raise CorruptEvent(f"the row of task {entry.task_id[:100]} in the inbox: {error}") from error
    return event


def _request(entry: Entry, event: TaskQueued) -> NewTask:
    """Return the row as the request that it was.

    Raises:
        ValueError: What it says of duplicates is nothing that it can say.
    """
    command = c.Queue(**{n: getattr(event, n) for n in c.Queue.__dataclass_fields__ if n not in c.NOT_STORED})
    new = NewTask(task_id=entry.task_id, command=command)
    if entry.duplicates is None:
        return new
    said = orjson.loads(entry.duplicates)
    former = tuple(said["former"])
    if said["then"] not in ("return", "reschedule") or not all(str(one).startswith(keys.KEY_PREFIX) for one in former):
        raise ValueError(f"duplicates are {entry.duplicates!r}")
    return replace(new, on_duplicate=said["then"], is_due_given=bool(said["is_due_given"]), former_streams=former)


def is_there(snapshot: Snapshot) -> bool:
    """Return whether the ledger has an inbox: not where it was made by an older version and only read since."""
    return bool(snapshot.rows(SQL["has_inbox"]))


def record_of(snapshot: Snapshot, task_id: str) -> TaskRecord | None:
    """Return a task that waits in the inbox, without a position, or None if it is not there.

    Raises:
        NotTakenIn: It was set aside.
    """
    found = snapshot.rows(SQL["of_task"], (task_id,)) if is_there(snapshot) else []
    if not found:
        return None
    entry = Entry._make(found[0])
    if entry.error is not None:
        raise NotTakenIn(
            f"task {task_id} was queued in a caller's transaction, but could not be taken in: {entry.error} "
            "(`workledger inbox retry` tries again, `inbox discard` gives it up)"
        )
    return record_from(event_of(entry))


def record_from(event: TaskQueued) -> TaskRecord:
    """Return the record of a task that is only in the inbox."""
    record = fold_record(event.originator_id.removeprefix("task:"), [Recorded(0, event)])
    assert record is not None
    return replace(record, queued_position=None)


def waiting(snapshot: Snapshot, limit: int) -> list[TaskQueued]:
    """Return at most *limit* tasks that wait in the inbox, newest first; a row that cannot be read is left out."""
    if not is_there(snapshot):
        return []
    found = []
    for row in snapshot.rows(SQL["newest"], (limit,)):
        try:
            found.append(event_of(Entry._make(row)))
        except CorruptEvent:  # whoever takes it in sets it aside
            continue
    return found


def counts(snapshot: Snapshot) -> tuple[int, int]:
    """Return how many rows wait to be taken in, and how many were set aside."""
    if not is_there(snapshot):
        return 0, 0
    [(waiting_count, aside_count)] = snapshot.rows(SQL["counts"])
    return int(waiting_count), int(aside_count)


def set_aside(snapshot: Snapshot, limit: int = BATCH) -> list[Entry]:
    """Return at most *limit* rows that could not be taken in, oldest first."""
    return [Entry._make(row) for row in snapshot.rows(SQL["aside"], (limit,))] if is_there(snapshot) else []


def try_again(unit: Unit, task_ids: Sequence[str] = ()) -> list[tuple[str, str | None]]:
    """Try once more to take in rows that were set aside: those of *task_ids*, or all; return each with its error if any.

    Raises:
        NotFound: One of *task_ids* is not set aside.
    """
    chosen = _set_aside_of(unit, task_ids) if task_ids else set_aside(unit, _ALL)
    for entry in chosen:
        unit.run(SQL["try_again"], (entry.number,))
    if chosen:
        _take(unit, chosen)
    left: dict[Any, str | None] = {entry.number: entry.error for entry in set_aside(unit, _ALL)}
    return [(entry.task_id, left.get(entry.number)) for entry in chosen]


def discard(unit: Unit, task_id: str, act: Act) -> InboxDiscarded:
    """Delete the row of a task that was set aside, and append that, with its digest; return the event.

    Raises:
        NotFound: No row of this task was set aside: what waits is taken in, and may be cancelled then.
    """
    entry, stream = _set_aside_of(unit, [task_id])[0], INBOX_PREFIX + task_id
    digest = hashlib.sha256(f"{entry.topic}\n{entry.state}".encode()).hexdigest()
    said = next_envelope(stream, unit.last(stream), act)
    event = InboxDiscarded(**said, task=task_id, error=entry.error or "", sha256=digest)
    unit.run(SQL["delete"], (orjson.dumps([entry.number]).decode(),))
    unit.append([event])
    return event


def _set_aside_of(unit: Unit, task_ids: Sequence[str]) -> list[Entry]:
    """Return the rows of these tasks that were set aside, oldest first; raise `NotFound` where one has none."""
    entries = set_aside(unit, _ALL)
    known = {entry.task_id for entry in entries}
    for task_id in task_ids:
        if task_id not in known:
            raise NotFound(f"no row of task {task_id} was set aside in the inbox")
    return [entry for entry in entries if entry.task_id in task_ids]
