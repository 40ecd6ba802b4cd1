"""Tell the firings of schedules the slow way: walk every minute of UTC, look at the clock on the wall, compare sets.

Nothing here comes from `ledger`. A schedule is drawn together with the sets that its texts mean, so that reading the
texts is checked too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

MINUTE = timedelta(minutes=1)
WARM_UP = timedelta(days=2)
BOUNDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "dayofweek": (0, 7)}
NAMES = {
    "month": ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "dayofweek": ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"],
}
ZONES = (
    "Africa/Cairo",  # midnight is skipped
    "Africa/Casablanca",  # back for Ramadan: the standard time is the summer's
    "America/Asuncion",
    "America/Havana",  # 00:00 to 01:00
    "America/Los_Angeles",
    "America/New_York",
    "America/Nuuk",  # another standard time since 2023
    "America/Santiago",  # 24:00 to 23:00
    "America/St_Johns",  # −03:30
    "Antarctica/Troll",  # by two hours
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kolkata",  # none
    "Asia/Tehran",
    "Australia/Lord_Howe",  # by half an hour
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Dublin",  # its winter time is the daylight saving one
    "Europe/London",
    "Pacific/Chatham",  # +12:45
)
YEARS = range(2021, 2026)


@dataclass(frozen=True)
class Schedule:
    """Five texts in the order of cron and the sets they mean; *days* or *weekdays* None for a bare star."""

    texts: tuple[str, str, str, str, str]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None
    names_times: bool
    """Whether its hour has neither star nor step."""

    def has_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        if self.days is None or self.weekdays is None:
            by_day = self.days is None or day.day in self.days
            return by_day and (self.weekdays is None or day.isoweekday() % 7 in self.weekdays)
        return day.day in self.days or day.isoweekday() % 7 in self.weekdays

    def has(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.has_day(wall)


def walk(zone: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Every minute of UTC from *start* until before *end*, with what the clock shows then."""
    clock = ZoneInfo(zone)
    moment = start
    while moment < end:
        local = moment.astimezone(clock)
        yield moment, datetime(local.year, local.month, local.day, local.hour, local.minute)
        moment += MINUTE


def firings(schedules: Sequence[Schedule], zone: str, start: datetime, end: datetime) -> list[list[datetime]]:
    """The firings of each schedule at or after *start* and before *end*."""
    found: list[list[datetime]] = [[] for _ in schedules]
    latest_shown = datetime.min
    for moment, wall in walk(zone, start - WARM_UP, end):
        is_new = wall > latest_shown
        skipped = []
        if is_new and latest_shown > datetime.min:
            between = latest_shown + MINUTE
            while between < wall:
                skipped.append(between)
                between += MINUTE
        if is_new:
            latest_shown = wall
        if moment < start:
            continue
        for schedule, into in zip(schedules, found, strict=True):
            if schedule.names_times:
                fires = is_new and (schedule.has(wall) or any(schedule.has(time) for time in skipped))
            else:
                fires = schedule.has(wall)
            if fires:
                into.append(moment)
    return found


@cache
def changes(zone: str, first_year: int, last_year: int) -> tuple[datetime, ...]:
    """The hours after which the clock of *zone* is off by something else than before, found by trying every hour."""
    clock = ZoneInfo(zone)
    moment, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    found = []
    while moment < end:
        following = moment + timedelta(hours=1)
        if moment.astimezone(clock).utcoffset() != following.astimezone(clock).utcoffset():
            found.append(moment)
        moment = following
    return tuple(found)


# Drawing schedules


@st.composite
def items(draw: st.DrawFn, field: str) -> tuple[str, frozenset[int]]:
    """One item of a list: its text and what it means."""
    low, high = BOUNDS[field]
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, high))
    names = NAMES.get(field)
    spell = names.__getitem__ if names and draw(st.booleans()) else str
    match draw(st.sampled_from(["value", "value", "value", "range", "range/step", "value/step", "*/step"])):
        case "value":
            return spell(first), frozenset({first})
        case "range":
            if field == "dayofweek" and (first, last) == (0, 7):
                spell = str  # sun-sun is one Sunday
            return f"{spell(first)}-{spell(last)}", frozenset(range(first, last + 1))
        case "range/step":
            return f"{first}-{last}/{step}", frozenset(range(first, last + 1, step))
        case "value/step":
            return f"{first}/{step}", frozenset(range(first, high + 1, step))
        case _:
            return f"*/{step}", frozenset(range(low, high + 1, step))


@st.composite
def fields(draw: st.DrawFn, field: str, star: int, most: int = 3) -> tuple[str, frozenset[int] | None]:
    """A whole field; one of *star* + 1 is not a bare star, whose set is None."""
    if draw(st.integers(0, star)):
        return "*", None
    drawn = draw(st.lists(items(field), min_size=1, max_size=most))
    values = frozenset().union(*(values for _, values in drawn))
    if field == "dayofweek":
        values = frozenset(value % 7 for value in values)
    return draw(st.sampled_from([",", ", ", " ", " , "])).join(text for text, _ in drawn), values


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Schedules most of which fire every day, and many of them at night."""
    minute, minutes = draw(fields("minute", star=1))
    night = st.sampled_from([(str(hour), frozenset({hour})) for hour in (0, 1, 2, 3, 23)])
    hour, hours = draw(st.one_of(night, fields("hour", star=1)))
    day, days = draw(fields("day", star=3))
    month, months = draw(fields("month", star=5))
    weekday, weekdays = draw(fields("dayofweek", star=3))
    return Schedule(
        (minute, hour, day, month, weekday),
        minutes if minutes is not None else frozenset(range(60)),
        hours if hours is not None else frozenset(range(24)),
        days,
        months if months is not None else frozenset(range(1, 13)),
        weekdays,
        names_times="*" not in hour and "/" not in hour,
    )


@st.composite
def places_of_change(draw: st.DrawFn) -> tuple[str, datetime]:
    """A time zone and an hour in which its clock is changed."""
    zone = draw(st.sampled_from([zone for zone in ZONES if changes(zone, YEARS[0], YEARS[-1])]))
    return zone, draw(st.sampled_from(changes(zone, YEARS[0], YEARS[-1])))
