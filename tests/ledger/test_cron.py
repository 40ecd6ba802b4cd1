"""When schedules fire: the vectors of another scheduler's own test suite, through the public functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.cron import Fields, Rule, field_values, parse_expression
from ledger.errors import InvalidOption, InvalidSchedule, NeverFires

VECTORS = json.loads((Path(__file__).parent / "vectors" / "schedule.json").read_text(encoding="utf-8"))


def by_id(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["id"] for vector in vectors])


@by_id(VECTORS["schedule_vectors"])
def test_next_firing(vector: dict[str, Any]) -> None:
    """The first firing later than the minute that contains the given moment is the expected one, or there is none."""
    fields = Fields(*(vector[name] for name in Fields._fields))
    if vector["never"]:
        with pytest.raises(NeverFires):
            Rule(fields, vector["timezone"])
        return

    firing = Rule(fields, vector["timezone"]).next_after(datetime.fromisoformat(vector["from"]))

    assert firing == datetime.fromisoformat(vector["expected_next"])
    assert firing is not None and firing.tzinfo is UTC


@by_id(VECTORS["field_vectors"])
def test_field(vector: dict[str, Any]) -> None:
    """A field means the expected values, or is refused by its name."""
    if vector["expected"] == "error":
        with pytest.raises(InvalidSchedule, match=f"^{vector['field']} is "):
            field_values(vector["field"], vector["spec"])
    else:
        assert list(field_values(vector["field"], vector["spec"])) == vector["expected"]


NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)

CLOCK_CHANGES = [
    # Berlin, 29 March 2026: 02:00 becomes 03:00
    ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
    ("*/20 2-3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-29T03:20+02:00"]),
    ("59 1 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-29T01:59+01:00", "2026-03-30T01:59+02:00"]),
    ("30 2 * * 1", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-30T02:30+02:00", "2026-04-06T02:30+02:00"]),
    ("0 */2 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["2026-03-29T04:00+02:00", "2026-03-29T06:00+02:00"]),
    ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00+01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
    # Berlin, 25 October 2026: 03:00 becomes 02:00
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:15+01:00", ["2026-10-26T02:30+01:00", "2026-10-27T02:30+01:00"]),
    ("*/30 2,3 * * *", "Europe/Berlin", "2026-10-25T02:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-25T03:00+01:00"]),
    ("30 */2 * * *", "Europe/Berlin", "2026-10-25T02:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]),
    ("15 * * * *", "Europe/Berlin", "2026-10-25T02:20+02:00", ["2026-10-25T02:15+01:00", "2026-10-25T03:15+01:00"]),
    ("10 2-2/1 * * *", "Europe/Berlin", "2026-10-25T00:00+02:00", ["2026-10-25T02:10+02:00", "2026-10-25T02:10+01:00"]),
    # Apia left out 30 December 2011
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00-10:00", ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"]),
    ("0 12 * * fri", "Pacific/Apia", "2011-12-29T13:00-10:00", ["2011-12-31T00:00+14:00", "2012-01-06T12:00+14:00"]),
    ("0 */12 * * *", "Pacific/Apia", "2011-12-29T13:00-10:00", ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"]),
]


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), CLOCK_CHANGES)
def test_changes_of_the_clock(expression: str, zone: str, after: str, expected: list[str]) -> None:
    """Times on the clock fire once a day, at the end of a gap or the first time; the rest follows real time."""
    rule = Rule(parse_expression(expression), zone)
    start = datetime.fromisoformat(after)

    found = rule.between(start, start + timedelta(days=9), limit=2)

    assert found == [datetime.fromisoformat(moment) for moment in expected]
    assert rule.count(start, found[-1]) == 2


def test_a_weekday_that_is_every_day_does_not_hide_the_day() -> None:
    """Day and weekday are both restricted, whichever of them happens to name every day: any day is listed."""
    for text in ("0 0 15 * 0-6", "0 0 15 * */1", "0 0 1-31 * 3", "0 0 */1 * 3", "0 0 *,5 * 3"):
        assert Rule(parse_expression(text), "UTC").next_after(NEW_YEAR) == NEW_YEAR + timedelta(days=1)


def test_the_minute_of_the_moment_is_over() -> None:
    """A firing is later than the whole minute that contains the moment, however few of its seconds have passed."""
    rule = Rule(Fields(), "Asia/Kathmandu")
    for seconds in (0, 0.000001, 59.999999):
        assert rule.next_after(NEW_YEAR + timedelta(seconds=seconds)) == NEW_YEAR + timedelta(minutes=1)


def test_between_has_its_ends() -> None:
    """The start is left out, the end is in, and a limit keeps the first or the last."""
    rule = Rule(parse_expression("0 * * * *"), "UTC")
    hours = [NEW_YEAR + timedelta(hours=n) for n in range(1, 6)]

    assert rule.between(NEW_YEAR, hours[-1]) == hours
    assert rule.between(NEW_YEAR, hours[-1], limit=2) == hours[:2]
    assert rule.last_between(NEW_YEAR, hours[-1], 2) == hours[-2:]
    assert rule.last_between(NEW_YEAR, hours[-1] + timedelta(seconds=59), 99) == hours
    assert rule.last_between(NEW_YEAR, hours[-1], 0) == []
    assert rule.between(hours[-1], NEW_YEAR) == rule.last_between(hours[-1], NEW_YEAR, 5) == []
    assert rule.count(hours[-1], NEW_YEAR) == 0


def test_many_missed_firings_are_counted_and_the_last_found() -> None:
    """Ten years of every minute are more than five million firings; the count and the last thousand are exact."""
    rule = Rule(Fields(), "America/New_York")
    upto = datetime(2036, 1, 1, tzinfo=UTC)

    assert rule.count(NEW_YEAR, upto) == (upto - NEW_YEAR) // timedelta(minutes=1)
    assert rule.last_between(NEW_YEAR, upto, 1_000) == [upto - timedelta(minutes=n) for n in range(999, -1, -1)]
    yearly = Rule(parse_expression("@yearly"), "America/New_York")
    assert [moment.year for moment in yearly.last_between(NEW_YEAR, upto, 3)] == [2033, 2034, 2035]
    assert yearly.count(NEW_YEAR, upto) == 10


def test_moments_that_cannot_be_asked_about() -> None:
    """A naive moment and one before 1901 are refused; after 8999 there is no firing."""
    rule = Rule(Fields(), "America/New_York")
    for moment in (datetime(2026, 1, 1), datetime(1, 1, 1, tzinfo=UTC), "2026-01-01"):
        with pytest.raises(InvalidOption, match=r"^the moment is .*; allowed "):
            rule.next_after(moment)  # type: ignore[arg-type]
    assert rule.next_after(datetime(1901, 1, 1, tzinfo=UTC)) == datetime(1901, 1, 1, 0, 1, tzinfo=UTC)
    assert rule.next_after(datetime(9999, 12, 31, tzinfo=UTC)) is None
    assert rule.between(datetime(9999, 12, 30, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)) == []
