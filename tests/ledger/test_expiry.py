"""A task that has not begun by its expiry is cancelled: the rules of one task, in any order of commands."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger import commands as c
from ledger import events as e
from ledger.errors import Conflict
from ledger.task import CANCELLED, WAITING
from tests.ledger.scenario import NOON, Scenario, queue

MINUTE = timedelta(minutes=1)


def test_an_expiry_counts_from_the_due_time_or_is_a_moment() -> None:
    """Microseconds count from when the task is due; a moment is kept as it is; both are stored as a moment."""
    later = NOON + MINUTE
    assert (
        Scenario(due_at=None, delay_us=60_000_000, expires_after_us=5_000_000).state.expires_us
        == _us(later) + 5_000_000
    )
    assert Scenario(due_at=later, expires_after_us=1).state.expires_us == _us(later) + 1
    assert Scenario(due_at=later, expires_at=NOON).state.expires_us == _us(NOON)
    assert Scenario().state.expires_us is None


def test_what_has_expired_cannot_be_claimed_and_ends_saying_so() -> None:
    """A claim is allowed until just before the expiry and refused from then on; then the task expires."""
    assert Scenario(expires_at=NOON + MINUTE).later(59.999999).claimed().state.attempt == 1
    task = Scenario(expires_at=NOON + MINUTE).later(59.999999)
    assert task.when(c.Expire()) == []
    task.later(0.000001).rejects(c.Claim(worker="w1", seen=1), because="expires at 2026-01-01T12:01:00.000000Z")
    [event] = task.when(c.Expire())

    assert isinstance(event, e.TaskCancelled)
    assert event.reason == "it expired at 2026-01-01T12:01:00.000000Z before any attempt began"
    assert (event.attempt, task.state.status, task.state.key_held) == (None, CANCELLED, 0)


def test_what_has_begun_does_not_expire() -> None:
    """A running, ended or once failed task is left alone; one that was given back expires, and says so truly."""
    task = Scenario(expires_at=NOON + MINUTE).claimed().later(60)
    assert task.when(c.Expire()) == []
    task.interrupt()
    [event] = task.when(c.Expire())
    assert event.reason is not None and event.reason.endswith("while it waited to begin again, having been interrupted")
    failed = Scenario(expires_at=NOON + MINUTE).claimed()
    failed.fail()
    assert failed.later(3_600).when(c.Expire()) == [] and failed.state.expires_us is None
    failed.claimed()
    task.when(c.RetryNow(queued=queue(expires_at=NOON + MINUTE)))
    assert task.state.expires_us is None, "who retries a task wants it to run"


def test_a_due_time_from_the_expiry_on_is_refused() -> None:
    """A task is not moved to where it could never run, unless its expiry moves along."""
    task = Scenario(expires_at=NOON + MINUTE)
    task.rejects(c.Reschedule(due_at=NOON + MINUTE), because="expires at .*it cannot begin at 2026-01-01T12:01:00")
    task.rejects(c.Reschedule(due_at=NOON + MINUTE, expires_at=NOON + MINUTE), because="expires")
    task.when(c.Reschedule(due_at=NOON + MINUTE, expires_at=NOON + 2 * MINUTE))
    assert task.state.expires_us == _us(NOON + 2 * MINUTE)
    task.when(c.Reschedule(due_at=NOON))
    assert task.state.expires_us == _us(NOON + 2 * MINUTE)


def test_attempts_left_count_the_one_that_runs() -> None:
    """Twelve at first and while the first runs, eleven after its failure; one that never gives up has no count."""
    task = Scenario()
    assert task.state.attempts_left == 12
    assert task.claimed().state.attempts_left == 12
    task.fail()
    assert task.state.attempts_left == 11
    assert Scenario(max_attempts=None).state.attempts_left is None
    assert Scenario(max_attempts=1).state.attempts_left == 1


class ExpiryMachine(RuleBasedStateMachine):
    """Expiring, claiming, cancelling and moving in any order; the verdict is read from the events, by rules of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.task = Scenario(expires_at=NOON + MINUTE, key_stream="key:1", unique_key="k")

    def attempt_to(self, command: c.Command) -> bool:
        try:
            return bool(self.task.when(command))
        except Conflict:
            return False

    @rule(seconds=st.sampled_from([0, 1, 29, 30, 60]))
    def time_passes(self, seconds: int) -> None:
        self.task.later(seconds)

    @rule()
    def claim(self) -> None:
        before = self.task.state
        is_claimed = self.attempt_to(c.Claim(worker="w1", seen=0))
        has_expired = before.expires_us is not None and before.expires_us <= _us(self.task.now)
        if before.status == WAITING and before.due_us <= _us(self.task.now):
            assert is_claimed is not has_expired

    @rule()
    def expire(self) -> None:
        self.attempt_to(c.Expire())

    @rule()
    def cancel(self) -> None:
        self.attempt_to(c.Cancel())

    @rule()
    def retry(self) -> None:
        self.attempt_to(c.RetryNow(queued=queue(key_stream="key:1", unique_key="k")))

    @rule(kind=st.sampled_from(["succeed", "fail", "lose", "interrupt"]))
    def report(self, kind: str) -> None:
        getattr(self.task, kind)()

    @rule(due=st.integers(0, 120), expires=st.none() | st.integers(0, 180))
    def move(self, due: int, expires: int | None) -> None:
        moment = None if expires is None else self.task.now + timedelta(seconds=expires)
        self.attempt_to(c.Reschedule(due_at=self.task.now + timedelta(seconds=due), expires_at=moment))

    @invariant()
    def nothing_begins_after_its_expiry_or_expires_before_it(self) -> None:
        expires: datetime | None = None
        is_used = False
        for event in self.task.events:
            match event:
                case e.TaskQueued() | e.TaskRescheduled() if event.expires_at is not None and not is_used:
                    expires = event.expires_at
                case e.TaskRetried():
                    expires, is_used = None, False
                case e.TaskFailed() | e.AttemptLost():
                    expires, is_used = None, True
                case e.TaskClaimed():
                    assert expires is None or event.at < expires
                case e.TaskCancelled() if event.reason is not None and event.reason.startswith("it expired"):
                    assert expires is not None and event.at >= expires


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


TestExpiryMachine = ExpiryMachine.TestCase
TestExpiryMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
