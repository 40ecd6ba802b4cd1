"""`expires=`: a task that has not begun by then is cancelled by whichever worker looks, and says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger import Conflict, InvalidOption, Ledger, Retry
from ledger.clock import to_us
from ledger.testing import DEFAULT_START, ManualClock, run_queue
from projections import queue as queue_view
from projections import schedules as schedules_view
from projections.reports import Reports
from runner.cycle import Cycle, Finished
from runner.execute import execute
from runner.expiring import MOST_EXPIRED
from runner.why import why
from tests.api.setup import REASON, count_events, names_of, new_ledger, open_ledger, queued

each_database = pytest.mark.usefixtures("each_database")

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def turn(cycle: Cycle, free: int = 0) -> Any:
    """One turn of a worker's crank, the view caught up."""
    while (found := cycle.turn([], free, is_idle=True)).is_behind:
        pass
    return found


@each_database
def test_a_task_that_has_not_begun_is_cancelled_and_says_so() -> None:
    """At its expiry it is cancelled by the worker, with the reason; its key is free, its row is gone, `why` tells."""
    ledger, clock = new_ledger()
    job: Any = ledger.task(name="job", unique=True, expires=HOUR)(lambda: None)
    task = job.using(run_after=MINUTE).enqueue()
    expires = DEFAULT_START + MINUTE + HOUR
    assert queued(task).expires_at == expires
    assert task.record.summary()["expires_at"] == expires
    other = Cycle(open_ledger(clock), "another app")
    other._ledger.store = ledger.store
    assert turn(other).next_expiry_us == to_us(expires)
    clock.advance(MINUTE + HOUR)
    assert turn(other).expired == 1
    last = task.events[-1]
    assert (type(last).__name__, last.actor) == ("TaskCancelled", "worker:another app")
    assert last.reason == "it expired at 2026-01-01T13:01:00.000000Z before any attempt began"
    assert job.enqueue().answer == "queued"
    assert "it expired at" in why(task.record, clock.now(), [], 0)[0]
    assert queue_view.verify(ledger) == Reports(ledger).verify() == []


@each_database
def test_expiry_is_told_while_it_waits() -> None:
    """`why` says when a waiting task will be cancelled, and that it has expired where no worker has looked yet."""
    ledger, clock = new_ledger()
    task = ledger.task(name="job", expires=HOUR)(lambda: None).enqueue()
    assert any(
        "cancelled if it has not begun by 2026-01-01T13:00" in said for said in why(task.record, clock.now(), [], 0)
    )
    clock.advance(HOUR)
    assert any("It expired at" in said and "next worker" in said for said in why(task.record, clock.now(), [], 0))


@each_database
def test_an_absolute_expiry_is_in_any_zone_and_may_have_passed() -> None:
    """An aware moment is kept in UTC; one that has passed cancels the task at the next look, without an error."""
    ledger, _ = new_ledger()
    job: Any = ledger.task(name="job")(lambda: None)
    moment = datetime(2026, 1, 1, 15, tzinfo=timezone(timedelta(hours=2)))
    assert queued(job.using(expires=moment).enqueue()).expires_at == datetime(2026, 1, 1, 13, tzinfo=UTC)
    late = job.using(expires=DEFAULT_START - HOUR).enqueue()
    assert run_queue(ledger) == 1
    assert late.state == "cancelled"


@pytest.mark.parametrize(
    "expires", [timedelta(0), timedelta(seconds=-1), timedelta(days=4_000), datetime(2026, 1, 1), 60, "tomorrow", True]
)
@each_database
def test_what_is_no_expiry_is_refused(expires: Any) -> None:
    """Nothing is declared or stored with an expiry that is no aware moment and no time after it is due."""
    ledger, _ = new_ledger()
    job: Any = ledger.task(name="job")(lambda: None)
    with pytest.raises(InvalidOption, match="expires"):
        job.using(expires=expires)
    with pytest.raises(InvalidOption, match="expires"):
        ledger.task(name="other", expires=expires)(lambda: None)
    assert count_events(ledger) == 0


@each_database
def test_a_retry_does_not_expire() -> None:
    """Once an attempt was used, or somebody retried the task, its expiry is void: it goes on as any other."""
    ledger, clock = new_ledger()
    attempts = []

    @ledger.task(expires=MINUTE, retry=Retry(first=3_600), max_attempts=2)
    def job() -> None:
        attempts.append(clock.now())
        if len(attempts) == 1:
            raise ValueError("once")

    task = job.enqueue()
    run_queue(ledger, through_delays=True)
    assert (task.state, len(attempts)) == ("succeeded", 2)
    expired = job.enqueue()
    clock.advance(HOUR)
    run_queue(ledger)
    ledger.retry(expired.id, reason=REASON)
    clock.advance(HOUR)
    run_queue(ledger)
    assert (expired.state, len(attempts)) == ("succeeded", 3)


@each_database
def test_a_claim_that_is_given_back_expires() -> None:
    """A task whose worker gave it back unbegun waits for its first attempt still, and says what happened."""
    ledger, clock = new_ledger()
    task = ledger.task(name="job", expires=HOUR)(lambda: None).enqueue()
    from ledger import commands as c

    cycle = Cycle(ledger, "w1")
    [claimed] = turn(cycle, 1).claims
    back = c.Interrupt(attempt=1, worker="w1", cause="it was not begun in time")
    cycle.turn([Finished(claimed, back)], 0, is_idle=True)
    clock.advance(HOUR)
    assert turn(cycle, 1).claims == []
    assert names_of(task)[-2:] == ["AttemptInterrupted", "TaskCancelled"]
    assert str(task.events[-1].reason).endswith("having been interrupted")


@each_database
def test_very_many_expire_in_bounded_turns_and_none_of_them_is_claimed() -> None:
    """A turn cancels so many and asks for another; what has expired and is not cancelled yet is never claimed."""
    ledger, clock = new_ledger()
    job: Any = ledger.task(name="job")(lambda: None)
    calls = [job.using(expires=HOUR + n * timedelta(microseconds=1)).call() for n in range(2 * MOST_EXPIRED + 10)]
    ledger.enqueue_many(calls)
    live = job.using(priority=-1).enqueue()
    clock.advance(2 * HOUR)
    cycle = Cycle(ledger, "w1")
    seen = [turn(cycle, 5) for _ in range(4)]
    assert [one.expired for one in seen] == [MOST_EXPIRED, MOST_EXPIRED, 10, 0]
    assert [one.is_expiring for one in seen] == [True, True, False, False]
    assert [claimed.state.task_id for one in seen for claimed in one.claims] == [live.id]
    assert queue_view.verify(ledger) == []


@each_database
def test_an_inline_run_works_them_off_and_waits_for_none() -> None:
    """`run_queue` cancels what has expired; moving through delays it passes each expiry."""
    ledger, clock = new_ledger()
    job: Any = ledger.task(name="job")(lambda: None)
    tasks = ledger.enqueue_many(job.using(expires=MINUTE).call() for _ in range(MOST_EXPIRED + 1))
    clock.advance(MINUTE)
    later = job.using(run_after=HOUR).enqueue()
    moved = ledger.task(name="gone")(lambda: None).using(expires=MINUTE).enqueue()
    del ledger.functions["gone"]
    assert run_queue(ledger) == 0
    assert {task.state for task in tasks} == {"cancelled"}
    assert run_queue(ledger, through_delays=True) == 1
    assert (later.state, moved.state) == ("succeeded", "cancelled")


@each_database
def test_a_reschedule_past_the_expiry_is_refused_unless_it_moves_too() -> None:
    """`reschedule` names the expiry in its way; with `expires` it sets a new one."""
    ledger, clock = new_ledger()
    task = ledger.task(name="job", expires=HOUR)(lambda: None).enqueue()
    with pytest.raises(Conflict, match=r"expires at 2026-01-01T13:00"):
        ledger.reschedule(task.id, 2 * HOUR, reason=REASON)
    ledger.reschedule(task.id, 2 * HOUR, expires=HOUR, reason=REASON)
    clock.advance(2 * HOUR)
    assert run_queue(ledger) == 1 and task.state == "succeeded"


@each_database
def test_a_run_of_a_schedule_that_expires_is_no_failure_of_it() -> None:
    """A run nobody began in time is cancelled; the schedule counts no failure and fires its next slot."""
    ledger, clock = new_ledger()
    ledger.schedule("0 * * * *", expires=timedelta(minutes=30))(_tick)
    run_queue(ledger)
    only_fires = open_ledger(clock)
    only_fires.store = ledger.store
    cycle = Cycle(only_fires, "without the task")
    states = []
    for _ in range(3):
        clock.advance(HOUR)
        turn(cycle)
        run = ledger.schedules.get("_tick").run_id
        assert run is not None
        states.append(ledger.get(run).state)
        assert ledger.get(run).record.state.expires_us == to_us(clock.now() + timedelta(minutes=30))
        clock.advance(timedelta(minutes=30))
        turn(cycle)
        states.append(ledger.get(run).state)
        clock.advance(timedelta(minutes=-30))
    assert states == ["waiting", "cancelled"] * 3
    state = ledger.schedules.get("_tick")
    assert (state.failures, state.outcome, state.is_live) == (0, "cancelled", False)
    assert run_queue(ledger, until=clock.now() + HOUR) == 1
    assert queue_view.verify(ledger) == schedules_view.verify(ledger) == []


@each_database
def test_a_schedule_has_no_moment_as_its_expiry() -> None:
    """The runs of a schedule expire so long after they are due; a moment would end them all."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidOption, match="timedelta"):
        ledger.schedule("0 * * * *", expires=DEFAULT_START)(_tick)
    assert not ledger.functions


def _tick() -> None: ...


class ExpiryOnALedger(RuleBasedStateMachine):
    """Workers, users and the clock in any order; the verdict is reached from the stored events by rules of its own."""

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.ledger = open_ledger(self.clock)
        self.job: Any = self.ledger.task(name="job", retry=Retry(first=30), max_attempts=2)(lambda: None)
        self.cycles = [Cycle(self.ledger, worker) for worker in ("w1", "w2")]
        self.held: list[tuple[Cycle, Any]] = []
        self.tasks: list[Any] = []

    @rule(after=st.integers(0, 90), expires=st.none() | st.integers(1, 90), key=st.none() | st.sampled_from("ab"))
    def enqueue(self, after: int, expires: int | None, key: str | None) -> None:
        given = {} if expires is None else {"expires": timedelta(seconds=expires)}
        call = self.job.using(run_after=timedelta(seconds=after), unique=key, **given)
        try:
            self.tasks.append(call.reschedule_or_queue() if key else call.enqueue())
        except Conflict as error:
            assert "expires at" in str(error)

    @rule(seconds=st.sampled_from([0, 1, 29, 30, 60]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule(which=st.integers(0, 1), free=st.integers(0, 2))
    def work(self, which: int, free: int) -> None:
        cycle = self.cycles[which]
        self.held += [(cycle, claimed) for claimed in turn(cycle, free).claims]

    @rule(is_back=st.booleans())
    def finish(self, is_back: bool) -> None:
        from ledger import commands as c

        for cycle, claimed in self.held[:1]:
            state = claimed.state
            back = c.Interrupt(attempt=state.attempt, worker=state.worker, cause="full")
            done = Finished(claimed, back) if is_back else execute(self.ledger, claimed, lambda: False)
            while cycle.turn([done], 0, is_idle=True).is_behind:
                pass
        del self.held[:1]

    @rule(data=st.data(), verb=st.sampled_from(["cancel", "retry"]))
    def change(self, data: Any, verb: str) -> None:
        if self.tasks:
            task = data.draw(st.sampled_from(self.tasks))
            try:
                getattr(self.ledger, verb)(task.id, reason=REASON)
            except Conflict:
                pass

    @invariant()
    def nothing_begins_or_holds_its_key_past_its_expiry(self) -> None:
        if not hasattr(self, "ledger"):
            return
        expires: dict[str, datetime] = {}
        with self.ledger.store.read() as snapshot:
            events = [snapshot.decode(raw) for raw in snapshot.events_after(0, 10_000)]
        for event in events:
            kind, stream = type(event).__name__, event.originator_id
            if kind in ("TaskQueued", "TaskRescheduled", "TaskRetried"):
                if (moment := getattr(event, "expires_at", None)) is not None:
                    expires[stream] = moment
                elif kind == "TaskRetried":
                    expires.pop(stream, None)
            elif kind == "TaskClaimed":
                assert stream not in expires or event.at < expires[stream]
            elif kind == "TaskCancelled" and str(event.reason).startswith("it expired"):
                assert event.at >= expires[stream]

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.clock.advance(timedelta(days=1))
        turn(self.cycles[0])
        assert queue_view.verify(self.ledger) == Reports(self.ledger).verify() == []
        with self.ledger.store.read() as snapshot:
            waiting = snapshot.rows("SELECT count(*) FROM queue WHERE status = 'waiting' AND expires_us IS NOT NULL")
            held = {
                raw[1]: snapshot.decode(raw) for raw in snapshot.events_after(0, 10_000) if raw[1].startswith("key:")
            }
        assert waiting == [(0,)], "a day later nothing waits that could expire"
        for event in held.values():
            if type(event).__name__ == "KeyReserved":
                assert Ledger.get(self.ledger, event.task).state in ("waiting", "running")


TestExpiryOnALedger = ExpiryOnALedger.TestCase
TestExpiryOnALedger.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
