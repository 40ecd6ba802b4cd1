"""Keep the controls view: what governs the claims, as a cycle reads it; rebuilt and verified like the other views."""

from __future__ import annotations

from typing import NamedTuple

from ledger.api import Ledger
from ledger.control_rules import CACHES, ENABLED, LIMITS, QUEUE_PREFIX, RUNNERS, STOP, LimitState, queue_stream
from ledger.limits import Limits
from ledger.store import HOT_VIEWS, Snapshot
from projections.control_fold import COLUMNS, SQL, Mark, fold_log, make_anew
from projections.queue import catch_up, catch_up_all, is_prepared
from projections.queue import prepare as prepare_views


class Controls(NamedTuple):
    """All that governs the claims at one position of the log."""

    marks: dict[str, Mark]
    limits: Limits

    @property
    def disabled(self) -> Mark | None:
        """Who disabled the runners, if they are."""
        return self.marks.get(RUNNERS)

    @property
    def enabled(self) -> Mark | None:
        """Who enabled them last."""
        return self.marks.get(ENABLED)

    @property
    def stop(self) -> Mark | None:
        """Who told the runs to end last."""
        return self.marks.get(STOP)

    @property
    def caches(self) -> Mark | None:
        """Who asked for new processes last."""
        return self.marks.get(CACHES)

    def paused_queues(self) -> list[str]:
        """Return the names of the paused queues."""
        return sorted(mark.removeprefix(QUEUE_PREFIX) for mark in self.marks if mark.startswith(QUEUE_PREFIX))

    def paused(self, queue: str) -> Mark | None:
        """Return who paused the queue, if it is."""
        return self.marks.get(queue_stream(queue))


def read(snapshot: Snapshot, known: Controls | None = None) -> Controls:
    """Return the controls as the view has them; the limits are those *known*, where they have not changed since."""
    marks = {row[0]: Mark._make(row) for row in snapshot.rows(SQL["all_marks"])}
    if known is not None and marks.get(LIMITS) == known.marks.get(LIMITS):
        return Controls(marks, known.limits)
    found = (LimitState._make(row).in_force for row in snapshot.rows(SQL["all_limits"]) if LIMITS in marks)
    return Controls(marks, Limits(limit for limit in found if limit is not None))


def rebuild(ledger: Ledger) -> int:
    """Drop the view's rows and fold the whole log again in one transaction; return the count of events folded."""
    with ledger.store.write() as unit:
        if not is_prepared(unit):
            prepare_views(unit)
        while not catch_up(unit):  # the queue view shares the checkpoint
            pass
        make_anew(unit, unit.head())
        return unit.head()


def verify(ledger: Ledger) -> list[str]:
    """Return the differences between the live rows and a fresh fold, as sentences; empty when they are equal."""
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        marks, limits = fold_log(snapshot, snapshot.checkpoint(HOT_VIEWS)).rows()
        live_marks = {row[0]: row for row in snapshot.rows(SQL["all_marks"])}
        live_limits = {row[0]: row for row in snapshot.rows(SQL["all_limits"])}
    found = _differences("mark", COLUMNS[0].split(","), live_marks, marks)
    return sorted(found + _differences("limit", COLUMNS[1].split(","), live_limits, limits))


def _differences(
    what: str, columns: list[str], live: dict[str, tuple[object, ...]], folded: dict[str, Mark] | dict[str, LimitState]
) -> list[str]:
    found = [f"{what} {name}: the live row is missing" for name in folded.keys() - live.keys()]
    found += [f"{what} {name}: a live row that the log does not give" for name in live.keys() - folded.keys()]
    for name in live.keys() & folded.keys():
        for column, has, should in zip(columns, live[name], folded[name], strict=True):
            if has != should:
                found.append(f"{what} {name}: {column} is {has!r}, the fold gives {should!r}")
    return found
