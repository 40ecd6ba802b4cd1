"""Unique tasks, many at once, and the acts of people on tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ledger.clock import to_us
from ledger.errors import (
    Conflict,
    InvalidArguments,
    InvalidOption,
    InvalidValue,
    NotFound,
    NotRegistered,
    TaskEnded,
)
from ledger.events import TaskRescheduled
from ledger.testing import DEFAULT_START, run_queue
from tests.api.setup import REASON, count_events, names_of, new_ledger, queued

pytestmark = pytest.mark.usefixtures("each_database")

# Unique tasks


def test_unique_true_knows_a_call_by_its_arguments_and_identity() -> None:
    """`unique=True` returns the live task of the same arguments and run_as, and says so."""
    ledger, _ = new_ledger()

    @ledger.task(unique=True)
    def job(a: int, b: int = 2) -> None: ...

    first, again = job.enqueue(1), job.enqueue(b=2, a=1)
    assert (again.id, again.duplicate, first.duplicate) == (first.id, True, False)
    others = [job.enqueue(2), job.using(run_as="alice").enqueue(1), job.using(unique=False).enqueue(1)]
    assert len({first.id, *(task.id for task in others)}) == 4
    assert not any(task.duplicate for task in others)


@pytest.mark.parametrize("how", ["succeeds", "fails", "is cancelled"])
def test_a_key_frees_when_its_task_ends(how: str) -> None:
    """A key text allows one live task of its name; it is free again however that task ends."""
    ledger, _ = new_ledger()

    @ledger.task(unique="the only one", retry=False)
    def job(is_good: bool) -> None:
        if not is_good:
            raise ValueError("bad")

    first = job.enqueue(how == "succeeds")
    assert job.enqueue(True).id == first.id
    if how == "is cancelled":
        ledger.cancel(first.id, reason=REASON)
    else:
        run_queue(ledger)
    second = job.enqueue(True)
    assert (second.duplicate, second.id == first.id) == (False, False)


def test_a_key_is_one_of_its_task_name() -> None:
    """The same key text of two task names is two keys."""
    ledger, _ = new_ledger()

    @ledger.task(unique="key")
    def one() -> None: ...

    @ledger.task(unique="key")
    def two() -> None: ...

    assert not one.enqueue().duplicate
    assert not two.enqueue().duplicate


def test_unique_until_start_frees_the_key_at_the_claim() -> None:
    """With `unique_until="start"` a call during the run is a new task, so a change during the run is not lost."""
    ledger, _ = new_ledger()
    during: list[bool] = []

    @ledger.task(unique="k", unique_until="start")
    def job(again: bool) -> None:
        if again:
            during.append(job.enqueue(False).duplicate)

    @ledger.task(unique="k")
    def whole(again: bool) -> None:
        if again:
            during.append(whole.enqueue(False).duplicate)

    job.enqueue(True)
    run_queue(ledger)
    whole.enqueue(True)
    run_queue(ledger)
    assert during == [False, True]


def test_on_duplicate_reschedule_moves_the_waiting_task() -> None:
    """`on_duplicate="reschedule"` moves the due time of the waiting task to the new call's, and queues nothing."""
    ledger, clock = new_ledger()

    @ledger.task(unique="k")
    def job() -> None: ...

    first = job.using(run_after=timedelta(hours=1)).enqueue()
    clock.advance(timedelta(minutes=30))
    again = job.using(run_after=timedelta(hours=1), on_duplicate="reschedule").enqueue()
    assert (again.id, again.duplicate) == (first.id, True)
    moved = first.events[-1]
    assert isinstance(moved, TaskRescheduled)
    assert moved.due_at == DEFAULT_START + timedelta(minutes=90)
    assert moved.reason


# Many at once


def test_enqueue_many_is_one_act() -> None:
    """`enqueue_many` stores all calls under one act, and of equal keys the first wins."""
    ledger, _ = new_ledger()

    @ledger.task
    def job(number: int) -> int:
        return number

    unique = job.using(unique="k")
    tasks = ledger.enqueue_many([job.call(1), unique.call(2), unique.call(3)])
    assert [task.duplicate for task in tasks] == [False, False, True]
    assert tasks[1].id == tasks[2].id
    assert len({queued(task).command for task in tasks}) == 1
    assert ledger.enqueue_many([]) == []


def test_one_bad_call_of_many_stores_nothing() -> None:
    """A bad call anywhere in the iterable refuses all of them."""
    ledger, _ = new_ledger()

    @ledger.task
    def job(number: Any) -> None: ...

    with pytest.raises(InvalidValue):
        ledger.enqueue_many(job.call(value) for value in (1, 2, float("nan"), 3))
    with pytest.raises(InvalidArguments):
        ledger.enqueue_many(job.call(*args) for args in ((1,), (1, 2)))
    with pytest.raises(InvalidOption):
        ledger.enqueue_many([job.call(1), job.using(with_outcome=True).call(2)])
    with pytest.raises(InvalidOption):
        ledger.enqueue_many([job.call(1)], reason=" ")
    assert count_events(ledger) == 0


def test_what_is_no_call_is_not_queued() -> None:
    """`enqueue` and `enqueue_many` take calls; a function or its result is an InvalidOption that says so."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    wrong: Any = job
    with pytest.raises(InvalidOption, match="call"):
        ledger.enqueue(wrong)
    with pytest.raises(InvalidOption, match="call"):
        ledger.enqueue_many([job.call(), wrong])
    assert count_events(ledger) == 0


# Acts on tasks


def test_cancel_retry_and_reschedule_need_a_reason() -> None:
    """An act that changes a task's course is refused without a reason, and stores nothing then."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    task = job.enqueue()
    before = count_events(ledger)
    for reason in (None, "", "  "):
        bad: Any = reason
        with pytest.raises(InvalidOption):
            ledger.cancel(task.id, reason=bad)
        with pytest.raises(InvalidOption):
            ledger.retry(task.id, reason=bad)
        with pytest.raises(InvalidOption):
            ledger.reschedule(task.id, timedelta(0), reason=bad)
    assert count_events(ledger) == before


def test_a_task_is_cancelled_retried_and_rescheduled() -> None:
    """A cancelled task does not run; retried it waits again; rescheduled it is due at the new time; all is recorded."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> str:
        return "ran"

    task = job.enqueue()
    assert ledger.cancel(task.id, reason=REASON, actor="ann").state == "cancelled"
    assert run_queue(ledger) == 0
    with pytest.raises(TaskEnded, match="cancelled"):
        task.result(timeout=0)
    assert ledger.retry(task.id, reason=REASON).state == "waiting"
    ledger.reschedule(task.id, timedelta(hours=1), reason=REASON)
    assert run_queue(ledger) == 0
    ledger.reschedule(task.id, ledger.clock.now(), reason=REASON)
    assert run_queue(ledger) == 1
    assert task.result() == "ran"
    changes = ["TaskCancelled", "TaskRetried", "TaskRescheduled", "TaskRescheduled"]
    assert names_of(task) == ["TaskQueued", *changes, "TaskClaimed", "TaskSucceeded"]
    assert [event.reason for event in task.events[1:5]] == [REASON] * 4
    assert task.events[1].actor == "user:ann"


def test_an_act_in_the_wrong_state_is_a_conflict() -> None:
    """An act that the state does not allow is a Conflict that says which states do, and stores nothing."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    waiting, done = job.enqueue(), job.enqueue()
    ledger.reschedule(waiting.id, timedelta(days=1), reason=REASON)
    run_queue(ledger)
    before = count_events(ledger)
    with pytest.raises(Conflict, match="failed or cancelled"):
        ledger.retry(waiting.id, reason=REASON)
    for act in (ledger.cancel, ledger.retry):
        with pytest.raises(Conflict, match="succeeded"):
            act(done.id, reason=REASON)
    with pytest.raises(Conflict, match="waiting"):
        ledger.reschedule(done.id, timedelta(0), reason=REASON)
    assert count_events(ledger) == before


def test_a_retry_takes_its_key_again_or_is_refused() -> None:
    """A retried task holds its key again; while another task holds it, retry is a Conflict."""
    ledger, _ = new_ledger()

    @ledger.task(unique="k")
    def job() -> None: ...

    first = job.enqueue()
    ledger.cancel(first.id, reason=REASON)
    second = job.enqueue()
    with pytest.raises(Conflict, match=second.id):
        ledger.retry(first.id, reason=REASON)
    ledger.cancel(second.id, reason=REASON)
    ledger.retry(first.id, reason=REASON)
    assert job.enqueue().id == first.id


def test_an_unknown_task_is_not_found() -> None:
    """Asking for a task that is not in the ledger, or acting on it, is a NotFound."""
    ledger, _ = new_ledger()
    unknown = "01890a5d-ac96-774b-bcce-b302099a8057"
    acts: list[Callable[[], Any]] = [
        lambda: ledger.get(unknown),
        lambda: ledger.cancel(unknown, reason=REASON),
        lambda: ledger.retry(unknown, reason=REASON),
        lambda: ledger.reschedule(unknown, timedelta(0), reason=REASON),
    ]
    for act in acts:
        with pytest.raises(NotFound):
            act()


# Two ledgers in one process


def test_a_call_is_queued_where_its_function_is_registered() -> None:
    """Another ledger's call is refused before anything is stored, alone and among others."""
    (one, _), (other, _) = new_ledger(), new_ledger()
    mine = one.task(name="mine")(lambda: None)
    theirs = other.task(name="theirs")(lambda: None)
    for enqueue in (
        lambda: one.enqueue(theirs.call()),
        lambda: one.enqueue_many([mine.call(), theirs.call()]),
    ):
        with pytest.raises(NotRegistered, match="'theirs' is another ledger's"):
            enqueue()
    assert count_events(one) == 0


def test_children_stay_in_the_ledger_of_their_parent() -> None:
    """`with_outcome` is refused over ledgers; a plain call into another one names no parent there."""
    (one, _), (other, _) = new_ledger(), new_ledger()
    theirs = other.task(name="theirs")(lambda: None)
    seen = []

    @one.task(retry=False)
    def parent() -> None:
        seen.append(theirs.enqueue())
        theirs.using(with_outcome=True).enqueue()

    task = parent.enqueue()
    run_queue(one)
    assert queued(seen[0]).parent is None
    assert task.record.error is not None and "this is another one" in task.record.error["message"]
    assert count_events(other) == 1


def test_of_many_calls_on_one_key_the_last_due_time_holds() -> None:
    """`on_duplicate="reschedule"` moves the task each time in one commit, also one queued in the same commit."""
    ledger, _ = new_ledger()

    @ledger.task(unique="k")
    def job() -> None: ...

    def calls() -> list[Any]:
        return [job.using(run_after=timedelta(hours=h), on_duplicate="reschedule").call() for h in (1, 9, 9, 4)]

    first = ledger.enqueue_many(calls())
    assert {task.id for task in first} == {first[0].id} and [task.duplicate for task in first] == [
        False,
        True,
        True,
        True,
    ]
    assert first[0].record.state.due_us == to_us(DEFAULT_START + timedelta(hours=4))
    ledger.enqueue_many(calls())
    moves = [event.due_at - DEFAULT_START for event in first[0].events if isinstance(event, TaskRescheduled)]
    assert moves == [timedelta(hours=h) for h in (9, 4, 1, 9, 4)]
