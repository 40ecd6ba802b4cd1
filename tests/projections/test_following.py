"""Following: killed at any row, done by many at once, built beside the live rows, each event is counted once."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, StorageUnavailable
from projections.following import Keeper
from projections.report_views import VIEWS
from projections.reports import Reports
from tests.projections.everything import fill, ledger_at

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
TABLES = [table.name for view in VIEWS for table in view.tables]
VERSIONS = {view.name: view.version for view in VIEWS}
CRASHING = str(Path(__file__).with_name("crash_following.py"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a ledger to which everything has happened, without reports."""
    directory = tmp_path_factory.mktemp("original")
    ledger = ledger_at(directory / "work.db")
    fill(ledger, 6)
    with ledger.store.write() as unit:
        unit.run("SELECT 1")
    ledger.close()
    with closing(sqlite3.connect(directory / "work.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory


@pytest.fixture
def ledger(original: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of that ledger, for one test."""
    shutil.copy(original / "work.db", tmp_path / "work.db")
    ledger = ledger_at(tmp_path / "work.db")
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
    tables = {row[0] for row in reports.file._open().execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {*TABLES, "meta", "meta_building"}


def test_readers_do_not_notice_a_rebuild(ledger: Ledger) -> None:
    """A reader who asks all the time, through one connection, sees the same rows before, during and after it."""
    reports = Reports(ledger)
    reports.catch_up()
    sql = "SELECT count(*), sum(queued), sum(run_max_ms) FROM report_v1.hourly"
    seen: list[tuple[Any, ...]] = []
    is_over = threading.Event()

    def read() -> None:
        with Reports(ledger).read() as unit:
            while not is_over.is_set():
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
    code = "import sys; from ledger import Ledger; from projections.reports import Reports\n"
    follow = code + "for _ in range(20): Reports(Ledger(sys.argv[1])).catch_up()"
    rebuild = code + "for _ in range(3): Reports(Ledger(sys.argv[1])).rebuild(sys.argv[2:])"
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
    columns = described.columns
    keys = columns[: described.key]
    with closing(sqlite3.connect(reports.path)) as connection, connection:
        [first] = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(keys)} LIMIT 1")
        where = " AND ".join(f"{key} = ?" for key in keys)
        change = f"UPDATE {table} SET {columns[-1]} = 'forged' WHERE {where}"
        connection.execute(change, first[: described.key])
    named = f"{described.noun} {' '.join(map(str, first[: described.key]))}"
    assert reports.verify([view.name]) == [f"{named}: {columns[-1]} is 'forged', the fold gives {first[-1]!r}"]
    with closing(sqlite3.connect(reports.path)) as connection, connection:
        connection.execute(f"DELETE FROM {table} WHERE {where}", first[: described.key])
    assert reports.verify([view.name])[0] == f"{named}: the live row is missing"
    with closing(sqlite3.connect(reports.path)) as connection, connection:
        forged = (*(["zzz"] if isinstance(first[0], str) else [10**9]), *first[1:])
        connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", forged
        )
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


def test_the_log_of_a_backup_is_folded_anew(ledger: Ledger, tmp_path: Path) -> None:
    """Reports that are ahead of the log, as an older copy of it was put in its place, are built again."""
    reports = Reports(ledger)
    shutil.copy(tmp_path / "work.db", tmp_path / "backup.db")
    ledger.enqueue_many(ledger.functions["doomed"].call(n) for n in range(50))
    ahead = reports.catch_up()
    ledger.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"work.db{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "work.db")
    assert reports.catch_up() < ahead
    assert reports.verify() == []
