"""Find the wall-clock times that have a schedule's five fields: the next one by croniter, how many by counting days.

A *wall* is a naive datetime, what a clock on the wall shows; what the clock does in spring and autumn is not known here.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from croniter import croniter

from ledger.cron_fields import Fields, field_values
from ledger.errors import NeverFires

_DAY = timedelta(days=1)
_MONTH_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""The most days that each month can have."""

Values = tuple[int, ...]


@dataclass(frozen=True)
class Walls:
    """The wall-clock times of one set of fields; made once by `walls_of` and shared, it keeps no place."""

    minutes: Values
    hours: Values
    months: Values
    days: Values | None
    """The listed days of the month; None where they do not restrict."""
    weekdays: Values | None
    """The listed days of the week, 0 Sunday; None where they do not restrict. With *days* either of the two is enough."""
    template: croniter

    def next_after(self, wall: datetime) -> datetime:
        """Return the first listed time later than the minute of *wall*."""
        found: datetime = copy.copy(self.template).get_next(datetime, wall, False)
        return found

    def has(self, wall: datetime) -> bool:
        """Return whether the minute of *wall* is listed."""
        return wall.minute in self.minutes and wall.hour in self.hours and self.has_day(wall)

    def has_day(self, day: date) -> bool:
        """Return whether any time of *day* is listed."""
        if day.month not in self.months:
            return False
        if self.days is None and self.weekdays is None:
            return True
        return (self.days is not None and day.day in self.days) or (
            self.weekdays is not None and day.isoweekday() % 7 in self.weekdays
        )

    def count(self, start: datetime, end: datetime) -> int:
        """Return how many listed times are in the minutes from that of *start*, included, to that of *end*, excluded."""
        if start >= end:
            return 0
        a_day = len(self.hours) * len(self.minutes)
        total = self._until(end) - self._until(start)
        day = start.date()
        while day < end.date():
            total += a_day if self.has_day(day) else 0
            day += _DAY
        return total

    def _until(self, wall: datetime) -> int:
        """Return how many times of its own day are listed before the minute of *wall*."""
        if not self.has_day(wall):
            return 0
        earlier = bisect_left(self.hours, wall.hour) * len(self.minutes)
        return earlier + (bisect_left(self.minutes, wall.minute) if wall.hour in self.hours else 0)


@lru_cache(maxsize=4_096)
def walls_of(fields: Fields) -> Walls:
    """Return the wall-clock times of settled *fields*.

    Only a bare ``*`` leaves day or weekday free; if both are restricted, a day that has either is listed.

    Raises:
        InvalidSchedule: A field is not allowed.
        NeverFires: No day has all the fields.
    """
    minutes, hours, days, months, weekdays = map(field_values, Fields._fields, fields)
    possible = tuple(day for day in days if any(day <= _MONTH_LENGTHS[month - 1] for month in months))
    by_day = fields.day.strip() != "*"
    by_weekday = fields.dayofweek.strip() != "*"
    if not possible and not by_weekday:
        raise NeverFires(
            f"the schedule {' '.join(fields)!r} never fires: no month {fields.month} has a day {fields.day}"
        )
    if (by_day and len(days) == 31) or (by_weekday and len(weekdays) == 7):
        by_day = by_weekday = False  # every day has it
    listed_days = possible if by_day and possible else None
    listed_weekdays = weekdays if by_weekday else None
    # croniter gets plain lists of values: what its own versions read into 6/1 or 1-31 has changed, a list has not.
    texts = (
        _text(minutes, 60),
        _text(hours, 24),
        _text(listed_days, 31),
        _text(months, 12),
        _text(listed_weekdays, 7),
    )
    return Walls(minutes, hours, months, listed_days, listed_weekdays, croniter(" ".join(texts), 0.0))


def _text(values: Values | None, size: int) -> str:
    return "*" if values is None or len(values) == size else ",".join(map(str, values))
