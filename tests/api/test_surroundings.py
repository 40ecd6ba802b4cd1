"""What is around an attempt: the hooks of the ledger and of the task, a context of its own, no transaction left open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import pytest

from ledger import Current, Delay, InvalidOption, Ledger, Retry, Task, current
from ledger.errors import TransactionLeftOpen
from ledger.testing import ManualClock, run_queue
from tests.api.setup import names_of, open_ledger

pytestmark = pytest.mark.usefixtures("each_database")

HELD: list[Any] = []
"""Keeps what a task leaves open from being closed by going away."""


class Steps:
    """Hooks that note when they are entered and left, and with what error."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def hook(self, name: str) -> Callable[[Current], AbstractContextManager[object]]:
        @contextmanager
        def around(attempt: Current) -> Iterator[None]:
            self.noted.append(f"{name} in {attempt.name} {attempt.attempt} {current() is attempt}")
            try:
                yield
            except BaseException as error:
                self.noted.append(f"{name} out {type(error).__name__}")
                raise
            self.noted.append(f"{name} out")

        return around


# Hooks


@pytest.mark.parametrize("is_async", [False, True])
def test_hooks_are_entered_in_order_and_left_in_reverse(is_async: bool) -> None:
    """Those of the ledger are outside, the first outermost; those of the task inside; each attempt has all of them."""
    steps = Steps()
    ledger = open_ledger(ManualClock(), around=[steps.hook("one"), steps.hook("two")])
    assert ledger.around(steps.hook("three")) is ledger.hooks[2]

    def job() -> None:
        steps.noted.append("runs")
        if current().attempt == 1:
            raise ValueError("again")

    async def job_async() -> None:
        await asyncio.sleep(0)
        job()

    ledger.task(name="job", retry=Retry(first=0), around=(steps.hook("own"),))(job_async if is_async else job)
    ledger.functions["job"].enqueue()
    run_queue(ledger)

    names = ["one", "two", "three", "own"]
    expected = []
    for attempt, out in ((1, " out ValueError"), (2, " out")):
        expected += [f"{name} in job {attempt} True" for name in names] + ["runs"]
        expected += [name + out for name in reversed(names)]
    assert steps.noted == expected


@pytest.mark.parametrize("error", [Delay(5), SystemExit(2), KeyError("x")])
def test_hooks_see_what_the_task_raises(error: BaseException) -> None:
    """Also a delay and an exit, which are no errors of Python's kind."""
    steps = Steps()
    ledger = open_ledger(ManualClock(), around=steps.hook("one"))

    @ledger.task(retry=False)
    def job() -> None:
        raise error

    job.enqueue()
    run_queue(ledger)

    assert steps.noted[-1] == f"one out {type(error).__name__}"


def test_a_result_that_cannot_be_kept_is_an_error_to_hooks_too() -> None:
    """What is recorded as failed never looks like a success to a hook that commits."""
    steps = Steps()
    ledger = open_ledger(ManualClock(), around=steps.hook("one"))
    task = ledger.task(name="job", retry=False)(object).enqueue()
    run_queue(ledger)

    assert task.state == "failed" and steps.noted[-1] != "one out"


@contextmanager
def swallows(_: Current) -> Iterator[None]:
    try:
        yield
    except Exception:
        pass


@contextmanager
def fails_in(_: Current) -> Iterator[None]:
    raise RuntimeError("cannot begin")
    yield


@contextmanager
def fails_out(_: Current) -> Iterator[None]:
    yield
    raise RuntimeError("cannot end")


@contextmanager
def translates(_: Current) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise RuntimeError("cannot go on") from error


@pytest.mark.parametrize(
    ("hook", "raises", "calls", "message"),
    [
        (swallows, True, 1, "of the task"),
        (fails_in, False, 0, "cannot begin"),
        (fails_out, False, 1, "cannot end"),
        (translates, True, 1, "cannot go on"),
        (lambda _: 7, False, 0, "context manager"),
    ],
)
def test_a_hook_that_fails_fails_the_attempt(hook: Any, raises: bool, calls: int, message: str) -> None:
    """At its begin nothing runs, at its end nothing succeeds; it can say more of an error, but not do away with it."""
    steps, ran = Steps(), []
    ledger = open_ledger(ManualClock(), around=steps.hook("outer"))

    @ledger.task(retry=False, around=hook)
    def job() -> None:
        ran.append(1)
        if raises:
            raise ValueError("of the task")

    task = job.enqueue()
    run_queue(ledger)

    assert task.state == "failed" and len(ran) == calls
    error = task.record.error
    assert error is not None and message in error["message"]
    assert steps.noted[0].startswith("outer in") and steps.noted[1].startswith("outer out")


@pytest.mark.parametrize("around", [7, "hook", [None], {"a": 1}])
def test_a_hook_must_be_a_function(around: Any) -> None:
    """Anything else is refused where it is said: for the ledger, by the decorator, and for one task."""
    ledger = open_ledger()
    for say in (
        lambda: Ledger("memory:", around=around),
        lambda: ledger.around(around),
        lambda: ledger.task(around=around),
        lambda: ledger.schedule("@daily", around=around),
    ):
        with pytest.raises(InvalidOption, match="around"):
            say()


@pytest.mark.parametrize(
    "options",
    [
        {"isolation": "fork"},
        {"memory_limit": 1_000_000},
        {"cpu_limit": 5},
        {"isolation": "process", "cpu_limit": 0},
        {"isolation": "process", "cpu_limit": 1.5},
        {"isolation": "process", "memory_limit": True},
        {"isolation": "process", "memory_limit": "1G"},
    ],
)
def test_isolation_is_checked_where_it_is_said(options: Any) -> None:
    """Limits belong to a process, and are whole numbers of bytes and seconds."""
    ledger = open_ledger()
    for say in (ledger.task, lambda **given: ledger.schedule("@daily", **given)):
        with pytest.raises(InvalidOption, match=r"isolation|limit"):
            say(**options)


# A context of its own

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


@pytest.mark.parametrize("is_async", [False, True])
def test_context_variables_end_with_the_attempt(is_async: bool) -> None:
    """What an attempt sets, the next one does not see, nor who runs the queue."""
    ledger, seen = open_ledger(), []

    def job(fail: bool) -> None:
        seen.append(COLOUR.get())
        COLOUR.set("red")
        if fail:
            raise ValueError

    async def job_async(fail: bool) -> None:
        job(fail)

    task = ledger.task(name="job", retry=False)(job_async if is_async else job)
    for fail in (True, False, False):
        task.enqueue(fail)
    run_queue(ledger)

    assert seen == ["none"] * 3
    assert COLOUR.get() == "none"


def test_hooks_set_variables_for_the_task() -> None:
    """What a hook sets in the context the function sees, a coroutine too."""

    @contextmanager
    def coloured(_: Current) -> Iterator[None]:
        token = COLOUR.set("blue")
        yield
        COLOUR.reset(token)

    ledger = open_ledger(ManualClock(), around=coloured)

    @ledger.task
    def plain() -> str:
        return COLOUR.get()

    @ledger.task
    async def coroutine() -> str:
        return COLOUR.get()

    tasks: list[Task[str]] = [plain.enqueue(), coroutine.enqueue()]
    run_queue(ledger)

    assert [task.result() for task in tasks] == ["blue", "blue"] and COLOUR.get() == "none"


# Transactions


class Leaving:
    """A ledger and a task that leaves a transaction of it open."""

    def __init__(self, url: str, *, is_async: bool = False, error: Exception | None = None, times: int = 1) -> None:
        self.ledger = Ledger(url, clock=ManualClock())
        self.child = self.ledger.task(name="child")(lambda: None)
        self.times = times
        self.error = error

        async def coroutine() -> None:
            self.leave()

        self.job = self.ledger.task(name="job", retry=False)(coroutine if is_async else self.leave)

    def leave(self) -> None:
        for _ in range(self.times):
            opened = self.ledger.store.write()
            HELD.append((opened, opened.__enter__()))
            self.child.enqueue()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/work.db"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_a_transaction_left_open_is_rolled_back(tmp_path: Any, url: str, is_async: bool, times: int) -> None:
    """The attempt has failed and says why; nothing of the transaction was stored, and the ledger works on."""
    place = Leaving(url.format(tmp_path), is_async=is_async, times=times)
    task = place.job.enqueue()
    assert run_queue(place.ledger) == 1, "the child that was queued inside is not there"

    error = task.record.error
    assert task.state == "failed" and error is not None and error["type"] == "ledger.errors.TransactionLeftOpen"
    assert names_of(task) == ["TaskQueued", "TaskClaimed", "TaskFailed"]
    later = place.child.enqueue()
    run_queue(place.ledger)
    assert later.state == "succeeded"
    with place.ledger.store.write():
        pass
    place.ledger.close()
    HELD.clear()
    assert place.ledger.get(later.id).state == "succeeded" if url != "memory:" else True


def test_a_task_that_fails_inside_a_transaction_keeps_its_own_error() -> None:
    """It is told with a note that the transaction was rolled back."""
    place = Leaving("memory:", error=ValueError("mine"))
    task = place.job.enqueue()
    run_queue(place.ledger)
    HELD.clear()

    error = task.record.error
    assert error is not None and (error["type"], error["message"]) == ("ValueError", "mine")
    assert "inside a transaction of the ledger" in error["traceback"]


def test_a_snapshot_left_open_is_closed(tmp_path: Any) -> None:
    """A reader that is left open would show the past to every later task of its thread."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    seen: list[int] = []

    @ledger.task(retry=False)
    def leaves() -> None:
        opened = ledger.store.read()
        HELD.append((opened, opened.__enter__()))

    @ledger.task
    def reads() -> None:
        with ledger.store.read() as snapshot:
            seen.append(snapshot.head())

    task = leaves.enqueue()
    run_queue(ledger)
    reading = reads.enqueue()
    run_queue(ledger)
    HELD.clear()
    assert task.state == "failed"
    with ledger.store.read() as snapshot:
        [_, claimed, _] = [position for position, _ in snapshot.stream(f"task:{reading.id}")]
    assert seen == [claimed], "the newest event that it can see is its own claim"
    ledger.close()


def test_a_hook_that_leaves_a_transaction_open_fails_the_attempt_too() -> None:
    """The hooks of an attempt are part of it."""
    ledger = open_ledger()

    @ledger.around
    def leaving(_: Current) -> AbstractContextManager[object]:
        opened = ledger.store.write()
        HELD.append((opened, opened.__enter__()))
        return nullcontext()

    @ledger.task(retry=False)
    def job() -> None: ...

    task = job.enqueue()
    run_queue(ledger)
    HELD.clear()

    error = task.record.error
    assert error is not None and error["type"].endswith(TransactionLeftOpen.__name__)


def test_transactions_that_are_ended_are_no_matter() -> None:
    """A task may use the store's transactions, one in the other, also where they are rolled back by an error."""
    ledger = open_ledger()

    @ledger.task
    def job() -> int:
        with ledger.store.write(), ledger.store.read(), ledger.store.write():
            pass
        with pytest.raises(ValueError, match="inside"), ledger.store.write():
            raise ValueError("inside")
        return len(current().open_units)

    task = job.enqueue()
    run_queue(ledger)

    assert task.result() == 0
