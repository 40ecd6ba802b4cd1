"""How a call is bound, checked and kept, and how it reaches the function."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import (
    InvalidArguments,
    InvalidValue,
    TaskEnded,
)
from ledger.testing import run_queue
from tests.api.setup import count_events, new_ledger, queued

pytestmark = pytest.mark.usefixtures("each_database")


def test_defaults_are_bound_where_the_call_is_made() -> None:
    """The stored arguments have every parameter by name, defaults included."""
    ledger, _ = new_ledger()

    @ledger.task
    def mail(to: str, subject: str = "hello", *, urgent: bool = False) -> str:
        return f"{to} {subject} {urgent}"

    task = mail.enqueue("ann", urgent=True)
    assert queued(task).args == {"to": "ann", "subject": "hello", "urgent": True}
    assert run_queue(ledger) == 1
    assert task.result() == "ann hello True"


def test_every_kind_of_parameter_reaches_the_function_as_it_was_passed() -> None:
    """Positional-only, variable positional, keyword-only and variable keyword arguments survive storing."""
    ledger, _ = new_ledger()

    @ledger.task
    def every(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int = 4, **more: int) -> list[Any]:
        return [a, b, c, list(rest), d, more]

    calls: list[tuple[tuple[int, ...], dict[str, int]]] = [
        ((1,), {}),
        ((1, 20, 30, 40, 50), {"d": 60, "e": 70}),
        ((1,), {"c": 9, "a": 5}),
        ((1, 2), {"b": 8}),
    ]
    tasks = [every.enqueue(*args, **kwargs) for args, kwargs in calls]
    run_queue(ledger)
    assert [task.result() for task in tasks] == [every(*args, **kwargs) for args, kwargs in calls]


def test_a_parameter_that_is_new_does_not_take_the_value_of_another() -> None:
    """What was stored before a function got another parameter goes to the parameters of its names, or is refused."""
    ledger, _ = new_ledger()
    ledger.task(name="job", max_attempts=1)(lambda b, c=2, *rest: [b, c, *rest])
    before = ledger.functions.pop("job")
    ledger.task(name="job", max_attempts=1)(lambda a=0, b=0, c=0, *rest: [a, b, c, *rest])
    changed = ledger.functions.pop("job")

    args, kwargs = changed.unbind(before.bind((1,), {}))
    assert changed.function(*args, **kwargs) == [0, 1, 2]
    with pytest.raises(InvalidArguments, match="no longer takes"):
        changed.unbind(before.bind((1, 2, 3), {}))


def test_an_async_function_is_a_task_like_any_other() -> None:
    """An async task runs to its result, and calling it directly still gives its coroutine."""
    ledger, _ = new_ledger()

    @ledger.task
    async def double(number: int) -> int:
        return 2 * number

    task = double.enqueue(21)
    run_queue(ledger)
    assert task.result() == 42
    coroutine = double(1)
    coroutine.close()


def test_a_call_that_does_not_fit_is_refused_at_the_caller() -> None:
    """A call that the signature does not take is an InvalidArguments, and nothing is stored."""
    ledger, _ = new_ledger()

    @ledger.task
    def add(a: int, b: int) -> int:
        return a + b

    bad: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), {"c": 3})]
    for args, kwargs in bad:
        with pytest.raises(InvalidArguments, match="add"):
            add.enqueue(*args, **kwargs)
        with pytest.raises(TypeError):
            add.using(queue="other").enqueue(*args, **kwargs)
    assert count_events(ledger) == 0


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def loop() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


BAD_VALUES = (
    st.sampled_from([float("nan"), float("inf"), -float("inf"), "\ud800", "a\x00b", 2**63, -(2**63) - 1])
    | st.sampled_from([b"bytes", {1: 2}, {1, 2}, 1j, object(), datetime(2026, 1, 1, tzinfo=UTC), len])
    | st.builds(nested, st.integers(64, 200))
    | st.builds(loop)
    | st.just("x" * (256 * 1024))
    | st.integers(min_value=2**63)
    | st.integers(max_value=-(2**63) - 1)
    | st.binary()
)
WRAPS: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [value],
    lambda value: {"key": [1, {"deep": value}]},
]


@given(BAD_VALUES, st.sampled_from(WRAPS))
@settings(deadline=None)
def test_a_value_that_is_not_json_leaves_no_row(value: Any, wrap: Callable[[Any], Any]) -> None:
    """A value that JSON within the limits cannot keep is an InvalidValue wherever it stands, and nothing is stored."""
    ledger, _ = new_ledger()

    @ledger.task
    def take(value: Any, *rest: Any, **more: Any) -> None: ...

    bad = wrap(value)
    for enqueue in (
        lambda: take.enqueue(bad),
        lambda: take.enqueue(1, bad),
        lambda: take.enqueue(1, extra=bad),
        lambda: take.using(unique=True).enqueue(bad),
        lambda: ledger.enqueue_many([take.call(1), take.call(bad)]),
    ):
        with pytest.raises(InvalidValue):
            enqueue()
    assert count_events(ledger) == 0


@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_tuple_is_refused_however_it_is_passed(by_keyword: bool) -> None:
    """A tuple is no JSON value: it would reach the function as a list, so it is refused, by position or by keyword."""
    ledger, _ = new_ledger()

    @ledger.task
    def take(value: Any, *rest: Any) -> None: ...

    with pytest.raises(InvalidValue):
        _ = take.enqueue(value=(1, 2)) if by_keyword else take.enqueue((1, 2))
    assert count_events(ledger) == 0


def test_a_result_that_is_not_json_fails_the_attempt() -> None:
    """A result that cannot be kept ends the attempt as failed, with an error that says why."""
    ledger, _ = new_ledger()

    @ledger.task(retry=False)
    def give() -> Any:
        return {1, 2}

    task = give.enqueue()
    run_queue(ledger)
    assert task.state == "failed"
    with pytest.raises(TaskEnded, match="InvalidValue"):
        task.result()


def test_what_was_checked_is_what_is_stored() -> None:
    """A list that its owner changes between `call` and the queueing does not change the call."""
    ledger, _ = new_ledger()

    @ledger.task
    def take(values: list[float]) -> None: ...

    values = [1.0]
    call = take.call(values)
    values[0] = float("nan")
    [task] = ledger.enqueue_many([call])

    assert queued(task).args == {"values": [1.0]}
