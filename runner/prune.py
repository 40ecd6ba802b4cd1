"""Delete what attempts printed once it is old or many newer ones have printed, each deletion on record in the log.

Two rules hold beside each other: by age, counted from the attempt's start, and by how many newer attempts of the same
task name have output. What a running attempt prints is left alone, and no event is ever deleted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from ledger.api import Ledger
from ledger.clock import to_us
from ledger.commands import next_envelope
from ledger.errors import InvalidOption
from ledger.ledger_events import OutputPruned
from ledger.output import PRUNING_SQL, SQL, output_stream
from ledger.store import Snapshot, Unit
from ledger.values import check_reason, is_number, shown
from projections import queue as queue_view

MOST_ATTEMPTS = 1_000
"""Of one transaction."""
MOST_BYTES = 64 * 1024 * 1024
"""Of one transaction, beyond its first attempt: freeing pages takes time in which nobody else can write."""
PAUSE_SECONDS = 0.01
"""Between two transactions: a lock among threads goes to whoever asks next, and who just had it would be first."""
MOST_DAYS = 36_500
MOST_RUNS = 1_000_000_000


class Key(NamedTuple):
    """An attempt as pruning looks through them: when it was claimed (microseconds since 1970), its task, its number."""

    started_us: int
    task_id: str
    attempt: int


FIRST = Key(-(2**63), "", 0)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is to go: output of attempts that began more than *days* ago; all but the newest *runs* of each name."""

    days: float | None = None
    runs: int | None = None

    def __post_init__(self) -> None:
        if self.days is None and self.runs is None:
            raise InvalidOption("pruning needs a rule: an age in days, or how many runs of each name are kept")
        if self.days is not None and (not is_number(self.days) or not 0 <= self.days <= MOST_DAYS):
            raise InvalidOption(f"the age is {shown(self.days)}; allowed is a number of days, 0 to {MOST_DAYS:,}")
        runs = self.runs
        if runs is not None and (not isinstance(runs, int) or isinstance(runs, bool) or not 0 <= runs <= MOST_RUNS):
            raise InvalidOption(f"the runs kept are {shown(runs)}; allowed is a whole number from 0 to {MOST_RUNS:,}")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or would be, deleted of one name under one rule."""

    name: str
    cause: str
    attempts: int = 0
    bytes: int = 0


class _Range(NamedTuple):
    """The attempts of one name up to a key, and the rule that they fall under."""

    name: str
    upto: Key
    cause: str


def prune(ledger: Ledger, rules: Rules, *, reason: str, actor: str | None = None) -> list[Pruned]:
    """Delete what falls under *rules*, at most 1,000 attempts a transaction with its `OutputPruned`; say what went.

    Raises:
        InvalidOption: There is no reason.

        StorageUnavailable: The database cannot be used now; what was deleted before has its events.
    """
    if check_reason(reason) is None:
        raise InvalidOption("prune needs a reason, which is kept in the log")
    queue_view.catch_up_all(ledger)
    done = []
    for part in _ranges(ledger, rules):
        total, after = Pruned(part.name, part.cause), FIRST
        while after < part.upto:
            with ledger.store.write() as unit:
                while not queue_view.catch_up(unit):  # it tells which attempts run
                    pass
                found, after = _next(unit, part, after)
                if found:
                    _delete(ledger, unit, part, found, reason, actor)
            total = _added(total, found)
            if after < part.upto:
                ledger.clock.sleep(PAUSE_SECONDS)
        done += [total] if total.attempts else []
    return done


def would_prune(ledger: Ledger, rules: Rules) -> list[Pruned]:
    """Return what `prune` would delete now; nothing is changed."""
    queue_view.catch_up_all(ledger)
    would = []
    begun: dict[str, Key] = {}
    for part in _ranges(ledger, rules):
        total, after = Pruned(part.name, part.cause), begun.get(part.name, FIRST)
        while after < part.upto:
            with ledger.store.read() as snapshot:
                found, after = _next(snapshot, part, after)
            total = _added(total, found)
        begun[part.name] = max(after, begun.get(part.name, FIRST))
        would += [total] if total.attempts else []
    return would


def _added(total: Pruned, found: dict[Key, int]) -> Pruned:
    return replace(total, attempts=total.attempts + len(found), bytes=total.bytes + sum(found.values()))


def _ranges(ledger: Ledger, rules: Rules) -> list[_Range]:
    """Return what is to go of each name: first by age, then beyond the newest; fixed before anything is deleted."""
    found = []
    with ledger.store.read() as snapshot:
        for (name,) in snapshot.rows(PRUNING_SQL["names"]):
            if rules.days is not None:
                cutoff_us = to_us(snapshot.now) - timedelta(days=rules.days) // timedelta(microseconds=1)
                by_age = _Range(name, Key(cutoff_us, "", 0), f"older than {rules.days:g} days")
                found += [by_age] if _rows(snapshot, by_age, FIRST, 1) else []
            if rules.runs is not None and (newest := snapshot.rows(PRUNING_SQL["newest_but"], (name, rules.runs))):
                found.append(_Range(name, Key._make(newest[0]), f"beyond the newest {rules.runs} of its name"))
    return found


def _rows(snapshot: Snapshot, part: _Range, after: Key, limit: int) -> list[Key]:
    rows = snapshot.rows(PRUNING_SQL["oldest"], (part.name, *after, *part.upto, limit))
    return [Key._make(row) for row in rows]


def _next(snapshot: Snapshot, part: _Range, after: Key) -> tuple[dict[Key, int], Key]:
    """Return the next attempts to go with the bytes of each, without those that run, and how far the search has come."""
    keys = _rows(snapshot, part, after, MOST_ATTEMPTS)
    running = {(task, attempt) for task, attempt in snapshot.rows(queue_view.SQL["running_attempts"])}
    found: dict[Key, int] = {}
    total = 0
    for key in keys:
        if key[1:] not in running:
            size = int(snapshot.rows(PRUNING_SQL["size"], key[1:])[0][0])
            total += size
            if found and total > MOST_BYTES:
                return found, after
            found[key] = size
        after = key
    return found, after if len(keys) == MOST_ATTEMPTS else part.upto


def _delete(ledger: Ledger, unit: Unit, part: _Range, found: dict[Key, int], reason: str, actor: str | None) -> None:
    """Delete the output of the attempts *found* and append its event."""
    for key in found:
        unit.run(SQL["drop_attempt"], key[1:])
        unit.run(PRUNING_SQL["forget_attempt"], (part.name, *key))
    stream = output_stream(part.name)
    act = ledger.act(unit, actor, reason)
    pruned = OutputPruned(
        **next_envelope(stream, unit.last(stream), act),
        name=part.name,
        attempts=[[key.task_id, key.attempt] for key in found],
        bytes=sum(found.values()),
        cause=part.cause,
    )
    unit.append([pruned])
