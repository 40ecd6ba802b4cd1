"""Fold the log again and compare what was decided with what the pure functions decide now; name the first difference."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from ledger import events as e
from ledger import schedule_commands as sc
from ledger import schedule_events as s
from ledger.api import Ledger
from ledger.clock import from_us, to_us
from ledger.commands import Act
from ledger.control_rules import RUNNERS, queue_stream
from ledger.errors import InvalidOption, InvalidSchedule
from ledger.ids import TASK_PREFIX
from ledger.limits import Limits, Running, fulls
from ledger.moments import has_come
from ledger.past import BATCH, as_of, moment_of
from ledger.schedule import SCHEDULE_PREFIX, ScheduleState
from ledger.schedule_rules import decide
from ledger.store import RawEvent, Snapshot
from ledger.task import RUNNING, WAITING, TaskState, evolve
from ledger.world import World

AHEAD = 8_000
"""Events read ahead of the fold, so that a claim is judged at the position it saw: more than one act has."""
MOST_OF_AN_ACT = 2_000
"""Events looked at for those of one act on one schedule, which were appended together."""
_PREFIX_LENGTH = len(TASK_PREFIX)


class Difference(NamedTuple):
    """A decision that would be another one now: the position of its event, and what is said there and now."""

    position: int
    text: str


@dataclass(slots=True)
class Decisions:
    """How many decisions were compared, and the first that differs."""

    since: int
    upto: int
    firings: int = 0
    retries: int = 0
    claims: int = 0
    difference: Difference | None = None


def decisions(
    ledger: Ledger,
    since: datetime | int = 0,
    upto: datetime | int | None = None,
    present: Callable[[str], str] = str,
) -> Decisions:
    """Compare every firing and retry time, and every claim, after *since* up to *upto* (by default the head).

    A firing with what its schedule's state gives for its time; a retry time with what the stored policy gives; a claim
    with what was allowed at the position it saw: waiting and due, its queue served and not paused, no limit full. A task
    that was run by hand need only have waited and been due. *present* gives the names that tasks have now.

    Raises:
        InvalidOption: One is no past, or the end lies before the beginning.

        CorruptEvent: An event cannot be read.
    """
    begin = as_of(ledger, moment_of(since), by_waypoints=False)  # a copy may be what an older rule made of the log
    with ledger.store.read() as snapshot:
        end = snapshot.head()
    if upto is not None:
        end = ledger.as_of(moment_of(upto)).position
    if end < begin.position:
        raise InvalidOption(f"the end (position {end}) lies before the beginning ({begin.position})")
    found = Decisions(begin.position, end)
    with ledger.store.read() as snapshot:
        snapshot.head()
        _Judge(snapshot, begin.world, found, present).run()
    return found


class _One(NamedTuple):
    raw: RawEvent
    event: e.Event


@dataclass(slots=True)
class _Judge:
    """The fold, with the events that come next at hand."""

    snapshot: Snapshot
    world: World
    found: Decisions
    present: Callable[[str], str]
    ahead: deque[_One] = field(default_factory=deque)
    claims: dict[int, list[_One]] = field(default_factory=dict)
    """By the position that they saw."""
    by_hand: set[str] = field(default_factory=set)
    """Acts that started a worker for one task."""
    running: dict[str, TaskState] = field(default_factory=dict)
    judged: set[tuple[str, str]] = field(default_factory=set)
    """Acts on schedules that were compared at their first event."""

    def run(self) -> None:
        self.running = {k: one.state for k, one in self.world.tasks.items() if one.state.status == RUNNING}
        coming = self._read()
        self._look_ahead(coming)
        self._judge_claims()
        while self.ahead:
            first = self.found.difference
            if first is not None and self.world.position >= first.position:
                return  # whatever differs later comes later in the log
            raw, event = self.ahead[0]
            self._judge(raw, event)
            self.world.take([raw], lambda _, event=event: event)  # type: ignore[misc]
            self.world.settle(lambda _, event=event: event, self.snapshot.stream)  # type: ignore[misc]
            self.ahead.popleft()
            self._note_running(raw[1])
            self._look_ahead(coming)
            self._judge_claims()

    def _read(self) -> Iterator[_One]:
        after = self.world.position
        while after < self.found.upto and (raws := self.snapshot.events_after(after, BATCH)):
            for raw in raws:
                if raw[0] <= self.found.upto:
                    yield _One(raw, self.snapshot.decode(raw))
            after = raws[-1][0]

    def _look_ahead(self, coming: Iterator[_One]) -> None:
        while len(self.ahead) < AHEAD and (one := next(coming, None)) is not None:
            self.ahead.append(one)
            if isinstance(one.event, e.TaskClaimed):
                # One that saw what was folded before this began cannot be judged there any more: here is nearest.
                self.claims.setdefault(max(one.event.seen, self.world.position), []).append(one)
            elif isinstance(one.event, e.WorkerStarted):
                self.by_hand.add(one.event.command)

    def _note_running(self, stream: str) -> None:
        if stream.startswith(TASK_PREFIX):
            task = self.world.tasks.get(stream[_PREFIX_LENGTH:])
            if task is not None and task.state.status == RUNNING:
                self.running[task.state.task_id] = task.state
            else:
                self.running.pop(stream[_PREFIX_LENGTH:], None)

    def _differs(self, position: int, text: str) -> None:
        if self.found.difference is None or position < self.found.difference.position:
            self.found.difference = Difference(position, text)

    # Claims

    def _judge_claims(self) -> None:
        following = self.ahead[0].raw[0] if self.ahead else None
        for seen in sorted(self.claims):
            if following is not None and seen >= following:
                return
            counts = Running(
                (self.present(one.name), one.queue, one.concurrency_key, 1) for one in self.running.values()
            )
            limits = Limits(force for one in self.world.limits.values() if (force := one.in_force) is not None)
            for one in self.claims.pop(seen):
                self.found.claims += 1
                if (why := self._forbidden(one.event, counts, limits)) is not None:
                    self._differs(one.raw[0], f"task {one.raw[1][_PREFIX_LENGTH:]} was claimed although {why}")

    def _forbidden(self, event: e.Event, counts: Running, limits: Limits) -> str | None:
        """Return why a claim was not allowed at this position, or None; one that was counts as running for the next."""
        assert isinstance(event, e.TaskClaimed)
        task = self.world.tasks.get(event.originator_id[_PREFIX_LENGTH:])
        if task is None:
            return "it was not live"
        state, at_us = task.state, to_us(event.at)
        if state.status != WAITING:
            return f"it was {state.status}"
        if state.due_us > at_us:
            return f"it was not due until {from_us(state.due_us).isoformat()}"
        if has_come(state.expires_us, at_us):
            return "it had expired"
        name = self.present(state.name)
        full = fulls(limits, counts, name, state.queue, state.concurrency_key)
        counts.add(name, state.queue, state.concurrency_key)
        if event.command in self.by_hand:
            return None
        worker = self.world.workers.get(event.worker)
        if worker is not None and worker.queues and state.queue not in worker.queues:
            return f"its worker did not serve queue {state.queue!r}"
        for mark, why in ((RUNNERS, "the runners were disabled"), (queue_stream(state.queue), "its queue was paused")):
            if mark in self.world.marks:
                return why
        return None if not full else f"limit {full[0].limit.scope} was full at {full[0].running}"

    # Retries and firings

    def _judge(self, raw: RawEvent, event: e.Event) -> None:
        match event:
            case e.TaskFailed() | e.AttemptLost():
                self._judge_retry(raw, event)
            case s.SlotFired() | s.SlotsMissed():
                self._judge_firing(raw, event)

    def _judge_retry(self, raw: RawEvent, event: e.TaskFailed | e.AttemptLost) -> None:
        task = self.world.tasks.get(raw[1][_PREFIX_LENGTH:])
        if event.final or task is None:
            return
        self.found.retries += 1
        state = task.state
        if state.max_attempts is not None and state.used + 1 >= state.max_attempts:
            self._differs(raw[0], f"task {state.task_id} was to be retried; its {state.max_attempts} attempts are used")
            return
        now_us = evolve(state, event).due_us
        if event.retry_at is not None and to_us(event.retry_at) != now_us:
            then, now = event.retry_at.isoformat(), from_us(now_us).isoformat()
            self._differs(raw[0], f"task {state.task_id} was to be retried at {then}, the rules now say {now}")

    def _judge_firing(self, raw: RawEvent, event: e.Event) -> None:
        act = event.command, raw[1]
        if act in self.judged:
            return
        self.judged.add(act)
        same = [
            one.event
            for one in islice(self.ahead, MOST_OF_AN_ACT)
            if one.event.command == event.command and one.raw[1] == raw[1]
        ]
        if not all(isinstance(one, s.SlotFired | s.SlotsMissed) for one in same):
            return  # slots that a change of the schedule left behind
        self.found.firings += 1
        state = self.world.schedules.get(raw[1].removeprefix(SCHEDULE_PREFIX))
        if state is None:
            self._differs(raw[0], f"{raw[1]} fired before it was declared")
            return
        recorded = _facts(same)
        allowed = _decided(state, event, is_fired=any(isinstance(one, s.SlotFired) for one in same))
        if isinstance(allowed, str):
            self._differs(raw[0], f"{raw[1]} cannot be evaluated now: {allowed}")
        elif recorded not in allowed:
            now = "; ".join(allowed[0]) or "nothing"
            self._differs(raw[0], f"{raw[1]} recorded {'; '.join(recorded)}, the rules now say {now}")


def _decided(state: ScheduleState, event: e.Event, *, is_fired: bool) -> list[list[str]] | str:
    """Return what may be recorded of a schedule at an event's time: fired, or passed over where its key was held."""
    act = Act(id=event.command, at=event.at, actor=event.actor, reason=event.reason)
    commands: list[sc.Fire | sc.Pass] = [sc.Fire(away="")]
    if not is_fired:
        commands.append(sc.Pass(cause=""))
    try:
        return [_facts(decide(state, command, act)) for command in commands]
    except InvalidSchedule as error:
        return str(error)


def _facts(events: list[e.Event]) -> list[str]:
    """Return what firings and misses say, but for causes, which are not decided from the log."""
    told = []
    for event in events:
        match event:
            case s.SlotFired():
                told.append(f"{'asked' if event.asked else 'slot'} {event.slot.isoformat()} as task {event.task}")
            case s.SlotsMissed():
                later = f", {len(event.run_later)} to be run later" if event.run_later else ""
                told.append(f"{event.count} missed {event.first.isoformat()} to {event.last.isoformat()}{later}")
    return told
