"""Keep the schedules view: one row per schedule that ever was, rebuilt and verified by the fold that catches it up."""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.api import Ledger
from ledger.hidden import shown_state
from ledger.schedule import ScheduleState
from ledger.store import HOT_VIEWS, Snapshot
from projections.queue import catch_up, catch_up_all, is_prepared
from projections.queue import prepare as prepare_views
from projections.schedule_fold import COLUMNS, SQL, Row, ScheduleFold, fold_log, prepare


class LiveRun(NamedTuple):
    """The live run of a schedule as the queue view shows it; times in microseconds."""

    task_id: str
    status: str
    due_us: int
    used: int
    claimed_us: int | None


def rebuild(ledger: Ledger) -> int:
    """Drop the view's rows and fold the whole log again in one transaction; return the count of events folded."""
    with ledger.store.write() as unit:
        if not is_prepared(unit):
            prepare_views(unit)
        while not catch_up(unit):  # the queue view shares the checkpoint
            pass
        head = unit.head()
        fold = fold_log(unit, head)
        unit.run(SQL["drop_schedules"])
        unit.run(SQL["drop_components"])
        prepare(unit, 0)
        fold.write()
        return head


def verify(ledger: Ledger) -> list[str]:
    """Return the differences between the live rows and a fresh fold, as sentences; empty when they are equal."""
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        fold = fold_log(snapshot, snapshot.checkpoint(HOT_VIEWS))
        live = {row[1]: row for row in snapshot.rows(SQL["all_schedules"])}
        disabled = dict(snapshot.rows(SQL["all_components"]))
    return sorted([*_differences(live, {row[1]: row for row in fold.rows()}), *_of_components(disabled, fold)])


def _differences(live: dict[str, Row], folded: dict[str, Row]) -> list[str]:
    found = [f"schedule {name}: the live row is missing" for name in folded.keys() - live.keys()]
    found += [f"schedule {name}: a live row that the log does not give" for name in live.keys() - folded.keys()]
    for name in live.keys() & folded.keys():
        for column, has, should in zip(COLUMNS, live[name], folded[name], strict=True):
            if has != should:
                shown = [_shown(column, value) for value in (has, should)]
                found.append(f"schedule {name}: {column} is {shown[0]!r}, the fold gives {shown[1]!r}")
    return found


def _shown(column: str, value: Any) -> Any:
    """Return a value as it is shown: a default without its hidden arguments, nothing of one that cannot be read."""
    if column != "declared":
        return value
    try:
        return shown_state(ScheduleState("", declared=value)).declared
    except (ValueError, TypeError, AttributeError, KeyError):
        return "unreadable"


def _of_components(live: dict[str, int], fold: ScheduleFold) -> list[str]:
    folded = fold.disabled or {}
    changed = dict(live.items() ^ folded.items())
    return [f"component {name}: disabled since {live.get(name)}, the fold gives {folded.get(name)}" for name in changed]


def all_states(snapshot: Snapshot) -> list[ScheduleState]:
    """Return every schedule, by name."""
    return [ScheduleState._make(row[1:]) for row in snapshot.rows(SQL["all_schedules"])]


def live_runs(snapshot: Snapshot) -> dict[str, LiveRun]:
    """Return the live runs by the names of their schedules."""
    return {row[0]: LiveRun(*row[1:]) for row in snapshot.rows(SQL["runs"])}
