"""Remember which notices each hook was given: a checkpoint a hook, taken by one worker at a time, at least once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledger.clock import to_us
from ledger.ledger_events import NoticeRaised
from ledger.notices import Notice, notice
from ledger.schedule import LEDGER_STREAM
from ledger.statements import statements
from ledger.store import Snapshot, Unit

SQL = statements("ledger", "sql/sqlite/deliveries.sql")
LEASE_SECONDS = 120.0
"""A worker that has not said within this time what came of a delivery is taken for gone; another one delivers again."""
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 3_600.0
MOST_ERROR = 500


class Delivery(NamedTuple):
    """A row of the table: what a hook was given, and how it goes."""

    hook: str
    version: int
    """Version of the ledger stream up to which it was given everything."""
    worker: str | None
    until_us: int
    failures: int
    """In a row; 0 when the last delivery succeeded."""
    next_us: int
    error: str | None

    def is_failing(self, now_us: int) -> bool:
        """Return whether the last delivery failed, of a hook that is still there: one that is gone is tried no more."""
        return self.failures > 0 and now_us - self.next_us < 2 * LONGEST_PAUSE_SECONDS * 1e6


def begin(unit: Unit, hooks: Iterable[str]) -> None:
    """Let *hooks* that were never seen begin here: they get the notices raised from now on, none of the past."""
    if not unit.rows(SQL["has_deliveries"]):
        unit.run(SQL["create_deliveries"])
    last = unit.last(LEDGER_STREAM)
    for hook in hooks:
        unit.run(SQL["begin_hook"], (hook, last.originator_version if last else 0))


def is_due(snapshot: Snapshot, hook: str) -> bool:
    """Return whether there may be something that *hook* is to be given now."""
    found = snapshot.rows(SQL["delivery"], (hook,)) if snapshot.rows(SQL["has_deliveries"]) else []
    if not found:
        return False
    delivery, last, now_us = Delivery._make(found[0]), snapshot.last(LEDGER_STREAM), to_us(snapshot.now)
    is_free = delivery.worker is None or delivery.until_us <= now_us
    return last is not None and last.originator_version > delivery.version and is_free and delivery.next_us <= now_us


def take(unit: Unit, hook: str, worker: str, most: int) -> tuple[list[Notice], int]:
    """Take at most *most* notices for *hook*, and the version that it has been given when they are delivered.

    Empty when another worker delivers, the hook's pause is not over or there is none. Whoever takes tells what came of
    it, by `done` or `failed`.
    """
    now_us = to_us(unit.now)
    if not unit.run(SQL["take"], (worker, now_us + int(LEASE_SECONDS * 1e6), hook, now_us, now_us)):
        return [], 0
    delivery = Delivery._make(unit.rows(SQL["delivery"], (hook,))[0])
    found: list[Notice] = []
    version = delivery.version
    for recorded in unit.stream(LEDGER_STREAM, after=version):
        if isinstance(recorded.event, NoticeRaised):
            if len(found) == most:
                break
            found.append(notice(recorded))
        version = recorded.event.originator_version
    if not found:
        done(unit, hook, version)
        unit.run(SQL["release"], (hook, worker))
    return found, version


def done(unit: Unit, hook: str, version: int) -> None:
    """Note that *hook* was given everything up to *version*; also where its lease was over by then."""
    unit.run(SQL["done"], (version, hook, version))


def failed(unit: Unit, hook: str, worker: str, error: str) -> float:
    """Note that a delivery failed; return the seconds after which it is tried again: 10, doubling up to an hour."""
    found = unit.rows(SQL["delivery"], (hook,))
    failures = Delivery._make(found[0]).failures if found else 0
    seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 20), LONGEST_PAUSE_SECONDS)
    unit.run(SQL["failed"], (to_us(unit.now) + int(seconds * 1e6), error[:MOST_ERROR], hook, worker))
    return seconds


def all_of(snapshot: Snapshot) -> list[Delivery]:
    """Return what every hook was given so far."""
    rows = snapshot.rows(SQL["all_deliveries"]) if snapshot.rows(SQL["has_deliveries"]) else []
    return [Delivery._make(row) for row in rows]
