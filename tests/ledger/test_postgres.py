"""The log on PostgreSQL: what the server must promise, what it refuses, and what happens when it goes away."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking

from ledger.errors import Conflict, InvalidOption, StorageUnavailable
from ledger.events import Event, KeyReleased
from ledger.postgres import PostgresStore
from ledger.postgres_clock import DatabaseClock
from ledger.postgres_connection import MOST_CONNECTIONS
from ledger.stores import open_store
from tests.databases import Server, psycopg_url
from tests.ledger.proxy import Proxy

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(stream: str, version: int = 1, command: str = "act") -> Event:
    return KeyReleased(
        originator_id=stream, originator_version=version, command=command, at=AT, actor="user:a", task="t"
    )


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    opened.prepare()
    yield opened
    opened.close()


def append(store: PostgresStore, *events: Event) -> list[int]:
    with store.extend() as appender:
        return appender.append(events)


def positions(store: PostgresStore) -> list[int]:
    with store.read() as snapshot:
        return [raw[0] for raw in snapshot.events_after(0, 1_000_000)]


def sql(store: PostgresStore, *statements: str) -> list[tuple[Any, ...]]:
    """Run SQL as the owner; return the rows of the last."""
    with psycopg.connect(**store.address.parameters, autocommit=True) as connection:
        connection.execute(f"SET search_path = {store.schema}")
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


# What the server must promise


def test_a_server_that_forgets_is_refused(own_server: Server) -> None:
    """A server or database that would acknowledge what is not on disk is refused with the setting's name."""
    forgetful = {
        "fsync is off": ("SYSTEM", "fsync"),
        "full_page_writes off": ("SYSTEM", "full_page_writes"),
        "synchronous_commit off": ("DATABASE postgres", "synchronous_commit"),
    }
    store = PostgresStore(own_server.url)
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        for says, (place, name) in forgetful.items():
            connection.execute(f"ALTER {place} SET {name} = off")
            own_server.control("reload")
            with pytest.raises(StorageUnavailable, match=says):
                while True:  # a reload takes effect a moment later
                    store.close()
                    with store.write():
                        pass
            connection.execute(f"ALTER {place} RESET {name}")


def test_a_session_that_forgets_still_waits_for_the_disk(store: PostgresStore) -> None:
    """Whatever state a pooler's session was left in, an append is committed synchronously."""
    with psycopg.connect(**store.address.parameters) as connection:
        connection.execute(f"SET search_path = {store.schema}")
        connection.execute("SET synchronous_commit = off")
        connection.commit()
        connection.execute("SELECT append_events(ARRAY['key:1'], ARRAY[1], ARRAY['KeyReleased.v1'], ARRAY[''::bytea])")

        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        connection.commit()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_a_database_of_another_encoding_is_refused(postgres_server: str) -> None:
    """Text that the database would not keep as it is, is refused before there is any."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        try:
            store = PostgresStore(psycopg_url(postgres_server, "ascii"))
            with pytest.raises(StorageUnavailable, match="encoding is SQL_ASCII"), store.write():
                pass
        finally:
            connection.execute("DROP DATABASE ascii")


def test_the_librarys_unlocked_functions_are_refused(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> None:
    """With POSTGRES_ENABLE_DB_FUNCTIONS no ledger is opened: appends by them would be skipped by readers."""
    for value in ("yes", "1", "True"):
        monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", value)
        with pytest.raises(InvalidOption, match="POSTGRES_ENABLE_DB_FUNCTIONS"):
            open_store(postgres_url)
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "no")
    open_store(postgres_url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql:///db?nonsense=1", "invalid URI query parameter"),
        ("postgresql://host:no/db", "invalid"),
        ("postgresql:///db?schema=pg_mine", "schema 'pg_mine'"),
        ('postgresql:///db?schema=a"b', "schema"),
        ("postgresql:///db?schema=", "schema ''"),
    ],
)
def test_a_url_that_cannot_be_used_is_said(url: str, says: str) -> None:
    """What is wrong with a URL is said when the ledger is made, before any connection."""
    with pytest.raises(InvalidOption, match=says):
        open_store(url)


def test_what_stands_in_the_way_is_said_at_once_and_without_password(postgres_server: str) -> None:
    """No such database, no server: the first use says so; the password of the URL is in no message."""
    with_password = postgres_server.replace("postgres:@", "postgres:secret@")
    for url, says in (
        (psycopg_url(with_password, "nowhere"), 'database "nowhere" does not exist'),
        ("postgresql://me:secret@/db?host=/nowhere", "No such file or directory"),
        ("postgresql://me@/db?host=/nowhere&password=secret", "No such file or directory"),
    ):
        store = PostgresStore(url)
        with pytest.raises(StorageUnavailable, match=says) as caught, store.read():
            pass
        assert "secret" not in str(caught.value) and "secret" not in store.shown


# What is refused


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET topic = 'x'",
        "DELETE FROM stored_events",
        "DELETE FROM stored_events WHERE notification_id = 999",
        "TRUNCATE stored_events",
        "INSERT INTO stored_events VALUES ('key:1', 1, 'x', '', 9) ON CONFLICT (originator_id, originator_version)"
        " DO UPDATE SET topic = 'x'",
        "SET session_replication_role = replica; DELETE FROM stored_events",
        "INSERT INTO stored_events VALUES ('key:9', 1, 'x', '', 0)",
        "INSERT INTO stored_events VALUES ('key:9', 1, 'x', '', 1)",
    ],
)
def test_stored_events_cannot_be_changed(store: PostgresStore, statement: str) -> None:
    """Every way to change or replace an event by SQL is refused by the database itself, to its owner too."""
    append(store, event("key:1"), event("key:2"))
    before = sql(store, "SELECT * FROM stored_events")

    with pytest.raises(psycopg.errors.IntegrityError, match=r"immutable|check constraint|duplicate key"):
        sql(store, statement)
    assert sql(store, "SELECT * FROM stored_events") == before
    assert store.damage() == []
    sql(store, "ALTER TABLE stored_events DISABLE TRIGGER USER")
    assert store.damage() == ["the trigger that refuses changes of events is missing or disabled"]


def test_tables_of_another_program_are_left_alone(store: PostgresStore, postgres_database: str) -> None:
    """A schema that has tables already is refused, and nothing is made in it; an empty one will do."""
    sql(store, "CREATE SCHEMA theirs", "CREATE TABLE theirs.queue (x text)", "CREATE SCHEMA empty")
    theirs, empty = (PostgresStore(f"{postgres_database}&schema={name}") for name in ("theirs", "empty"))

    with pytest.raises(StorageUnavailable, match="tables of another program"):
        theirs.prepare()
    assert sql(store, "SELECT count(*) FROM pg_class WHERE relnamespace = 'theirs'::regnamespace") == [(1,)]
    empty.prepare()
    assert append(empty, event("key:1")) == [1]
    for one in (theirs, empty):
        one.close()


def test_a_schema_of_a_newer_version_is_refused(store: PostgresStore) -> None:
    """What a newer version has made is not touched by this one."""
    sql(store, "CREATE OR REPLACE FUNCTION schema_version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 99'")

    with pytest.raises(StorageUnavailable, match="has schema 99; this version of workledger knows up to"):
        PostgresStore(store.url).prepare()


def test_two_ledgers_share_a_database(store: PostgresStore, postgres_database: str) -> None:
    """Each schema is a ledger of its own: events, positions, and turns, which do not wait for each other."""
    other = PostgresStore(f"{postgres_database}&schema=other")
    with store.write() as unit:
        unit.append([event("key:1"), event("key:2")])
        append(other, event("key:1"))
        with other.write(wait_seconds=5) as theirs:
            assert theirs.append([event("key:2")]) == [2]

        assert other.order.settle(other.datastore._opened().getconn()) == 2
    other.close()
    assert positions(store) == [1, 2]


def test_the_time_is_the_databases(store: PostgresStore) -> None:
    """Also an append alone has the database's time, however wrong this host's is; it is asked for anew each minute."""
    store.close()
    store = PostgresStore(store.url)
    clock = store.clock
    assert isinstance(clock, DatabaseClock) and not clock.is_fresh()
    with store.extend() as appender:
        [(there,)] = sql(store, "SELECT clock_timestamp()")
        assert abs(appender.now - there) < timedelta(seconds=30)
    assert clock.is_fresh()
    clock.learn(0)
    with store.extend() as appender:
        assert appender.now.year == 1970, "between contacts it goes on from what the database has shown"
        appender.append([event("key:1")])
    for way in (store.read, store.write, store.extend):
        with way() as one:
            assert abs(one.now - there) < timedelta(seconds=30)
    store.close()


def test_a_view_does_not_pass_what_others_append_meanwhile(store: PostgresStore) -> None:
    """A unit's checkpoint stops before the first event of somebody else among its own: none is passed unfolded."""
    with store.write() as unit:
        unit.append([event("key:1"), event("key:1", 2)])
        with ThreadPoolExecutor(1) as pool:
            pool.submit(append, store, event("key:2")).result(30)
        unit.append([event("key:1", 3)])
        with pytest.raises(RuntimeError, match="pass_own"):
            unit.move_checkpoint("view", unit.head())
        unit.pass_own("view")

        assert unit.checkpoint("view") == 2
        assert [raw[1:3] for raw in unit.events_after(2, 10)] == [("key:2", 1), ("key:1", 3)]


# The library's recorder


def test_the_librarys_recorder_and_the_store_are_one_log(store: PostgresStore) -> None:
    """What either appends both read, in the same order; conflicts and checkpoints are the library's."""
    append(store, event("key:1"))
    stored = StoredEvent("key:2", 1, "KeyReleased.v1", b'{"task":"t"}')
    assert store.recorder.insert_events([stored], tracking=Tracking("view", 7)) == [2]
    with pytest.raises(IntegrityError):
        store.recorder.insert_events([stored])
    append(store, event("key:1", 2), event("key:3"))

    with store.read() as snapshot:
        raws = snapshot.events_after(0, 10)
        assert snapshot.checkpoint("view") == store.recorder.max_tracking_id("view") == 7
    notifications = store.recorder.select_notifications(None, 10)
    assert [(n.id, n.originator_id, n.originator_version, n.topic, n.state) for n in notifications] == raws
    assert [n.id for n in store.recorder.select_notifications(2, 10, stop=4)] == [2, raws[2][0]]
    assert [n.originator_id for n in store.recorder.select_notifications(None, 1, topics=["KeyReleased.v1"])] == [
        "key:1"
    ]
    assert [one.originator_version for one in store.recorder.select_events("key:1")] == [1, 2]
    assert store.recorder.max_notification_id() == raws[-1][0]


# Sessions


def test_nothing_is_left_in_a_session(store: PostgresStore) -> None:
    """After a transaction its session is as it was, since a pooler gives it to others: settings, locks, channels."""
    with store.write() as unit:
        unit.append([event("key:1")])
        unit.run("SELECT set_config('x.y', 'z', true)")
        [(timeout, path)] = unit.rows(
            "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('search_path')"
        )
        assert (timeout, path) == ("10s", f"{store.schema}, pg_temp")
    append(store, event("key:2"))
    connection = store.datastore.checkout()
    changed = connection.execute("SELECT name FROM pg_settings WHERE source = 'session'").fetchall()
    held = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ).fetchall()
    store.datastore.give_back(connection)

    assert changed == [] and held == [(0,)]


def test_parent_and_child_have_sessions_of_their_own(store: PostgresStore, tmp_path: Path) -> None:
    """After a fork neither speaks over the other's connections, also when the child closes its store and ends."""

    def sessions() -> set[int]:
        with ThreadPoolExecutor(3) as pool:  # more than one connection
            return {pid for pids in pool.map(lambda _: session(store), range(9)) for pid in pids}

    before = sessions()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            append(store, event("key:1"))
            (tmp_path / "sessions").write_text(" ".join(map(str, sessions())))
            store.close()
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    of_the_child = set(map(int, (tmp_path / "sessions").read_text().split()))
    assert of_the_child and not of_the_child & (before | session(store))
    assert append(store, event("key:1", 2)) == [2]


def session(store: PostgresStore) -> set[int]:
    with store.read() as snapshot:
        return {row[0] for row in snapshot.rows("SELECT pg_backend_pid()")}


def test_a_transaction_that_was_passed_over_an_error_is_not_acknowledged(store: PostgresStore) -> None:
    """Who catches the driver's error inside a unit is told that nothing was stored."""
    with pytest.raises(StorageUnavailable, match="passed over"), store.write() as unit:
        unit.append([event("key:1")])
        try:
            unit.run("SELECT 1 / 0")
        except psycopg.Error:
            pass

    assert positions(store) == []


def test_more_threads_than_connections(store: PostgresStore) -> None:
    """Threads beyond the pool's connections wait their turn; none fails."""
    with ThreadPoolExecutor(3 * MOST_CONNECTIONS) as pool:
        found = list(pool.map(lambda n: append(store, event(f"key:{n}")), range(6 * MOST_CONNECTIONS)))

    assert len({position for [position] in found}) == 6 * MOST_CONNECTIONS


# Trouble


def test_connections_ended_by_the_server_are_replaced(store: PostgresStore) -> None:
    """Idle connections that the server has ended are no reason to fail: reading, writing and appending go on."""
    ways: list[Callable[[int], object]] = [
        lambda n: append(store, event(f"key:{n}")),
        lambda n: positions(store),
        lambda n: write(store, event(f"key:{n}")),
        lambda n: store.data_version(),
    ]
    for number, way in enumerate(ways):
        positions(store)
        assert sql(store, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                          " WHERE datname = current_database() AND pid <> pg_backend_pid()") > [(0,)]  # fmt: skip
        way(number)

    assert len(positions(store)) == 2


def test_connections_ended_before_their_first_use_are_replaced(store: PostgresStore) -> None:
    """What the pool has opened and nobody has used yet may be gone too: each is passed over for another."""
    pool = store.datastore._opened()
    connections = [pool.getconn() for _ in range(4)]
    pids = [connection.info.backend_pid for connection in connections]
    assert sum(not connection.is_checked for connection in connections) >= 3
    for connection in connections:
        pool.putconn(connection)
    sql(store, f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{pids}) AS pid")
    while sql(store, f"SELECT 1 FROM pg_stat_activity WHERE pid = ANY(ARRAY{pids})"):
        pass

    assert append(store, event("key:1")) == positions(store)


def write(store: PostgresStore, *events: Event) -> list[int]:
    with store.write() as unit:
        return unit.append(events)


def test_a_unit_whose_connection_is_lost_stores_nothing(store: PostgresStore) -> None:
    """A connection that ends inside a transaction is a StorageUnavailable, and the next transaction has another."""
    with pytest.raises(StorageUnavailable), store.write() as unit:
        unit.append([event("key:1")])
        [(pid,)] = unit.rows("SELECT pg_backend_pid()")
        sql(store, f"SELECT pg_terminate_backend({pid})")
        unit.append([event("key:2")])

    assert positions(store) == []
    write(store, event("key:1"))
    assert len(positions(store)) == 1


def test_a_commit_whose_answer_is_lost_is_found_stored(store: PostgresStore) -> None:
    """The socket is cut right after COMMIT was forwarded: the unit ends well, and its event is stored once."""
    with Proxy(store.address.parameters) as proxy, closing_store(proxy.url(store)) as through:
        with through.write() as unit:
            unit.append([event("key:1"), event("key:2")])
            proxy.cut_after(b"COMMIT")
        assert proxy.cuts == 1

    assert len(positions(store)) == 2


def test_a_commit_that_never_arrived_is_found_not_stored(store: PostgresStore) -> None:
    """The socket is cut instead of forwarding COMMIT: an error that says so, and nothing stored."""
    with Proxy(store.address.parameters) as proxy, closing_store(proxy.url(store)) as through:
        with pytest.raises(StorageUnavailable), through.write() as unit:
            unit.append([event("key:1")])
            proxy.cut_before(b"COMMIT")
        assert proxy.cuts == 1

    assert positions(store) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_append_whose_answer_is_lost_is_stored_once(store: PostgresStore, when: str) -> None:
    """The socket is cut before or after an append was forwarded: it is said again, and stored once."""
    with Proxy(store.address.parameters) as proxy, closing_store(proxy.url(store)) as through:
        append(through, event("key:0"))
        for number in range(1, 6):
            (proxy.cut_before if when == "before" else proxy.cut_after)(b"key:")
            assert append(through, event(f"key:{number}"), event(f"key:{number}", 2)) == positions(store)[-2:]
        assert proxy.cuts == 5

    assert len(positions(store)) == 11


def test_an_append_that_somebody_else_made_meanwhile_is_a_conflict(store: PostgresStore) -> None:
    """Said again after a lost answer, an append meets somebody else's event: that is no success."""
    with Proxy(store.address.parameters) as proxy, closing_store(proxy.url(store)) as through:
        append(through, event("key:0"))
        proxy.cut_before(b"key:", then=lambda: append(store, event("key:1", command="other")))
        with pytest.raises(Conflict, match="key:1 has a version 1 already"):
            append(through, event("key:1"))

    assert len(positions(store)) == 2


def closing_store(url: str) -> Any:
    from contextlib import closing

    return closing(PostgresStore(url))


def test_an_append_that_is_the_victim_of_a_deadlock_is_said_again(store: PostgresStore) -> None:
    """Another program's transaction locks crosswise: the append gives way, tries again, and is stored once."""
    with psycopg.connect(**store.address.parameters) as other:
        other.execute(f"SET search_path = {store.schema}")
        other.execute("SET deadlock_timeout = '60s'")  # it is the append that finds the deadlock and gives way
        insert = "INSERT INTO stored_events VALUES ('{}', 1, 'KeyReleased.v1', '', nextval('positions'))"
        other.execute(insert.format("key:b"))
        with ThreadPoolExecutor(1) as pool:
            appending = pool.submit(append, store, event("key:a"), event("key:b"))
            while not sql(store, "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                pass
            other.execute(insert.format("key:a"))
            other.rollback()
            appending.result(30)

    assert len(positions(store)) == 2


def test_appends_of_the_same_streams_do_not_lock_crosswise(
    store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    """An append takes its streams in order, whatever order they are given in: two that meet end one after the other."""
    with psycopg.connect(**store.address.parameters) as other:
        other.execute(f"SET search_path = {store.schema}")
        call = "SELECT append_events(ARRAY['{}'], ARRAY[1], ARRAY['KeyReleased.v1'], ARRAY[''::bytea])"
        other.execute(call.format("key:a"))
        with ThreadPoolExecutor(1) as pool:
            appending = pool.submit(append, store, event("key:b"), event("key:a"))
            while not sql(store, "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                pass
            other.execute(call.format("key:b"))
            other.commit()
            with pytest.raises(Conflict, match=r"key:[ab] has a version 1 already"):
                appending.result(30)

    assert len(positions(store)) == 2
    assert not caplog.records, "neither had to give way"


def test_a_server_that_crashes_under_load_loses_and_doubles_nothing(own_server: Server) -> None:
    """Immediate stops and restarts while threads append: each acknowledged append is stored once, in units too."""
    store = PostgresStore(own_server.url)
    store.prepare()
    crashes, is_over = 3, threading.Event()

    def produce(name: str, way: Callable[..., list[int]]) -> dict[int, str]:
        acknowledged = {}
        number = 0
        while not is_over.is_set():
            number += 1
            try:
                acknowledged[way(store, event(f"key:{name}-{number}"))[0]] = f"key:{name}-{number}"
            except StorageUnavailable:
                pass
        return acknowledged

    with ThreadPoolExecutor(6) as pool:
        producing = [pool.submit(produce, f"{n}", append if n % 2 else write) for n in range(6)]
        for _ in range(crashes):
            before = -1
            while len(found := positions(store)) < before + 50 or before < 0:  # it works, again
                before = len(found) if before < 0 else before
            own_server.stop("immediate")
            own_server.start()
        is_over.set()
        acknowledged = [item for one in producing for item in one.result(60).items()]
    with store.read() as snapshot:
        stored = [(raw[0], raw[1]) for raw in snapshot.events_after(0, 1_000_000)]
    store.close()

    assert len({stream for _, stream in stored}) == len(stored) >= crashes * 50
    assert set(acknowledged) <= set(stored)


def test_a_follower_on_a_standby_refuses(own_server: Server) -> None:
    """A standby does not show who is about to append: streams can be read there, the log not followed, nothing written."""
    store = PostgresStore(own_server.url)
    write(store, event("key:1"))
    store.close()
    own_server.stop("fast")
    data = own_server.place / "data"
    (data / "standby.signal").touch()
    shutil.chown(data / "standby.signal", data.owner(), data.group())
    own_server.start()

    with store.read() as snapshot:
        assert len(snapshot.stream("key:1")) == 1
    with pytest.raises(StorageUnavailable, match="is a standby"), store.read() as snapshot:
        snapshot.events_after(0, 10)
    with pytest.raises(StorageUnavailable, match="only reads"):
        write(store, event("key:2"))
    store.close()
