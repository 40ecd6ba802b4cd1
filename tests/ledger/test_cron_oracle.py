"""When schedules fire, compared with an oracle that walks every minute: around changes of the clock and over years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ledger.cron import Fields, Rule
from ledger.errors import NeverFires
from tests.ledger.cron_oracle import (
    MINUTE,
    YEARS,
    ZONES,
    Schedule,
    changes,
    firings,
    places_of_change,
    schedules,
)

ODD_CHANGES = [
    ("Africa/Monrovia", datetime(1972, 1, 7, tzinfo=UTC)),  # by 44 minutes and 30 seconds
    ("America/Caracas", datetime(2007, 12, 9, tzinfo=UTC)),  # half an hour back, for years
    ("America/Caracas", datetime(2016, 5, 1, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(1985, 12, 31, tzinfo=UTC)),  # a quarter of an hour
    ("Asia/Pyongyang", datetime(2015, 8, 14, tzinfo=UTC)),
    ("Europe/Istanbul", datetime(2016, 3, 27, tzinfo=UTC)),  # summer time for ever
    ("Europe/London", datetime(1968, 2, 18, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),  # a whole day is skipped
    ("Pacific/Kwajalein", datetime(1993, 8, 21, tzinfo=UTC)),  # another one
    ("America/Metlakatla", datetime(2019, 1, 20, tzinfo=UTC)),
]
BUSY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def rule_of(schedule: Schedule, zone: str) -> Rule:
    try:
        return Rule(Fields(*schedule.texts), zone)
    except NeverFires:
        assume(False)
        raise


def compare(schedule: Schedule, zone: str, start: datetime, end: datetime, seed: int) -> None:
    """Compare all that a rule says of the minutes from *start* until before *end* with the oracle."""
    [expected] = firings([schedule], zone, start, end)
    rule = rule_of(schedule, zone)
    upto = end - MINUTE

    assert rule.between(start - MINUTE, upto) == expected
    assert rule.count(start - MINUTE, upto) == len(expected)
    assert rule.last_between(start - MINUTE, upto, 7) == expected[-7:]
    # From any minute of it: the next firing, and how many are left.
    moment = start + seed % ((end - start) // MINUTE) * MINUTE + timedelta(seconds=seed % 60)
    later = [firing for firing in expected if firing > moment]
    if later:
        assert rule.next_after(moment) == later[0]
    assert rule.count(moment, upto) == len(later)


@BUSY
@given(schedules(), places_of_change(), st.integers(-1_600, 1_600), st.integers(0, 10**6))
def test_any_schedule_around_any_change(schedule: Schedule, place: tuple[str, datetime], shift: int, seed: int) -> None:
    """Around every change of the clock of twenty zones in five years every schedule fires when the oracle says."""
    zone, change = place
    middle = change + shift * MINUTE
    compare(schedule, zone, middle - timedelta(days=1), middle + timedelta(days=1), seed)


@pytest.mark.parametrize(("zone", "change"), ODD_CHANGES, ids=lambda value: str(value)[:16])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(schedules(), st.integers(0, 10**6))
def test_odd_changes(zone: str, change: datetime, schedule: Schedule, seed: int) -> None:
    """Changes by odd amounts, for good, or by a whole day follow the same rule."""
    compare(schedule, zone, change - timedelta(days=1), change + timedelta(days=2), seed)


def whole_year(zone: str, year: int, drawn: list[Schedule]) -> None:
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    for schedule, expected in zip(drawn, firings(drawn, zone, start, end), strict=True):
        rule = rule_of(schedule, zone)
        assert rule.between(start - MINUTE, end - MINUTE) == expected, schedule
        assert rule.count(start - MINUTE, end - MINUTE) == len(expected), schedule


@pytest.mark.parametrize(("zone", "year"), [("America/Santiago", 2022), ("Africa/Casablanca", 2024)])
@settings(max_examples=1, deadline=None)
@given(st.lists(schedules(), min_size=3, max_size=3))
def test_a_whole_year(zone: str, year: int, drawn: list[Schedule]) -> None:
    """A year walked from its first minute to its last, for a few schedules."""
    whole_year(zone, year, drawn)


@pytest.mark.soak
@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(schedules(), min_size=6, max_size=6))
def test_whole_years_of_twenty_zones(zone: str, year: int, drawn: list[Schedule]) -> None:
    """Every minute of five years in twenty time zones, for twelve schedules each."""
    whole_year(zone, year, drawn)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(schedules(), places_of_change(), st.integers(-3_000, 3_000), st.integers(0, 10**6))
def test_many_schedules_around_changes(schedule: Schedule, place: tuple[str, datetime], shift: int, seed: int) -> None:
    """The same as around any change, ten thousand times."""
    zone, change = place
    middle = change + shift * MINUTE
    compare(schedule, zone, middle - timedelta(days=1), middle + timedelta(days=1), seed)


@settings(max_examples=100, deadline=None)
@given(schedules(), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
def test_cronsim_agrees_where_the_rules_are_the_same(schedule: Schedule, start: datetime) -> None:
    """Without changes of the clock the next ten firings are those that cronsim, another library, finds."""
    # cronsim counts */n in day and weekday as unrestricted, and knows neither blanks nor the 7 in a step.
    assume(schedule.days is None or schedule.weekdays is None)
    expression = " ".join(
        "*" if values is None else ",".join(map(str, sorted(values)))
        for values in (schedule.minutes, schedule.hours, schedule.days, schedule.months, schedule.weekdays)
    )
    start = start.replace(tzinfo=UTC)
    rule = rule_of(schedule, "UTC")
    other = CronSim(expression, start)

    found = rule.between(start, start + timedelta(days=365 * 20), limit=10)

    assert found
    assert found == [next(other) for _ in found]


def test_the_oracle_sees_changes_in_the_zones() -> None:
    """The zones are twenty, all but one of them have changes in these years, most twice a year."""
    counts = {zone: len(changes(zone, YEARS[0], YEARS[-1])) for zone in ZONES}
    assert len(counts) == 20
    assert [zone for zone, count in counts.items() if count == 0] == ["Asia/Kolkata"]
    assert sum(count >= 10 for count in counts.values()) >= 12
