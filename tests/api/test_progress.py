"""Progress: what a task may say of it, that its last word is never lost, and that it costs one event however often."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Fail, Task, current
from ledger.events import TaskProgressed
from ledger.testing import run_queue
from projections import queue
from projections.reports import Reports
from tests.api.setup import names_of, open_ledger

pytestmark = pytest.mark.usefixtures("each_database")

NUMBERS = st.integers(0, 2**53) | st.floats(0, 2**53)
TEXTS = st.none() | st.text(st.characters(codec=None), max_size=600)


class Step(IntEnum):
    SECOND = 2


def run(function: Callable[[], Any], **options: Any) -> Task[Any]:
    """Run *function* as a task, once, and return that."""
    ledger = open_ledger()
    task: Task[Any] = ledger.task(name="job", **options)(function).enqueue()
    run_queue(ledger)
    assert queue.verify(ledger) == []
    return task


def said(task: Task[Any]) -> list[tuple[Any, ...]]:
    return [(e.attempt, e.done, e.total, e.message) for e in task.events if isinstance(e, TaskProgressed)]


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        ((0,), (0, None, None)),
        ((3, 10), (3, 10, None)),
        ((0.5, 1.0, "half"), (0.5, 1.0, "half")),
        ((12, 10), (12, 10, None)),
        ((0, 0), (0, 0, None)),
        ((Step.SECOND, 3), (2, 3, None)),
        ((1, None, "nul \x00, half \ud800"), (1, None, "nul \\x00, half ?")),
        ((1, None, "é" * 501), (1, None, "é" * 499 + "…")),
        ((2**53,), (2**53, None, None)),
    ],
)
def test_what_may_be_said(arguments: tuple[Any, ...], stored: tuple[Any, ...]) -> None:
    """Counts from 0 on, of a total or of none, with a text that any database can keep."""
    assert said(run(lambda: current().progress(*arguments))) == [(1, *stored)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((-1,), "done of a progress is -1; allowed is a number"),
        ((math.nan,), "done of a progress is nan"),
        ((math.inf,), "done of a progress is inf"),
        ((True,), "done of a progress is True"),
        (("3",), "done of a progress is '3'"),
        ((None,), "done of a progress is None"),
        ((2**53 + 1,), "done of a progress is 9007199254740993"),
        ((10**400,), "done of a progress is 1000"),
        ((1, -1), "total of a progress is -1; allowed is a number .* or None"),
        ((1, math.nan), "total of a progress is nan"),
        ((1, "10"), "total of a progress is '10'"),
        ((1, 2, 3), "the message of a progress is 3; allowed is text or None"),
        ((1, 2, b"x"), "the message of a progress is b'x'"),
    ],
)
def test_what_may_not(arguments: tuple[Any, ...], why: str) -> None:
    """Everything else is an error in the task, that says what is allowed; nothing of it is stored."""
    task = run(lambda: current().progress(*arguments), retry=False)

    [attempt] = task.attempts
    assert attempt.error is not None and attempt.error["type"] == "ledger.errors.InvalidValue"
    assert re.search(why, attempt.error["message"])
    assert said(task) == []


@given(NUMBERS, st.none() | NUMBERS, TEXTS)
@settings(max_examples=30, deadline=None)
def test_what_is_allowed_is_stored(done: float, total: float | None, message: str | None) -> None:
    """Any number within the limits comes back as it was said, any text in a form that can be kept; 0 to 100 percent."""
    task = run(lambda: current().progress(done, total, message))
    progress = task.progress

    assert progress is not None
    assert (progress.done, progress.total) == (done, total)
    assert (progress.message is None) == (message is None)
    assert progress.percent is None if total is None else 0 <= (progress.percent or 0) <= 100


@pytest.mark.parametrize(
    ("arguments", "percent", "text"),
    [
        ((7,), None, "7"),
        ((1_234_567,), None, "1,234,567"),
        ((0.25,), None, "0.25"),
        ((3, 8), 37.5, "37 % (3 of 8)"),
        ((999, 1_000), 99.9, "99 % (999 of 1,000)"),
        ((12, 10), 100, "100 % (12 of 10)"),
        ((0, 0), 100, "100 % (0 of 0)"),
    ],
)
def test_how_it_reads(arguments: tuple[Any, ...], percent: float | None, text: str) -> None:
    """A known total gives percent, rounded down so that 100 % means all; an unknown one the count."""
    progress = run(lambda: current().progress(*arguments)).progress

    assert progress is not None
    assert (progress.percent, progress.text) == (percent, text)
    assert progress.summary()["percent"] == percent


def say_and(then: Callable[[], None]) -> Callable[[], None]:
    def job() -> None:
        for number in range(10_000):
            current().progress(number + 1, 10_000)
        then()

    return job


def give_up() -> None:
    raise Fail("no")


@pytest.mark.parametrize(
    ("then", "ends_in"),
    [
        (lambda: None, "TaskSucceeded"),
        (give_up, "TaskFailed"),
        (lambda: current().delay(60), "TaskDelayed"),
    ],
)
def test_the_last_word_comes_with_the_outcome(then: Callable[[], None], ends_in: str) -> None:
    """However an attempt ends, what it said last stands before its outcome, and of ten thousand words no other."""
    task = run(say_and(then), max_attempts=2)

    assert names_of(task) == ["TaskQueued", "TaskClaimed", "TaskProgressed", ends_in]
    assert said(task) == [(1, 10_000, 10_000, None)]
    assert task.events[-1].at == task.events[-2].at and task.events[-1].command == task.events[-2].command


def test_progress_is_of_the_newest_attempt() -> None:
    """A new attempt begins with none; what older ones said stays with them, in the record and in every view."""
    ledger = open_ledger()

    @ledger.task
    def job() -> None:
        if current().attempt == 1:
            current().progress(3, 4)
            raise ConnectionError("down")

    task = job.enqueue()
    run_queue(ledger)
    assert task.progress is not None and task.progress.percent == 75
    ledger.clock.sleep(60)
    run_queue(ledger)

    assert task.state == "succeeded" and task.progress is None
    assert task.attempts[0].progress is not None and task.attempts[0].progress.percent == 75
    assert queue.verify(ledger) == [] and Reports(ledger).verify() == []


def test_the_report_has_what_the_task_has() -> None:
    """`task list` and the report tell the same progress as the task's own stream."""
    ledger = open_ledger()

    @ledger.task(retry=False)
    def job() -> None:
        current().progress(1, 3, "one")
        raise Fail("no")

    task = job.enqueue()
    run_queue(ledger)
    reports = Reports(ledger)
    reports.catch_up()
    [row] = [one.summary() for one in reports.list_tasks()]

    assert row["progress"] == {"done": 1, "total": 3, "percent": 33.33, "message": "one", "at": row["progress"]["at"]}
    assert task.progress is not None and datetime.fromisoformat(row["progress"]["at"]) == task.progress.at


def test_a_run_of_a_schedule_may_say_it_too() -> None:
    """Progress of a run changes nothing of its schedule."""
    ledger = open_ledger()

    @ledger.schedule("* * * * *")
    def tick() -> None:
        current().progress(1, 1)

    run_queue(ledger, until=ledger.clock.now() + timedelta(minutes=2))
    state = ledger.schedules.get("tick")

    assert state.outcome == "succeeded" and state.run_id is not None
    assert said(ledger.get(state.run_id)) == [(1, 1, 1, None)]
    assert queue.verify(ledger) == []
