"""Add up the report view `hourly` over hours, task names or queues: throughput, failure rate, waits and runs. Pure but for one read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ledger.statements import statements
from projections.filters import where
from projections.hourly import COUNTED, Buckets, Hour, load
from projections.reports import Reports

SQL = statements("projections", "sql/sqlite/report/history.sql")


class By(StrEnum):
    """What statistics are added up by."""

    name = "name"
    queue = "queue"
    hour = "hour"
    day = "day"


class Total(NamedTuple):
    """What happened within one name, queue, hour or day."""

    of: str
    queued: int
    started: int
    succeeded: int
    failed: int
    """Tasks that failed for good."""
    retried: int
    """Attempts that failed, were lost or delayed, and are followed by another."""
    lost: int
    interrupted: int
    cancelled: int
    failure_percent: float | None
    """Of the attempts that ended by themselves, how many did not succeed; None where none ended."""
    wait_p50_ms: float | None
    wait_p95_ms: float | None
    wait_max_ms: float | None
    run_p50_ms: float | None
    run_p95_ms: float | None
    run_max_ms: float | None

    @property
    def ended(self) -> int:
        """How many attempts ended by themselves."""
        return self.succeeded + self.failed + self.retried


def statistics(reports: Reports, by: By, filter_: str = "") -> list[Total]:
    """Return the totals of the hours that *filter_* asks for: hours and days in order, else the busiest first.

    Raises:
        InvalidOption: It is no filter; the message names the column.
    """
    with reports.ledger.store.read() as snapshot:
        condition = where(filter_, "hourly", snapshot.now, reports.dialect)
    reports.catch_up()
    with reports.read() as unit:
        rows = unit.rows(SQL["hours"].format(where=condition.sql), condition.parameters)
    return totals(map(load, rows), by)


def totals(hours: Iterable[Hour], by: By) -> list[Total]:
    """Add up *hours*; percentiles are those of all durations together, since their buckets are the same."""
    sums: dict[str, Hour] = {}
    for hour in hours:
        of = _group(hour, by)
        total = sums.get(of)
        if total is None:
            total = sums[of] = Hour((of, "", ""), dict.fromkeys(COUNTED, 0), Buckets(), Buckets())
        for name, count in hour.counts.items():
            total.counts[name] += count
        _add(total.waits, hour.waits)
        _add(total.runs, hour.runs)
    found = [_total(total) for total in sums.values()]
    if by in (By.hour, By.day):
        return sorted(found)
    return sorted(found, key=lambda total: (-total.started, total.of))


def _group(hour: Hour, by: By) -> str:
    moment, name, queue = hour.key
    match by:
        case By.name:
            return name
        case By.queue:
            return queue
        case By.hour:
            return moment[:13] + ":00Z"
        case By.day:
            return moment[:10]


def _add(total: Buckets, more: Buckets) -> None:
    for bucket, count in more.counts.items():
        total.counts[bucket] = total.counts.get(bucket, 0) + count
    if more.longest is not None:
        total.longest = more.longest if total.longest is None else max(total.longest, more.longest)


def _total(hour: Hour) -> Total:
    counts = hour.counts
    failed = counts["failed"] + counts["retried"]
    ended = counts["succeeded"] + failed
    percent = round(100 * failed / ended, 1) if ended else None
    waits, runs = ((b.percentile(0.5), b.percentile(0.95), b.longest) for b in (hour.waits, hour.runs))
    return Total(
        of=hour.key[0],
        **counts,
        failure_percent=percent,
        wait_p50_ms=waits[0],
        wait_p95_ms=waits[1],
        wait_max_ms=waits[2],
        run_p50_ms=runs[0],
        run_p95_ms=runs[1],
        run_max_ms=runs[2],
    )
