"""Results, retries and what a task may ask of its runner."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

import ledger as api
from ledger import Delay, Fail, Ledger, Retry, current
from ledger.errors import (
    Conflict,
    InvalidArguments,
    InvalidInput,
    InvalidOption,
    InvalidValue,
    NotFound,
    NotInTask,
    NotRegistered,
    ResultTimeout,
    TaskEnded,
)
from ledger.testing import DEFAULT_START, run_queue
from tests.api.setup import FIRST_DELAYS, REASON, names_of, new_ledger, queued

pytestmark = pytest.mark.usefixtures("each_database")

# Results


def test_result_waits_no_longer_than_its_timeout() -> None:
    """`result(timeout)` of a task that has not ended raises ResultTimeout after that time."""
    ledger, clock = new_ledger()

    @ledger.task
    def job() -> None: ...

    task = job.enqueue()
    with pytest.raises(ResultTimeout, match="waiting"):
        task.result(timeout=3)
    assert clock.monotonic() == pytest.approx(3)
    with pytest.raises(TimeoutError):
        task.result(timeout=0)


def test_result_of_a_failed_task_tells_its_error() -> None:
    """`result()` of a failed task raises TaskEnded with the last error's type and message."""
    ledger, _ = new_ledger()

    @ledger.task(retry=False)
    def job() -> None:
        raise KeyError("the cause")

    task = job.enqueue()
    run_queue(ledger)
    with pytest.raises(TaskEnded, match=r"failed: KeyError 'the cause'"):
        task.result()


# Retries


def test_the_default_retry_waits_a_minute_then_doubles_for_twelve_attempts() -> None:
    """By default a failing task runs 12 times, 60 s after the first failure, each wait twice the one before."""
    ledger, clock = new_ledger()
    seen: list[datetime] = []

    @ledger.task
    def job() -> None:
        seen.append(clock.now())
        raise ValueError("again")

    task = job.enqueue()
    assert run_queue(ledger, through_delays=True) == 12
    assert [(b - a).total_seconds() for a, b in pairwise(seen)] == FIRST_DELAYS
    assert task.state == "failed"
    assert [attempt.outcome for attempt in task.attempts] == ["failed"] * 12


def test_the_default_retry_waits_at_most_a_day() -> None:
    """Without an end to its attempts, a failing task's wait grows to 24 hours and no further."""
    ledger, clock = new_ledger()
    seen: list[datetime] = []

    @ledger.task(max_attempts=None)
    def job() -> None:
        seen.append(clock.now())
        raise ValueError("again")

    task = job.enqueue()
    assert run_queue(ledger, through_delays=True, max_tasks=15) == 15
    waits = [(b - a).total_seconds() for a, b in pairwise(seen)]
    assert waits == [*FIRST_DELAYS, 86_400, 86_400, 86_400]
    assert task.state == "waiting"


def test_retry_false_is_one_attempt() -> None:
    """A task with `retry=False` fails at its first error."""
    ledger, _ = new_ledger()

    @ledger.task(retry=False)
    def job() -> None:
        raise ValueError("once")

    task = job.enqueue()
    assert run_queue(ledger, through_delays=True) == 1
    assert task.state == "failed"


def test_the_policy_of_a_queued_task_is_the_one_it_was_queued_with() -> None:
    """A call's own retry policy times its retries, whatever the decorator says."""
    ledger, clock = new_ledger()
    seen: list[datetime] = []

    @ledger.task
    def job() -> None:
        seen.append(clock.now())
        raise ValueError("again")

    job.using(retry=Retry(first=1, factor=3, cap=5), max_attempts=4).enqueue()
    run_queue(ledger, through_delays=True)
    assert [(b - a).total_seconds() for a, b in pairwise(seen)] == [1, 3, 5]


def test_a_retried_task_has_all_its_attempts_again() -> None:
    """After `retry` a task may use max_attempts again, and its attempt numbers go on counting up."""
    ledger, _ = new_ledger()

    @ledger.task(max_attempts=2)
    def job() -> None:
        raise ValueError("again")

    task = job.enqueue()
    run_queue(ledger, through_delays=True)
    ledger.retry(task.id, reason=REASON)
    assert run_queue(ledger, through_delays=True) == 2
    assert [attempt.number for attempt in task.attempts] == [1, 2, 3, 4]


# Steering from inside


@pytest.mark.parametrize("by_current", [False, True])
def test_delay_runs_the_task_again_and_is_no_failure(by_current: bool) -> None:
    """`raise Delay(seconds)` and `current().delay(seconds)` run the task again then, as an event that is no failure."""
    ledger, clock = new_ledger()
    seen: list[datetime] = []

    @ledger.task
    def job() -> str:
        seen.append(clock.now())
        if len(seen) < 3:
            if by_current:
                current().delay(5)
            raise Delay(5)
        return "ready"

    task = job.enqueue()
    assert run_queue(ledger, through_delays=True) == 3
    assert [(moment - DEFAULT_START).total_seconds() for moment in seen] == [0, 5, 10]
    assert task.result() == "ready"
    assert names_of(task).count("TaskDelayed") == 2
    assert "TaskFailed" not in names_of(task)


def test_a_delay_uses_an_attempt() -> None:
    """A delay on the last attempt ends the task as failed."""
    ledger, _ = new_ledger()

    @ledger.task(max_attempts=2)
    def job() -> None:
        raise Delay(1)

    task = job.enqueue()
    assert run_queue(ledger, through_delays=True) == 2
    assert task.state == "failed"
    with pytest.raises(TaskEnded):
        task.result()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5", 31_536_001])
def test_a_delay_of_no_time_is_refused(seconds: Any) -> None:
    """A delay is above 0 and at most a year."""
    with pytest.raises(InvalidOption):
        Delay(seconds)


def test_fail_and_never_on_end_the_task_at_once() -> None:
    """`raise Fail` and an error of a type in `never_on`, subclasses included, end the task whatever attempts are left."""
    ledger, _ = new_ledger()

    @ledger.task
    def gives_up() -> None:
        raise Fail("no use")

    @ledger.task(retry=Retry(never_on=(LookupError,)))
    def picky(kind: str) -> None:
        raise KeyError(kind) if kind == "key" else ValueError(kind)

    ended, never, again = gives_up.enqueue(), picky.enqueue("key"), picky.enqueue("value")
    run_queue(ledger)
    assert (ended.state, never.state, again.state) == ("failed", "failed", "waiting")


def test_never_on_of_the_call_decides() -> None:
    """A call's own `never_on` holds for that call."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None:
        raise ValueError("never")

    task = job.using(retry=Retry(never_on=(ValueError,))).enqueue()
    run_queue(ledger)
    assert task.state == "failed"


def test_children_with_outcome_are_queued_only_with_success() -> None:
    """A child enqueued `with_outcome` exists once its parent has succeeded, and never if the attempt did not."""
    ledger, clock = new_ledger()
    children: list[api.Task[Any]] = []

    @ledger.task
    def child() -> str:
        return "child"

    @ledger.task
    def parent() -> None:
        children.append(child.using(with_outcome=True).enqueue())
        if len(children) == 1:
            raise ValueError("first attempt")

    task = parent.enqueue()
    assert run_queue(ledger) == 1
    with pytest.raises(NotFound):
        _ = children[0].state
    clock.advance(timedelta(seconds=60))
    assert run_queue(ledger) == 2
    assert children[1].result() == "child"
    assert queued(children[1]).parent == task.id
    assert queued(children[1]).command == task.events[-1].command
    with pytest.raises(NotFound):
        _ = children[0].state


def test_a_child_whose_key_is_held_is_kept_as_cancelled() -> None:
    """The id that a parent was given for its child always exists: a duplicate is queued and cancelled, saying why."""
    ledger, _ = new_ledger()
    children: list[api.Task[Any]] = []

    @ledger.task
    def child() -> None: ...

    @ledger.task
    def parent() -> None:
        children.append(child.using(with_outcome=True, unique="one").enqueue())

    holder = child.using(unique="one", run_after=timedelta(hours=1)).enqueue()
    parent.enqueue()
    run_queue(ledger)
    assert children[0].state == "cancelled"
    assert holder.id in str(children[0].events[-1].reason)
    assert holder.state == "waiting"
    assert child.using(unique="one").enqueue().id == holder.id


def test_a_plain_child_is_queued_at_once_with_its_parent_named() -> None:
    """A task enqueued inside another is durable at once and names its parent, and its worker as actor."""
    ledger, _ = new_ledger()
    children: list[api.Task[Any]] = []

    @ledger.task
    def child() -> None: ...

    @ledger.task(retry=False)
    def parent() -> None:
        children.append(child.enqueue())
        raise ValueError("no matter")

    task = parent.enqueue()
    run_queue(ledger)
    assert children[0].state == "succeeded"
    assert queued(children[0]).parent == task.id
    assert queued(children[0]).actor.startswith("worker:")


def test_current_tells_the_attempt() -> None:
    """Inside a task `current()` has its id, attempt, fencing token, name and identity."""
    ledger, _ = new_ledger()
    seen: list[tuple[Any, ...]] = []

    @ledger.task(max_attempts=2)
    def job() -> None:
        here = ledger.current()
        seen.append((here.id, here.attempt, here.token, here.name, here.run_as, here.cancelled))
        raise ValueError("again")

    task = job.using(run_as="alice").enqueue()
    run_queue(ledger, through_delays=True)
    assert seen == [(task.id, n, f"{task.id}:{n}", "job", "alice", False) for n in (1, 2)]


def test_current_outside_a_task_is_an_error() -> None:
    """`current()` where no task runs is a NotInTask, also after one has run here."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    with pytest.raises(NotInTask):
        current()
    with pytest.raises(NotInTask):
        job.using(with_outcome=True).enqueue()
    job.enqueue()
    run_queue(ledger)
    with pytest.raises(NotInTask):
        ledger.current()


# Errors


def test_refusals_are_one_family() -> None:
    """Every refusal of input is also the built-in error a caller expects, and has an exit code."""
    assert issubclass(InvalidInput, ValueError)
    assert issubclass(InvalidArguments, TypeError)
    assert issubclass(NotFound, LookupError)
    assert issubclass(ResultTimeout, TimeoutError)
    codes = {InvalidOption: 2, InvalidValue: 2, NotRegistered: 2, NotFound: 3, Conflict: 4, api.StorageUnavailable: 5}
    assert {kind: kind.exit_code for kind in codes} == codes


def test_making_a_ledger_does_no_io(tmp_path: Any) -> None:
    """A Ledger object and its tasks can be made without touching the database; the first enqueue makes it."""
    path = tmp_path / "work.db"
    ledger = Ledger(f"sqlite:///{path}")

    @ledger.task
    def job() -> None: ...

    assert not path.exists()
    job.enqueue()
    assert path.exists()
    ledger.close()


def test_from_env_reads_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Ledger.from_env()` is the ledger that WORKLEDGER_URL names, else workledger.db here."""
    monkeypatch.setenv("WORKLEDGER_URL", "sqlite:///other.db")
    assert Ledger.from_env().url == "sqlite:///other.db"
    monkeypatch.delenv("WORKLEDGER_URL")
    assert Ledger.from_env().url == "sqlite:///workledger.db"


def test_a_url_of_another_kind_is_refused() -> None:
    """A URL that names no file and no PostgreSQL database is an InvalidOption that says what is allowed."""
    for url in ("", "work.db", "mysql://host/db", "sqlite://", "sqlite:///"):
        with pytest.raises(InvalidOption, match="sqlite:///"):
            Ledger(url)


def test_an_async_task_may_exit() -> None:
    """SystemExit in a coroutine fails its attempt, and the next coroutine runs."""
    ledger, _ = new_ledger()

    @ledger.task(retry=False)
    async def leave() -> None:
        raise SystemExit(3)

    @ledger.task
    async def stay() -> str:
        return "here"

    left, stayed = leave.enqueue(), stay.enqueue()
    run_queue(ledger)
    assert left.state == "failed" and (left.record.error or {})["type"] == "SystemExit"
    assert stayed.result() == "here"


def test_an_interrupt_from_the_keyboard_ends_the_run_and_not_the_task() -> None:
    """Ctrl-C while the queue is run here is raised to the caller; the task waits again at no cost, others are untouched."""
    ledger, _ = new_ledger()
    presses = ["once"]

    @ledger.task(max_attempts=1)
    def work() -> str:
        if presses:
            presses.pop()
            raise KeyboardInterrupt
        return "done"

    tasks = [work.enqueue(), work.enqueue()]
    with pytest.raises(KeyboardInterrupt):
        run_queue(ledger)
    assert [task.state for task in tasks] == ["waiting", "waiting"]
    assert [attempt.outcome for attempt in tasks[0].attempts] == ["interrupted"]
    run_queue(ledger)
    assert [task.result() for task in tasks] == ["done", "done"]
