"""Schedules over deaths and clocks that are set: each slot is fired once or recorded as missed, whatever happens."""

from __future__ import annotations

import json
import random
import secrets
import signal
import time
from collections import Counter
from datetime import datetime, timedelta

import pytest

from ledger import Ledger
from projections import queue, schedules
from tests.faults.schedule_app import CLOCK, COUNT, TIMEZONE, SharedClock
from tests.faults.setup import PATIENCE_SECONDS, Site, wait_until, workers_of
from tests.faults.test_storm import kill
from tests.processes import Command

APP = "tests.faults.schedule_app:ledger"
MINUTE = timedelta(minutes=1)
BEATS = {"WORKLEDGER_BEAT_SECONDS": "0.05", "WORKLEDGER_LEASE_SECONDS": "3600"}
"""A beat bounds how long a worker rests, and so how late it sees that this fast clock has reached a slot."""


class Minutely:
    """A site with schedules of every minute, and what its log says of their slots."""

    def __init__(self, site: Site, count: int, speed: float) -> None:
        self.site = site
        self.count = count
        self.clock = SharedClock(site.directory / "clock.json")
        self.speed, self.origin = speed, time.monotonic()
        self.set_by(0)
        site.environment |= {CLOCK: str(self.clock.path), COUNT: str(count), **BEATS}

    def set_by(self, seconds: float) -> None:
        """Set the clock, by so much beside its own course."""
        self.clock.set(speed=self.speed, origin=self.origin, offset=seconds)

    def run(self, workers: int) -> Command:
        process = self.site.command("run", "--workers", str(workers), "--log-format", "json", app=APP)
        wait_until(lambda: self.fired() > 0, "slots are fired", self.site)
        return process

    def fired(self) -> int:
        return self.site.count("SlotFired")

    def fates(self) -> dict[str, tuple[Counter[datetime], Counter[datetime]]]:
        """By schedule how often each slot was fired and how often recorded as missed, read from the stored text."""
        found: dict[str, tuple[Counter[datetime], Counter[datetime]]] = {}
        sql = "SELECT originator_id, topic, CAST(state AS TEXT) FROM stored_events WHERE topic IN (?, ?) ORDER BY rowid"
        for stream, topic, text in self.site.rows(sql, "SlotFired.v1", "SlotsMissed.v1"):
            fired, missed = found.setdefault(stream, (Counter(), Counter()))
            state = json.loads(text)
            if topic == "SlotFired.v1":
                fired[datetime.fromisoformat(state["slot"])] += 1
                continue
            slot, last = (datetime.fromisoformat(state[key]) for key in ("first", "last"))
            assert (last - slot) // MINUTE + 1 == state["count"]
            while slot <= last:
                missed[slot] += 1
                slot += MINUTE
        return found

    def jumps(self) -> list[float]:
        """The jumps of the clock that workers have reported, in seconds."""
        lines = [line for line in self.site.logs().splitlines() if '"the clock was set"' in line and line.endswith("}")]
        return [json.loads(line)["seconds"] for line in lines]

    def check(self) -> int:
        """Check that every minute since the declaration has one fate; return how many slots were fired.

        Each run ended once, and the views equal the log.
        """
        fates = self.fates()
        sql = "SELECT json_extract(CAST(state AS TEXT), '$.at') FROM stored_events WHERE topic = 'ScheduleDeclared.v1'"
        [begin] = {datetime.fromisoformat(at) for (at,) in self.site.rows(sql)}
        assert len(fates) == self.count
        total = 0
        for stream, (fired, missed) in fates.items():
            assert set(fired.values()) <= {1}, f"{stream}: a slot was fired twice"
            assert set(missed.values()) <= {1}, f"{stream}: a slot was recorded as missed twice"
            assert not fired.keys() & missed.keys(), f"{stream}: a slot was fired and missed"
            slots = sorted(fired.keys() | missed.keys())
            assert slots[0] - begin <= MINUTE
            assert len(slots) == (slots[-1] - slots[0]) // MINUTE + 1, f"{stream}: a slot has no fate"
            total += len(fired)
        ended = self.site.rows(
            "SELECT originator_id, count(*) FROM stored_events WHERE topic = 'TaskSucceeded.v1' GROUP BY originator_id"
        )
        assert {count for _, count in ended} == {1}
        assert len(ended) == total - len(self.live())
        ledger = Ledger(self.site.environment["WORKLEDGER_URL"])
        assert queue.verify(ledger) == []
        assert schedules.verify(ledger) == []
        ledger.close()
        return total

    def live(self) -> list[str]:
        return [row[0] for row in self.site.rows("SELECT task_id FROM queue")]

    def stop(self, run: Command) -> None:
        """End the run as an operator does; every run that was queued has ended then, but for what nobody began."""
        run.send_signal(signal.SIGTERM)
        assert self.site.finish(run) in (0, 1), self.site.logs()


def storm(minutely: Minutely, kills: int, fired: int, pause: float) -> None:
    """Kill one of four workers at random, again and again, until so many were killed and so many slots fired."""
    seed = secrets.token_hex(4)
    print("seed", seed)
    dice = random.Random(seed)
    run = minutely.run(4)
    deadline = time.monotonic() + 20 * PATIENCE_SECONDS
    while (kills > 0 or minutely.fired() < fired) and time.monotonic() < deadline:
        time.sleep(dice.uniform(pause / 4, pause))  # the storm itself, no wait for anything
        if pids := workers_of(run):
            kill(dice.choice(pids))
            kills -= 1
    minutely.stop(run)


def test_every_slot_has_one_fate_whichever_workers_are_killed(site: Site) -> None:
    """One of four workers killed at random, twenty times: each slot was fired once or recorded as missed."""
    minutely = Minutely(site, count=40, speed=100)
    storm(minutely, kills=20, fired=400, pause=0.6)

    assert minutely.check() >= 400


@pytest.mark.soak
def test_an_hour_of_two_hundred_schedules(site: Site) -> None:
    """The long one: an hour of two hundred schedules of every minute, a worker killed every other second."""
    minutely = Minutely(site, count=200, speed=30)
    storm(minutely, kills=60, fired=200 * 60, pause=2.0)

    assert minutely.check() >= 200 * 60


def test_a_clock_that_is_set(site: Site) -> None:
    """Forward a day and back an hour: nothing fires twice, nothing is lost, and the workers report both jumps."""
    minutely = Minutely(site, count=5, speed=60)
    run = minutely.run(2)
    day, hour, about = 86_400, 3_600, 600
    before = minutely.fired()
    minutely.set_by(day)
    wait_until(lambda: minutely.fired() >= before + 10, "they go on", site)
    minutely.set_by(day - hour)
    wait_until(lambda: any(abs(jump + hour) < about for jump in minutely.jumps()), "the jump back is reported", site)
    shown = minutely.fired()
    minutely.set_by(day)
    wait_until(lambda: minutely.fired() >= shown + 10, "they go on again", site)
    minutely.stop(run)

    minutely.check()
    assert any(abs(jump - day) < about for jump in minutely.jumps())
    missed = [
        json.loads(text)
        for (text,) in site.rows("SELECT CAST(state AS TEXT) FROM stored_events WHERE topic = 'SlotsMissed.v1'")
    ]
    causes = [one["cause"] for one in missed if one["count"] > 1_000]
    assert causes
    assert all(cause.startswith(("the clock was set forward by ", "the run before, task ")) for cause in causes), causes


def test_an_unknown_time_zone_is_said_before_anything_runs(site: Site) -> None:
    """A schedule whose time zone is unknown stops the start, with the name of the zone and exit code 2."""
    Minutely(site, count=1, speed=1)
    site.environment[TIMEZONE] = "Atlantis/Capital"
    assert site.finish(site.command("run", app=APP)) == 2
    assert "Atlantis/Capital" in site.logs()
    assert site.count_where("1 = 1") == 0
