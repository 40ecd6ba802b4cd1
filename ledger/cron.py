"""Say when a schedule fires: pure, from its five fields and its time zone.

`ledger.cron_walls` finds the wall-clock times that have the fields; which instants those are is decided here:

- A schedule whose hour field has neither `*` nor a step names **wall-clock times**. Each fires once on every day on
  which it is listed: a time that the clock skips fires at the first instant after the gap (several such times are one
  firing), a time that the clock shows twice fires at its first occurrence.
- Every other schedule **follows real time**: it fires at every minute whose wall-clock time has its fields, so it skips
  what the clock skips and fires again in an hour that comes again.

Moments are aware; firings are whole minutes in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from ledger.cron_fields import Fields, check_fields, field_values, parse_expression, resolve
from ledger.cron_walls import Walls, walls_of
from ledger.errors import InvalidOption
from ledger.values import shown
from ledger.zones import MINUTE, change, instants, once, shown_twice, stretches, wall_time, zone_named

__all__ = ["Fields", "Rule", "check_fields", "field_values", "parse_expression", "resolve"]

FIRST_YEAR, LAST_YEAR = 1901, 8999
_SHORTEST_WINDOW = timedelta(hours=1)


@dataclass(frozen=True)
class Rule:
    """When one schedule fires: its settled fields in its time zone, checked and parsed once.

    Raises:
        InvalidSchedule: A field is not allowed or still `R` or `H`; the time zone is unknown or has no data here.
        NeverFires: No day has all the fields.
    """

    fields: Fields
    timezone: str
    is_fixed: bool = field(init=False, compare=False, repr=False)
    """Whether it names wall-clock times rather than following real time."""
    walls: Walls = field(init=False, compare=False, repr=False)
    zone: ZoneInfo = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fields = Fields(*self.fields)
        check_fields(fields)
        set_once = object.__setattr__  # a frozen dataclass sets what it derives like this
        set_once(self, "fields", fields)
        set_once(self, "walls", walls_of(fields))
        set_once(self, "zone", zone_named(self.timezone))
        set_once(self, "is_fixed", "*" not in fields.hour and "/" not in fields.hour)

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first firing later than the minute that contains *moment*; None after the year 8999.

        Raises:
            InvalidOption: *moment* has no time zone or lies before 1901.
        """
        minute = whole_minute(moment)
        if minute.year > LAST_YEAR:
            return None
        return self._next_fixed(minute) if self.is_fixed else self._next_real(minute)

    def firings(self, after: datetime) -> Iterator[datetime]:
        """Yield the firings later than the minute that contains *after*, earliest first, without end."""
        moment = self.next_after(after)
        while moment is not None:
            yield moment
            moment = self.next_after(moment)

    def between(self, after: datetime, upto: datetime, limit: int | None = None) -> list[datetime]:
        """Return the first *limit* firings later than the minute of *after* and not later than *upto*."""
        return list(islice(takewhile(lambda firing: firing <= upto, self.firings(after)), limit))

    def last_between(self, after: datetime, upto: datetime, limit: int) -> list[datetime]:
        """Return the last *limit* firings later than the minute of *after* and not later than *upto*, earliest first.

        The time it takes grows with *limit*, not with what lies between.
        """
        window = _SHORTEST_WINDOW
        while after < upto - window and self.count(upto - window, upto) < limit:
            window *= 2
        found = self.between(max(after, upto - window), upto)
        return found[-limit:] if limit > 0 else []

    def count(self, after: datetime, upto: datetime) -> int:
        """Return how many firings are later than the minute of *after* and not later than *upto*.

        Counted by days, not one by one: a year of a schedule that fires every minute takes about a millisecond.
        """
        first, end = whole_minute(after), whole_minute(upto) + MINUTE
        total = 0
        for start, stop in stretches(self.zone, first, end):
            if start > first and self.is_fixed:
                total += self._fires_for_skipped(start)
            total += self._count_in_stretch(max(start, first + MINUTE), stop)
        return total

    def _next_fixed(self, minute: datetime) -> datetime:
        wall = self.walls.next_after(wall_time(minute, self.zone))
        while (moment := once(self.zone, wall)) <= minute:  # the clock has been set back: this was shown before
            wall = self.walls.next_after(wall)
        return moment

    def _next_real(self, minute: datetime) -> datetime:
        wall = wall_time(minute, self.zone)
        if not shown_twice(self.zone, minute):
            return self._first_shown(wall, minute)
        # Walls up to this one come again after the clock is set back: look until then, and from then on.
        turn = change(self.zone, wall)
        found = self._first_shown(wall, minute)
        return found if found < turn else self._first_shown(wall_time(turn, self.zone) - MINUTE, turn - MINUTE)

    def _first_shown(self, wall: datetime, minute: datetime) -> datetime:
        """Return the first instant later than *minute* at which a listed time later than *wall* is shown."""
        while True:
            wall = self.walls.next_after(wall)
            shown_at = instants(self.zone, wall)
            for moment in shown_at:
                if moment > minute:
                    return moment
            if not shown_at:
                wall = wall_time(change(self.zone, wall), self.zone) - MINUTE  # the clock goes on after the gap

    def _count_in_stretch(self, start: datetime, stop: datetime) -> int:
        """Count the firings of the minutes from *start* until before *stop*, between which the clock is not changed."""
        local = start.astimezone(self.zone)
        first = local.replace(tzinfo=None, fold=0)
        end = first + (stop - start)
        if self.is_fixed and local.fold:
            turn = change(self.zone, first)
            first = (
                wall_time(turn - MINUTE, self.zone) + MINUTE
            )  # what was shown before the clock was set back has fired
        return self.walls.count(first, end)

    def _fires_for_skipped(self, turn: datetime) -> int:
        """Return 1 if times that the clock skips at *turn* are listed and *turn* itself is not, else 0."""
        before, after = wall_time(turn - MINUTE, self.zone) + MINUTE, wall_time(turn, self.zone)
        return int(self.walls.count(before, after) > 0 and not self.walls.has(after))


def whole_minute(moment: datetime) -> datetime:
    """Return the minute that contains *moment*, in UTC.

    Raises:
        InvalidOption: It is not aware or lies before 1901.
    """
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidOption(f"the moment is {shown(moment)}; allowed is a datetime with a time zone")
    if moment.year < FIRST_YEAR:
        raise InvalidOption(f"the moment is {moment}; allowed are the years {FIRST_YEAR} to {LAST_YEAR}")
    if moment.year > LAST_YEAR:
        return moment.replace(second=0, microsecond=0)
    return moment.astimezone(UTC).replace(second=0, microsecond=0)
