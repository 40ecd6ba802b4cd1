"""Carry out acts on tasks inside one transaction: load, decide, append, with the keys that go along."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ledger import commands as c
from ledger import keys, moments, reads
from ledger.clock import to_us
from ledger.errors import NotFound
from ledger.events import Event, TaskQueued
from ledger.ids import task_stream
from ledger.notices import of_task
from ledger.schedule import LEDGER_STREAM, schedule_stream
from ledger.schedule_events import RunRequested
from ledger.store import Appender, Snapshot, Store, Unit
from ledger.task import WAITING, TaskState, decide, evolve

OnDuplicate = Literal["return", "reschedule"]
Answer = Literal["queued", "unchanged", "rescheduled", "running"]
"""What became of a request: a new task, or what became of the live task that holds its key; a running one is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to be queued: its id, its command and what happens if its key is held."""

    task_id: str
    command: c.Queue
    on_duplicate: OnDuplicate = "return"
    is_due_given: bool = False
    """Whether the request says when it is due: without that no holder of its key is moved."""
    former_streams: tuple[str, ...] = ()
    """Streams that its key had under older names of the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """How a request ended: *task_id* is the existing task's where *is_duplicate*."""

    task_id: str
    answer: Answer = "queued"

    @property
    def is_duplicate(self) -> bool:
        """Whether the task was there already."""
        return self.answer != "queued"


def load(snapshot: Snapshot, task_id: str) -> TaskState:
    """Return the task folded from its stream.

    Raises:
        NotFound: The ledger has no such task.
    """
    state = TaskState(task_id)
    for _, event in snapshot.stream(task_stream(task_id)):
        state = evolve(state, event)
    if not state.version:
        raise NotFound(f"there is no task {task_id} in this ledger")
    return state


def transaction_for(store: Store, tasks: Iterable[NewTask]) -> AbstractContextManager[Appender]:
    """Begin a transaction in which *tasks* can be queued: keys are looked up first, tasks without only appended."""
    has_keys = any(one.command.key_stream is not None for one in tasks)
    return store.write() if has_keys else store.extend()


def enqueue(unit: Appender, tasks: Iterable[NewTask], act: c.Act, *, keep_duplicates: bool = False) -> list[Queued]:
    """Append *tasks* and the keys they reserve; of equal keys the first wins, a live holder before all.

    A task with a key needs a `Unit`, which can look it up; others are only appended. *keep_duplicates* queues and cancels a task whose key is held, for those whose id somebody has already.
    """
    batch = Batch(unit, keep_duplicates=keep_duplicates)
    answers = [batch.add(new, act) for new in tasks]
    unit.append(batch.events)
    return answers


class Batch:
    """Tasks that are queued together: gathers the *events*, which the caller appends."""

    def __init__(self, unit: Appender, *, keep_duplicates: bool) -> None:
        self._unit = unit
        self._keep_duplicates = keep_duplicates
        self.events: list[Event] = []
        self._reserved: dict[str, str] = {}
        self._holders: dict[str, TaskState] = {}
        """The tasks as this batch has queued or moved them so far."""

    def add(self, new: NewTask, act: c.Act, queued: TaskQueued | None = None) -> Queued:
        """Gather the events of one task; *queued* is its TaskQueued where that was decided before.

        Raises:
            Conflict: It shall move the holder of its key beyond that one's expiry; nothing of it was gathered.
        """
        held_by, reserving = self._reserve(new, act)
        if held_by is not None:
            answer, moved = self._meet_holder(held_by, new, act)
            self.events += moved
            if self._keep_duplicates:
                self.events += _queued_and_cancelled(new, held_by, act, queued)
            return Queued(task_id=held_by, answer=answer)
        event = queued or _queued(new, act)
        self.events += [*reserving, event]
        if new.command.key_stream is not None:
            self._reserved[new.command.key_stream] = new.task_id
            self._holders[new.task_id] = evolve(TaskState(new.task_id), event)
        return Queued(task_id=new.task_id)

    def _reserve(self, new: NewTask, act: c.Act) -> tuple[str | None, list[Event]]:
        """Return the task that holds the new task's key, or the events that reserve it."""
        stream, key = new.command.key_stream, new.command.unique_key
        if stream is None or key is None:
            return None, []
        unit = cast(Unit, self._unit)
        events: list[Event] = []
        last: Event | None = None
        for one in (*new.former_streams, stream):
            if one in self._reserved:
                return self._reserved[one], []
        for one in (*new.former_streams, stream):
            last = unit.last(one)
            held_by = keys.holder(last)
            if held_by is None:
                continue
            expired = _expire(unit, held_by, act)
            if not expired:
                return held_by, []
            events += expired
            last = expired[-1]
        return None, [*events, keys.reserve(stream, last, new.task_id, key, act)]

    def _meet_holder(self, held_by: str, new: NewTask, act: c.Act) -> tuple[Answer, list[Event]]:
        """Move the due time of a waiting holder where the call asked for that; a running one is left alone.

        A call that does not say when it is due moves nothing.
        """
        if new.on_duplicate != "reschedule":
            return "unchanged", []
        state = self._holders.get(held_by) or load(cast(Unit, self._unit), held_by)
        wanted = moments.of(new.command, act.at)
        if state.status != WAITING:
            return "running", []
        if not new.is_due_given or state.due_us == to_us(wanted["due_at"]):
            return "unchanged", []
        reason = act.reason or "enqueued again with on_duplicate=reschedule"
        [moved] = decide(state, c.Reschedule(**wanted), replace(act, reason=reason))
        self._holders[held_by] = evolve(state, moved)
        return "rescheduled", [moved]


def _queued(new: NewTask, act: c.Act) -> Event:
    [queued] = decide(TaskState(new.task_id), new.command, act)
    return queued


def _queued_and_cancelled(new: NewTask, held_by: str, act: c.Act, queued: TaskQueued | None) -> list[Event]:
    event = queued or _queued(new, act)
    reason = replace(act, reason=f"task {held_by} holds its unique key")
    return [event, *decide(evolve(TaskState(new.task_id), event), c.Cancel(duplicate_of=held_by), reason)]


def _expire(unit: Unit, held_by: str, act: c.Act) -> list[Event]:
    """Return the events that end a holder which has expired and no worker has met yet; the last frees its key."""
    state = load(unit, held_by)
    return settle(unit, state, c.Expire(), act)[1]


def settle(unit: Unit, state: TaskState, command: c.Command, act: c.Act) -> tuple[TaskState, list[Event]]:
    """Return the task after *command* and the events to append: its own, its key's where it frees or takes it, a notice.

    Raises:
        Conflict: The state does not allow it, or the key is held by another task.
    """
    events: list[Event] = list(decide(state, command, act))
    after = state
    raised: list[Event] = []
    for event in events:
        if (noticed := of_task(after, event, lambda: unit.last(LEDGER_STREAM), act)) is not None:
            raised.append(noticed)
        after = evolve(after, event)
    held, holds = bool(state.key_held), bool(after.key_held)
    if state.key_stream is not None or after.key_stream is not None:
        stream = after.key_stream or state.key_stream
        assert stream is not None
        if held and not holds:
            released = keys.release(stream, unit.last(stream), state.task_id, act)
            events += [released] if released else []
        elif holds and not held and isinstance(command, c.RetryNow):
            key = command.queued.unique_key or stream
            events.append(keys.reserve(stream, unit.last(stream), state.task_id, key, act))
    return after, [*events, *raised]


def act_on(unit: Unit, task_id: str, command: c.Command, act: c.Act) -> TaskState:
    """Load one task, decide *command*, append what it causes and return the task as it is then.

    Raises:
        NotFound: The ledger has no such task.

        Conflict: Its state does not allow the command.
    """
    after, events = settle(unit, load(unit, task_id), command, act)
    unit.append(events)
    return after


def retry(unit: Unit, task_id: str, act: c.Act) -> TaskState:
    """Let an ended task wait again with fresh attempts; it takes its key again or is refused.

    Raises:
        NotFound: The ledger has no such task.

        Conflict: It has not ended without success, or another task holds its key.
    """
    recorded = unit.stream(task_stream(task_id))
    first = recorded[0].event if recorded else None
    if not isinstance(first, TaskQueued):
        raise NotFound(f"there is no task {task_id} in this ledger")
    queued = c.Queue(**{n: getattr(first, n) for n in c.Queue.__dataclass_fields__ if n not in c.NOT_STORED})
    after = act_on(unit, task_id, c.RetryNow(queued=queued), act)
    if first.schedule is not None:
        unit.append([_run_again(unit, first.schedule, task_id, act)])
    return after


def reveal(unit: Unit, task_id: str, act: c.Act) -> dict[str, Any]:
    """Record that the actor is shown a task's arguments, and return them, the hidden ones too.

    Raises:
        NotFound: The ledger has no such task.
    """
    recorded = unit.stream(task_stream(task_id))
    first = recorded[0].event if recorded else None
    if not isinstance(first, TaskQueued):
        raise NotFound(f"there is no task {task_id} in this ledger")
    unit.append(reads.recorded(unit, [task_id], ["arguments"], act))
    return first.args


def _run_again(unit: Unit, schedule: str, task_id: str, act: c.Act) -> RunRequested:
    """Return the event by which a run that is retried is the newest run of its schedule again."""
    stream = schedule_stream(schedule)
    return RunRequested(**c.next_envelope(stream, unit.last(stream), act), task=task_id)
