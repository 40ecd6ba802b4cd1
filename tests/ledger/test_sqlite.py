"""The log in one SQLite file: append-only, ordered, durable, shared between threads and processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.clock import SystemClock
from ledger.errors import StorageFull, StorageUnavailable
from ledger.events import Event, KeyReleased
from ledger.sqlite import SqliteStore
from ledger.sqlite_files import refuse_network_file_system

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(stream: str, version: int, command: str = "act", task: str = "t") -> Event:
    return KeyReleased(
        originator_id=stream, originator_version=version, command=command, at=AT, actor="user:a", task=task
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(f"sqlite:///{tmp_path}/work.db", SystemClock())
    with opened.write():
        pass
    yield opened
    opened.close()


def all_events(store: SqliteStore) -> list[tuple[int, str, int]]:
    with store.read() as snapshot:
        return [raw[:3] for raw in snapshot.events_after(0, 1_000_000)]


def test_every_connection_is_durable(store: SqliteStore) -> None:
    """The write-ahead log and an fsync at every commit are in effect, not only asked for."""
    with store.datastore.write() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET topic = 'x'",
        "DELETE FROM stored_events",
        "INSERT OR REPLACE INTO stored_events VALUES (99, 'key:1', 1, 'x', x'00')",
        "INSERT OR REPLACE INTO stored_events VALUES (1, 'key:9', 1, 'x', x'00')",
        "INSERT INTO stored_events VALUES (-1, 'key:9', 1, 'x', x'00')",
        "INSERT INTO stored_events VALUES (0, 'key:9', 1, 'x', x'00')",
        "REPLACE INTO stored_events (originator_id, originator_version, topic, state) VALUES ('key:1', 2, 'x', x'00')",
    ],
)
def test_stored_events_cannot_be_changed(store: SqliteStore, statement: str) -> None:
    """Every way to change or replace an event by SQL is refused by the database itself."""
    with store.write() as unit:
        unit.append([event("key:1", 1), event("key:1", 2)])
    other = sqlite3.connect(store.path)
    before = other.execute("SELECT * FROM stored_events").fetchall()

    with pytest.raises(sqlite3.IntegrityError, match=r"immutable|CHECK constraint"):
        other.execute(statement)
    assert other.execute("SELECT * FROM stored_events").fetchall() == before
    other.close()


def test_positions_survive_vacuum(store: SqliteStore) -> None:
    """VACUUM renumbers nothing."""
    for version in range(1, 6):
        with store.write() as unit:
            unit.append([event("key:1", version), event("key:2", version)])
    before = all_events(store)
    store.close()
    other = sqlite3.connect(store.path)
    other.execute("VACUUM")
    other.close()

    assert all_events(store) == before


def test_a_missing_file_is_said_and_not_made(tmp_path: Path) -> None:
    """Reading where there is no ledger is a typed error and leaves no file behind."""
    store = SqliteStore(f"sqlite:///{tmp_path}/none.db", SystemClock())

    with pytest.raises(StorageUnavailable, match="no ledger at"), store.read():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """An SQLite file that is no ledger is not written to."""
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    store = SqliteStore(f"sqlite:///{tmp_path}/other.db", SystemClock())

    with pytest.raises(StorageUnavailable, match="another program"), store.write():
        pass


def test_network_file_systems_are_refused() -> None:
    """A file on NFS is refused with the reason; one on a local disk mounted below it is not."""
    mounts = "/dev/a / ext4 rw 0 0\nserver:/x /net nfs4 rw 0 0\n/dev/b /net/local\\040disk xfs rw 0 0\n"

    with pytest.raises(StorageUnavailable, match=r"network file system .nfs4."):
        refuse_network_file_system(Path("/net/work.db"), mounts)
    refuse_network_file_system(Path("/net/local disk/work.db"), mounts)
    refuse_network_file_system(Path("/home/work.db"), mounts)


def test_threads_and_processes_append_without_loss_or_gap(store: SqliteStore) -> None:
    """Four processes of two threads append at once: every acknowledged event is there, positions have no gap."""

    def produce(name: str) -> None:
        for version in range(1, 26):
            with store.write() as unit:
                unit.append([event(f"key:{name}", version)])

    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                threads = [threading.Thread(target=produce, args=(f"{number}-{n}",)) for n in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    found = all_events(store)

    assert codes == [0, 0, 0, 0]
    assert [position for position, _, _ in found] == list(range(1, 201))
    assert sorted(row[1:] for row in found) == sorted(
        (f"key:{p}-{t}", v) for p in range(4) for t in range(2) for v in range(1, 26)
    )


def test_a_child_of_a_fork_opens_connections_of_its_own(store: SqliteStore) -> None:
    """Parent and child go on writing after a fork, also when the parent had its connections open."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])
    parents = id(store.datastore._writer)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with store.write() as unit:
                unit.append([event("key:1", 2)])
            code = 0 if id(store.datastore._writer) != parents else 2
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with store.write() as unit:
        unit.append([event("key:1", 3)])
    assert len(all_events(store)) == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_a_full_disk_is_said_and_nothing_is_half_written(small_disk: Path) -> None:
    """When the disk is full an append fails with a clear error; what was acknowledged stays; it goes on with space."""
    store = SqliteStore(f"sqlite:///{small_disk}/work.db", SystemClock())
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 400_000)
    acknowledged = 0
    with pytest.raises(StorageUnavailable) as caught:
        for version in range(1, 10_000):
            with store.write() as unit:
                unit.append([event("key:1", version, task="x" * 2_000)])
            acknowledged = version

    assert isinstance(caught.value, StorageFull)
    assert len(all_events(store)) == acknowledged > 10
    ballast.unlink()
    with store.write() as unit:
        unit.append([event("key:1", acknowledged + 1)])
    assert len(all_events(store)) == acknowledged + 1
    store.close()


def test_a_schema_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A database that a newer version has made is not written to; one of an older schema is brought up."""
    url = f"sqlite:///{tmp_path}/work.db"
    store = SqliteStore(url, SystemClock())
    store.prepare()
    store.close()
    with closing(sqlite3.connect(tmp_path / "work.db")) as connection:
        connection.execute("DROP TABLE output_attempts")
        connection.execute("PRAGMA user_version = 2")
    older = SqliteStore(url, SystemClock())
    with older.write() as unit:
        assert unit.rows("SELECT count(*) FROM output_attempts") == [(0,)]
    older.close()
    with closing(sqlite3.connect(tmp_path / "work.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageUnavailable, match="schema 99"), SqliteStore(url, SystemClock()).write():
        pass
