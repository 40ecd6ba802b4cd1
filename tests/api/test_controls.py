"""Limits, pauses, disabled runners, stop and recycling as Python code sees them, on a manual clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger import Conflict, InvalidOption, Ledger, NotRegistered
from ledger.control_events import CachesCleared, LimitChanged, QueuePaused
from ledger.control_rules import LimitState
from ledger.ids import mint
from ledger.testing import ManualClock, run_queue
from runner.cycle import Begun, Cycle, Finished
from runner.execute import execute
from tests.api.setup import REASON, count_events, new_ledger, open_ledger

pytestmark = pytest.mark.usefixtures("each_database")


def claimed(ledger: Ledger, free: int = 100, cycle: Cycle | None = None) -> list[str]:
    """Claim what a worker with so many free slots would; the names of the tasks."""
    cycle = cycle or Cycle(ledger, mint(ledger.clock.now()))
    turn = cycle.turn([], free, is_idle=True)
    while turn.is_behind:
        turn = cycle.turn([], free, is_idle=True)
    return [one.state.name for one in turn.claims]


def rows(ledger: Ledger, sql: str) -> list[tuple[Any, ...]]:
    with ledger.store.read() as snapshot:
        return snapshot.rows(sql)


def force(state: LimitState) -> tuple[int | None, str] | None:
    found = state.in_force
    return None if found is None else (found.most, found.source)


def test_limits_of_the_code_reach_the_log_with_a_run() -> None:
    """What Ledger and task say is in the log once somebody runs the queue, by source and application."""
    clock = ManualClock()
    ledger = open_ledger(clock, name="shop", limits={"queue:mail": 2, "key:*": None})
    ledger.task(name="a", limit=3)(lambda: None)
    assert ledger.controls.limits() == []
    run_queue(ledger)

    found = {state.scope: (force(state), state.app) for state in ledger.controls.limits()}
    assert found == {
        "key:*": ((None, "code"), "shop"),
        "queue:mail": ((2, "code"), "shop"),
        "task:a": ((3, "code"), "shop"),
    }
    before = count_events(ledger)
    run_queue(ledger)
    assert count_events(ledger) == before, "the same again is no event"


def test_what_the_code_says_no_more_is_reset() -> None:
    """A later start of the same application takes back what it no longer says; another's stays."""
    ledger, _ = new_ledger()
    controls = ledger.controls
    controls.register(app="one", configuration={"ledger": 9})
    ledger.task(name="a", limit=3)(lambda: None)
    controls.register(app="one", configuration={"ledger": 9})
    ledger.functions.clear()
    assert controls.register(app="two") == []
    assert [state.scope for state in controls.limits()] == ["ledger", "task:a"]
    assert controls.register(app="one", configuration={}) == ["ledger", "task:a"]
    assert controls.limits() == []


def test_hand_counts_before_code_and_configuration_before_both() -> None:
    """As with schedules: code, then hand, then configuration, which nobody overrules by hand."""
    ledger = open_ledger(ManualClock(), limits={"task:a": 3})
    controls = ledger.controls
    controls.register()
    assert force(controls.set_limit("task:a", 5, reason=REASON, actor="ann")) == (5, "hand")
    controls.register(configuration={"task:a": 1})
    with pytest.raises(Conflict, match="configuration"):
        controls.set_limit("task:a", 7, reason=REASON)
    with pytest.raises(Conflict, match="reset is possible once it is not"):
        controls.reset_limit("task:a", reason=REASON)
    [state] = controls.limits()
    assert force(state) == (1, "configuration")
    controls.register(configuration={})
    assert force(controls.reset_limit("task:a", reason=REASON)) == (3, "code")


def test_every_change_has_an_actor_and_a_reason() -> None:
    """Without a reason nothing happens; with one it is in the event with who asked."""
    ledger, _ = new_ledger()
    controls: Any = ledger.controls
    for call in (
        lambda: controls.set_limit("ledger", 1, reason=None),
        lambda: controls.reset_limit("ledger", reason=None),
        lambda: controls.pause("mail", reason=None),
        lambda: controls.resume("mail", reason=None),
        lambda: controls.disable_runners(reason=None),
        lambda: controls.enable_runners(reason=None),
        lambda: controls.stop(reason=None),
        lambda: controls.clear_caches(reason=None),
    ):
        with pytest.raises(InvalidOption, match="needs a reason, which is kept in the log"):
            call()
    assert count_events(ledger) == 0
    controls.pause("mail", reason=REASON, actor="ann")
    with ledger.store.read() as snapshot:
        event = snapshot.last("queue:mail")
    assert isinstance(event, QueuePaused)
    assert (event.actor, event.reason) == ("user:ann", REASON)


@pytest.mark.parametrize(
    "call",
    [
        lambda controls: controls.set_limit("mail", 1, reason=REASON),
        lambda controls: controls.set_limit("task:a", 0, reason=REASON),
        lambda controls: controls.set_limit("task:a", "3", reason=REASON),
        lambda controls: controls.register(configuration={"task:": 1}),
        lambda controls: controls.pause("", reason=REASON),
        lambda controls: controls.pause("a\nb", reason=REASON),
        lambda controls: controls.wait_until_idle(-1),
        lambda controls: controls.wait_until_idle("long"),
    ],
)
def test_what_cannot_be_meant_is_refused(call: Any) -> None:
    """A bad scope, number, queue or time is a typed error before anything is stored."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidOption, match="allowed"):
        call(ledger.controls)
    assert count_events(ledger) == 0


def test_limits_in_code_are_checked_when_they_are_declared() -> None:
    """With the ledger, with the task, and both for one task at the start."""
    with pytest.raises(InvalidOption, match="scope"):
        Ledger("memory:", limits={"mail": 1})
    with pytest.raises(InvalidOption, match="mapping"):
        Ledger("memory:", limits=3)  # type: ignore[arg-type]
    ledger = Ledger("memory:", limits={"task:a": 1})
    with pytest.raises(InvalidOption, match="whole number from 1"):
        ledger.task(name="b", limit=0)(lambda: None)
    ledger.task(name="a", limit=2)(lambda: None)
    with pytest.raises(InvalidOption, match="task:a is declared twice"):
        run_queue(ledger)


def test_the_concurrency_key_is_an_option_of_task_and_call() -> None:
    """The decorator's key is that of its calls unless they say otherwise; it is stored with the task."""
    ledger, _ = new_ledger()
    task = ledger.task(name="a", concurrency_key="smtp")(lambda: None)
    events: Any = [task.enqueue().events[0], task.using(concurrency_key="other").enqueue().events[0]]
    assert [event.concurrency_key for event in events] == ["smtp", "other"]
    for bad in ("", " x", 7):
        with pytest.raises(InvalidOption, match="concurrency_key"):
            task.using(concurrency_key=bad)  # type: ignore[arg-type]


def test_a_retried_task_keeps_its_concurrency_key() -> None:
    """It counts under its key again."""
    ledger, _ = new_ledger()
    task = ledger.task(name="a")(lambda: None).using(concurrency_key="k").enqueue()
    other = ledger.functions["a"].using(concurrency_key="k").enqueue()
    ledger.cancel(task.id, reason=REASON)
    ledger.retry(task.id, reason=REASON)
    ledger.controls.set_limit("key:k", 1, reason=REASON)

    assert claimed(ledger) == ["a"]
    assert sorted((task.state, other.state)) == ["running", "waiting"]


def test_limits_hold_over_cycles_of_several_workers() -> None:
    """What one worker holds counts for the others, until it has ended."""
    ledger, _ = new_ledger()
    tasks = {name: ledger.task(name=name)(lambda: None) for name in "ab"}
    ledger.enqueue_many(tasks[name].call() for name in "aaaab")
    ledger.controls.set_limit("task:a", 2, reason=REASON)
    first, second = (Cycle(ledger, mint(ledger.clock.now())) for _ in range(2))
    turn = first.turn([], 1, is_idle=True)
    assert claimed(ledger, cycle=second) == ["b", "a"]
    assert claimed(ledger, cycle=second) == []
    first.turn([Finished(one, execute(ledger, one, bool).command) for one in turn.claims], 0, is_idle=True)
    assert claimed(ledger, cycle=second) == ["a"]


def test_a_limit_below_what_runs_stops_nothing() -> None:
    """What runs may finish; nothing begins until fewer run."""
    ledger, _ = new_ledger()
    task = ledger.task(name="a")(lambda: None)
    ledger.enqueue_many(task.call() for _ in range(3))
    assert claimed(ledger, free=2) == ["a", "a"]
    ledger.controls.set_limit("ledger", 1, reason=REASON)

    assert claimed(ledger) == []
    assert rows(ledger, "SELECT count(*) FROM queue WHERE status = 'running'") == [(2,)]


def test_a_paused_queue_waits_and_goes_on() -> None:
    """Nothing of it is claimed, also what is due later; other queues go on."""
    ledger, clock = new_ledger()
    task = ledger.task(name="a")(lambda: None)
    held, free = task.using(queue="mail").enqueue(), task.enqueue()
    assert ledger.controls.pause("mail", reason=REASON)
    assert not ledger.controls.pause("mail", reason=REASON), "it was paused"
    assert ledger.controls.is_paused("mail")
    clock.advance(timedelta(hours=1))
    assert run_queue(ledger) == 1
    assert (held.state, free.state) == ("waiting", "succeeded")
    assert ledger.controls.resume("mail", reason=REASON)
    assert not ledger.controls.resume("mail", reason=REASON)
    assert run_queue(ledger) == 1


def test_disabled_runners_claim_nothing_and_fire_nothing() -> None:
    """Slots pass as if no worker ran, and are recorded with the cause; enabled, work goes on."""
    ledger, clock = new_ledger()
    ran: list[str] = []

    @ledger.schedule("0 * * * *")
    def hourly() -> None:
        ran.append(f"{clock.now():%H:%M}")

    run_queue(ledger)
    task = ledger.task(name="a")(lambda: None).enqueue()
    assert ledger.controls.disable_runners(reason=REASON)
    assert not ledger.controls.disable_runners(reason=REASON)
    assert ledger.controls.are_disabled()
    turn = Cycle(ledger, "w").turn([], 1, is_idle=True)
    assert (turn.claims, turn.next_slot_us, turn.next_due_us) == ([], None, None)
    clock.advance(timedelta(hours=3, minutes=10))
    assert run_queue(ledger) == 0
    assert task.state == "waiting"
    assert ledger.controls.enable_runners(reason=REASON)
    assert run_queue(ledger) == 2
    assert len(ran) == 1
    [missed] = [one for one in ledger.schedules.history("hourly") if one.what == "SlotsMissed"]
    assert missed.details["cause"] == "the runners were disabled; one run stands for all"


def test_waiting_for_what_runs() -> None:
    """`wait_until_idle` returns at once when nothing runs, else how many still run at the end of its time."""
    ledger, clock = new_ledger()
    assert ledger.controls.wait_until_idle() == 0, "no worker has ever been here"
    ledger.task(name="a")(lambda: None).enqueue()
    cycle = Cycle(ledger, "w")
    turn = cycle.turn([], 1, is_idle=True)
    before = clock.now()
    assert ledger.controls.wait_until_idle(30) == 1
    assert clock.now() - before >= timedelta(seconds=30)
    cycle.turn([Finished(one, execute(ledger, one, bool).command) for one in turn.claims], 0, is_idle=True)
    assert ledger.controls.wait_until_idle(30) == 0


def test_calls_concern_what_had_begun_to_the_position() -> None:
    """Within one instant of the clock: a worker whose start stands before the call leaves, one after it does not."""
    ledger, _ = new_ledger()  # the clock stands still
    task = ledger.task(name="a")(lambda: None)
    task.enqueue()

    def heard(begun: Begun) -> tuple[bool, bool]:
        cycle = Cycle(ledger, "w")
        cycle.begun = begun
        turn = cycle.turn([], 0, is_idle=True)
        return turn.stop is not None, turn.recycle is not None

    head = count_events(ledger)
    called = ledger.controls.clear_caches(reason=REASON)
    assert heard(Begun(run=head, worker=head)) == (False, True)
    assert heard(Begun(run=head, worker=called)) == (False, False)
    stopped = ledger.controls.stop(reason=REASON)
    assert heard(Begun(run=head, worker=called)) == (True, False)
    assert heard(Begun(run=stopped, worker=stopped)) == (False, False)
    assert heard(Begun()) == (False, False)


def test_a_worker_that_is_told_to_leave_claims_nothing_in_that_very_turn() -> None:
    """The call stands before the claim in the log, and so it is heard."""
    ledger, _ = new_ledger()
    ledger.task(name="a")(lambda: None).enqueue()
    cycle = Cycle(ledger, "w")
    cycle.begun = Begun(run=0, worker=count_events(ledger))
    ledger.controls.clear_caches(reason=REASON)
    assert claimed(ledger, cycle=cycle) == []
    cycle.begun = Begun(run=0, worker=count_events(ledger))
    assert claimed(ledger, cycle=cycle) == ["a"]


def test_a_task_asks_for_new_processes() -> None:
    """`current().clear_caches` is the same call, by the worker; a run in its caller's thread goes on."""
    ledger, _ = new_ledger()

    @ledger.task
    def load_rates() -> None:
        ledger.current().clear_caches(reason="new rates")

    ledger.enqueue_many([load_rates.call(), load_rates.call()])
    assert run_queue(ledger) == 2
    with ledger.store.read() as snapshot:
        events = [event for _, event in snapshot.stream("ledger")]
    assert [type(event) for event in events] == [CachesCleared, CachesCleared]
    assert all(event.actor.startswith("worker:") and event.reason == "new rates" for event in events)


def test_a_run_in_its_callers_thread_hears_a_stop() -> None:
    """It begins nothing more; a later one does."""
    ledger, _ = new_ledger()

    @ledger.task
    def last() -> None:
        ledger.controls.stop(reason=REASON)

    ledger.enqueue_many([last.call(), last.call()])
    assert run_queue(ledger) == 1
    assert run_queue(ledger) == 1


def test_what_ended_elsewhere_is_not_claimed() -> None:
    """Case 71: of three equal tasks one has run, the second then fails elsewhere; the next claim is the third."""
    ledger, _ = new_ledger()
    task = ledger.task(name="a")(lambda: None)
    ledger.enqueue_many(task.call() for _ in range(3))
    here, elsewhere = (Cycle(ledger, mint(ledger.clock.now())) for _ in range(2))
    for cycle, outcome in ((here, None), (elsewhere, ValueError("no"))):
        turn = cycle.turn([], 1, is_idle=True)
        ledger.functions["a"].function = _raise(outcome) if outcome else (lambda: None)
        cycle.turn([Finished(one, execute(ledger, one, bool).command) for one in turn.claims], 0, is_idle=True)
    ids = [row[0] for row in rows(ledger, "SELECT task_id FROM queue ORDER BY position")]
    turn = here.turn([], 1, is_idle=True)
    assert [one.state.task_id for one in turn.claims] == ids[1:]
    assert here.turn([], 1, is_idle=True).claims == []


def _raise(error: Exception) -> Any:
    def raises() -> None:
        raise error

    return raises


def test_limit_events_say_where_they_came_from() -> None:
    """Source, application and reason of each change are in its event."""
    ledger = open_ledger(ManualClock(), limits={"ledger": 3})
    ledger.controls.register(app="tasks:ledger", configuration={"queue:a": 1}, actor="system:supervisor:7")
    with ledger.store.read() as snapshot:
        events: list[Any] = [snapshot.last("limit:ledger"), snapshot.last("limit:queue:a")]
    assert all(type(event) is LimitChanged for event in events)
    assert [(event.source, event.most, event.app, event.actor, event.reason) for event in events] == [
        ("code", 3, "tasks:ledger", "system:supervisor:7", "limits in the code of tasks:ledger"),
        ("configuration", 1, None, "system:supervisor:7", "limits of the configuration"),
    ]


def test_unknown_names_are_still_refused() -> None:
    """A limit of a task that nobody has is allowed: it may come; calling it is not."""
    ledger = open_ledger()
    ledger.controls.set_limit("task:later", 1, reason=REASON)
    with pytest.raises(NotRegistered):
        ledger.function("later")
