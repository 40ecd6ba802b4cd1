"""Queueing from async code: the loop goes on, the context goes along, and a cancelled await leaves no doubt."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidArguments, Ledger, ResultTimeout, StorageUnavailable, Task, TaskEnded
from ledger.asynchronous import queued_despite
from ledger.testing import run_queue
from tests.api.setup import count_events, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path}/work.db")) as ledger:
        ledger.task(name="job")(lambda number: number * 2)
        yield ledger


@contextmanager
def held_database(ledger: Ledger) -> Iterator[threading.Event]:
    """Hold the writer's lock on another thread, as another process would, until the event is set."""
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.store.write():
            is_held.set()
            may_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(60)
    try:
        yield may_go
    finally:
        may_go.set()
        holder.join()


def test_a_call_is_queued_and_its_result_awaited(ledger: Ledger) -> None:
    """`aenqueue`, `aenqueue_many`, `aget` and `aresult` give what their namesakes do."""
    job: Any = ledger.functions["job"]

    async def main() -> tuple[int, int, list[Task[Any]]]:
        one = await job.aenqueue(1)
        other = await job.using(queue="mail", run_after=timedelta(0)).aenqueue(number=2)
        many = await ledger.aenqueue_many([job.call(3), job.call(4)], reason="two at once")
        assert await ledger.aenqueue_many([]) == []
        await asyncio.to_thread(run_queue, ledger)
        return await one.aresult(), await (await ledger.aget(other.id)).aresult(timeout=5), many

    one, other, many = asyncio.run(main())
    assert (one, other, [task.result() for task in many]) == (2, 4, [6, 8])
    assert len({task.events[0].command for task in many}) == 1


def test_bad_calls_and_results_raise_as_their_namesakes_do(ledger: Ledger) -> None:
    """Bad arguments are refused before anything is awaited; a result that does not come is a ResultTimeout."""
    job: Any = ledger.functions["job"]

    async def main() -> None:
        with pytest.raises(InvalidArguments):
            await job.aenqueue()
        task = await job.aenqueue(1)
        with pytest.raises(ResultTimeout):
            await task.aresult(timeout=0.01)
        ledger.cancel(task.id, reason="no longer wanted")
        with pytest.raises(TaskEnded, match="cancelled"):
            await task.aresult()

    asyncio.run(main())


def test_the_loop_goes_on_while_the_database_is_held(ledger: Ledger) -> None:
    """While another writer holds the database the await waits, and the loop runs what else there is."""
    job: Any = ledger.functions["job"]
    ticks = 0

    async def main(may_go: threading.Event) -> Task[Any]:
        nonlocal ticks
        queueing = asyncio.create_task(job.aenqueue(1))
        for ticks in range(1, 1_001):  # noqa: B007
            await asyncio.sleep(0)
        assert not queueing.done()
        may_go.set()
        return await queueing

    with held_database(ledger) as may_go:
        task = asyncio.run(main(may_go))
    assert ticks == 1_000
    assert task.state == "waiting"


def test_a_call_cancelled_while_it_waits_stores_nothing(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """The await ends at once, though the database is held, and what waited for it is rolled back."""
    job: Any = ledger.functions["job"]

    async def main(may_go: threading.Event) -> list[asyncio.CancelledError]:
        before = threading.active_count()
        queueing = [asyncio.create_task(job.aenqueue(n)) for n in range(3)]
        queueing.append(asyncio.create_task(ledger.aenqueue_many([job.call(n) for n in range(100)])))
        while threading.active_count() == before:
            await asyncio.sleep(0)
        for one in queueing:
            one.cancel()
        found = await asyncio.gather(*queueing, return_exceptions=True)
        may_go.set()
        return [one for one in found if isinstance(one, asyncio.CancelledError)]

    with held_database(ledger) as may_go:
        cancelled = asyncio.run(main(may_go))
    assert [queued_despite(one) for one in cancelled] == [[]] * 4
    assert count_events(ledger) == 0
    gc.collect()
    assert not caplog.records, "asyncio has nothing to complain of"


def test_whenever_it_is_cancelled_the_log_and_the_answer_agree(ledger: Ledger) -> None:
    """Cancelled at a hundred moments of its course, a call is in the log exactly if the caller is told so."""
    job: Any = ledger.functions["job"]
    queued: set[str] = set()
    told = {"cancelled": 0, "queued": 0}

    async def once(turns: int) -> None:
        queueing = asyncio.create_task(job.aenqueue(turns))
        for _ in range(turns):
            await asyncio.sleep(0.0001)
        queueing.cancel()
        try:
            queued.add((await queueing).id)
            told["queued"] += 1
        except asyncio.CancelledError as error:
            queued.update(task.id for task in queued_despite(error))
            told["cancelled"] += 1

    async def main() -> None:
        for turns in range(100):
            await once(turns % 25)

    asyncio.run(main())
    with ledger.store.read() as snapshot:
        stored = {raw[1].removeprefix("task:") for raw in snapshot.events_after(0, 1_000)}
    assert stored == queued
    assert told["cancelled"], "the test meets cancelled calls"


def test_a_timeout_around_it_is_a_timeout(ledger: Ledger) -> None:
    """`asyncio.timeout` becomes TimeoutError as ever, and the cancellation it rests on says that nothing was queued."""
    job: Any = ledger.functions["job"]

    async def main(may_go: threading.Event) -> None:
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.05):
                await job.aenqueue(1)
        assert isinstance(raised.value.__cause__, asyncio.CancelledError)
        assert queued_despite(raised.value.__cause__) == []
        may_go.set()

    with held_database(ledger) as may_go:
        asyncio.run(main(may_go))
    assert count_events(ledger) == 0


def test_the_error_of_a_database_that_cannot_be_used_comes_through(tmp_path: Path) -> None:
    """What `enqueue` raises, `aenqueue` raises."""
    ledger = Ledger(f"sqlite:///{tmp_path}/no/such/directory/work.db")
    job: Any = ledger.task(name="job")(lambda: None)
    with pytest.raises(StorageUnavailable):
        asyncio.run(job.aenqueue())


def test_inside_an_async_task_it_knows_its_parent() -> None:
    """The caller's context goes along into the thread: the child names its parent and the worker as its actor."""
    ledger = open_ledger()
    child: Any = ledger.task(name="child")(lambda: None)
    found: list[Task[Any]] = []

    @ledger.task
    async def parent() -> None:
        found.append(await child.aenqueue())
        found.append(await child.using(with_outcome=True).aenqueue())

    task = parent.enqueue()
    run_queue(ledger)
    assert [one.record.queued.parent for one in found] == [task.id] * 2
    assert all(one.record.queued.actor.startswith("worker:") for one in found)
    assert found[1].record.queued.command == task.events[-1].command
