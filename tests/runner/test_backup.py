"""`db backup`: a whole copy of one moment while workers write, or none; never half a file, never one that was there."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import Conflict, InvalidOption, Ledger, StorageUnavailable
from ledger.sqlite_backup import back_up
from runner.check import check
from tests.faults.setup import Site, wait_until

ROOT = Path(__file__).parents[2]


def events(path: Path) -> list[tuple[Any, ...]]:
    """Every event of a file, as a reader of its own sees it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute("SELECT * FROM stored_events ORDER BY rowid").fetchall()


def small(directory: Path, name: str = "work.db", tasks: int = 3) -> Ledger:
    """A ledger of a few tasks."""
    ledger = Ledger(f"sqlite:///{directory}/{name}")
    noop = ledger.task(name="noop")(lambda number: None)
    ledger.enqueue_many(noop.call(number=number) for number in range(tasks))
    return ledger


def test_copies_made_while_workers_write_are_whole(tmp_path: Path) -> None:
    """Each of five copies, made in the midst of claims and outcomes, is sound and a beginning of the final log."""
    site = Site(tmp_path)
    site.enqueue(*[("work", (1,))] * 1_500)
    process = site.command("run", "--drain", "--workers", "2")
    try:
        wait_until(lambda: site.count("TaskSucceeded") > 20, "tasks have succeeded", site)
        ledger = site.ledger()
        heads = []
        for number in range(5):
            done = back_up(ledger.store, tmp_path / f"copy-{number}.db")
            heads.append(done.events)
            was = site.last_position()
            wait_until(lambda was=was: site.last_position() > was or process.poll() is not None, "work went on", site)
        assert site.finish(process) == 0
        ledger.close()
    finally:
        site.close()
    with closing(sqlite3.connect(site.database)) as connection:
        final = connection.execute("SELECT * FROM stored_events ORDER BY rowid").fetchall()

    assert heads == sorted(heads) and heads[0] < len(final)
    for number, head in enumerate(heads):
        assert events(tmp_path / f"copy-{number}.db") == final[:head]
        copy = Ledger(f"sqlite:///{tmp_path}/copy-{number}.db")
        assert check(copy, is_deep=True).problems == []
        copy.close()


def test_a_copy_can_be_worked_on(tmp_path: Path) -> None:
    """A restored ledger goes on where the copy was made."""
    ledger = small(tmp_path)
    back_up(ledger.store, tmp_path / "copy.db")
    ledger.close()
    copy = Ledger(f"sqlite:///{tmp_path}/copy.db")
    added = copy.task(name="noop")(lambda number: None).enqueue(number=9)
    assert added.state == "waiting" and check(copy, is_deep=True).events == 4
    copy.close()


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    """An existing file stays as it is without force; with it, it becomes the copy, and keeps no other trace."""
    ledger, there = small(tmp_path), tmp_path / "there.db"
    there.write_bytes(b"mine")
    with pytest.raises(Conflict, match="--force"):
        back_up(ledger.store, there)
    assert there.read_bytes() == b"mine"
    done = back_up(ledger.store, there, force=True)
    assert len(events(there)) == done.events == 3
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith((".", "there"))} == {"there.db"}
    ledger.close()


@pytest.mark.parametrize("how", ["itself", "symlink", "hardlink"])
def test_the_ledger_itself_is_no_target(tmp_path: Path, how: str) -> None:
    """By whatever name, also with force."""
    ledger, target = small(tmp_path), tmp_path / "work.db"
    if how != "itself":
        target = tmp_path / "other.db"
        (target.symlink_to if how == "symlink" else target.hardlink_to)(tmp_path / "work.db")
    with pytest.raises(InvalidOption, match="the ledger itself"):
        back_up(ledger.store, target, force=True)
    assert check(ledger).events == 3
    ledger.close()


def test_a_file_in_use_is_no_target(tmp_path: Path) -> None:
    """The write-ahead log of an open database would be applied to the copy: refused, also with force."""
    ledger, other = small(tmp_path), small(tmp_path, "other.db", tasks=2)
    with pytest.raises(Conflict, match="in use"):
        back_up(ledger.store, tmp_path / "other.db", force=True)
    assert check(other).events == 2
    ledger.close()
    other.close()


def test_targets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """No such directory, a directory in its place, a ledger in memory, and a ledger that does not exist."""
    ledger = small(tmp_path)
    with pytest.raises(StorageUnavailable, match="no directory"):
        back_up(ledger.store, tmp_path / "none" / "copy.db")
    with pytest.raises(Conflict, match="is a directory"):
        back_up(ledger.store, tmp_path, force=True)
    with pytest.raises(InvalidOption, match="in memory"):
        back_up(Ledger("memory:").store, tmp_path / "copy.db")
    with pytest.raises(StorageUnavailable, match="no ledger"):
        back_up(Ledger(f"sqlite:///{tmp_path}/none.db").store, tmp_path / "copy.db")
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["work.db"]
    ledger.close()


def _little_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def test_without_room_the_old_copy_stays(tmp_path: Path) -> None:
    """Where the copy cannot be written whole, the command ends with 5, and the earlier copy is as it was."""
    ledger = small(tmp_path)
    back_up(ledger.store, tmp_path / "copy.db")
    before = (tmp_path / "copy.db").read_bytes()
    noop = ledger.functions["noop"]
    ledger.enqueue_many(noop.call(number=number) for number in range(2_000))
    ledger.close()
    command = [sys.executable, "-m", "runner.cli", "--url", ledger.url, "db", "backup", "copy.db", "--force"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, preexec_fn=_little_room, check=False
    )
    assert done.returncode == 5 and done.stderr.startswith("error: "), done
    assert (tmp_path / "copy.db").read_bytes() == before
    assert not list(tmp_path.glob(".copy*"))


def test_a_copy_of_a_damaged_ledger_is_not_kept(tmp_path: Path) -> None:
    """What is not intact is said, and no copy of it takes the place of a good one."""
    ledger = small(tmp_path, tasks=2_000)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "work.db")) as connection:
        page = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_stored_events_1'"
        ).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with open(tmp_path / "work.db", "r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    with pytest.raises(StorageUnavailable):
        back_up(ledger.store, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy*"))
    ledger.close()


def test_what_only_the_check_of_the_copy_finds_is_enough(tmp_path: Path) -> None:
    """Every event can be read, and still the file is not sound: the copy is not kept."""
    ledger = small(tmp_path)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "work.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'state BLOB NOT NULL', 'state BLOB CHECK (length(state) < 5)')"
        )
    with pytest.raises(StorageUnavailable, match="not equal to the ledger and was deleted"):
        back_up(ledger.store, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy*"))
    ledger.close()
