"""Roles on PostgreSQL: the one that works can do its work and change no event, the other can only look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest

from ledger import Ledger, StorageUnavailable
from ledger.postgres_address import address_of
from ledger.testing import run_queue
from projections import queue, schedules
from tests.invoking import invoke

APP, REPORT = f'workledger test "app" {os.getpid()}', f"workledger_test_report_{os.getpid()}"


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    address = address_of(url)
    connection = psycopg.connect(**address.parameters, autocommit=True)
    connection.execute(f"SET search_path = {address.schema}")
    return connection


def as_role(url: str, role: str) -> str:
    """The same ledger for another role."""
    escaped = role.replace("\\", "\\\\").replace(" ", "\\ ")
    return f"{url}&options={quote(f'-c role={escaped}')}"


def declared(url: str) -> Ledger:
    ledger = Ledger(url)
    ledger.task(name="add")(lambda a: a)
    ledger.schedule("* * * * *", name="often", component="mail")(lambda: None)
    return ledger


@pytest.fixture
def granted(postgres_url: str) -> Iterator[str]:
    """A ledger with two roles beside its owner, that have what the command says and no more."""
    call("db", "init", url=postgres_url)
    script = call("db", "grants", "--app-role", APP, "--report-role", REPORT, url=postgres_url)
    with connect(postgres_url) as connection:
        for role in (APP, REPORT):
            connection.execute('CREATE ROLE "{}"'.format(role.replace('"', '""')))
        connection.execute(script)
        yield postgres_url
        for role in (APP, REPORT):
            quoted = role.replace('"', '""')
            connection.execute(f'DROP OWNED BY "{quoted}"')
            connection.execute(f'DROP ROLE "{quoted}"')


def call(*words: str, url: str, code: int = 0) -> str:
    result = invoke(["--url", url, *words])
    assert result.exit_code == code, result.output
    return result.output


def test_the_app_role_does_all_the_work(granted: str) -> None:
    """Queue, work, cancel, schedules, heartbeats, views: nothing of it needs the owner's rights."""
    ledger = declared(as_role(granted, APP))
    done, cancelled = (ledger.enqueue(ledger.functions["add"].call(a=n)) for n in range(2))
    ledger.cancel(cancelled.id, reason="test")
    with connect(as_role(granted, APP)) as connection:
        own = ledger.functions["add"].using(connection=connection).enqueue(3)
    ledger.schedules.register()
    ledger.schedules.run_now("often", reason="test")
    run_queue(ledger)
    ledger.schedules.disable_component("mail", reason="test")

    assert (done.state, cancelled.state, own.state) == ("succeeded", "cancelled", "succeeded")
    assert queue.verify(ledger) == schedules.verify(ledger) == []
    ledger.close()


def test_a_role_may_queue_in_its_transactions_and_nothing_else(granted: str) -> None:
    """INSERT on the inbox is all that it needs beside the schema's USAGE; it cannot read what others have queued."""
    quoted = REPORT.replace('"', '""')
    ledger = declared(as_role(granted, APP))
    with connect(granted) as owner:
        owner.execute(f'GRANT INSERT ON inbox TO "{quoted}"')
    with connect(as_role(granted, REPORT)) as connection:
        task = ledger.functions["add"].using(connection=connection).enqueue(3)
        for statement in ("SELECT * FROM inbox", "DELETE FROM inbox", "UPDATE inbox SET error = NULL"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    run_queue(ledger)

    assert task.state == "succeeded"
    ledger.close()


FORBIDDEN = [
    "UPDATE stored_events SET topic = 'x'",
    "DELETE FROM stored_events",
    "TRUNCATE stored_events",
    "ALTER TABLE stored_events DISABLE TRIGGER ALL",
    "DROP TRIGGER stored_events_are_immutable ON stored_events",
    "DROP TABLE stored_events",
    "SELECT setval('positions', 1)",
    "CREATE OR REPLACE FUNCTION lock_key() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
    "INSERT INTO stored_events SELECT * FROM stored_events ON CONFLICT (notification_id) DO UPDATE SET topic = 'x'",
    "SET session_replication_role = replica",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("role", [APP, REPORT], ids=["app", "report"])
def test_no_such_role_can_change_an_event(granted: str, role: str, statement: str) -> None:
    """Whatever it tries, the database says that it lacks the right."""
    ledger = declared(granted)
    ledger.enqueue(ledger.functions["add"].call(a=1))
    ledger.close()
    with connect(as_role(granted, role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_report_role_looks_and_does_nothing(granted: str) -> None:
    """It reads the log and the live rows; it cannot queue, nor read what attempts printed."""
    ledger = declared(granted)
    task = ledger.enqueue(ledger.functions["add"].call(a=1))
    queue.catch_up_all(ledger)
    ledger.close()
    with connect(as_role(granted, REPORT)) as connection:
        assert connection.execute("SELECT position, stream FROM events").fetchall() == [(1, f"task:{task.id}")]
        assert connection.execute("SELECT task_id FROM queue").fetchall() == [(task.id,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM output")
    reading = declared(as_role(granted, REPORT))
    with pytest.raises(StorageUnavailable, match="lacks a right"):
        reading.enqueue(reading.functions["add"].call(a=1))
    reading.close()


def test_a_file_has_no_roles() -> None:
    """`db grants` is refused for a ledger in a file."""
    assert "for a ledger on PostgreSQL" in call(
        "db", "grants", "--app-role", "a", "--report-role", "b", url="sqlite:///work.db", code=2
    )
