"""The small pure rules: JSON values, retry delays, uniqueness keys."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidOption, InvalidValue
from ledger.keys import key_of_call, key_stream
from ledger.retry import Retry, delay_seconds
from ledger.values import MAX_INT, MIN_INT, copy_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BAD = st.sampled_from(
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        "\ud800",
        "a\x00b",
        2**63,
        -(2**63) - 1,
        b"x",
        (1,),
        {1},
        {1: 2},
        object(),
    ]
)


@given(JSON)
def test_json_is_kept_as_it_is(value: Any) -> None:
    """Every JSON value within the limits is stored and read back equal."""
    assert copy_json(value, "value") == value == orjson.loads(orjson.dumps(copy_json(value, "value")))


@given(BAD, st.integers(0, 5), st.booleans())
def test_what_is_not_json_is_refused_wherever_it_hides(bad: Any, depth: int, in_list: bool) -> None:
    """A value that is not JSON is a typed error, also deep inside."""
    value = bad
    for _ in range(depth):
        value = [value] if in_list else {"k": value}

    with pytest.raises(InvalidValue):
        copy_json(value, "value")


def test_limits_of_depth_size_and_cycles() -> None:
    """Depth 64 and 256 KiB are allowed, more is refused, and so is a value that contains itself."""
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)

    copy_json(deep, "value")
    copy_json("x" * (256 * 1024 - 2), "value")
    for bad in ([deep], "x" * (256 * 1024 - 1), cycle, {"\ud800": 1}):
        with pytest.raises(InvalidValue):
            copy_json(bad, "value")


@given(
    st.floats(0, 1e6),
    st.floats(1, 1000),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.integers(0, 10_000),
    st.integers(1, 50),
)
def test_delays_stay_within_the_cap_and_are_always_the_same(
    first: float, factor: float, cap: float, jitter: float, used: int, attempt: int
) -> None:
    """Any policy gives a finite delay of at most the cap and its jitter, equal at every replay."""
    delay = delay_seconds(first, factor, cap, jitter, used, "task", attempt)

    assert 0 <= delay <= cap * (1 + jitter)
    assert delay == delay_seconds(first, factor, cap, jitter, used, "task", attempt)
    assert delay_seconds(first, factor, cap, 0, used, "t", 1) <= delay_seconds(first, factor, cap, 0, used + 1, "t", 1)


@pytest.mark.parametrize("bad", [{"first": -1}, {"factor": 0.5}, {"cap": float("inf")}, {"jitter": 2}, {"first": "60"}])
def test_a_policy_outside_its_ranges_is_refused(bad: dict[str, Any]) -> None:
    """Each number of a policy has a range that the error tells."""
    with pytest.raises(InvalidOption, match=next(iter(bad))):
        Retry(**bad)


def test_a_key_does_not_depend_on_the_order_of_arguments() -> None:
    """Equal calls have equal keys; another name, value or identity has another."""
    key = key_of_call("job", {"a": 1, "b": [2]}, "system")

    assert key == key_of_call("job", {"b": [2], "a": 1}, "system")
    assert key != key_of_call("job", {"a": 1, "b": [2]}, "alice")
    assert key != key_of_call("job", {"a": "1", "b": [2]}, "system")


@given(st.text(), st.text(), st.text(), st.text())
def test_names_and_keys_do_not_run_into_each_other(a: str, b: str, x: str, y: str) -> None:
    """Two streams are the same only for the same name and key."""
    valid = [text for text in (a, b, x, y) if text.encode("utf-8", "ignore").decode() == text]
    if len(valid) == 4:
        assert (key_stream(a, b) == key_stream(x, y)) == ((a, b) == (x, y))
