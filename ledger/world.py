"""Fold the log into all that it says at one position: live tasks, schedules, limits, pauses, workers. Pure but for look-ups.

The same `evolve` as of the views beside the log, and the same states; stopped at a position instead of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from ledger import control_events as ce
from ledger import events as e
from ledger import schedule_events as s
from ledger.clock import from_us, to_us
from ledger.control_rules import CACHES, ENABLED, LIMITS, RUNNERS, STOP, LimitState, Mark, evolve_limit
from ledger.events import Event
from ledger.ids import TASK_PREFIX
from ledger.ledger_events import NoticeRaised
from ledger.limits import LIMIT_PREFIX
from ledger.schedule import SCHEDULE_PREFIX, ScheduleState, advance, is_run_id
from ledger.store import RawEvent, Recorded
from ledger.task import ENDED, NONE, TaskState, ends, evolve

_PREFIX_LENGTH = len(TASK_PREFIX)
WORKER_PREFIX = "worker:"


class LiveTask(NamedTuple):
    """A waiting or running task: the position of its TaskQueued and its state."""

    position: int
    state: TaskState


class StartedWorker(NamedTuple):
    """A worker that has started and of whose end the log does not tell yet."""

    worker_id: str
    position: int
    started_us: int
    name: str
    host: str
    pid: int
    app: str
    threads: int
    queues: tuple[str, ...]


class World:
    """All that the log says at `position`; grown by its events in order."""

    def __init__(self) -> None:
        self.position = 0
        self.at_us = 0
        """The latest time of any event so far, microseconds since 1970."""
        self.tasks: dict[str, LiveTask] = {}
        """The live ones by id, as they were when it was last settled."""
        self._late: dict[str, list[RawEvent]] = {}
        """Events that are not in `tasks` yet, of tasks that have not ended since."""
        self.schedules: dict[str, ScheduleState] = {}
        self.components: dict[str, int] = {}
        """Disabled ones, and since when."""
        self.marks: dict[str, Mark] = {}
        self.limits: dict[str, LimitState] = {}
        self.workers: dict[str, StartedWorker] = {}
        self._of_run: dict[str, str] = {}

    def take(
        self, raws: Iterable[RawEvent], decode: Callable[[RawEvent], Event], until: datetime | None = None
    ) -> bool:
        """Fold stored events in order, those before the first that is later than *until*; return whether all were.

        Every event is decoded. What it makes of its task is put off until `settle`: most tasks have ended by then.

        Raises:
            CorruptEvent: One cannot be read; what was folded of this batch is of no use then.
        """
        tasks, late, position = self.tasks, self._late, self.position
        latest, is_all = from_us(self.at_us), True
        for raw in raws:
            event = decode(raw)
            if event.at > latest:
                if until is not None and event.at > until:
                    is_all = False
                    break
                latest = event.at
            position, name = raw[0], raw[1]
            if not name.startswith(TASK_PREFIX):
                self._aside(position, event)
                continue
            task_id = name[_PREFIX_LENGTH:]
            if type(event) is e.TaskSucceeded or ends(event):  # most ends are successes
                tasks.pop(task_id, None)
                late.pop(task_id, None)
            elif (events := late.get(task_id)) is not None:
                events.append(raw)
            else:
                late[task_id] = [raw]
            if self._of_run and is_run_id(task_id):
                self._of_schedule(task_id, event)
        self.position, self.at_us = position, to_us(latest)
        return is_all

    def settle(self, decode: Callable[[RawEvent], Event], stream: Callable[[str], list[Recorded]]) -> None:
        """Bring `tasks` to the position.

        *stream* gives the whole of one stream: of an ended task that waits again, which is not here any more.
        """
        for task_id, raws in self._late.items():
            before = self.tasks.get(task_id)
            for raw in raws:
                event = decode(raw)
                if isinstance(event, e.TaskQueued):
                    before = LiveTask(raw[0], evolve(TaskState(task_id), event))
                elif before is not None:
                    before = LiveTask(before.position, evolve(before.state, event))
                elif isinstance(event, e.TaskRetried):  # what else follows an end changes nothing
                    before = _replayed(task_id, event, stream)
            if before is not None:
                self.tasks[task_id] = before
        self._late.clear()

    def _of_schedule(self, task_id: str, event: Event) -> None:
        name = self._of_run.get(task_id)
        if name is not None and (state := self.schedules[name]).run_id == task_id:
            self._put(advance(state, event, ()))

    def _put(self, state: ScheduleState) -> None:
        self.schedules[state.name] = state
        if state.run_id is not None:
            self._of_run[state.run_id] = state.name

    def _aside(self, position: int, event: Event) -> None:
        """Fold an event of another stream than a task's."""
        stream = event.originator_id
        if stream.startswith(SCHEDULE_PREFIX):
            name = stream.removeprefix(SCHEDULE_PREFIX)
            self._put(advance(self.schedules.get(name) or ScheduleState(name), event, self.components))
            return
        match event:
            case e.WorkerStarted():
                worker = stream.removeprefix(WORKER_PREFIX)
                about = (event.name, event.host, event.pid, event.app, event.threads, tuple(event.queues))
                self.workers[worker] = StartedWorker(worker, position, to_us(event.at), *about)
            case e.WorkerStopped():
                self.workers.pop(stream.removeprefix(WORKER_PREFIX), None)
            case s.ComponentDisabled() | s.ComponentEnabled():
                self._component(event)
            case NoticeRaised() if event.about.startswith(SCHEDULE_PREFIX):
                if (state := self.schedules.get(event.about.removeprefix(SCHEDULE_PREFIX))) is not None:
                    self._put(advance(state, event, ()))
            case _:
                self._control(position, event)

    def _component(self, event: s.ComponentDisabled | s.ComponentEnabled) -> None:
        if isinstance(event, s.ComponentDisabled):
            self.components[event.component] = to_us(event.at)
        else:
            self.components.pop(event.component, None)
        for state in list(self.schedules.values()):
            if state.component == event.component:
                self._put(advance(state, event, ()))

    def _control(self, position: int, event: Event) -> None:
        stream = event.originator_id
        match event:
            case ce.QueuePaused():
                self._mark(stream, position, event)
            case ce.QueueResumed():
                self.marks.pop(stream, None)
            case ce.LimitChanged():
                self._limit(stream.removeprefix(LIMIT_PREFIX), position, event)
            case ce.RunnersDisabled():
                self._mark(RUNNERS, position, event)
            case ce.RunnersEnabled():
                self.marks.pop(RUNNERS, None)
                self._mark(ENABLED, position, event)
            case ce.StopRequested():
                self._mark(STOP, position, event)
            case ce.CachesCleared():
                self._mark(CACHES, position, event)

    def _limit(self, scope: str, position: int, event: ce.LimitChanged) -> None:
        self._mark(LIMITS, position, event)
        state = evolve_limit(self.limits.get(scope) or LimitState(scope), event)
        if state.in_force is not None:
            self.limits[scope] = state
        else:
            self.limits.pop(scope, None)

    def _mark(self, mark: str, position: int, event: Event) -> None:
        self.marks[mark] = Mark(mark, position, to_us(event.at), event.actor, event.reason)

    def plain(self) -> dict[str, Any]:
        """Return all of it, settled, as JSON values, from which `of` makes it again."""
        return {
            "position": self.position,
            "at_us": self.at_us,
            "tasks": sorted((task.position, *task.state) for task in self.tasks.values()),
            "schedules": [tuple(state) for state in self.schedules.values()],
            "components": self.components,
            "marks": [tuple(mark) for mark in self.marks.values()],
            "limits": [tuple(limit) for limit in self.limits.values()],
            "workers": [tuple(worker) for worker in self.workers.values()],
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> World:
        """Return what `plain` gave.

        Raises:
            KeyError, TypeError, IndexError: It is of another shape.
        """
        world = cls()
        world.position, world.at_us = plain["position"], plain["at_us"]
        make, live = TaskState._make, LiveTask
        world.tasks = {row[1]: live(row[0], make(row[1:])) for row in plain["tasks"]}
        for row in plain["schedules"]:
            world._put(ScheduleState._make(row))
        world.components = plain["components"]
        world.marks = {row[0]: Mark._make(row) for row in plain["marks"]}
        world.limits = {row[0]: LimitState._make(row) for row in plain["limits"]}
        world.workers = {row[0]: StartedWorker._make([*row[:-1], tuple(row[-1])]) for row in plain["workers"]}
        return world


def _replayed(task_id: str, upto: Event, stream: Callable[[str], list[Recorded]]) -> LiveTask | None:
    """Return an ended task as its stream up to an event gives it: it waits again."""
    state, first = TaskState(task_id), 0
    for position, event in stream(TASK_PREFIX + task_id):
        if event.originator_version > upto.originator_version:
            break
        first = first or position
        state = evolve(state, event)
    return None if state.status in ENDED or state.status == NONE else LiveTask(first, state)
