"""What people are told of a schedule: its meaning in words, its firings in both times, the changes of the clock it meets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings

from ledger.cron import Fields, Rule, parse_expression
from ledger.cron_forecast import HOUR, Hour, forecast
from ledger.cron_words import describe, preview, warnings
from ledger.errors import InvalidOption, NeverFires
from tests.ledger.cron_oracle import MINUTE, Schedule, places_of_change, schedules, walk

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
SPRING = "on 2026-03-29 the clock of Europe/Berlin goes from 02:00 to 03:00; "
AUTUMN = "on 2026-10-25 the clock of Europe/Berlin goes from 03:00 to 02:00; "


def rule(expression: str, zone: str = "Europe/Berlin") -> Rule:
    return Rule(parse_expression(expression), zone)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("5/20 * * * *", "Every 20 minutes, starting at 5 minutes past the hour"),
        ("30 2 * * 1-5", "At 02:30, Monday through Friday"),
        ("0 17 * * fri-sun", "At 17:00, only on Sunday, Friday, and Saturday"),
        ("0 0 * * */7", "At 00:00, only on Sunday"),
        ("0 0 * * 6/1", "At 00:00, only on Sunday and Saturday"),
        ("0 0 15 * 0-6", "At 00:00"),
        ("0 0 */2 * mon", "At 00:00, every 2 days, or on Monday"),
        ("1 2 3 4 5", "At 02:01, on day 3 of the month, or on Friday, only in April"),
        ("0 0 30 2 1", "At 00:00, only on Monday, only in February"),
        ("0 1 , 3 * jan-mar,jul *", "At 01:00 and 03:00, only in January through March and July"),
        ("0 22-2 * * *", "At 0 minutes past the hour, between 02:00 and 22:59"),
    ],
)
def test_words(expression: str, words: str) -> None:
    """The words tell the values that fire, not the text: ranges that run backwards, 7 and useless weekdays included."""
    assert describe(parse_expression(expression)) == words


@settings(max_examples=200, deadline=None)
@given(schedules())
def test_every_schedule_has_words(schedule: Schedule) -> None:
    """There are words for whatever can be written."""
    try:
        assert describe(Fields(*schedule.texts)).strip()
    except NeverFires:
        assume(False)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (
            "30 2 * * *",
            [
                SPRING + "02:30 is skipped and made up for once, at 03:00",
                AUTUMN + "02:30 comes twice: fires the first time",
            ],
        ),
        (
            "*/20 2 * * *",
            [
                SPRING + "02:00, 02:20, 02:40 are skipped and made up for once, at 03:00",
                AUTUMN + "02:00, 02:20, 02:40 come twice: fires the first time",
            ],
        ),
        ("30 */2 * * *", [SPRING + "02:30 is skipped: no firing", AUTUMN + "02:30 comes twice: fires both times"]),
        (
            "* * * * *",
            [
                SPRING + "02:00, 02:01, 02:02, 02:03 … (60 times) are skipped: no firing",
                AUTUMN + "02:00, 02:01, 02:02, 02:03 … (60 times) come twice: fires both times",
            ],
        ),
        ("59 1 * * *", []),
        ("0 3 * * *", []),
        ("30 2 * * 1-6", []),
    ],
)
def test_warnings_of_a_year(expression: str, told: list[str]) -> None:
    """A year has a warning for each change that skips or repeats a listed time, which says what becomes of it."""
    assert list(warnings(rule(expression), NEW_YEAR, NEW_YEAR + timedelta(days=365))) == told


def test_a_skipped_day_is_told() -> None:
    """The day that Samoa left out is named."""
    start = datetime(2011, 12, 29, tzinfo=UTC)
    [told] = warnings(rule("0 12 * * *", "Pacific/Apia"), start, start + timedelta(days=3))
    assert told == (
        "on 2011-12-30 the clock of Pacific/Apia goes from 00:00 to 00:00 on 2011-12-31;"
        " 12:00 is skipped and made up for once, at 00:00"
    )


@settings(max_examples=100, deadline=None)
@given(schedules(), places_of_change())
def test_a_warning_means_a_time_is_skipped_or_repeated(schedule: Schedule, place: tuple[str, datetime]) -> None:
    """Walking every minute around a change finds a listed time skipped or shown twice exactly when there is a warning."""
    zone, change = place
    start, end = change - timedelta(hours=26), change + timedelta(hours=26)
    walls = [wall for _, wall in walk(zone, start, end)]
    shown = set(walls)
    first, last = walls[0], walls[-1]
    every = [first + n * MINUTE for n in range((last - first) // MINUTE + 1)]
    met = any(schedule.has(wall) for wall in every if wall not in shown)
    met |= any(schedule.has(wall) for wall in shown if walls.count(wall) > 1) if len(shown) < len(walls) else False
    try:
        told = list(warnings(Rule(Fields(*schedule.texts), zone), start, end - MINUTE))
    except NeverFires:
        assume(False)

    assert bool(told) == met


def test_preview_has_both_times_and_its_warnings() -> None:
    """A preview lists the firings in UTC and in the zone, and warns of the changes up to its last firing only."""
    found = preview(rule("30 2 * * *"), datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert [firing.at.isoformat() for firing in found.firings] == [
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]
    assert [firing.local.isoformat() for firing in found.firings] == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert found.warnings == (SPRING + "02:30 is skipped and made up for once, at 03:00",)
    assert preview(rule("30 2 * * *"), datetime(2026, 3, 27, 12, tzinfo=UTC), 1).warnings == ()
    assert preview(rule("30 2 * * *"), NEW_YEAR, 0).firings == ()


# Forecast


def test_forecast_counts_runs_per_hour_now_and_as_proposed() -> None:
    """Each hour has the runs of all rules, and beside them those with rules replaced, added and taken away."""
    rules = {"a": rule("*/10 * * * *", "UTC"), "b": rule("5 1 * * *", "UTC"), "c": rule("0 * * * *", "UTC")}
    proposed = {"a": rule("*/30 * * * *", "UTC"), "c": None, "d": rule("15 2 * * *", "UTC")}

    found = forecast(rules, NEW_YEAR, NEW_YEAR + 3 * HOUR, proposed)

    assert found == [
        Hour(NEW_YEAR, 7, 2),
        Hour(NEW_YEAR + HOUR, 8, 3),
        Hour(NEW_YEAR + 2 * HOUR, 7, 3),
    ]


@settings(max_examples=60, deadline=None)
@given(schedules(), places_of_change())
def test_forecast_has_every_firing_in_its_hour(schedule: Schedule, place: tuple[str, datetime]) -> None:
    """Around a change of the clock too, the hours have as many runs as firings are found one by one."""
    zone, change = place
    start = change.replace(minute=0) - 12 * HOUR
    try:
        one = Rule(Fields(*schedule.texts), zone)
    except NeverFires:
        assume(False)
    firings = one.between(start - MINUTE, start + 24 * HOUR - MINUTE)

    hours = forecast({"one": one}, start, start + 24 * HOUR)

    assert [hour.runs for hour in hours] == [sum(hour.at <= at < hour.at + HOUR for at in firings) for hour in hours]
    assert all(hour.proposed == hour.runs for hour in hours)


def test_forecast_takes_whole_hours_and_refuses_none_and_too_many() -> None:
    """Hours that are begun count whole; an end before the start, or years of hours, are refused."""
    assert [hour.at for hour in forecast({}, NEW_YEAR + 59 * MINUTE, NEW_YEAR + 61 * MINUTE)] == [
        NEW_YEAR,
        NEW_YEAR + HOUR,
    ]
    for end in (NEW_YEAR, NEW_YEAR - HOUR, NEW_YEAR + timedelta(days=367)):
        with pytest.raises(InvalidOption, match="up to 366 days"):
            forecast({}, NEW_YEAR, end)
