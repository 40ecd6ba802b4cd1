"""Show the ledger as it was: `Ledger.as_of`, a fold of the log that stops at a position."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ledger.clock import from_us, to_us
from ledger.control_rules import QUEUE_PREFIX, LimitState, Mark
from ledger.errors import InvalidOption, NotFound
from ledger.hidden import shown_state
from ledger.ids import task_stream
from ledger.limits import Limits, Running
from ledger.record import TaskRecord, fold_record
from ledger.schedule import ScheduleState
from ledger.sqlite_waypoints import Bound, Waypoints, seal
from ledger.store import Recorded, Snapshot
from ledger.task import RUNNING, WAITING
from ledger.values import shown
from ledger.world import LiveTask, StartedWorker, World

if TYPE_CHECKING:
    from ledger.api import Ledger

BATCH = 10_000
WAYPOINT_EVENTS = 100_000
"""Between two copies of the folded log, or a quarter as many events as tasks are live, if that is more."""


class QueueTotals(NamedTuple):
    """The live tasks of one queue at a moment; *oldest_due_us* is the first due time that had come."""

    queue: str
    waiting_due: int
    waiting_later: int
    running: int
    oldest_due_us: int | None
    paused: Mark | None


class Past:
    """A ledger as it was at one position: what the views beside the log had there. It never changes."""

    def __init__(self, ledger: Ledger, world: World, at: datetime) -> None:
        self._ledger = ledger
        self.world = world
        """What the log says at the position; not to be changed."""
        self.position = world.position
        """The last position that counts."""
        self.at = at
        """The moment that is meant: as it was asked for, else the latest time up to the position."""

    def get(self, task_id: str) -> TaskRecord:
        """Return a task as it was, live or ended; hidden arguments are shown as hidden.

        Raises:
            NotFound: It had not been queued yet, or never was.
        """
        record = fold_record(task_id, self.events(task_id))
        if record is None:
            raise NotFound(f"there was no task {task_id} in this ledger at position {self.position}")
        return record

    def events(self, task_id: str) -> list[Recorded]:
        """Return the events that the task had then, with their positions; arguments as they are."""
        with self._ledger.store.read() as snapshot:
            recorded = snapshot.stream(task_stream(task_id))
        return [one for one in recorded if one.position <= self.position]

    def waiting(self) -> list[LiveTask]:
        """Return the tasks that waited, due or not, in the order in which they were queued."""
        return self._live(WAITING)

    def running(self) -> list[LiveTask]:
        """Return the tasks that ran, the longest running first."""
        return sorted(self._live(RUNNING), key=lambda task: (task.state.claimed_us or 0, task.position))

    def _live(self, status: str) -> list[LiveTask]:
        return sorted(task for task in self.world.tasks.values() if task.state.status == status)

    def queues(self) -> list[QueueTotals]:
        """Return the queues that had live tasks or were paused, by name."""
        now_us = to_us(self.at)
        counts: Counter[tuple[str, str]] = Counter()
        oldest: dict[str, int] = {}
        for _, state in self.world.tasks.values():
            kind = "running" if state.status == RUNNING else "due" if state.due_us <= now_us else "later"
            counts[state.queue, kind] += 1
            if kind == "due":
                oldest[state.queue] = min(state.due_us, oldest.get(state.queue, state.due_us))
        paused = {name.removeprefix(QUEUE_PREFIX) for name in self.world.marks if name.startswith(QUEUE_PREFIX)}
        return [
            QueueTotals(
                name,
                counts[name, "due"],
                counts[name, "later"],
                counts[name, "running"],
                oldest.get(name),
                self.world.marks.get(QUEUE_PREFIX + name),
            )
            for name in sorted({queue for queue, _ in counts} | paused)
        ]

    def schedules(self) -> list[ScheduleState]:
        """Return every schedule that there was, retired ones too, by name; hidden arguments are shown as hidden."""
        return [shown_state(self.world.schedules[name]) for name in sorted(self.world.schedules)]

    def schedule(self, name: str) -> ScheduleState:
        """Return one schedule as it was.

        Raises:
            NotFound: There was none of this name.
        """
        if name not in self.world.schedules:
            raise NotFound(f"there was no schedule {shown(name)} in this ledger at position {self.position}")
        return shown_state(self.world.schedules[name])

    def limit_states(self) -> list[LimitState]:
        """Return what every source said of each limit, by scope."""
        return [self.world.limits[scope] for scope in sorted(self.world.limits)]

    def limits(self) -> Limits:
        """Return the limits that were in force."""
        return Limits(limit for state in self.world.limits.values() if (limit := state.in_force) is not None)

    def running_counts(self) -> Running:
        """Return how many ran of each queue, task name and concurrency key."""
        return Running((s.name, s.queue, s.concurrency_key, 1) for _, s in self.world.tasks.values() if s.worker)

    @property
    def marks(self) -> dict[str, Mark]:
        """What governed the claims, and who said so: see `ledger.control_rules.Mark`."""
        return dict(self.world.marks)

    def workers(self) -> list[StartedWorker]:
        """Return the workers that had started and not ended, oldest first. Heartbeats are no events, and are not kept."""
        return sorted(self.world.workers.values(), key=lambda worker: worker.position)


def as_of(ledger: Ledger, when: datetime | int, *, by_waypoints: bool = True, every: int = WAYPOINT_EVENTS) -> Past:
    """Return the ledger as it was at a position, or at a time: before the first position whose `at` is later.

    Copies of the folded log are kept beside the ledger, *every* so many events, and begun from; *by_waypoints* False folds
    from the beginning.

    Raises:
        InvalidOption: It is neither, or lies in the future.

        CorruptEvent: An event before it cannot be read.
    """
    with ledger.store.read() as snapshot, _no_collections():
        bound, until = _bound(snapshot, when)
        waypoints = Waypoints(ledger.store.path) if by_waypoints else None
        world = (waypoints.best(snapshot, bound) if waypoints else None) or World()
        fold(snapshot, world, bound.position, until, waypoints, every)
        return Past(ledger, world, until or from_us(world.at_us))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Let no garbage be looked for: what is folded stays, and looking at it again and again takes half of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def moment_of(when: object) -> datetime | int:
    """Return *when* if a past can be asked for by it.

    Raises:
        InvalidOption: It is neither a position nor an aware datetime.
    """
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidOption(f"{when} has no time zone; a past is asked for by an aware datetime or a position")
        return when
    if isinstance(when, bool) or not isinstance(when, int) or when < 0:
        raise InvalidOption(f"{shown(when)} is no past; allowed are an aware datetime and a position from 0 on")
    return when


def _bound(snapshot: Snapshot, when: datetime | int) -> tuple[Bound, datetime | None]:
    head = snapshot.head()  # asked first: the whole log is read
    moment = moment_of(when)
    if isinstance(moment, int):
        if moment > head:
            raise InvalidOption(f"the log has no position {moment} yet; its newest is {head}")
        return Bound(moment, 2**62), None
    if moment > snapshot.now:
        raise InvalidOption(f"{moment.isoformat()} lies in the future; it is {snapshot.now.isoformat()} now")
    return Bound(head, to_us(moment)), moment


def fold(
    snapshot: Snapshot,
    world: World,
    upto: int,
    until: datetime | None = None,
    waypoints: Waypoints | None = None,
    every: int = WAYPOINT_EVENTS,
) -> None:
    """Fold the log after *world* into it, up to a position and a time.

    Where *waypoints* are given, copies are kept of it on the way.
    """
    kept = world.position
    while world.position < upto:
        after = world.position
        raws = snapshot.events_after(after, min(BATCH, every))
        if raws and raws[-1][0] > upto:
            raws = [raw for raw in raws if raw[0] <= upto]
        if not raws:
            break
        is_all = world.take(raws, snapshot.decode, until)
        if waypoints is not None and world.position - kept >= max(every, len(world.tasks) // 4):
            world.settle(snapshot.decode, snapshot.stream)
            waypoints.put(snapshot, world)
            kept = world.position
        if not is_all:
            break
    world.settle(snapshot.decode, snapshot.stream)


def verify(ledger: Ledger) -> list[str]:
    """Return how the copies beside the ledger differ from a fresh fold, as sentences; those that do are deleted."""
    waypoints = Waypoints(ledger.store.path)
    found = []
    with ledger.store.read() as snapshot:
        head = snapshot.head()
        world = World()
        for position, kept in waypoints.all():
            if position <= head:
                fold(snapshot, world, position)
            if kept is None or position > head or seal(snapshot, position) is None or kept.plain() != world.plain():
                found.append(f"copy at position {position}: it is not what the log gives")
                waypoints.delete(position)
    return found
