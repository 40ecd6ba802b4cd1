"""Say how many runs will start in each hour: pure, from the rules in force and, beside them, from proposed ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger.cron import Rule, whole_minute
from ledger.errors import InvalidOption
from ledger.zones import MINUTE

HOUR = timedelta(hours=1)
MOST_HOURS = 24 * 366


@dataclass(frozen=True)
class Hour:
    """The runs that start in the hour from *at* (UTC): under the rules in force and under the proposed ones."""

    at: datetime
    runs: int
    proposed: int


def forecast(
    rules: Mapping[str, Rule], start: datetime, end: datetime, proposed: Mapping[str, Rule | None] | None = None
) -> list[Hour]:
    """Return for each hour of UTC, from that of *start* to the last that begins before *end*, the runs that start in it.

    *rules* are those of the schedules that are enabled, by name. *proposed* has the rules that would be new or
    replaced, None for a schedule that would no longer run. One firing counts as one run: a schedule whose run takes
    longer than the time to its next slot starts fewer.

    Raises:
        InvalidOption: The end is not after the start, or more than 366 days after it.
    """
    first, last = whole_minute(start).replace(minute=0), whole_minute(end - timedelta(microseconds=1))
    hours = (last - first) // HOUR + 1
    if not 1 <= hours <= MOST_HOURS:
        raise InvalidOption(
            f"the forecast is from {start} to {end}; allowed are up to 366 days, the end after the start"
        )
    changed = proposed or {}
    runs = _per_hour(rules.values(), first, hours)
    removed = _per_hour((rules[name] for name in changed if name in rules), first, hours)
    added = _per_hour((rule for rule in changed.values() if rule is not None), first, hours)
    return [
        Hour(first + n * HOUR, count, count - less + more)
        for n, (count, less, more) in enumerate(zip(runs, removed, added, strict=True))
    ]


def _per_hour(rules: Iterable[Rule], first: datetime, hours: int) -> list[int]:
    """Return how many firings of all *rules* are in each of so many *hours* from *first*."""
    counts = [0] * hours
    before, last = first - MINUTE, first + hours * HOUR - MINUTE
    for rule in rules:
        if rule.count(before, last) <= hours:
            for firing in rule.between(before, last):
                counts[(firing - first) // HOUR] += 1
        else:  # counting an hour costs no more than finding one firing
            for n in range(hours):
                counts[n] += rule.count(before + n * HOUR, before + (n + 1) * HOUR)
    return counts
