"""What every store promises, on each database: atomic appends in one order, conflicts, snapshots, checkpoints."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ledger.errors import Conflict, CorruptEvent, StorageUnavailable
from ledger.events import Event, KeyReleased
from ledger.store import Store
from ledger.stores import open_store
from ledger.testing import ManualClock

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(stream: str, version: int, command: str = "act", task: str = "t") -> Event:
    return KeyReleased(
        originator_id=stream, originator_version=version, command=command, at=AT, actor="user:a", task=task
    )


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    with opened.write():
        pass
    yield opened
    opened.close()


def all_events(store: Store) -> list[tuple[int, str, int]]:
    with store.read() as snapshot:
        return [raw[:3] for raw in snapshot.events_after(0, 1_000_000)]


def test_a_conflict_stores_nothing_of_its_batch(store: Store) -> None:
    """Of two appends of one version the second is a Conflict, and the rest of its batch is not stored either."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])

    with pytest.raises(Conflict, match="key:1 has a version 1 already"), store.write() as unit:
        unit.append([event("key:2", 1, "other"), event("key:1", 1, "other"), event("key:3", 1, "other")])
    assert all_events(store) == [(1, "key:1", 1)]


def test_a_swallowed_conflict_is_not_committed(store: Store) -> None:
    """Who catches a Conflict inside the transaction cannot commit the half of it."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])

    with pytest.raises(Conflict), store.write() as unit:
        try:
            unit.append([event("key:2", 1, "other"), event("key:1", 1, "other")])
        except Conflict:
            pass
    assert all_events(store) == [(1, "key:1", 1)]


def test_the_very_same_events_again_are_a_doubtful_commit(store: Store) -> None:
    """Events whose commit was not answered are found stored by another try, not taken for a conflict."""
    events = [event("key:1", 1), event("key:2", 1)]
    with store.write() as unit:
        positions = unit.append(events)

    with store.write() as unit:
        assert unit.append(events) == positions
    assert len(all_events(store)) == 2


def test_an_error_inside_a_transaction_stores_nothing(store: Store) -> None:
    """A transaction that ends by an exception is rolled back."""
    with pytest.raises(ZeroDivisionError), store.write() as unit:
        unit.append([event("key:1", 1)])
        raise ZeroDivisionError

    assert all_events(store) == []


def test_an_append_alone_is_all_or_nothing(store: Store) -> None:
    """What `extend` appends is stored at once and in order; with one conflict none of it is."""
    with store.extend() as appender:
        assert appender.append([event("key:2", 1), event("key:1", 1)]) == [1, 2]

    with pytest.raises(Conflict, match="key:2 has a version 1 already"), store.extend() as appender:
        appender.append([event("key:0", 1, "other"), event("key:2", 1, "other"), event("key:3", 1, "other")])
    assert all_events(store) == [(1, "key:2", 1), (2, "key:1", 1)]
    with store.extend() as appender:
        assert appender.append([event("key:2", 1), event("key:1", 1)]) == [1, 2]
    assert len(all_events(store)) == 2


def test_positions_are_in_the_order_given(store: Store) -> None:
    """Whatever their streams, events of one append have positions in the order in which they were given."""
    streams = [f"key:{n}" for n in (5, 3, 9, 1, 7, 3, 5)]
    with store.write() as unit:
        first = unit.append([event(stream, 1 + (n > 4)) for n, stream in enumerate(streams)])
        second = unit.append([event("key:0", 1)])

    assert first + second == sorted(first + second)
    assert [stream for _, stream, _ in all_events(store)] == [*streams, "key:0"]


def test_a_part_of_the_very_same_events_is_a_conflict(store: Store) -> None:
    """Events of which only some are stored are no append that was acknowledged: none of the others is stored."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])

    with pytest.raises(Conflict), store.write() as unit:
        unit.append([event("key:1", 1), event("key:2", 1)])
    assert all_events(store) == [(1, "key:1", 1)]


def test_what_a_unit_has_written_it_reads(store: Store) -> None:
    """Inside a unit its own events are seen, in streams, in the log and as the head; also by a reader in its thread."""
    with store.write() as unit:
        unit.append([event("key:1", 1), event("key:2", 1), event("key:1", 2)])
        with store.read() as reader:
            assert reader.head() == 3
        with store.write() as again:
            again.append([event("key:3", 1)])

        assert [one.position for one in unit.stream("key:1")] == [1, 3]
        assert [one.position for one in unit.stream("key:1", after=1)] == [3]
        assert unit.last("key:1") == event("key:1", 2)
        assert unit.last("key:9") is None
        assert unit.head() == 4
        assert [raw[0] for raw in unit.events_after(1, 2)] == [2, 3]
        assert [raw[0] for raw in unit.events_before(4, 2)] == [3, 2]
        assert unit.decode(unit.events_after(0, 1)[0]) == event("key:1", 1)
    assert len(all_events(store)) == 4


def test_a_snapshot_stays_as_it_began(store: Store) -> None:
    """What others append after a snapshot has begun is not in it, whichever way it looks."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])
    with store.read() as snapshot:
        assert snapshot.head() == 1
        append_in_another_thread(store, event("key:1", 2))

        assert snapshot.head() == 1
        assert [raw[0] for raw in snapshot.events_after(0, 10)] == [1]
        assert [raw[0] for raw in snapshot.events_before(100, 10)] == [1]
        assert len(snapshot.stream("key:1")) == 1
    assert len(all_events(store)) == 2


def append_in_another_thread(store: Store, one: Event) -> None:
    def append() -> None:
        with store.write() as unit:
            unit.append([one])

    thread = threading.Thread(target=append)
    thread.start()
    thread.join()


def test_a_checkpoint_only_moves_on(store: Store) -> None:
    """Checkpoints are kept by view, with the transaction that moves them, and never go back."""
    with store.write() as unit:
        assert unit.checkpoint("a") == 0
        unit.move_checkpoint("a", 7)
        unit.move_checkpoint("b", 3)
        unit.move_checkpoint("a", 5)
    with pytest.raises(ZeroDivisionError), store.write() as unit:
        unit.move_checkpoint("b", 9)
        raise ZeroDivisionError

    with store.read() as snapshot:
        assert (snapshot.checkpoint("a"), snapshot.checkpoint("b"), snapshot.checkpoint("c")) == (7, 3, 0)


def test_a_view_passes_what_its_unit_appended(store: Store) -> None:
    """With nobody else about, a view that is at the head passes the events of its own unit."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])
    with store.write() as unit:
        unit.move_checkpoint("a", unit.events_after(0, 10)[-1][0])
        unit.append([event("key:1", 2), event("key:2", 1)])
        unit.append([event("key:1", 3)])
        unit.pass_own("a")

        assert unit.checkpoint("a") == 4
    with store.write() as unit:
        unit.pass_own("a")
        assert unit.checkpoint("a") == 4


def test_the_present_is_read_once_and_after_the_wait(store: Store) -> None:
    """A unit's present stays, is aware UTC, and is not before that of the unit whose end it waited for."""
    presents: list[datetime] = []

    def wait() -> None:
        with store.write() as unit:
            presents.append(unit.now)

    with store.write() as unit:
        waiting = threading.Thread(target=wait)
        waiting.start()
        first = unit.now
        unit.append([event("key:1", 1)])
        assert unit.now == first and first.utcoffset() == timedelta(0)
    waiting.join()

    assert presents[0] >= first
    assert abs(store.clock.now() - presents[0]) < timedelta(minutes=1)


def test_a_clock_that_is_given_tells_the_time(url: str) -> None:
    """Units and snapshots have the time of the clock the store was made with."""
    clock = ManualClock()
    store = open_store(url, clock)
    with store.write() as unit:
        assert unit.now == clock.now()
    clock.advance(timedelta(hours=1))
    with store.read() as snapshot:
        assert snapshot.now == clock.now()
    with store.extend() as appender:
        assert appender.now == clock.now()
    store.close()


def test_a_log_that_is_not_there_is_said(url: str) -> None:
    """Reading where there is no ledger is a typed error that tells how to make one."""
    store = open_store(url)

    with pytest.raises(StorageUnavailable, match=r"no ledger at .*db init"), store.read() as snapshot:
        snapshot.head()
    store.close()


def test_a_damaged_event_is_named(store: Store) -> None:
    """An event of a topic that nobody knows is a CorruptEvent with its position, and only when it is decoded."""

    class Unknown(KeyReleased):
        TOPIC = "Unknown.v1"

    fields = vars(event("key:1", 1))
    with store.write() as unit:
        unit.append([Unknown(**fields)])

    with store.read() as snapshot:
        [raw] = snapshot.events_after(0, 10)
        with pytest.raises(CorruptEvent, match="position 1"):
            snapshot.decode(raw)


def test_who_waits_too_long_for_a_turn_gives_up(store: Store) -> None:
    """A bounded wait for other writers ends with StorageUnavailable, and the ledger goes on."""
    has_begun, may_end = threading.Event(), threading.Event()
    other = open_store(store.url)

    def hold() -> None:
        with other.write() as unit:
            unit.append([event("key:1", 1)])
            has_begun.set()
            may_end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert has_begun.wait(30)
    with pytest.raises(StorageUnavailable), store.write(wait_seconds=0.05):
        pass
    may_end.set()
    holder.join()
    other.close()

    with store.write() as unit:
        unit.append([event("key:1", 2)])
    assert len(all_events(store)) == 2


def test_threads_and_processes_append_without_loss(store: Store) -> None:
    """Four processes of two threads append at once: every acknowledged event is there, each stream in order."""

    def produce(name: str) -> None:
        for version in range(1, 26):
            with store.write() if version % 2 else store.extend() as unit:
                unit.append([event(f"key:{name}", version)])

    def be_child(number: int) -> None:
        threads = [threading.Thread(target=produce, args=(f"{number}-{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    codes = in_children(store, 4, be_child)
    found = all_events(store)

    assert codes == [0, 0, 0, 0]
    assert len({position for position, _, _ in found}) == 200
    assert sorted(row[1:] for row in found) == sorted(
        (f"key:{p}-{t}", v) for p in range(4) for t in range(2) for v in range(1, 26)
    )
    for p in range(4):
        assert [v for _, stream, v in found if stream == f"key:{p}-0"] == list(range(1, 26))


def in_children(store: Store, count: int, run: object) -> list[int]:
    """Run *run(number)* in so many children of this process; return their exit codes."""
    store.close()
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(number)  # type: ignore[operator]
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_parent_and_child_go_on_after_a_fork(store: Store) -> None:
    """A child opens connections of its own, also when the parent had its open; neither ends the other's."""
    with store.write() as unit:
        unit.append([event("key:1", 1)])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with store.write() as unit:
                unit.append([event("key:1", 2)])
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with store.write() as unit:
        unit.append([event("key:1", 3)])
    assert len(all_events(store)) == 3
