"""Queueing in the caller's own transaction: there exactly when and if it commits, over every kind of connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import django.db
import psycopg
import pytest
import sqlalchemy
from django.db import transaction
from django.utils.connection import ConnectionProxy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from ledger import (
    IdentityNotFound,
    InvalidOption,
    Ledger,
    NotFound,
    NotTakenIn,
    PlainIdentities,
    StorageUnavailable,
    TaskEnded,
    inbox,
)
from ledger.postgres_address import address_of
from ledger.testing import ManualClock, memory_ledger, run_queue
from projections.listing import tasks
from projections.queue import catch_up_all, verify
from runner.check import check
from runner.vitals import gather
from tests.api.caller_kinds import OF_EACH, Kind, django_alias, of_driver
from tests.databases import execute, with_schema


@contextmanager
def application(url: str) -> Iterator[Ledger]:
    """A ledger with a task, and a table of the application's in its database."""
    ledger = Ledger(url)
    ledger.store.prepare()
    ran: list[Any] = []
    ledger.task(name="note", hide=["secret"])(lambda what, secret=None: ran.append(what) or what)
    ledger.ran = ran  # type: ignore[attr-defined]
    execute(ledger, "CREATE TABLE orders (id integer)")
    yield ledger
    ledger.close()


def orders(url: str) -> str:
    return "orders" if url.startswith("sqlite") else f"{address_of(url).schema}.orders"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with application(url) as made:
        yield made


@pytest.fixture(params=OF_EACH)
def caller(request: pytest.FixtureRequest, url: str, ledger: Ledger) -> Iterator[Kind]:
    """A connection of each kind to the database of the ledger."""
    kind = "driver" if request.param == "pool" and url.startswith("sqlite") else request.param
    with OF_EACH[kind](url) as made:
        yield made


def note(ledger: Ledger, **options: Any) -> Any:
    return ledger.functions["note"].using(**options)


def test_a_task_is_there_when_the_caller_has_committed(ledger: Ledger, caller: Kind, url: str) -> None:
    """Not before, nor an order without its task; then `get` gives it, waiting and without position, until it has run."""
    caller.execute(f"INSERT INTO {orders(url)} VALUES (7)")
    task = note(ledger, connection=caller.connection, reason="ordered", actor="ann", labels=["a"]).enqueue(7, "s")
    with pytest.raises(NotFound):
        ledger.get(task.id)
    before = ledger.clock.now()
    caller.commit()

    record = ledger.get(task.id).record
    assert (task.state, record.queued_position, task.events, task.attempts) == ("waiting", None, [], ())
    assert (record.queued.actor, record.queued.reason, record.queued.labels) == ("user:ann", "ordered", ["a"])
    assert (record.queued.args["what"], "s" in record.queued.args.values()) == (7, False)
    run_queue(ledger)
    queued = task.events[0]
    assert (task.state, task.result(), ledger.ran) == ("succeeded", 7, [7])  # type: ignore[attr-defined]
    assert queued.at == record.queued.at <= before
    assert (queued.actor, queued.reason) == ("user:ann", "ordered")
    assert caller.execute(f"SELECT id FROM {orders(url)}") == [(7,)]
    assert counts(ledger) == (0, 0)
    assert check(ledger, is_deep=True).problems == []


def test_a_rollback_leaves_nothing(ledger: Ledger, caller: Kind) -> None:
    """Neither one task nor many, also of a ledger that looks again later; what is committed after it is there."""
    gone = note(ledger, connection=caller.connection).enqueue(1)
    more = ledger.enqueue_many([note(ledger).call(2), note(ledger).call(3)], connection=caller.connection)
    caller.rollback()
    kept = note(ledger, connection=caller.connection).enqueue(4)
    caller.commit()
    run_queue(ledger)

    assert (ledger.ran, kept.state) == ([4], "succeeded")  # type: ignore[attr-defined]
    for task in (gone, *more):
        with pytest.raises(NotFound):
            ledger.get(task.id)
    with ledger.store.read() as snapshot:
        assert [raw[3] for raw in snapshot.events_after(0, 100) if raw[3] == "TaskQueued.v1"] == ["TaskQueued.v1"]


def test_many_calls_are_one_commit_of_the_callers(ledger: Ledger, caller: Kind) -> None:
    """In their order; the connection may stand at each call instead, but then it is the same one."""
    many = ledger.enqueue_many((note(ledger).call(n) for n in range(2_500)), connection=caller.connection)
    same = note(ledger, connection=caller.connection)
    few = ledger.enqueue_many([same.call(1), same.call(2)])
    caller.commit()
    with pytest.raises(InvalidOption, match="several connections"):
        ledger.enqueue_many([same.call(1), note(ledger).call(2)])
    catch_up_all(ledger)

    positions = [task.record.queued_position for task in [*many, *few]]
    assert None not in positions
    assert positions == sorted(positions)
    assert len({task.events[0].command for task in many}) == 2_500
    assert counts(ledger) == (0, 0)
    assert verify(ledger) == []


def test_a_duplicate_is_queued_and_cancelled_and_points_to_the_holder(ledger: Ledger, caller: Kind) -> None:
    """Of equal keys the first that is taken in wins, a live task before all; in one append, the reason names it."""
    live = note(ledger, unique="other").enqueue(3)
    first = note(ledger, unique="k", connection=caller.connection).enqueue(1)
    second = note(ledger, unique="k", connection=caller.connection).enqueue(2)
    third = note(ledger, unique="other", connection=caller.connection).enqueue(4)
    caller.commit()
    assert [one.state for one in (first, second, third)] == ["waiting"] * 3
    catch_up_all(ledger)

    assert [one.state for one in (first, second, third, live)] == ["waiting", "cancelled", "cancelled", "waiting"]
    assert (second.duplicate_of, third.duplicate_of, first.duplicate_of) == (first.id, live.id, None)
    queued, cancelled = second.events
    assert cancelled.reason == f"task {first.id} holds its unique key"
    assert queued.command == cancelled.command
    with pytest.raises(TaskEnded, match=first.id):
        second.result()
    run_queue(ledger)
    assert ledger.retry(second.id, reason="test").duplicate_of is None
    assert check(ledger, is_deep=True).problems == []


def test_a_duplicate_may_move_the_holder(ledger: Ledger) -> None:
    """With on_duplicate="reschedule" the waiting holder is moved when the row is taken in; that is asked for then."""
    later = timedelta(hours=2)
    with of_driver(ledger.url) as caller:
        holder = note(ledger, unique="k", run_after=timedelta(hours=1)).enqueue(1)
        moving = note(ledger, unique="k", connection=caller.connection, run_after=later, reason="why")
        moved = moving.reschedule_or_queue(1)
        caller.commit()
    catch_up_all(ledger)

    assert moved.duplicate_of == holder.id
    assert [type(event).__name__ for event in holder.events] == ["TaskQueued", "TaskRescheduled"]
    assert holder.events[1].due_at == moved.events[0].at + later
    assert holder.events[1].reason == "why"


def test_what_is_asked_of_a_task_in_the_inbox_takes_it_in_first(ledger: Ledger) -> None:
    """Cancel, reschedule and reveal find what `get` shows."""
    with of_driver(ledger.url) as caller:
        one, two, three = (note(ledger, connection=caller.connection).enqueue(n, "s") for n in range(3))
        caller.commit()
        ledger.cancel(one.id, reason="test")
        ledger.reschedule(two.id, timedelta(hours=1), reason="test")
        assert three.reveal(reason="test")["secret"] == "s"
        assert counts(ledger) == (0, 0)
    run_queue(ledger)

    assert [task.state for task in (one, two, three)] == ["cancelled", "waiting", "succeeded"]


def test_the_inbox_is_seen_where_tasks_are_seen(ledger: Ledger) -> None:
    """Lists have its tasks first, by pages and filters, and health counts them, without taking them in."""
    old = note(ledger).enqueue(0)
    with of_driver(ledger.url) as caller:
        mine = note(ledger, connection=caller.connection, labels=["x"])
        first, second = mine.enqueue(1), mine.enqueue(2)
        caller.commit()

    listed = tasks(ledger)
    assert [(one.id, one.position is None) for one in listed] == [(second.id, True), (first.id, True), (old.id, False)]
    assert [one.id for one in tasks(ledger, after=second.id)] == [first.id, old.id]
    assert [one.id for one in tasks(ledger, after=first.id, limit=5)] == [old.id]
    assert [one.id for one in tasks(ledger, limit=1)] == [second.id]
    assert [one.id for one in tasks(ledger, label="x", name="note")] == [second.id, first.id]
    assert tasks(ledger, state="failed") == tasks(ledger, label="y") == tasks(ledger, failed_only=True) == []
    vitals = gather(ledger)
    assert (vitals.waiting, vitals.due, vitals.arriving, vitals.set_aside) == (3, 3, 2, 0)
    assert counts(ledger) == (2, 0)
    catch_up_all(ledger)
    assert [one.id for one in tasks(ledger)] == [second.id, first.id, old.id]
    assert gather(ledger).waiting == 3


BROKEN = {
    "state": "UPDATE inbox SET state = 'nonsense' WHERE task_id = '{}'",
    "topic": "UPDATE inbox SET topic = 'TaskQueued.v99' WHERE task_id = '{}'",
    "event": "UPDATE inbox SET topic = 'KeyReleased.v1' WHERE task_id = '{}'",
    "duplicates": "UPDATE inbox SET duplicates = '[]' WHERE task_id = '{}'",
    "priority": "UPDATE inbox SET state = replace(state, '\"priority\":0', '\"priority\":\"high\"') WHERE task_id = '{}'",
    "due": "UPDATE inbox SET state = replace(state, '\"due_at\"', '\"due\"') WHERE task_id = '{}'",
    "key": "UPDATE inbox SET state = replace(state, 'key:', 'key:x') WHERE task_id = '{}'",
    "retry": "UPDATE inbox SET state = replace(state, '\"factor\"', '\"fraction\"') WHERE task_id = '{}'",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_row_that_cannot_be_taken_in_is_set_aside(ledger: Ledger, fault: str) -> None:
    """The others go on; its error is in `get`, health and the check, and when it is mended it goes in."""
    with of_driver(ledger.url) as caller:
        good, bad, more = (note(ledger, unique=str(n), connection=caller.connection).enqueue(n) for n in range(3))
        caller.commit()
    execute(ledger, "CREATE TABLE kept AS SELECT * FROM inbox", BROKEN[fault].format(bad.id))
    run_queue(ledger)

    assert (good.state, more.state, counts(ledger)) == ("succeeded", "succeeded", (0, 1))
    with pytest.raises(NotTakenIn, match=bad.id):
        ledger.get(bad.id)
    with pytest.raises(NotTakenIn, match="could not be taken in"):
        bad.result(timeout=60)
    assert gather(ledger).set_aside == 1
    assert [problem for problem in check(ledger).problems if bad.id in problem]
    with ledger.store.write() as unit:
        assert [error is None for _, error in inbox.try_again(unit)] == [False]
    for column in ("topic", "state", "duplicates"):
        execute(ledger, f"UPDATE inbox SET {column} = (SELECT {column} FROM kept WHERE kept.task_id = inbox.task_id)")
    with ledger.store.write() as unit:
        assert inbox.try_again(unit, [bad.id]) == [(bad.id, None)]
        with pytest.raises(NotFound):
            inbox.try_again(unit, [bad.id])
    run_queue(ledger)
    assert (bad.state, counts(ledger)) == ("succeeded", (0, 0))


def test_a_row_of_a_task_that_the_log_has_is_set_aside(ledger: Ledger) -> None:
    """Nobody gets a second task of one id into the log."""
    with of_driver(ledger.url) as caller:
        task = note(ledger, connection=caller.connection).enqueue(1)
        caller.commit()
    execute(ledger, "CREATE TABLE kept AS SELECT * FROM inbox")
    run_queue(ledger)
    columns = "task_id, topic, state"
    execute(ledger, *[f"INSERT INTO inbox ({columns}) SELECT {columns} FROM kept"] * 2)
    run_queue(ledger)

    assert (task.state, ledger.ran, counts(ledger)) == ("succeeded", [1], (0, 2))  # type: ignore[attr-defined]


def counts(ledger: Ledger) -> tuple[int, int]:
    with ledger.store.read() as snapshot:
        return inbox.counts(snapshot)


def refusal(ledger: Ledger, connection: object, kind: type[Exception] = InvalidOption, **options: Any) -> str:
    with pytest.raises(kind) as refused:
        note(ledger, connection=connection, **options).enqueue(1)
    assert counts(ledger) == (0, 0)
    return str(refused.value)


def test_only_connections_to_the_ledgers_own_database_do(
    ledger: Ledger, url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Another file, database, schema or kind of thing is refused, and the caller's transaction goes on."""
    assert "allowed is a connection of" in refusal(ledger, "postgresql://nowhere")
    assert "allowed is a connection of" in refusal(ledger, sqlalchemy.create_engine("sqlite://"))
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        assert "connection" in refusal(ledger, other)
        if url.startswith("sqlite"):
            other.execute("ATTACH ? AS work", (ledger.store.path,))
            assert "only attached" in refusal(ledger, other)
    with psycopg.connect(**address_of(postgres_url).parameters) as other:
        if url.startswith("sqlite"):
            assert "not one to" in refusal(ledger, other)
        else:
            elsewhere = Ledger(with_schema(postgres_url.partition("&schema")[0]))
            elsewhere.task(name="note")(lambda what: None)
            note(elsewhere, connection=other).enqueue(1)  # one connection leads to every ledger of its database
            elsewhere.close()
            assert other.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        other.rollback()


def test_a_database_of_another_name_is_another_ledger(postgres_url: str, postgres_server: str) -> None:
    """Be it without a ledger in that schema, or with one; the refused transaction goes on."""
    name = f"{address_of(postgres_url).parameters['dbname']}_other"
    with psycopg.connect(postgres_server, autocommit=True) as server, application(postgres_url) as ledger:
        server.execute(f"CREATE DATABASE {name}")
        with closing(psycopg.connect(**{**address_of(postgres_url).parameters, "dbname": name})) as other:
            assert "no ledger in schema" in refusal(ledger, other)
            assert other.execute("SELECT 1").fetchone() == (1,)
            other.commit()
            twin = Ledger(postgres_url.replace(address_of(postgres_url).parameters["dbname"], name))
            twin.store.prepare()
            twin.close()
            assert "another database" in refusal(ledger, other)
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_connection_that_cannot_be_used_is_said_to_be(ledger: Ledger, caller: Kind, url: str) -> None:
    """Closed, or its transaction has failed: nothing is queued; after a rollback the failed one does again."""
    if url.startswith("postgresql"):
        with pytest.raises(Exception, match="nowhere"):
            caller.execute("SELECT * FROM nowhere")
        assert "roll it back" in refusal(ledger, caller.connection, StorageUnavailable)
        caller.rollback()
        task = note(ledger, connection=caller.connection).enqueue(1)
        caller.commit()
        run_queue(ledger)
        assert task.state == "succeeded"
    if isinstance(caller.connection, sqlite3.Connection | psycopg.Connection | sqlalchemy.Connection):
        caller.connection.close()
        assert "closed" in refusal(ledger, caller.connection, StorageUnavailable).lower()


class Nobody(PlainIdentities):
    """There is nobody."""

    def refusal(self, user: str) -> str | None:
        return "there is nobody"


def test_other_refusals_store_nothing(ledger: Ledger) -> None:
    """A ledger in memory, a child of the running attempt, an identity that is nobody, a bad reason."""
    in_memory = memory_ledger(ManualClock())
    in_memory.task(name="note")(lambda what: None)
    with of_driver(ledger.url) as caller:
        assert "memory" in refusal(in_memory, caller.connection)
        assert "with_outcome" in refusal(ledger, caller.connection, with_outcome=True)
        with pytest.raises(InvalidOption):
            note(ledger, connection=caller.connection, reason="")
        caller.commit()
        nobody = Ledger(ledger.url, identities=Nobody())
        nobody.task(name="note")(lambda what: None)
        refusal(nobody, caller.connection, IdentityNotFound, run_as="ann")
        nobody.close()
    assert counts(ledger) == (0, 0)


def test_in_autocommit_a_task_is_there_at_once(ledger: Ledger, url: str) -> None:
    """A connection without a transaction commits the row by itself."""
    if url.startswith("sqlite"):
        connection: Any = sqlite3.connect(ledger.store.path, isolation_level=None)
    else:
        connection = psycopg.connect(**address_of(url).parameters, autocommit=True)
    with closing(connection):
        task = note(ledger, connection=connection).enqueue(1)
        assert task.state == "waiting"
    run_queue(ledger)
    assert task.state == "succeeded"


def test_a_savepoint_that_is_rolled_back_takes_its_tasks_along(ledger: Ledger, url: str) -> None:
    """Django's `atomic`, nested: the inner one fails, the outer one commits; over Django's proxy of a connection."""
    with django_alias(url) as alias:
        proxy = ConnectionProxy(django.db.connections, alias)
        with transaction.atomic(using=alias):
            kept = note(ledger, connection=proxy).enqueue(1)
            with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
                gone = note(ledger, connection=proxy).enqueue(2)
                _ = 1 / 0
    run_queue(ledger)

    assert (kept.state, ledger.ran) == ("succeeded", [1])  # type: ignore[attr-defined]
    with pytest.raises(NotFound):
        ledger.get(gone.id)


def test_async_code_queues_in_its_own_transactions(ledger: Ledger, url: str) -> None:
    """An async connection of psycopg or SQLAlchemy is awaited; a plain one does too; a sync call refuses an async one."""
    parameters = {} if url.startswith("sqlite") else address_of(url).parameters

    async def plain() -> list[Any]:
        with of_driver(url) as caller:
            found = [await note(ledger, connection=caller.connection).aenqueue(1)]
            caller.commit()
            await note(ledger, connection=caller.connection).aenqueue(99)
            caller.rollback()
        return found

    async def of_psycopg() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(**parameters) as connection:
            one = await note(ledger, connection=connection).aenqueue(2)
            more = await ledger.aenqueue_many([note(ledger).call(3)], connection=connection)
            with pytest.raises(InvalidOption, match="await"):
                note(ledger, connection=connection).enqueue(0)
            await connection.commit()
            await note(ledger, connection=connection).aenqueue(99)
            await connection.rollback()
        with pytest.raises(StorageUnavailable, match="closed"):
            await note(ledger, connection=connection).aenqueue(99)
        return [one, *more]

    async def of_alchemy() -> list[Any]:
        async def connect() -> Any:
            return await psycopg.AsyncConnection.connect(**parameters)

        engine = create_async_engine("postgresql+psycopg://", async_creator=connect)
        async with AsyncSession(engine) as session:
            one = await note(ledger, connection=session).aenqueue(4)
            await session.commit()
            await note(ledger, connection=session).aenqueue(99)
            await session.rollback()
        async with engine.begin() as connection:
            two = await note(ledger, connection=connection).aenqueue(5)
        await engine.dispose()
        return [one, two]

    made = asyncio.run(plain())
    if parameters:
        made += asyncio.run(of_psycopg()) + asyncio.run(of_alchemy())
    run_queue(ledger)

    assert [task.state for task in made] == ["succeeded"] * len(made)
    assert ledger.ran == [1, 2, 3, 4, 5][: len(made)]  # type: ignore[attr-defined]


def test_a_transaction_on_a_file_does_not_wait_for_itself(tmp_path: Path) -> None:
    """One that writes already queues at once; one with an old snapshot, and one inside the ledger's own, are refused."""
    url = f"sqlite:///{tmp_path}/work.db"
    with application(url) as ledger, closing(sqlite3.connect(tmp_path / "work.db", timeout=0.1)) as connection:
        connection.execute("INSERT INTO orders VALUES (1)")  # holds SQLite's lock from here on
        first = note(ledger, connection=connection).enqueue(1)
        connection.commit()

        connection.isolation_level = None
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM orders").fetchall()
        note(ledger).enqueue(2)  # by somebody else meanwhile
        with pytest.raises(StorageUnavailable, match="BEGIN IMMEDIATE"):
            note(ledger, connection=connection).enqueue(3)
        connection.execute("ROLLBACK")

        with ledger.store.write(), pytest.raises(StorageUnavailable, match="this thread"):
            note(ledger, connection=connection).enqueue(3)
        with closing(sqlite3.connect(tmp_path / "work.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="longer than the connection waits"):
                note(ledger, connection=connection).enqueue(3)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (100,)
        last = note(ledger, connection=connection).enqueue(4)
        run_queue(ledger)
        assert (first.state, last.state, ledger.ran) == ("succeeded", "succeeded", [1, 2, 4])  # type: ignore[attr-defined]


def test_a_ledger_that_was_made_before_there_was_an_inbox(url: str) -> None:
    """It is read as it is; whoever writes to it makes the inbox."""
    ledger = Ledger(url)
    ledger.store.prepare()
    version = (
        ["PRAGMA user_version = 3"]
        if url.startswith("sqlite")
        else ["CREATE OR REPLACE FUNCTION schema_version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1'"]
    )
    execute(ledger, "DROP TABLE inbox", *version)
    ledger.close()
    with closing(Ledger(url)) as again:
        with pytest.raises(NotFound):
            again.get("nobody")
        assert counts(again) == (0, 0)
        assert gather(again).arriving == 0
        assert check(again).problems == []
        task = again.task(name="note")(lambda what: what)
        done = task.enqueue(1)
        with of_driver(url) as caller:
            more = task.using(connection=caller.connection).enqueue(2)
            caller.commit()
        run_queue(again)
        assert (done.state, more.state) == ("succeeded", "succeeded")


def test_a_move_beyond_the_holders_expiry_is_set_aside(ledger: Ledger) -> None:
    """What `reschedule_or_queue` refuses with a Conflict is set aside with it."""
    with of_driver(ledger.url) as caller:
        holder = note(ledger, unique="k", run_after=timedelta(hours=1), expires=timedelta(hours=1)).enqueue(1)
        late = note(ledger, unique="k", connection=caller.connection, run_after=timedelta(hours=9))
        moved = late.reschedule_or_queue(1)
        good = note(ledger, connection=caller.connection).enqueue(2)
        caller.commit()
    run_queue(ledger)

    assert (holder.state, good.state, counts(ledger)) == ("waiting", "succeeded", (0, 1))
    with pytest.raises(NotTakenIn, match="expires"):
        ledger.get(moved.id)
