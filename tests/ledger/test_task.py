"""The rules of one task: what each command causes in each state."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import commands as c
from ledger import events as e
from ledger.task import CANCELLED, FAILED, RUNNING, SUCCEEDED, WAITING
from tests.ledger.scenario import NOON, Scenario, queue


def names(events: list[e.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_queued_task_waits() -> None:
    """A new task is waiting, with no attempt."""
    task = Scenario()

    assert (task.state.status, task.state.attempt, task.state.version) == (WAITING, 0, 1)


def test_an_id_is_queued_once() -> None:
    """A second Queue of the same id is refused."""
    Scenario().rejects(queue(), because="already waiting")


def test_a_task_that_is_not_due_cannot_be_claimed() -> None:
    """A claim before due_at is refused; at due_at it is allowed."""
    task = Scenario(due_at=NOON + timedelta(seconds=60))

    task.rejects(c.Claim(worker="w1", seen=1), because="not due until")
    task.later(60).claimed()
    assert (task.state.status, task.state.attempt, task.state.worker) == (RUNNING, 1, "w1")


def test_a_running_task_cannot_be_claimed_again() -> None:
    """One attempt at a time holds a task."""
    Scenario().claimed().rejects(c.Claim(worker="w2", seen=1), because="is running")


def test_success_ends_the_task() -> None:
    """A success keeps the result and ends the task."""
    task = Scenario().claimed()
    [event] = task.succeed(result=42)

    assert isinstance(event, e.TaskSucceeded)
    assert (event.result, task.state.status, task.state.worker) == (42, SUCCEEDED, None)


def test_failures_wait_one_minute_doubling_to_a_day_and_end_after_twelve_attempts() -> None:
    """The default retry rule is that of the specification: 60 s, doubling, at most 86,400 s, 12 attempts."""
    task = Scenario()
    delays = []
    for _ in range(11):
        task.claimed().fail()
        delays.append(task.due_in())
        task.later(task.due_in())
    [last] = task.claimed().fail()

    assert delays == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440]
    assert isinstance(last, e.TaskFailed)
    assert (last.final, task.state.status, task.state.used) == (True, FAILED, 12)


def test_the_delay_is_capped_and_a_task_without_a_limit_never_gives_up() -> None:
    """With max_attempts None the delay stays at 24 hours and the task goes on."""
    task = Scenario(max_attempts=None)
    for _ in range(40):
        task.claimed().fail()
        task.later(task.due_in())
    task.claimed().fail()

    assert (task.due_in(), task.state.status) == (86_400, WAITING)


def test_a_failure_for_ever_ends_the_task_at_once() -> None:
    """`Fail` and errors of `never_on` leave no retry."""
    task = Scenario().claimed()
    task.fail(forever=True)

    assert task.state.status == FAILED


def test_a_soft_retry_uses_an_attempt_and_is_no_failure() -> None:
    """A delay waits the seconds asked for; on the last attempt it ends the task."""
    task = Scenario(max_attempts=2).claimed()
    first = task.delay(300)
    waited = task.due_in()
    task.later(300).claimed()
    [last] = task.delay(300)

    assert (names(first), waited) == (["TaskDelayed"], 300)
    assert isinstance(last, e.TaskDelayed)
    assert (last.final, task.state.status) == (True, FAILED)


def test_a_lost_attempt_counts_like_a_failure_and_the_next_runs_alone() -> None:
    """A loss waits the retry delay, marks the task and ends it when attempts are out."""
    task = Scenario(max_attempts=2).claimed()
    task.lose()
    waited, lost = task.due_in(), task.state.lost
    task.later(60).claimed()
    task.lose()

    assert (waited, lost, task.state.status) == (60, 1, FAILED)


def test_an_interruption_costs_nothing() -> None:
    """An attempt given back leaves its task due as before, with all its attempts; the number goes on."""
    task = Scenario(max_attempts=1).claimed()
    task.interrupt()

    assert (task.state.status, task.state.used, task.state.attempt, task.due_in()) == (WAITING, 0, 1, 0)
    assert task.claimed().state.attempt == 2


@pytest.mark.parametrize("changes", [{"attempt": 1}, {"attempt": 2, "worker": "w1"}])
def test_a_late_result_is_rejected_and_recorded(changes: dict[str, object]) -> None:
    """A result of an attempt that no longer holds the task, or of another worker, changes nothing but is kept."""
    task = Scenario().claimed("w1")
    task.lose()
    task.later(60).claimed("w2")
    before = task.state
    events = task.succeed(result="late", **changes)

    assert names(events) == ["LateResultRejected"]
    assert task.state == before._replace(version=before.version + 1)


def test_a_late_loss_says_nothing() -> None:
    """A loss of an attempt that is over is no event."""
    task = Scenario().claimed()
    task.succeed()

    assert task.lose(attempt=1) == []


def test_cancelling_a_waiting_task_ends_it() -> None:
    """A waiting task is cancelled at once; an ended one cannot be."""
    task = Scenario()

    assert names(task.when(c.Cancel())) == ["TaskCancelled"]
    task.rejects(c.Cancel(), because="is cancelled; cancel is possible while it is waiting or running")


def test_cancelling_a_running_task_is_a_request() -> None:
    """A running task gets one CancelRequested; asking again adds nothing; it may still succeed."""
    task = Scenario().claimed()

    assert names(task.when(c.Cancel())) == ["CancelRequested"]
    assert task.when(c.Cancel()) == []
    task.succeed()
    assert task.state.status == SUCCEEDED


@pytest.mark.parametrize("report", ["fail", "lose", "interrupt", "delay"])
def test_after_a_request_to_cancel_every_other_end_is_cancelled(report: str) -> None:
    """An error, loss, interruption or delay after CancelRequested is TaskCancelled."""
    task = Scenario().claimed()
    task.when(c.Cancel())
    events = task.delay(60) if report == "delay" else getattr(task, report)()

    assert (names(events), task.state.status) == (["TaskCancelled"], CANCELLED)


def test_only_a_waiting_task_is_rescheduled() -> None:
    """Reschedule moves the due time of a waiting task and refuses a running one."""
    task = Scenario()
    task.when(c.Reschedule(due_at=NOON + timedelta(hours=1)))

    assert task.due_in() == 3600
    Scenario().claimed().rejects(c.Reschedule(due_at=NOON), because="reschedule is possible while it is waiting")


def test_only_the_attempt_that_runs_makes_progress() -> None:
    """What a running attempt says of its progress is kept; what one that is over says is not."""
    task = Scenario().claimed()
    [said] = task.when(c.Progress(attempt=1, worker="w1", done=1, total=4, message="a quarter"))

    assert isinstance(said, e.TaskProgressed)
    assert (said.attempt, said.done, said.total, said.message) == (1, 1, 4, "a quarter")
    assert task.when(c.Progress(attempt=1, worker="w2", done=2)) == []
    task.fail()
    assert task.when(c.Progress(attempt=1, worker="w1", done=4)) == []


def test_a_retry_gives_an_ended_task_fresh_attempts() -> None:
    """TaskRetried opens a new round: all attempts again, due now, while attempt numbers go on."""
    task = Scenario(max_attempts=1)
    task.rejects(c.RetryNow(queued=queue()), because="failed or cancelled")
    task.claimed().fail()
    task.later(5).when(c.RetryNow(queued=queue(max_attempts=1)))

    assert (task.state.status, task.state.used, task.due_in()) == (WAITING, 0, 0)
    assert task.claimed().state.attempt == 2


def test_a_key_is_held_until_the_end_or_until_the_first_claim() -> None:
    """unique_until decides when the key frees; a retry takes it again."""
    until_end = Scenario(unique_key="k", key_stream="key:1")
    until_start = Scenario(unique_key="k", key_stream="key:1", unique_until="start")

    assert (until_end.claimed().state.key_held, until_start.claimed().state.key_held) == (1, 0)
    until_end.succeed()
    assert until_end.state.key_held == 0


def test_the_frequent_events_are_as_their_constructors_make_them() -> None:
    """Queued, claimed and succeeded, which are made in a shorter way, have every field of their class and no other."""
    task = Scenario(max_attempts=3, key_stream="key:1", unique_key="k", parent="p", labels=["l"], timeout=5.0)
    task.claimed().succeed(result=[1])
    for event in task.events:
        whole = type(event)(**vars(event))

        assert event == whole and vars(event).keys() <= vars(whole).keys()
        assert {name: getattr(event, name) for name in vars(whole)} == vars(whole)
