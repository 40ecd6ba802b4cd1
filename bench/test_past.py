"""Time travel: the ledger as it was anywhere in a long log, with copies to begin from and without."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from bench import support
from bench.test_scale import fill, ledger_at, work
from ledger.past import as_of

EVENTS = 1_000_000


def test_as_of(benchmark: Any, tmp_path: Path) -> None:
    """A jump anywhere into 1,000,000 events, a tenth of the tasks waiting: by a copy, and folded from the beginning."""
    database = tmp_path / "work.db"
    ledger = ledger_at(database)
    fill(ledger, 366_000)
    work(ledger, 317_000)
    with ledger.store.read() as snapshot:
        head = snapshot.head()
        last = snapshot.now
    first = as_of(ledger, 1, by_waypoints=False).at
    far, raw, near, by_time = [], [], [], []
    chance = random.Random(1)

    def jump() -> None:
        position = chance.randrange(head // 2, head)
        started = time.perf_counter()
        as_of(ledger, position)
        near.append(time.perf_counter() - started)
        moment = first + (last - first) * chance.random()
        started = time.perf_counter()
        as_of(ledger, moment)
        by_time.append(time.perf_counter() - started)

    for _ in range(3):
        raw.append(support.raw_read(database))
        started = time.perf_counter()
        as_of(ledger, head, by_waypoints=False)
        far.append(head / (time.perf_counter() - started))
    as_of(ledger, head)  # leaves the copies
    benchmark.pedantic(jump, rounds=8)
    size = (tmp_path / "work.travel.db").stat().st_size / 2**20
    support.say(
        benchmark,
        wanted="from the beginning: ratio >= 0.3; by a copy: 2 s",
        ours=far,
        limit=raw,
        unit="events/s",
        events=head,
        copies_mib=round(size, 1),
        by_copy_seconds=round(sorted(near)[len(near) // 2], 3),
        by_copy_worst_seconds=round(max(near), 3),
        by_time_seconds=round(sorted(by_time)[len(by_time) // 2], 3),
        by_time_worst_seconds=round(max(by_time), 3),
    )
