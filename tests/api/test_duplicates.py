"""What becomes of a call whose key a live task holds: reschedule-or-queue, and the cases of the Task API it follows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger import Conflict, Fail, Ledger, Retry, Task
from ledger.clock import to_us
from ledger.events import TaskRescheduled
from ledger.testing import DEFAULT_START, ManualClock, run_queue
from tests.api.setup import REASON, count_events, names_of, new_ledger, queued

pytestmark = pytest.mark.usefixtures("each_database")

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)


@pytest.fixture
def setting() -> tuple[Ledger, ManualClock, Any]:
    """A ledger and one task that fails on demand."""
    ledger, clock = new_ledger()

    @ledger.task(max_attempts=2, retry=Retry(first=3_600, factor=1))
    def course(number: int | None = None, *, fail: bool = False) -> None:
        if fail:
            raise ValueError("asked to")

    return ledger, clock, course


def due(task: Task[Any]) -> timedelta:
    """When the task is due, from the start of the clock on."""
    return timedelta(microseconds=task.record.state.due_us - to_us(DEFAULT_START))


def test_reschedule_or_queue_queues_where_nothing_is_equal(setting: Any) -> None:
    """Cases 36 to 38: nothing there, other arguments, or another identity: a task of its own each."""
    _ledger, _, course = setting
    first = course.reschedule_or_queue(10)
    other = course.using(run_as="ann").reschedule_or_queue(10)
    third = course.reschedule_or_queue(11)
    assert [task.answer for task in (first, other, third)] == ["queued"] * 3
    assert len({first.id, other.id, third.id}) == 3


def test_reschedule_or_queue_without_a_due_time_changes_nothing(setting: Any) -> None:
    """Case 39: an equal task is due tomorrow; asked for without a due time it stays wholly as it was."""
    ledger, clock, course = setting
    first = course.using(run_after=DAY).reschedule_or_queue(10)
    before = count_events(ledger)
    clock.advance(HOUR)
    again = course.reschedule_or_queue(10)
    assert (again.id, again.answer, again.duplicate) == (first.id, "unchanged", True)
    assert count_events(ledger) == before
    same = course.using(run_after=DEFAULT_START + DAY).reschedule_or_queue(10)
    assert (same.answer, count_events(ledger)) == ("unchanged", before), "an equal due time is no change either"


def test_reschedule_or_queue_moves_only_the_due_time(setting: Any) -> None:
    """Case 40, and earlier too: the waiting task gets the due time that was asked for, and nothing else changes."""
    _ledger, _, course = setting
    first = course.using(run_after=DAY, priority=5, labels=["a"]).reschedule_or_queue(10)
    before = first.record.state
    for after in (WEEK, HOUR, timedelta(0)):
        again = course.using(run_after=after, priority=-5, reason=REASON).reschedule_or_queue(10)
        assert (again.id, again.answer, due(first)) == (first.id, "rescheduled", after)
    state = first.record.state
    assert state == before._replace(version=state.version, due_us=state.due_us)
    assert [event.reason for event in first.events[1:]] == [REASON] * 3


def test_a_task_in_back_off_is_pulled_forward_and_keeps_its_count(setting: Any) -> None:
    """Row 77: it is due when asked for, but its used attempts and so its next delay stay."""
    ledger, _, course = setting
    task = course.using(max_attempts=3, retry=Retry(first=60)).reschedule_or_queue(1, fail=True)
    run_queue(ledger)
    assert due(task) == timedelta(minutes=1)
    assert course.using(run_after=timedelta(0)).reschedule_or_queue(1, fail=True).answer == "rescheduled"
    run_queue(ledger)
    assert (task.record.state.used, due(task)) == (2, timedelta(minutes=2))
    assert task.attempts_left == 1


def test_a_running_task_is_left_alone_and_said_so() -> None:
    """While the equal task runs, nothing is moved or queued, with and without a due time, and the answer says why."""
    ledger, _ = new_ledger()
    answers: list[tuple[str, str]] = []

    @ledger.task
    def course() -> None:
        for run_after in (None, HOUR):
            task = course.using(run_after=run_after).reschedule_or_queue()
            answers.append((task.id, task.answer))

    task = course.reschedule_or_queue()
    run_queue(ledger)
    assert answers == [(task.id, "running")] * 2
    assert names_of(task) == ["TaskQueued", "TaskClaimed", "TaskSucceeded"]


def test_an_exhausted_task_does_not_block_its_key(setting: Any) -> None:
    """Cases 41, 42, 46: out of attempts a task has ended and holds nothing: a new one has all its attempts."""
    ledger, clock, course = setting
    spent = course.reschedule_or_queue(1, fail=True)
    run_queue(ledger, through_delays=True)
    assert (spent.state, spent.attempts_left) == ("failed", 0)
    new = course.using(run_after=HOUR).reschedule_or_queue(1, fail=True)
    assert (new.answer, new.id != spent.id, new.attempts_left) == ("queued", True, 2)
    assert new.record.state.due_us - to_us(clock.now()) == 3_600_000_000


def test_equal_tasks_are_queued_once(setting: Any) -> None:
    """Cases 43 to 45, 47 and 52: the counts of the original, and the id of the task that is there already."""
    _ledger, _, course = setting
    plain, owned = course.using(unique=True), course.using(unique=True, run_as="ann")
    calls = [(plain, 10), (owned, 10), (plain, 1), (plain, 1), (owned, 1)]
    calls += [(plain, None), (plain, None), (owned, None), (owned, None)]
    tasks = [using.enqueue(number) for using, number in calls]
    counts = [len({task.id for task in tasks[: n + 1]}) for n in range(len(tasks))]
    assert counts == [1, 2, 3, 3, 4, 5, 5, 6, 6]
    assert tasks[3].id == tasks[2].id and tasks[3].duplicate and not tasks[2].duplicate


def test_what_is_equal(setting: Any) -> None:
    """Cases 48, 50, 51 and 165: other tasks and other values differ, the order of keys does not; both ways round the
    identity counts, also where the new call has none of its own."""
    ledger, _, course = setting
    other = ledger.task(name="other", unique=True)(lambda value=None: None)
    unique = ledger.task(name="unique", unique=True)(lambda value=None: None)
    assert not other.enqueue({"a": 1}).duplicate
    assert not unique.enqueue({"a": 1, "b": 2}).duplicate
    assert unique.enqueue({"b": 2, "a": 1}).duplicate
    assert not unique.enqueue({"a": 1, "b": 3}).duplicate
    course.using(unique=True, run_as="ann").enqueue(7)
    assert not course.using(unique=True).enqueue(7).duplicate


def test_a_task_queued_without_a_key_is_no_duplicate(setting: Any) -> None:
    """Case 53: three equal tasks without a key stay, one more with a key is queued beside them: only keys are compared."""
    _ledger, _, course = setting
    plain = [course.enqueue(1) for _ in range(3)]
    unique = course.using(unique=True).enqueue(1)
    assert len({task.id for task in (*plain, unique)}) == 4
    assert course.using(unique=True).enqueue(1).id == unique.id


def test_a_running_task_holds_its_key() -> None:
    """Cases 56 and 57: begun, it is still the one task of its key, and is not touched."""
    ledger, _ = new_ledger()
    seen = []

    @ledger.task(unique=True)
    def job() -> None:
        seen.append(job.enqueue().id)

    task = job.enqueue()
    run_queue(ledger)
    assert seen == [task.id]


def test_a_key_of_ones_own_is_compared_instead_of_the_arguments(setting: Any) -> None:
    """With `unique="text"` reschedule_or_queue finds the task of that text, whatever its arguments."""
    _ledger, _, course = setting
    first = course.using(unique="course 10").reschedule_or_queue(1)
    again = course.using(unique="course 10", run_after=HOUR).reschedule_or_queue(2)
    assert (again.id, again.answer, queued(first).args["number"]) == (first.id, "rescheduled", 1)


def test_the_expiry_moves_with_the_due_time(setting: Any) -> None:
    """A call that says an expiry gives it to the task it moves; one that says none cannot move past the old one."""
    _ledger, _clock, course = setting
    task = course.using(expires=timedelta(minutes=10), run_after=HOUR).reschedule_or_queue(1)
    course.using(expires=timedelta(minutes=10), run_after=DAY).reschedule_or_queue(1)
    moved = task.events[-1]
    assert isinstance(moved, TaskRescheduled) and moved.expires_at == DEFAULT_START + DAY + timedelta(minutes=10)
    with pytest.raises(Conflict, match="expires at"):
        course.using(run_after=WEEK).reschedule_or_queue(1)
    assert due(task) == DAY


def test_an_expired_task_that_no_worker_has_met_does_not_hold_its_key(setting: Any) -> None:
    """With no worker about, the next equal call ends the expired task and is queued in its place, in one act."""
    ledger, clock, course = setting
    old = course.using(unique=True, expires=HOUR).enqueue(1)
    clock.advance(HOUR)
    new = course.using(unique=True).enqueue(1)
    assert (new.answer, old.state, new.state) == ("queued", "cancelled", "waiting")
    assert old.events[-1].command == new.events[0].command
    assert course.using(unique=True).enqueue(1).id == new.id
    with pytest.raises(Conflict, match=new.id):
        ledger.retry(old.id, reason=REASON)


def test_ended_for_good_a_task_frees_its_key_too() -> None:
    """`Fail` ends a task at once; the next equal call is a new one."""
    ledger, _ = new_ledger()

    @ledger.task(unique=True)
    def job() -> None:
        raise Fail("no use")

    first = job.enqueue()
    run_queue(ledger)
    assert job.enqueue().id != first.id
