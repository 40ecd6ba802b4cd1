"""A ledger copied between SQLite and PostgreSQL: the same log, byte for byte, and a ledger that can be worked on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from ledger import Ledger
from ledger.postgres_address import address_of
from ledger.sqlite import path_of
from ledger.testing import run_queue
from projections import queue
from runner.check import check
from tests.databases import execute, with_schema
from tests.faults.setup import wait_until
from tests.invoking import invoke

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["to postgres", "to sqlite", "to its like"])
def urls(request: pytest.FixtureRequest, tmp_path: Path, postgres_database: str) -> tuple[str, str]:
    """The URL of a ledger and where to copy it."""
    files = f"sqlite:///{tmp_path}/work.db", f"sqlite:///{tmp_path}/copy.db"
    schemas = with_schema(postgres_database), with_schema(postgres_database)
    return {
        "to postgres": (files[0], schemas[1]),
        "to sqlite": (schemas[0], files[1]),
        "to its like": schemas,
    }[request.param]


@pytest.fixture
def source(urls: tuple[str, str]) -> Iterator[Ledger]:
    """A ledger with tasks in every state, output, a schedule, a limit and, where positions are drawn, holes."""
    ledger = declared(urls[0])
    tasks = ledger.enqueue_many(ledger.functions["say"].using(unique=str(n)).call(f"wörd {n}") for n in range(30))
    ledger.functions["say"].using(run_after=None).enqueue("fail")
    ledger.cancel(tasks[3].id, reason="test")
    ledger.controls.set_limit("task:say", 3, reason="test")
    ledger.schedules.register()
    if urls[0].startswith("postgresql"):
        execute(ledger, "SELECT nextval('positions'), nextval('positions')")
    run_queue(ledger, max_tasks=20)
    if urls[0].startswith("postgresql"):
        execute(ledger, "SELECT nextval('positions')")
    ledger.enqueue(ledger.functions["say"].call("last"))
    yield ledger
    ledger.close()


def declared(url: str) -> Ledger:
    ledger = Ledger(url)
    ledger.store.prepare()

    @ledger.task(name="say", retry=False)
    def say(word: str) -> str:
        if word == "fail":
            raise ValueError(word)
        return word

    ledger.schedule("0 3 * * *", name="nightly")(lambda: None)
    return ledger


def copied(*words: str, code: int = 0) -> str:
    result = invoke(["db", "copy", *words])
    assert result.exit_code == code, result.output
    return result.output


def log_of(url: str) -> list[tuple[object, ...]]:
    """Every event as it is stored, read without the ledger."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(path_of(url))) as connection:
            return connection.execute(
                "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events ORDER BY 1"
            ).fetchall()
    columns = "notification_id, originator_id, originator_version, topic, state"
    with psycopg.connect(**address_of(url).parameters) as connection:
        return connection.execute(f"SELECT {columns} FROM {address_of(url).schema}.stored_events ORDER BY 1").fetchall()


def sha256(rows: list[tuple[object, ...]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        for part in row:
            data = part if isinstance(part, bytes) else str(part).encode()
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def test_a_copy_is_the_same_ledger(urls: tuple[str, str], source: Ledger) -> None:
    """The same events at the same positions, holes too, the same digest and tasks; and work goes on with the copy."""
    found = json.loads(copied(*urls, "-o", "json"))
    log = log_of(urls[0])

    assert log == log_of(urls[1])
    assert found == {"events": len(log), "position": log[-1][0], "sha256": sha256(log), "left_behind": 0}
    assert (log[-1][0] > len(log)) == urls[0].startswith("postgresql")
    copy = declared(urls[1])
    assert check(copy, is_deep=True).problems == []
    with source.store.read() as ours, copy.store.read() as theirs:
        assert queue.fold_log(ours) == queue.fold_log(theirs)
    new = copy.enqueue(copy.functions["say"].call("new"))
    run_queue(copy)
    assert new.state == "succeeded"
    assert log_of(urls[1])[: len(log)] == log
    assert check(copy, is_deep=True).problems == []
    copy.close()


def test_a_copy_goes_on_where_it_stopped_and_refuses_what_is_none(urls: tuple[str, str], source: Ledger) -> None:
    """A second time it has nothing to do; then it adds what is new; one that was worked on is refused and unchanged."""
    first = copied(*urls)
    assert copied(*urls) == first
    source.enqueue(source.functions["say"].call("more"))
    assert copied(*urls) != first
    assert log_of(urls[0]) == log_of(urls[1])

    copy = declared(urls[1])
    copy.enqueue(copy.functions["say"].call("of its own"))
    copy.close()
    before = log_of(urls[1])
    assert "worked on since" in copied(*urls, code=4)
    source.enqueue(source.functions["say"].call("another"))
    assert "is no copy of" in copied(*urls, code=4)
    assert log_of(urls[1]) == before
    assert "the same ledger" in copied(urls[0], urls[0], code=2)


def test_kept_output_is_copied_too(urls: tuple[str, str], source: Ledger) -> None:
    """Also what is printed later, and what is pruned later is gone; that the log says the same of it `db check` finds."""
    put_output(source, "a" * 64, 1, b"one", b"two")
    copied(*urls)
    put_output(source, "b" * 64, 1, b"three")
    execute(source, f"DELETE FROM output WHERE task_id = '{'a' * 64}' AND chunk = 1")
    copied(*urls)

    copy = Ledger(urls[1])
    with source.store.read() as ours, copy.store.read() as theirs:
        ours.head(), theirs.head()
        for table in ("output", "output_attempts"):
            statement = f"SELECT * FROM {table} ORDER BY 1, 2, 3"
            assert plain(theirs.rows(statement)) == plain(ours.rows(statement)) != []
    copy.close()


def plain(rows: list[tuple[object, ...]]) -> list[list[object]]:
    return [[bytes(value) if isinstance(value, memoryview) else value for value in row] for row in rows]


def put_output(ledger: Ledger, task_id: str, attempt: int, *bodies: bytes) -> None:
    hexed = "'\\x{}'::bytea" if ledger.url.startswith("postgresql") else "x'{}'"
    values = [f"('{task_id}', {attempt}, {n}, {hexed.format(body.hex())})" for n, body in enumerate(bodies)]
    execute(
        ledger,
        f"INSERT INTO output VALUES {', '.join(values)}",
        f"INSERT INTO output_attempts VALUES ('say', 7, '{task_id}', {attempt})",
    )


def test_a_running_source_is_followed_until_stopped(urls: tuple[str, str], source: Ledger) -> None:
    """While others append to it, also by its inbox, the copy keeps up; a signal ends it with the proof."""
    command = [sys.executable, "-m", "runner.cli", "db", "copy", *urls, "--follow"]
    follower = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    try:
        for n in range(3):
            source.enqueue(source.functions["say"].call(n))
            last = log_of(urls[0])[-1]
            wait_until(lambda last=last: has(urls[1], last), "the copy has it")
        follower.send_signal(signal.SIGTERM)
        out = follower.communicate(timeout=60)[0].decode()
    finally:
        follower.kill()
        follower.wait()

    assert follower.returncode == 0
    assert re.search(r"SHA-256 of both logs (\w+)", out)[1] == sha256(log_of(urls[1]))  # type: ignore[index]
    assert log_of(urls[0]) == log_of(urls[1])


def has(url: str, event: tuple[object, ...]) -> bool:
    try:
        return event in log_of(url)
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False


def test_a_copy_that_is_killed_goes_on(tmp_path: Path, postgres_url: str) -> None:
    """Killed at any moment it leaves a beginning of the log, from which the next one goes on."""
    url = f"sqlite:///{tmp_path}/work.db"
    ledger = declared(url)
    ledger.enqueue_many(ledger.functions["say"].call(n) for n in range(20_000))
    ledger.close()
    command = [sys.executable, "-m", "runner.cli", "db", "copy", url, postgres_url]
    copying = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    log = log_of(url)
    wait_until(lambda: has(postgres_url, log[0]), "it has begun")
    copying.kill()
    copying.wait()
    half = log_of(postgres_url)

    assert half == log[: len(half)]
    copied(url, postgres_url)
    assert log_of(postgres_url) == log


APP = """
from ledger import Ledger

ledger = Ledger("sqlite:///work.db")


@ledger.task
def add(a, b):
    return a + b
"""


def test_the_move_that_the_readme_shows(tmp_path: Path, postgres_url: str) -> None:
    """Its three commands, said as they stand but for the server, take a ledger with running workers along."""
    [block] = re.findall(r"in three commands.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = block.replace("postgresql://owner@db.example.org/work?schema=jobs", postgres_url).splitlines()
    assert len(commands) == 3
    (tmp_path / "tasks.py").write_text(APP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def shell(command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, shell=True, cwd=tmp_path, env=environment)

    before = Ledger(f"sqlite:///{tmp_path}/work.db")
    before.store.prepare()
    before.task(name="add")(lambda a, b: a + b)
    done, later = before.functions["add"].enqueue(1, 2), before.functions["add"].using(priority=-1)
    run = shell("workledger --app tasks:ledger run")
    wait_until(lambda: done.state == "succeeded", "it works on the file")
    assert shell(commands[0]).wait(60) == 0
    assert run.wait(60) == 0
    left = later.enqueue(3, 4)
    assert shell(commands[1]).wait(60) == 0
    assert shell(f"{commands[2]} --drain").wait(60) == 0
    before.close()

    after = Ledger(postgres_url)
    assert [after.get(task.id).result() for task in (done, left)] == [3, 7]
    assert after.get(done.id).events == before.get(done.id).events
    before.close()
    after.close()
