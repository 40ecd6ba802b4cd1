"""Compare live report rows with a fresh fold of the log, table by table, and say how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ledger.store import Store
from projections.following import BUILD_BATCH, Keeper, make, write
from projections.report_file import SCRATCH, ReportFile
from projections.report_store import ReportStore, ReportUnit
from projections.table_sql import sql_of
from projections.views import Key, Row, Table, View

MOST_DIFFERENCES = 1_000


def differences(store: Store, keeper: Keeper, views: Sequence[View], batch: int = BUILD_BATCH) -> dict[str, list[str]]:
    """Return how the live rows of each of *views* differ from a fresh fold up to their checkpoint, in the order of keys.

    At most `MOST_DIFFERENCES` sentences a view. The fresh rows lie in a database of their own, on disk if they are many.
    """
    scratch = ReportFile(SCRATCH)
    try:
        tables = [table.name for view in (*keeper.base, *views) for table in view.tables]
        with keeper.file.read(["meta", *tables]) as live:
            fold_afresh(store, scratch, keeper, views, keeper.checkpoint(), batch)
            with scratch.read() as fresh:
                return {view.name: list(islice(_of_view(live, fresh, view), MOST_DIFFERENCES)) for view in views}
    finally:
        scratch.close()


def fold_afresh(
    store: Store, scratch: ReportStore, keeper: Keeper, views: Sequence[View], upto: int, batch: int = BUILD_BATCH
) -> None:
    """Fold the log up to position *upto* into the tables of *views* in *scratch*."""
    named = {view.name: view for view in (*keeper.base, *views)}
    with scratch.write() as unit:
        for view in named.values():
            for table in view.tables:
                make(unit, table, table.name)
    position = 0
    while position < upto:
        with scratch.write() as unit, store.read() as snapshot:  # a snapshot each: an old one keeps the log's WAL long
            raws = [raw for raw in snapshot.events_after(position, batch) if raw[0] <= upto]
            if not raws:
                return
            changes, _ = keeper.fold(unit, snapshot, raws, list(named.values()), 0)
            write(unit, changes)
            position = raws[-1][0]


def _of_view(live: ReportUnit, fresh: ReportUnit, view: View) -> Iterator[str]:
    return (line for table in view.tables for line in _compare(live, fresh, table))


def _compare(live: ReportUnit, fresh: ReportUnit, table: Table) -> Iterator[str]:
    """Yield a sentence for each row that is missing, too many or different."""
    has = live.stream(sql_of(table, table.name, live.dialect).all_rows)
    gives = fresh.stream(sql_of(table, table.name, fresh.dialect).all_rows)
    row, should = next(has, None), next(gives, None)
    while row is not None or should is not None:
        if should is None or (row is not None and _order(row, table) < _order(should, table)):
            assert row is not None, "one of them is there"
            yield f"{_named(table, row)}: a live row that the log does not give"
            row = next(has, None)
        elif row is None or _order(row, table) > _order(should, table):
            yield f"{_named(table, should)}: the live row is missing"
            should = next(gives, None)
        else:
            for column, value, wanted in zip(table.columns, row, should, strict=True):
                if value != wanted or type(value) is not type(wanted):
                    yield f"{_named(table, row)}: {column} is {value!r}, the fold gives {wanted!r}"
            row, should = next(has, None), next(gives, None)


def _order(row: Row, table: Table) -> Key:
    """Return what the database sorts rows by: numbers before texts, whatever somebody has put there."""
    return tuple(_rank(value) for value in row[: table.key])


def _rank(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, value) if isinstance(value, str) else (3, value)


def _named(table: Table, row: Row) -> str:
    return f"{table.noun} {' '.join(map(str, row[: table.key]))}"
