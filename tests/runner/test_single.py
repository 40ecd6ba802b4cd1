"""One task run by its id in the caller's thread: due or not, failed or not, whatever waits before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger import Conflict, InvalidOption, Ledger, NotFound, NotRegistered, Retry
from ledger.testing import memory_ledger, run_queue
from projections import queue as queue_view
from runner.execute import execute
from runner.losses import end_worker, lost
from runner.single import dismiss, record, run_one, take
from tests.api.setup import REASON, count_events, names_of

HOUR = timedelta(hours=1)


@pytest.fixture(params=["memory", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    if request.param == "memory":
        return memory_ledger()
    made: Ledger = request.getfixturevalue("postgres_ledgers")()
    return made


def names_in_log(ledger: Ledger) -> list[str]:
    with ledger.store.read() as snapshot:
        return [type(snapshot.decode(raw)).__name__ for raw in snapshot.events_after(0, 1_000)]


def test_the_task_asked_for_runs_and_no_other(ledger: Ledger) -> None:
    """Another of higher priority waits on; the worker made for it starts, claims, records and stops."""
    job: Any = ledger.task(name="job")(lambda number: number * 2)
    ledger.enqueue_many(job.using(priority=100).call(n) for n in range(3))
    task = job.enqueue(4)
    assert run_one(ledger, task.id) == "succeeded"
    assert task.result() == 8
    assert names_in_log(ledger)[4:] == ["WorkerStarted", "TaskClaimed", "TaskSucceeded", "WorkerStopped"]
    assert task.attempts[0].worker == task.record.attempts[0].worker
    with ledger.store.read() as snapshot:
        assert snapshot.rows("SELECT * FROM workers") == []
    assert queue_view.verify(ledger) == []


def test_a_task_that_is_not_due_runs_with_a_reason(ledger: Ledger) -> None:
    """It is rescheduled to now first, on record; without a reason it is refused and stays as it was."""
    task = ledger.task(name="job")(lambda: None).using(run_after=HOUR).enqueue()
    before = count_events(ledger)
    with pytest.raises(InvalidOption, match="needs a reason"):
        run_one(ledger, task.id)
    assert count_events(ledger) == before
    assert run_one(ledger, task.id, reason=REASON, actor="ann") == "succeeded"
    moved = task.events[1]
    assert (type(moved).__name__, moved.actor, moved.reason) == ("TaskRescheduled", "user:ann", REASON)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_task_that_has_ended_is_retried_first(ledger: Ledger, end: str) -> None:
    """TaskRetried has the reason; the attempt counts on, with all attempts anew; its key is taken again."""
    is_broken = True

    @ledger.task(unique="k", max_attempts=1)
    def job() -> str:
        if is_broken:
            raise ValueError("broken")
        return "mended"

    task = job.enqueue()
    if end == "cancelled":
        ledger.cancel(task.id, reason=REASON)
    run_queue(ledger)
    assert task.state == end
    with pytest.raises(InvalidOption, match="needs a reason"):
        run_one(ledger, task.id)
    is_broken = False
    assert run_one(ledger, task.id, reason=REASON) == "succeeded"
    [retried] = [event for event in task.events if type(event).__name__ == "TaskRetried"]
    assert (retried.reason, task.result(), task.record.state.used) == (REASON, "mended", 0)
    assert job.enqueue().answer == "queued"


def test_one_whose_key_is_held_is_refused(ledger: Ledger) -> None:
    """A failed task whose key another one holds is not run; the message names the other, and nothing is stored."""
    job: Any = ledger.task(name="job", unique="k", max_attempts=1)(lambda: 1 / 0)
    old = job.enqueue()
    run_queue(ledger)
    new = job.enqueue()
    before = count_events(ledger)
    with pytest.raises(Conflict, match=new.id):
        run_one(ledger, old.id, reason=REASON)
    assert count_events(ledger) == before
    with ledger.store.read() as snapshot:
        assert snapshot.rows("SELECT * FROM workers") == []


def test_what_runs_succeeded_or_expired_is_a_conflict_that_says_so(ledger: Ledger) -> None:
    """A running task is left to its worker, which is named with host and process; so are ends that are for ever."""
    clock: Any = ledger.clock
    job: Any = ledger.task(name="job")(lambda: None)
    running, done, expired = job.enqueue(), job.enqueue(), job.using(expires=HOUR).enqueue()
    taken = take(ledger, running.id)
    run_one(ledger, done.id)
    clock.advance(HOUR)
    before = count_events(ledger)
    for task, said in (
        (running, f"is running already: attempt 1 is held by worker {taken.worker} .one task, host .*, pid "),
        (done, "has succeeded"),
        (expired, "expires at"),
    ):
        with pytest.raises(Conflict, match=said):
            run_one(ledger, task.id, reason=REASON)
    assert count_events(ledger) == before
    dismiss(ledger, taken)
    assert names_of(running)[-1] == "AttemptLost"


def test_unknown_tasks_and_names_are_refused(ledger: Ledger) -> None:
    """No such task; no such function in this process, and nothing is claimed."""
    task = ledger.task(name="job")(lambda: None).enqueue()
    with pytest.raises(NotFound):
        run_one(ledger, "nope")
    ledger.functions.clear()
    with pytest.raises(NotRegistered):
        run_one(ledger, task.id)
    assert (task.state, count_events(ledger)) == ("waiting", 1)


def test_a_failure_waits_for_its_retry_and_one_queued_under_an_alias_runs(ledger: Ledger) -> None:
    """The state after a failed attempt is waiting, as in a worker; a task of an old name runs by its function."""
    old = ledger.task(name="old", retry=Retry(first=60))(lambda: None).enqueue()
    ledger.functions.clear()
    seen = []

    @ledger.task(name="new", aliases=["old"])
    def new() -> None:
        seen.append((ledger.current().name, ledger.current().attempts_left))
        raise ValueError("no")

    assert run_one(ledger, old.id) == "waiting"
    assert run_one(ledger, old.id, reason=REASON) == "waiting"
    assert seen == [("new", 12), ("new", 11)]
    assert old.attempts_left == 10


def test_an_interrupt_gives_it_back(ledger: Ledger) -> None:
    """Ctrl-C in the task costs no attempt: it waits again, and the interrupt goes on to the caller."""

    @ledger.task
    def job() -> None:
        raise KeyboardInterrupt

    task = job.enqueue()
    with pytest.raises(KeyboardInterrupt):
        run_one(ledger, task.id)
    assert (task.state, task.attempts_left, names_of(task)[-1]) == ("waiting", 12, "AttemptInterrupted")


def test_a_result_that_comes_too_late_is_rejected(ledger: Ledger) -> None:
    """Taken from its worker while it ran, the attempt's result is kept as rejected and changes nothing."""
    task = ledger.task(name="job")(lambda: "late").enqueue()
    taken = take(ledger, task.id)
    finished = execute(ledger, taken.claimed, lambda: False)
    end_worker(ledger, taken.worker, "no heartbeat", lost("no heartbeat"), actor="worker:another")
    assert record(ledger, taken, finished)
    assert names_of(task)[-2:] == ["AttemptLost", "LateResultRejected"]
