"""Tell people what a schedule means: its fields in words, its coming firings, and what the clock does to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger.cron import Rule
from ledger.cron_fields import Fields
from ledger.cron_walls import Values, walls_of
from ledger.zones import MINUTE, stretches, wall_time

_MOST_TIMES = 4


@dataclass(frozen=True)
class Firing:
    """One firing, twice: *at* in UTC, *local* in the schedule's time zone with its offset."""

    at: datetime
    local: datetime


@dataclass(frozen=True)
class Preview:
    """Coming firings, earliest first, and a sentence for each change of the clock that one of the times meets."""

    firings: tuple[Firing, ...]
    warnings: tuple[str, ...]


def preview(rule: Rule, after: datetime, count: int) -> Preview:
    """Return the next *count* firings later than the minute of *after*, and the warnings up to the last of them."""
    found: list[Firing] = []
    moment = rule.next_after(after)
    while moment is not None and len(found) < count:
        found.append(Firing(moment, moment.astimezone(rule.zone)))
        moment = rule.next_after(moment)
    return Preview(tuple(found), tuple(warnings(rule, after, found[-1].at)) if found else ())


def warnings(rule: Rule, after: datetime, upto: datetime) -> Iterator[str]:
    """Yield a sentence for each change of the clock later than *after*, up to *upto*, that skips or repeats a time."""
    pieces = stretches(rule.zone, after, upto + MINUTE)
    next(pieces, None)  # it begins at no change
    for turn, _ in pieces:
        before, behind = wall_time(turn - MINUTE, rule.zone) + MINUTE, wall_time(turn, rule.zone)
        times, several = _listed(rule, min(before, behind), max(before, behind))
        if times:
            yield _warning(rule, before, behind, times, several)


def _listed(rule: Rule, start: datetime, end: datetime) -> tuple[str, bool]:
    """Return the listed wall-clock times from *start* until before *end* as text, and whether they are several."""
    count = rule.walls.count(start, end)
    if not count:
        return "", False
    times = [rule.walls.next_after(start - MINUTE)]
    while len(times) < min(count, _MOST_TIMES):
        times.append(rule.walls.next_after(times[-1]))
    text = ", ".join(f"{time:%H:%M}" for time in times)
    return (text if count <= _MOST_TIMES else f"{text} … ({count} times)"), count > 1


def _warning(rule: Rule, before: datetime, behind: datetime, times: str, several: bool) -> str:
    """Return the sentence for a clock that goes from *before* to *behind*, which skips or repeats the listed *times*."""
    day = "" if behind - before < timedelta(days=1) else f" on {behind:%Y-%m-%d}"
    change = f"on {before:%Y-%m-%d} the clock of {rule.timezone} goes from {before:%H:%M} to {behind:%H:%M}{day}"
    verb = "are" if several else "is"
    match behind > before, rule.is_fixed:
        case True, True:
            met = f"{verb} skipped and made up for once, at {behind:%H:%M}"
        case True, False:
            met = f"{verb} skipped: no firing"
        case False, True:
            met = f"{'come' if several else 'comes'} twice: fires the first time"
        case _:
            met = f"{'come' if several else 'comes'} twice: fires both times"
    return f"{change}; {times} {met}"


def describe(fields: Fields) -> str:
    """Return in English words when settled *fields* fire; their values are described, however they are written.

    Raises:
        InvalidSchedule: A field is not allowed, or still `R` or `H`, or the schedule never fires.
    """
    from cron_descriptor import ExpressionDescriptor, Options  # only who reads words pays for it

    walls = walls_of(fields)
    expression = " ".join(
        (
            _steps(walls.minutes, 0, 59),
            _steps(walls.hours, 0, 23),
            "*" if walls.days is None else _steps(walls.days, 1, 31),
            _runs(walls.months) if len(walls.months) < 12 else "*",
            "*" if walls.weekdays is None else _runs(walls.weekdays),
        )
    )
    words: str = ExpressionDescriptor(
        expression, Options(use_24hour_time_format=True, locale_code="en_US")
    ).get_description()
    return words


def _steps(values: Values, low: int, high: int) -> str:
    """Return the values of a field as `*`, as steps to its end where they are such, or as a list."""
    if len(values) > 2:
        step = values[1] - values[0]
        if values == tuple(range(values[0], high + 1, step)):
            start = "*" if values[0] == low else str(values[0])
            return "*" if (start, step) == ("*", 1) else _runs(values) if step == 1 else f"{start}/{step}"
    return _runs(values)


def _runs(values: Values) -> str:
    """Return values as a list of single ones and of ranges of three and more."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)
