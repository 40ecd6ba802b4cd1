"""Order without loss on PostgreSQL: whoever tails the log sees every event, though appenders do not wait for each other."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ledger.clock import EPOCH
from ledger.commands import Act, next_envelope
from ledger.events import Event, KeyReleased
from ledger.postgres import PostgresStore
from ledger.postgres_transactions import SQL
from ledger.store import RawEvent

WRITERS = 16
BATCH = 300
Read = Callable[[int], Sequence[int]]

APPEND = "SELECT positions FROM append_events(%s::text[], %s::bigint[], %s::text[], %s::bytea[])"
APPEND_WITHOUT_LOCK = """
    INSERT INTO stored_events (notification_id, originator_id, originator_version, topic, state)
    SELECT nextval('positions'), * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::bytea[])
"""
Rows = tuple[list[str], list[int], list[str], list[bytes]]


def one_by_one(connection: psycopg.Connection[tuple[object, ...]], rows: Rows) -> None:
    """Append each event by the statement that a single task is queued with."""
    [(schema,)] = connection.execute("SELECT current_schema()").fetchall()
    alone = SQL["append_alone"].replace('"schema"', str(schema))
    for row in zip(*rows, strict=True):
        psycopg.RawCursor(connection).execute(alone, row)


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_url)
    opened.prepare()
    yield opened
    opened.close()


def by_snapshot(store: PostgresStore) -> Read:
    """Tail as reports do: a snapshot for each batch."""

    def read(after: int) -> Sequence[int]:
        with store.read() as snapshot:
            return positions(snapshot.events_after(after, BATCH))

    return read


def in_its_turn(store: PostgresStore) -> Read:
    """Tail as the views beside the log do: inside a unit that may write."""

    def read(after: int) -> Sequence[int]:
        with store.write() as unit:
            return positions(unit.events_after(after, BATCH))

    return read


def by_recorder(store: PostgresStore) -> Read:
    """Tail as the library's followers do."""
    return lambda after: [n.id for n in store.recorder.select_notifications(after, BATCH, inclusive_of_start=False)]


def up_to_the_head(store: PostgresStore) -> Read:
    """Tail backwards: all that lies between the position before and the head."""

    def read(after: int) -> Sequence[int]:
        with store.read() as snapshot:
            found = positions(snapshot.events_before(snapshot.head() + 1, 1_000_000))
            return [position for position in reversed(found) if position > after]

    return read


def without_protection(store: PostgresStore) -> Read:
    """Tail as anybody would: what comes after the last position seen."""

    def read(after: int) -> Sequence[int]:
        with store.datastore.transaction() as cursor:
            sql = "SELECT notification_id FROM stored_events WHERE notification_id > %s ORDER BY 1 LIMIT %s"
            return [row["notification_id"] for row in cursor.execute(sql, (after, BATCH)).fetchall()]

    return read


def positions(raws: Sequence[RawEvent]) -> list[int]:
    return [raw[0] for raw in raws]


def write(store: PostgresStore, number: int, count: int, append: str | None) -> int:
    """Append about *count* events in transactions that sleep, conflict and roll back; return how many were committed."""
    chance = random.Random(number)
    committed = 0
    with psycopg.connect(**store.address.parameters, autocommit=True) as connection:
        connection.execute(f"SET search_path = {store.schema}")
        while committed < count:
            size = chance.randint(2, 20)
            streams = [f"key:{number}-{committed}-{n}" for n in range(size)]
            if chance.random() < 0.1:
                streams[-1] = f"key:shared-{committed // 50}"
            rows = (streams, [1] * size, ["KeyReleased.v1"] * size, [b"{}"] * size)
            try:
                with connection.transaction(force_rollback=chance.random() < 0.1) as transaction:
                    rest(connection, chance)
                    if append is None:
                        one_by_one(connection, rows)
                    else:
                        connection.execute(append, rows)
                    rest(connection, chance)
            except psycopg.errors.UniqueViolation:
                continue
            committed += 0 if transaction.force_rollback else size
    return committed


def rest(connection: psycopg.Connection[tuple[object, ...]], chance: random.Random) -> None:
    if chance.random() < 0.3:
        connection.execute("SELECT pg_sleep(%s)", (chance.random() * 0.01,))


def tail(read: Read, is_over: threading.Event) -> list[int]:
    """Return the positions in the order in which they were met."""
    seen: list[int] = []
    while True:
        was_over = is_over.is_set()
        found = read(seen[-1] if seen else 0)
        seen += found
        if was_over and not found:
            return seen


def run(store: PostgresStore, reads: Sequence[Read], count: int, append: str | None = APPEND) -> tuple[int, list[int]]:
    """Let the writers write and the readers tail; return the count stored and how many each reader has skipped.

    Without *append* the events of a transaction are appended one by one.
    """
    is_over = threading.Event()
    with ThreadPoolExecutor(WRITERS + len(reads)) as pool:
        tails = [pool.submit(tail, read, is_over) for read in reads]
        writers = [pool.submit(write, store, number, count // WRITERS, append) for number in range(WRITERS)]
        try:
            committed = sum(writer.result() for writer in writers)
        finally:
            is_over.set()
        seen = [one.result() for one in tails]
    with store.datastore.transaction() as cursor:
        stored = {row["id"] for row in cursor.execute("SELECT notification_id AS id FROM stored_events").fetchall()}
    assert len(stored) == committed >= count * 0.9
    assert max(stored) > len(stored)  # failures have left holes
    for found in seen:
        assert found == sorted(set(found)) and stored.issuperset(found)
    return committed, [len(stored) - len(found) for found in seen]


def test_no_reader_skips_an_event(store: PostgresStore) -> None:
    """Four tailing readers beside 16 writers that sleep inside transactions, conflict and roll back: none skips any."""
    reads = [by_snapshot(store), in_its_turn(store), by_recorder(store), by_snapshot(PostgresStore(store.url))]

    _, skipped = run(store, reads, 20_000)
    assert skipped == [0, 0, 0, 0]


def test_no_reader_skips_an_event_that_was_appended_alone(store: PostgresStore) -> None:
    """The same where the events come in by the statement that needs no function."""
    _, skipped = run(store, [by_snapshot(store), in_its_turn(store)], 5_000, None)

    assert skipped == [0, 0]


@pytest.mark.parametrize("count", [1, 2])
def test_no_position_is_drawn_without_the_lock(store: PostgresStore, count: int) -> None:
    """While nobody can have the lock, an append, of one event or of several, waits and has drawn nothing."""
    act = Act(id="a", at=EPOCH, actor="user:u")
    events = [KeyReleased(**next_envelope(f"key:{n}", None, act), task="t") for n in range(count)]
    with psycopg.connect(**store.address.parameters, autocommit=True) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(f"SET search_path = {store.schema}")
        holder.execute("SELECT pg_advisory_lock(lock_key(), 1)")
        appended = pool.submit(append, store, events)
        try:
            while not holder.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND objid = 1").fetchall():
                assert not appended.done()
            drawn = holder.execute("SELECT is_called FROM positions").fetchall()
        finally:
            holder.execute("SELECT pg_advisory_unlock(lock_key(), 1)")

        assert appended.result() == list(range(1, count + 1))
        assert drawn == [(False,)]


def append(store: PostgresStore, events: Sequence[Event]) -> list[int]:
    with store.extend() as extension:
        return extension.append(events)


def test_the_log_below_the_head_is_whole(store: PostgresStore) -> None:
    """Whoever reads from the head backwards, as a rebuild does, has all that will ever be below it."""
    _, skipped = run(store, [up_to_the_head(store)], 5_000)

    assert skipped == [0]


@pytest.mark.soak
def test_no_reader_skips_one_of_a_million_events(store: PostgresStore) -> None:
    """The same with a million events."""
    reads = [by_snapshot(store), in_its_turn(store), by_recorder(store), by_snapshot(PostgresStore(store.url))]

    _, skipped = run(store, reads, 1_000_000)
    assert skipped == [0, 0, 0, 0]


def test_this_test_sees_a_reader_without_protection_skip(store: PostgresStore) -> None:
    """A plain tailing reader skips events under the same load: the tests above could fail."""
    _, [skipped] = run(store, [without_protection(store)], 5_000)

    assert skipped > 0


def test_this_test_sees_appenders_without_the_lock_skipped(store: PostgresStore) -> None:
    """Where appenders do not hold the lock, the careful reader skips events too: it is the lock that protects."""
    _, [skipped] = run(store, [by_snapshot(store)], 5_000, APPEND_WITHOUT_LOCK)

    assert skipped > 0
