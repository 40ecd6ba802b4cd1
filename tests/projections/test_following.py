"""Following: killed at any row, done by many at once, built beside the live rows, each event is counted once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, StorageUnavailable
from ledger.sqlite import SqliteStore
from projections.following import Keeper
from projections.report_views import VIEWS
from projections.reports import Reports
from tests.databases import by_driver, copied
from tests.projections.everything import fill, ledger_of

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
TABLES = [table.name for view in VIEWS for table in view.tables]
VERSIONS = {view.name: view.version for view in VIEWS}
FROZEN = Path(__file__).parents[1] / "frozen" / "report_v1.json"
ALL_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgres": "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()",
}
CRASHING = str(Path(__file__).with_name("crash_following.py"))


@pytest.fixture(scope="module")
def original(module_url: str) -> str:
    """The URL of a ledger to which everything has happened, without reports, on each kind of database."""
    ledger = ledger_of(module_url)
    fill(ledger, 6)
    ledger.close()
    return module_url


@pytest.fixture
def ledger(original: str, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of that ledger, for one test."""
    with copied(original, tmp_path) as url:
        ledger = ledger_of(url)
        yield ledger
        ledger.close()


def contents(reports: Reports) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every view."""
    with reports.file.read() as unit:
        return {table: sorted(unit.rows(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def run(*arguments: str) -> int:
    """Follow in processes that are killed, and return how many were."""
    command = [sys.executable, CRASHING, *arguments]
    return int(subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize("view", [None, "hourly", "schedules"])
def test_killed_at_any_row_each_event_is_counted_once(ledger: Ledger, view: str | None) -> None:
    """A follower (or a rebuild) killed again and again, each time a little later, ends with the rows of one fold."""
    reports = Reports(ledger)
    names = [] if view is None else [view]
    if view is not None:
        reports.catch_up()
        wanted = contents(reports)
        reports.close()
    assert run(ledger.url, *names) > 15
    if view is None:
        reports.catch_up()
        assert reports.checkpoint() > 0
    else:
        assert contents(reports) == wanted
    assert reports.verify() == []
    with by_driver(ledger, of_reports=True) as ask:
        tables = {row[0] for row in ask(ALL_TABLES[reports.dialect])}
    assert tables == {*TABLES, "meta", "meta_building"}


def test_readers_do_not_notice_a_rebuild(ledger: Ledger) -> None:
    """A reader who asks all the time sees the same rows before, during and after it.

    On a file through one connection within one transaction; on a server each question is a transaction.
    """
    reports = Reports(ledger)
    reports.catch_up()
    sql = "SELECT count(*), sum(queued), sum(run_max_ms) FROM report_v1.hourly"
    seen: list[tuple[Any, ...]] = []
    is_over = threading.Event()

    def read() -> None:
        own = Reports(ledger)
        while not is_over.is_set():
            with own.read() as unit:
                seen.extend(unit.rows(sql))
                while unit.dialect == "sqlite" and not is_over.is_set():
                    seen.extend(unit.rows(sql))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(10):
            before = len(seen)
            reports.rebuild(["hourly", "tasks"])
            while len(seen) == before and reader.is_alive():
                pass
    finally:
        is_over.set()
        reader.join()
    assert len(seen) > 10
    assert set(seen) == {seen[0]}
    assert next(row.generation for row in reports.state() if row.view == "hourly") == 11


def test_many_may_follow_and_rebuild_while_tasks_are_queued(ledger: Ledger) -> None:
    """Three processes follow, two build anew, this one queues: afterwards every view equals the fold of the log."""
    code = (
        "import sys; from ledger import Ledger; from projections.reports import Reports\nledger = Ledger(sys.argv[1])\n"
    )
    follow = code + "for _ in range(20): Reports(ledger).catch_up()"
    rebuild = code + "for _ in range(3): Reports(ledger).rebuild(sys.argv[2:])"
    commands = [[follow]] * 3 + [[rebuild, "hourly", "queues"], [rebuild, "tasks", "attempts"]]
    processes = [
        subprocess.Popen([sys.executable, "-c", source, ledger.url, *names], env=ENVIRONMENT)
        for source, *names in commands
    ]
    for n in range(100):
        ledger.enqueue_many(ledger.functions["doomed"].call(n) for _ in range(20))
    assert [process.wait() for process in processes] == [0] * 5
    reports = Reports(ledger)
    assert reports.verify() == []
    with reports.read() as unit:
        [(queued,)] = unit.rows("SELECT sum(queued) FROM report_v1.hourly")
        [(tasks,)] = unit.rows("SELECT count(*) FROM report_v1.tasks")
    assert queued == tasks


@pytest.mark.parametrize("table", TABLES)
def test_verify_names_what_was_changed_by_hand(ledger: Ledger, table: str) -> None:
    """In every table a changed cell, a row deleted and a row added are each found and named."""
    reports = Reports(ledger)
    assert reports.verify() == []
    view = next(view for view in VIEWS if table in [one.name for one in view.tables])
    [described] = [one for one in view.tables if one.name == table]
    columns, keys = described.columns, described.columns[: described.key]
    kinds = json.loads(FROZEN.read_text())[table]
    [*_, changed] = [column for column in columns if kinds[column] == "TEXT" and column not in keys]
    where = " AND ".join(f"{key} = ?" for key in keys)
    with by_driver(ledger, of_reports=True) as ask:
        first = ask(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(keys)} LIMIT 1")[0]
        ask(f"UPDATE {table} SET {changed} = 'forged' WHERE {where}", *first[: described.key])
    named = f"{described.noun} {' '.join(map(str, first[: described.key]))}"
    true = first[columns.index(changed)]
    assert reports.verify([view.name]) == [f"{named}: {changed} is 'forged', the fold gives {true!r}"]
    with by_driver(ledger, of_reports=True) as ask:
        ask(f"DELETE FROM {table} WHERE {where}", *first[: described.key])
    assert reports.verify([view.name])[0] == f"{named}: the live row is missing"
    with by_driver(ledger, of_reports=True) as ask:
        forged = (*(["zzz"] if isinstance(first[0], str) else [10**9]), *first[1:])
        ask(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", *forged)
    assert reports.verify([view.name])[-1].endswith(": a live row that the log does not give")
    reports.rebuild([view.name])
    assert reports.verify() == []


def keeper_of(reports: Reports, **versions: int) -> Keeper:
    """A keeper of the same views, some of them in another version."""
    views = [replace(view, version=versions.get(view.name, view.version)) for view in VIEWS]
    return Keeper(reports.ledger.store, reports.file, views)


def test_a_view_of_another_version_is_built_beside_the_old_one(ledger: Ledger) -> None:
    """Until the new one has caught up, the old rows answer; the other views go on."""
    reports = Reports(ledger)
    reports.catch_up()
    before = contents(reports)
    ledger.enqueue_many(ledger.functions["doomed"].call(n) for n in range(5))
    newer = keeper_of(reports, hourly=2)
    steps = 0
    while not newer.step(limit=20, build_limit=20):
        steps += 1
        with reports.file.read() as unit:
            versions = {row[0]: row[1] for row in unit.rows("SELECT view, version FROM meta")}
            if versions["hourly"] == 1:
                assert sorted(unit.rows("SELECT * FROM hourly"), key=repr) == before["hourly"]
    assert steps >= 5
    assert {row.view: row.version for row in reports.state()} == {**VERSIONS, "hourly": 2}
    assert len(contents(reports)["tasks"]) == len(before["tasks"]) + 5
    with pytest.raises(StorageUnavailable, match="a newer version keeps hourly"):
        reports.catch_up()
    assert contents(reports)["hourly"] != before["hourly"]


def test_a_base_of_another_version_is_built_with_all_views(ledger: Ledger) -> None:
    """All views are folded with the tasks; in another version of those, all are built anew, while the old ones answer."""
    reports = Reports(ledger)
    reports.catch_up()
    before = contents(reports)
    newer = keeper_of(reports, tasks=99)
    while not newer.step(limit=50, build_limit=50):
        with reports.file.read() as unit:
            assert unit.rows("SELECT count(*) FROM tasks") == [(len(before["tasks"]),)]
    assert contents(reports) == before
    assert {row.generation for row in reports.state()} == {2}


def test_a_rebuild_by_another_version_is_begun_again(ledger: Ledger) -> None:
    """Rows of half a build are not taken over by code of another version."""
    reports = Reports(ledger)
    reports.catch_up()
    before = contents(reports)
    middle = keeper_of(reports, hourly=2)
    middle.step(limit=10, build_limit=10)
    newest = keeper_of(reports, hourly=3)
    newest.step(limit=10, build_limit=10)
    with reports.file.read() as unit:
        assert unit.rows("SELECT version, checkpoint FROM meta_building") == [(3, 10)]
    newest.catch_up()
    assert contents(reports) == before


def test_the_log_of_a_backup_is_folded_anew(ledger: Ledger) -> None:
    """Reports that are ahead of the log, as an older copy of it was put in its place, are built again."""
    reports = Reports(ledger)
    with ledger.store.read() as snapshot:
        backup = snapshot.head()
    ledger.enqueue_many(ledger.functions["doomed"].call(n) for n in range(50))
    ahead = reports.catch_up()
    is_file = isinstance(ledger.store, SqliteStore)
    with by_driver(ledger) as ask:
        ask("DROP TRIGGER stored_events_no_delete" if is_file else "ALTER TABLE stored_events DISABLE TRIGGER ALL")
        ask(f"DELETE FROM stored_events WHERE {'rowid' if is_file else 'notification_id'} > ?", backup)
    ledger.close()
    assert reports.catch_up() == backup < ahead
    assert reports.verify() == []
