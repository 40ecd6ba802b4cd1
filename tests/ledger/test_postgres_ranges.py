"""Ranges of positions and literals of arrays: against sets of numbers, and against the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import RawCursor

from ledger.postgres_arrays import array, teach
from ledger.postgres_ranges import between, is_whole, ranges_of

POSITIONS = st.sets(st.integers(1, 40))


@given(POSITIONS, st.integers(0, 40), st.integers(0, 45))
def test_ranges_are_sets_of_positions(taken: set[int], after: int, upto: int) -> None:
    """What lies between ranges is what is in none of them; both together leave no hole, and a missing one is seen."""
    ranges = ranges_of(sorted(taken))
    left = {one for first, last in between(ranges, after, upto) for one in range(first, last + 1)}

    assert {one for first, last in ranges for one in range(first, last + 1)} == taken
    assert left == set(range(after + 1, upto + 1)) - taken
    if after < upto:
        assert is_whole(ranges, sorted(left), after, upto)
        assert not left or not is_whole(ranges, sorted(left)[1:], after, upto)


@pytest.fixture(scope="module")
def connection(postgres_server: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        teach(connection)
        yield connection


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", TEXT | st.sampled_from(['"', "\\", "{}", "NULL", "", ",", " a "])),
        ("bigint", INTEGERS),
        ("float8", st.floats(allow_nan=False) | st.integers(-1000, 1000)),
        ("bytea", st.binary()),
    ],
)
def test_the_server_reads_what_the_array_says(
    connection: psycopg.Connection[Any], data: Any, kind: str, values: Any
) -> None:
    """An array gives the server the values it was made of, NULLs and whatever text may hold included."""
    given_values = data.draw(st.lists(values | st.none(), min_size=1) | st.lists(values, min_size=1))
    [(found,)] = RawCursor(connection).execute(f"SELECT $1::{kind}[]", (array(given_values),)).fetchall()

    assert found == given_values


def test_truth_is_a_number() -> None:
    """Columns of truth are numbers, as in the other database; what has no place in a row is refused."""
    assert array([True, False, None]) == "{1,0,NULL}"
    with pytest.raises(TypeError):
        array([[1]])
