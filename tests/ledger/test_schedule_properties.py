"""Random histories of one schedule: every slot has one fate, whatever commands come in whatever order."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import events as e
from ledger import schedule_commands as sc
from ledger import schedule_events as s
from ledger.clock import from_us
from ledger.errors import Conflict
from ledger.schedule import ScheduleState, evolve, loads
from ledger.slots import next_us
from ledger.task import RUNNING
from tests.ledger.schedule_scenario import NAME, NOON, ScheduleScenario, declare

EVERY = (3, 7, 20)
MINUTE = timedelta(minutes=1)
MINUTES = st.sampled_from([0, 1, 2, 5, 30, 200, 4_000])
ENDS = (e.TaskSucceeded, e.TaskCancelled)


class ScheduleMachine(RuleBasedStateMachine):
    """Commands in any order, with workers that come late and a clock that is set."""

    @initialize(misfire=st.sampled_from(["one", "skip", "all"]), every=st.sampled_from(EVERY))
    def declare_it(self, misfire: str, every: int) -> None:
        self.misfire = misfire
        self.every = every
        self.spans: list[list[datetime]] = [[NOON]]
        """Times in which its slots count, by the commands alone: begin and, once over, end."""
        self.schedule = ScheduleScenario(misfire=misfire, fields=self._fields())

    def _fields(self) -> tuple[str, ...]:
        return (f"*/{self.every}", "*", "*", "*", "*")

    def attempt_to(self, command: sc.ScheduleCommand) -> None:
        try:
            self.schedule.when(command)
        except Conflict:
            pass

    @property
    def _run(self) -> str | None:
        return RUNNING if self.schedule.state.is_live else None

    @rule(minutes=MINUTES, seconds=st.integers(0, 59))
    def time_passes(self, minutes: int, seconds: int) -> None:
        self.schedule.later(minutes=minutes, seconds=seconds)

    @rule(minutes=MINUTES, run_minutes=MINUTES, kind=st.sampled_from(ENDS))
    def a_worker_works(self, minutes: int, run_minutes: int, kind: type[e.Event]) -> None:
        """The common course: time passes, a worker looks, the run takes its time and ends."""
        self.time_passes(minutes, 0)
        self.schedule.fire()
        self.time_passes(run_minutes, 7)
        self.something_happens_to_the_run(kind)
        self.schedule.fire()

    @rule(minutes=st.sampled_from([1, 60]))
    def the_clock_is_set_back(self, minutes: int) -> None:
        self.schedule.later(minutes=-minutes)

    @rule()
    def a_worker_looks(self) -> None:
        self.schedule.fire()

    @rule(kind=st.sampled_from([*ENDS, e.TaskFailed, e.AttemptLost, e.TaskDelayed]))
    def something_happens_to_the_run(self, kind: type[e.Event]) -> None:
        if self.schedule.state.is_live:
            self.schedule.run(kind)

    @rule()
    def run_now(self) -> None:
        self.attempt_to(sc.RunNow(task=f"asked-{len(self.schedule.events)}", run=self._run))

    @rule()
    def run_soon(self) -> None:
        self.attempt_to(sc.RunSoon(run=self._run))

    @rule(minutes=MINUTES, is_retired=st.booleans(), queue=st.sampled_from(["a", "b"]))
    def off_and_on(self, minutes: int, is_retired: bool, queue: str) -> None:
        self.attempt_to(sc.Retire() if is_retired else sc.Disable())
        self._note(is_counting=False)
        self.time_passes(minutes, 30)
        self.schedule.fire()
        again = declare(misfire=self.misfire, fields=self._fields(), queue=queue, is_sync=True)
        self.attempt_to(again if is_retired else sc.Enable())
        self._note(is_counting=True)

    def _note(self, *, is_counting: bool) -> None:
        """Note whether slots count from now on; what a clock set back goes through again has been decided."""
        moment = max(self.schedule.now, from_us(self.schedule.state.decided_us))
        if is_counting and len(self.spans[-1]) == 2:
            self.spans.append([moment])
        elif not is_counting and len(self.spans[-1]) == 1:
            self.spans[-1].append(moment)

    @invariant()
    def versions_count_up(self) -> None:
        own = [event for event in self.schedule.events if event.originator_id == f"schedule:{NAME}"]
        assert [event.originator_version for event in own] == list(range(1, len(own) + 1))

    @invariant()
    def every_slot_has_one_fate(self) -> None:
        """Read from the events alone: up to what has been decided each slot was fired or missed, and only once."""
        state = self.schedule.state
        fates: dict[datetime, int] = {}
        for event in self.schedule.events:
            for slot in self._decided_by(event):
                fates[slot] = fates.get(slot, 0) + 1
        pending = [from_us(slot) for slot in loads(state.pending)]
        assert not fates.keys() & set(pending)
        assert set(fates.values()) <= {1}
        wanted = {slot for span in self.spans for slot in self._slots(span[0], self._end(span))}
        assert fates.keys() | set(pending) == wanted

    def _end(self, span: list[datetime]) -> datetime:
        decided = from_us(self.schedule.state.decided_us)
        return min(span[1], decided) if len(span) == 2 else decided

    def _decided_by(self, event: e.Event) -> list[datetime]:
        if isinstance(event, s.SlotFired) and not event.asked:
            return [event.slot]
        if isinstance(event, s.SlotsMissed):
            found = self._slots(event.first - MINUTE, event.last)
            assert (found[0], found[-1], len(found)) == (event.first, event.last, event.count) or event.run_later == []
            return [] if event.run_later else found[: event.count]
        return []

    def _slots(self, after: datetime, upto: datetime) -> list[datetime]:
        """Look at each minute by itself: the oracle."""
        minute = after.replace(second=0, microsecond=0) + MINUTE
        found = []
        while minute <= upto:
            if minute.minute % self.every == 0:
                found.append(minute)
            minute += MINUTE
        return found

    @invariant()
    def one_run_at_a_time(self) -> None:
        live = False
        for event in self.schedule.events:
            if isinstance(event, s.SlotFired) or (isinstance(event, s.RunRequested) and event.task):
                assert not live
                live = True
            elif isinstance(event, e.TaskSucceeded | e.TaskCancelled) or getattr(event, "final", False):
                live = False
        assert self.schedule.state.is_live == live

    @invariant()
    def what_is_due_is_never_forgotten(self) -> None:
        """An active schedule without a live run always has a time to look at it."""
        state = self.schedule.state
        assert (next_us(state) is not None) == (state.is_active and not state.is_live)


TestScheduleMachine = ScheduleMachine.TestCase
TestScheduleMachine.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)


def _history() -> list[Any]:
    schedule = ScheduleScenario(misfire="all", component="mail")
    schedule.at("15:20").fire()
    schedule.run(e.TaskFailed).run(e.AttemptLost, final=True)
    schedule.when(sc.Customise(timezone="Europe/Paris", enabled=True))
    schedule.when(sc.Customise(enabled=False, override="*"))
    schedule.when(sc.Reset(override=True))
    schedule.when(sc.Disable())
    schedule.when(sc.Enable())
    schedule.when(sc.RunSoon(run=None))
    schedule.later(minutes=1).fire()
    schedule.succeed()
    schedule.when(sc.RunNow(task="t", run=None))
    schedule.when(sc.Retire())
    envelope: dict[str, Any] = {
        "originator_id": "ledger",
        "command": "c",
        "at": NOON,
        "actor": "a",
        "component": "mail",
    }
    components = [
        s.ComponentDisabled(originator_version=1, **envelope),
        s.ComponentEnabled(originator_version=2, **envelope),
    ]
    return [*schedule.events, *components]


@given(st.permutations(_history()), st.integers(0, 30))
@settings(deadline=None)
def test_evolve_never_fails(events: list[Any], count: int) -> None:
    """Evolve takes any events in any order and gives a state."""
    state = ScheduleState(NAME)
    for event in events[:count]:
        state = evolve(state, event)

    assert state.name == NAME
    assert loads(state.pending) is not None
