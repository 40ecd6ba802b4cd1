"""Random histories: no order of commands reaches an illegal state, no order of events breaks evolve."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger import commands as c
from ledger import events as e
from ledger.errors import Conflict
from ledger.task import ENDED, RUNNING, STATES, WAITING, TaskState, evolve
from tests.ledger.scenario import TASK, Scenario, queue

WORKERS = st.sampled_from(["w1", "w2"])
ATTEMPTS = st.integers(0, 5)


class TaskMachine(RuleBasedStateMachine):
    """Commands in any order, stale attempts and other workers included."""

    def __init__(self) -> None:
        super().__init__()
        self.task = Scenario(max_attempts=3, key_stream="key:1", unique_key="k")

    def attempt_to(self, command: c.Command) -> None:
        try:
            self.task.when(command)
        except Conflict:
            pass

    @rule(seconds=st.sampled_from([0, 1, 60, 100_000]))
    def time_passes(self, seconds: int) -> None:
        self.task.later(seconds)

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        self.attempt_to(c.Claim(worker=worker, seen=0))

    @rule(attempt=ATTEMPTS, worker=WORKERS, kind=st.sampled_from(["succeed", "fail", "lose"]))
    def report(self, attempt: int, worker: str, kind: str) -> None:
        getattr(self.task, kind)(attempt=attempt, worker=worker)

    @rule(kind=st.sampled_from(["succeed", "fail", "lose", "interrupt"]))
    def report_newest(self, kind: str) -> None:
        getattr(self.task, kind)()

    @rule(attempt=ATTEMPTS, worker=WORKERS)
    def progress(self, attempt: int, worker: str) -> None:
        self.attempt_to(c.Progress(attempt=attempt, worker=worker, done=1))

    @rule()
    def cancel(self) -> None:
        self.attempt_to(c.Cancel())

    @rule()
    def retry(self) -> None:
        self.attempt_to(c.RetryNow(queued=queue(max_attempts=3, key_stream="key:1", unique_key="k")))

    @invariant()
    def versions_count_up(self) -> None:
        assert [event.originator_version for event in self.task.events] == list(range(1, len(self.task.events) + 1))

    @invariant()
    def one_end_a_round_and_one_holder_at_a_time(self) -> None:
        """Read from the events alone, by rules of their own."""
        ended, holder, last = False, None, 0
        for event in self.task.events:
            match event:
                case e.TaskRetried():
                    assert ended
                    ended = False
                case e.TaskClaimed():
                    assert holder is None and not ended and event.attempt == last + 1
                    holder = last = event.attempt
                case e.TaskSucceeded() | e.TaskFailed() | e.AttemptLost() | e.AttemptInterrupted() | e.TaskDelayed():
                    assert holder == event.attempt
                    holder = None
                    ended = isinstance(event, e.TaskSucceeded) or getattr(event, "final", False)
                case e.TaskProgressed():
                    assert holder == event.attempt
                case e.TaskCancelled():
                    assert not ended and holder == event.attempt
                    holder, ended = None, True
        state = self.task.state
        assert (state.status in ENDED) == ended
        assert (state.status == RUNNING) == (holder is not None) == (state.worker is not None)
        assert state.used <= 3
        assert state.key_held == (0 if ended else 1)

    @invariant()
    def any_prefix_folds_to_a_state(self) -> None:
        state = TaskState(TASK)
        for event in self.task.events:
            state = evolve(state, event)
            assert state.status in STATES


TestTaskMachine = TaskMachine.TestCase
TestTaskMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def _history() -> list[e.Event]:
    task = Scenario(max_attempts=3)
    task.claimed().when(c.Progress(attempt=1, worker="w1", done=1, total=2))
    task.fail()
    task.later(60).claimed().delay(5)
    task.later(5).claimed().interrupt()
    task.claimed().lose()
    task.when(c.RetryNow(queued=queue()))
    task.when(c.Reschedule(due_at=task.now))
    task.claimed().when(c.Cancel())
    task.fail()
    task.when(c.RetryNow(queued=queue()))
    task.claimed().succeed()
    task.succeed(attempt=1)
    return task.events


@given(st.permutations(_history()), st.integers(0, 20))
@settings(deadline=None)
def test_evolve_never_fails(events: list[Any], count: int) -> None:
    """Evolve takes any events in any order and gives a state."""
    state = TaskState(TASK)
    for event in events[:count]:
        state = evolve(state, event)

    assert state.status in (*STATES, "none")
    assert state.status != WAITING or state.worker is None
