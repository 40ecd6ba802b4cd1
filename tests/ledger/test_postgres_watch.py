"""Who rests is told of commits, once each; nobody is told while nobody rests; without being told one still wakes."""

from __future__ import annotations

import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from ledger import Ledger
from ledger import commands as c
from ledger.acts import act_on
from ledger.postgres import PostgresStore
from ledger.postgres_address import address_of, channel_of
from ledger.postgres_watch import Watch
from runner.wake import Wake


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Ledger]:
    ledger = Ledger(postgres_url)
    ledger.task(name="a")(lambda number: None)
    ledger.store.prepare()
    yield ledger
    ledger.close()


@pytest.fixture
def watch(ledger: Ledger) -> Iterator[Watch]:
    watch = ledger.store.watch()
    assert isinstance(watch, Watch)
    yield watch
    watch.close()


def is_told(watch: Watch, seconds: float = 30.0) -> bool:
    poll = select.poll()  # the descriptor's number may be of any size
    poll.register(watch.fileno(), select.POLLIN)
    while poll.poll(seconds * 1000):
        if watch.has_heard():
            return True
    return False


def test_who_rests_is_told_of_a_commit(ledger: Ledger, watch: Watch) -> None:
    """An enqueue and a `write` are heard of; what was rolled back is not."""
    watch.rest()
    ledger.functions["a"].enqueue(1)
    assert is_told(watch)
    task = ledger.functions["a"].enqueue(2)
    assert is_told(watch)
    ledger.cancel(task.id, reason="to be heard")
    assert is_told(watch)
    with pytest.raises(ZeroDivisionError), ledger.store.write() as unit:
        task = ledger.functions["a"].enqueue(3)
        raise ZeroDivisionError
    assert unit.now
    assert not is_told(watch, 0.1)


def test_nobody_is_told_while_nobody_rests(ledger: Ledger, watch: Watch) -> None:
    """The server's commits pay for telling only while somebody wants to know; claims tell nobody."""
    ledger.functions["a"].enqueue(1)
    assert not is_told(watch, 0.1)
    watch.rest()
    watch.rise()
    task = ledger.functions["a"].enqueue(2)
    assert not is_told(watch, 0.1)
    watch.rest()
    with ledger.store.write() as unit:
        act_on(unit, task.id, c.Claim(worker="w", seen=0), ledger.act(unit))
    assert not is_told(watch, 0.1)


def test_a_commit_tells_once(ledger: Ledger, watch: Watch) -> None:
    """However much a commit brings, it is one word on the channel of the ledger's schema."""
    store: Any = ledger.store
    assert isinstance(store, PostgresStore)
    with psycopg.connect(**store.address.parameters, autocommit=True) as connection:
        connection.execute(f'LISTEN "{channel_of(store.schema)}"')
        watch.rest()
        with ledger.store.write():
            for number in range(20):
                ledger.enqueue_many([ledger.functions["a"].call(number), ledger.functions["a"].call(number)])
        words = list(connection.notifies(timeout=5, stop_after=1)) + list(connection.notifies(timeout=0.1))

    assert [(word.channel, word.payload) for word in words] == [(f"workledger_{store.schema}", "")]


def test_who_has_lost_the_connection_is_not_deaf_for_long(ledger: Ledger, postgres_url: str) -> None:
    """A wait ends when its connection is lost, and the next one hears of commits all the same."""
    other = Ledger(postgres_url)
    function = other.task(name="a")(lambda number: None)
    wake = Wake(ledger.store, None)
    wake.forget_commits()
    listeners = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_advisory_lock_shared(lock_key(), 4)%' AND pid <> "
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wake.wait, 60, for_commits=True)
        with other.store.read() as snapshot:
            deadline = ledger.clock.monotonic() + 30
            while not (pids := snapshot.rows(listeners + "pg_backend_pid() AND state = 'idle'")):
                assert ledger.clock.monotonic() < deadline, "nobody listens"
                if waiting.done():  # it has heard of a commit from before
                    wake.forget_commits()
                    waiting = pool.submit(wake.wait, 60, for_commits=True)
                snapshot.rows("SELECT pg_stat_clear_snapshot()")
            for (pid,) in pids:
                snapshot.rows("SELECT pg_terminate_backend(?)", (pid,))
        waiting.result(30)
        wake.forget_commits()
        function.enqueue(1)

        assert pool.submit(wake.wait, 60, for_commits=True).result(30)
    wake.close()
    other.close()


def test_a_channel_has_a_name_that_the_server_takes() -> None:
    """The longest schema too has a channel of at most 63 bytes."""
    assert channel_of("work") == "workledger_work"
    assert len(channel_of("s" * 63)) == 63


def test_a_url_may_name_several_hosts() -> None:
    """A primary and those that may take its place stand in one URL, with ports or without."""
    address = address_of("postgresql://db1,db2:5433/work?target_session_attrs=read-write&schema=mail")

    assert (address.parameters["host"], address.schema) == ("db1,db2", "mail")
    assert address.parameters["target_session_attrs"] == "read-write"
