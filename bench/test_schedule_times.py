"""How fast next firings are recomputed: 10,000 schedules, beside croniter alone on the same schedules in the same run.

Expressions are parsed once, before the clock runs; both sides then find one next firing of each schedule in its own
time zone, from the same moments. croniter alone is asked in the usual way, with an aware datetime.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from croniter import croniter

from ledger.cron import Rule, parse_expression

COUNT = 10_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney")
EXPRESSIONS = (
    "* * * * *",
    "*/5 * * * *",
    "{minute} * * * *",
    "{minute} */6 * * *",
    "{minute} {hour} * * *",
    "{minute} {hour} * * 1-5",
    "{minute} {hour} 1,15 * *",
    "{minute} {hour} 1 * 1",
)


def drawn() -> list[tuple[str, str, datetime]]:
    """10,000 schedules as administrators write them: expression, time zone, and the moment to start from."""
    chance = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        (
            EXPRESSIONS[number % len(EXPRESSIONS)].format(minute=chance.randrange(60), hour=chance.randrange(24)),
            chance.choice(ZONES),
            start + timedelta(minutes=chance.randrange(525_600)),
        )
        for number in range(COUNT)
    ]


def test_next_firings(benchmark: Any) -> None:
    """The ledger's rule, changes of the clock included, beside croniter asked with aware datetimes before each round."""
    schedules = drawn()
    rules = [(Rule(parse_expression(text), zone), moment) for text, zone, moment in schedules]
    peers = [(croniter(text, at), at) for text, zone, moment in schedules for at in [moment.astimezone(ZoneInfo(zone))]]
    ours: list[float] = []
    alone: list[float] = []

    def measured(into: list[float], find: Callable[[], list[Any]]) -> None:
        started = time.perf_counter()
        found = find()
        into.append(COUNT / (time.perf_counter() - started))
        assert len(found) == COUNT and None not in found

    def setup() -> None:
        measured(alone, lambda: [peer.get_next(datetime, moment, False) for peer, moment in peers])

    benchmark.pedantic(
        lambda: measured(ours, lambda: [rule.next_after(at) for rule, at in rules]), setup=setup, rounds=9
    )

    benchmark.extra_info.update(
        wanted="ratio >= 0.7, 10,000/s-class",
        ours=round(statistics.median(ours)),
        croniter_alone=round(statistics.median(alone)),
        ratio=round(statistics.median(a / b for a, b in zip(ours, alone, strict=True)), 3),
        unit="schedules/s",
    )
