"""Say which instants a wall-clock time is: pure, over gaps and repeated hours, from the time zone data.

A *wall* is a naive datetime, what a clock on the wall shows; an instant is aware, in UTC, here always a whole minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from ledger.errors import InvalidSchedule
from ledger.values import shown

MINUTE = timedelta(minutes=1)
_PROBE = timedelta(hours=12)
_NO_PLACES = {"localtime", "posixrules", "Factory"}
"""Files among the zones' that mean another zone on every machine, or none."""


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone *name* of the IANA database, ``Area/City`` or ``UTC``.

    Raises:
        InvalidSchedule: There is no such zone, or no time zone data on this machine.
    """
    if not isinstance(name, str):
        raise InvalidSchedule(f"the time zone is of type {type(name).__qualname__}; it must be text")
    known = _known_zones()
    if name in known:
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError) as error:
            raise InvalidSchedule(f"the data of the time zone {shown(name)} cannot be read: {error}") from error
    if not known:
        raise InvalidSchedule(
            f"the time zone is {shown(name)}, but this machine has no time zone data; install the package tzdata"
        )
    raise InvalidSchedule(
        f"the time zone is {shown(name)}, which is unknown; allowed are names such as Europe/Paris and UTC"
    )


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_PLACES)


def wall_time(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clock of *zone* shows at *moment*, to the minute."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0, second=0)


def instants(zone: ZoneInfo, wall: datetime) -> tuple[datetime, ...]:
    """Return the instants at which the clock shows *wall*, earliest first: one, none in a gap, two if it comes twice."""
    first, second = _offsets(zone, wall)
    if first == second:
        return (_instant(wall, first),)
    return (_instant(wall, first), _instant(wall, second)) if first > second else ()


def once(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the one instant that stands for *wall*: its first, in a gap the first instant after the gap."""
    first, second = _offsets(zone, wall)
    return change(zone, wall) if first < second else _instant(wall, first)


def shown_twice(zone: ZoneInfo, moment: datetime) -> bool:
    """Return whether *moment* is the first of two instants at which the clock shows the same."""
    local = moment.astimezone(zone)
    return not local.fold and local.utcoffset() != local.replace(fold=1).utcoffset()


def change(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the first instant after the change of the clock that skips *wall* or shows it twice."""
    offsets = _offsets(zone, wall)
    return _change_between(zone, _instant(wall, max(offsets)), _instant(wall, min(offsets)))


def stretches(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the times from *start* until before *end* in pieces (from, until before) in which the clock is not changed.

    Changes are looked for twice a day: two that cancel each other within twelve hours are not seen. There are none.
    """
    began, probe = start, start
    while probe < end:
        following = min(probe + _PROBE, end)
        if probe.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            turn = _change_between(zone, probe, following)
            yield began, turn
            began = turn
        probe = following
    if began < end:
        yield began, end


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first whole minute after *before* whose offset is no longer that of *before*."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > MINUTE:
        middle = before + (after - before) // MINUTE // 2 * MINUTE
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def _offsets(zone: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """Return the offsets from UTC before and after the change that *wall* may lie in; the same outside of changes."""
    local = wall.replace(tzinfo=zone, fold=0)
    first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
    assert first is not None and second is not None, "a ZoneInfo always has an offset"
    return first, second


def _instant(wall: datetime, offset: timedelta) -> datetime:
    moment = (wall - offset).replace(tzinfo=UTC, fold=0)
    # Offsets of whole minutes are younger than some zones' first records (Monrovia until 1972): go to the next minute.
    return moment + MINUTE - timedelta(seconds=moment.second) if moment.second else moment
