"""Workers that claim at the same time on PostgreSQL: nothing twice, nothing skipped, limits exact, the view true."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from ledger import Ledger, Retry
from ledger import commands as c
from ledger.errors import Conflict
from ledger.ids import mint
from projections import queue
from runner.beside import Beside
from runner.cycle import Claimed, Finished, Turn
from runner.heartbeat import show

Make = Callable[[], Ledger]


@pytest.fixture
def make(postgres_url: str) -> Iterator[Make]:
    """A maker of ledgers with connections of their own on one database, as processes have them."""
    made: list[Ledger] = []

    def one() -> Ledger:
        ledger = Ledger(postgres_url)
        for name in ("a", "b"):
            ledger.task(name=name, retry=Retry(first=0), max_attempts=None)(lambda number: None)
        ledger.task(name="once", unique=True, unique_until="start", retry=Retry(first=0), max_attempts=None)(
            lambda number: None
        )
        made.append(ledger)
        return ledger

    yield one
    for ledger in made:
        ledger.close()


def worker(ledger: Ledger) -> Beside:
    """A worker's cycle, which the others know of, and which knows that the views are there."""
    name = mint(ledger.clock.now())
    with ledger.store.write() as unit:
        if not queue.is_prepared(unit):
            queue.prepare(unit)
        show(unit, name, "", threads=1, queues=(), lease_seconds=60, names=ledger.functions)
    cycle = Beside(ledger, name)
    cycle.turn([], 0, is_idle=True)
    return cycle


def outcome(ledger: Ledger, claimed: Claimed, kind: str = "succeed") -> Finished:
    """What becomes of an attempt."""
    state, now = claimed.state, ledger.clock.now()
    ran: dict[str, Any] = {"attempt": state.attempt, "worker": state.worker or ""}
    times: dict[str, Any] = {"started_at": now, "finished_at": now}
    match kind:
        case "fail":
            return Finished(claimed, c.Fail(**ran, **times, error={"type": "ValueError", "message": "no"}))
        case "doom":
            error: Any = {"type": "Fail", "message": "never"}
            return Finished(claimed, c.Fail(**ran, **times, error=error, forever=True))
        case "delay":
            return Finished(claimed, c.Delay(**ran, **times, seconds=0))
        case "interrupt":
            return Finished(claimed, c.Interrupt(**ran, cause="for the test"))
    return Finished(claimed, c.Succeed(**ran, **times, result=None))


def ids(turn: Turn) -> set[str]:
    return {claimed.state.task_id for claimed in turn.claims}


def fill(ledger: Ledger, count: int, name: str = "a") -> list[str]:
    function = ledger.functions[name]
    return [task.id for task in ledger.enqueue_many(function.call(number) for number in range(count))]


def topics(ledger: Ledger, task_id: str) -> list[str]:
    return [type(event).__name__ for event in ledger.get(task_id).events]


@contextmanager
def nobody_catches_up(ledger: Ledger) -> Iterator[None]:
    """Keep the views where they are, as a worker does that is busy with catching them up."""
    with ledger.store.catching_up() as unit:
        assert unit is not None
        yield


def beside(turn: Callable[[], Turn], ledger: Ledger) -> Turn:
    """Return a turn that begins while somebody else catches up, and may need what that one holds."""
    with ThreadPoolExecutor(1) as pool:
        with nobody_catches_up(ledger):
            going = pool.submit(turn)
            with ledger.store.read() as snapshot:  # it is at the lock, or through
                waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                while not (going.done() or snapshot.rows(waits)[0][0]):
                    pass
        return going.result(30)


def test_one_claims_while_another_has_not_committed_yet(make: Make) -> None:
    """A worker in the middle of a claim holds its rows and nobody up: others get the next ones at once."""
    one, two = make(), make()
    tasks = fill(one, 6)
    cycle = worker(two)
    queue.catch_up_all(two)
    place: Any = ("a", "default", 0, 2**62, 0, 2)
    with one.store.share() as unit:
        held = {row[1] for row in unit.rows(queue.SQL["due_rows"], place)}
        turn = cycle.turn([], 3, is_idle=True)

    assert held == set(tasks[:2])
    assert ids(turn) == set(tasks[2:5])
    assert ids(cycle.turn([], 9, is_idle=True)) == {*tasks[:2], tasks[5]}


def test_the_ledger_is_somebodys_alone_while_he_decides_from_all_of_it(make: Make) -> None:
    """Nobody claims between another's look at the whole and his commit: a unit of `write` is beside none."""
    one, two = make(), make()
    fill(one, 2)
    cycle = worker(two)
    with ThreadPoolExecutor(1) as pool:
        with one.store.write() as unit:
            before = unit.rows(queue.SQL["count_running"])
            going = pool.submit(cycle.turn, [], 2, is_idle=True)
            with pytest.raises(TimeoutError):
                going.result(0.3)
            assert unit.rows(queue.SQL["count_running"]) == before == [(0,)]
        assert len(going.result(30).claims) == 2


def test_a_claim_of_a_task_that_was_moved_meanwhile_is_decided_again(make: Make) -> None:
    """A row that is older than its task's stream gives no claim, and keeps nobody from the other tasks."""
    one, two = make(), make()
    tasks = fill(one, 3)
    cycle = worker(two)
    queue.catch_up_all(one)
    one.cancel(tasks[0], reason="before any view knows")

    assert ids(beside(lambda: cycle.turn([], 3, is_idle=True), one)) == set(tasks[1:])
    assert topics(one, tasks[0]) == ["TaskQueued", "TaskCancelled"]
    assert queue.verify(one) == []


def test_an_outcome_of_a_task_that_was_moved_meanwhile_is_decided_again(make: Make) -> None:
    """A request to cancel that came in between does not keep a success, or those recorded with it, from the log."""
    one, two = make(), make()
    tasks = fill(one, 2)
    cycle = worker(two)
    done = [outcome(two, claimed) for claimed in cycle.turn([], 2, is_idle=True).claims]
    one.cancel(tasks[0], reason="too late")

    turn = beside(lambda: cycle.turn(done, 0, is_idle=True), one)

    assert (turn.recorded, turn.rejected) == (2, 0)
    assert topics(one, tasks[0]) == ["TaskQueued", "TaskClaimed", "CancelRequested", "TaskSucceeded"]
    assert topics(one, tasks[1]) == ["TaskQueued", "TaskClaimed", "TaskSucceeded"]
    assert queue.verify(one) == []


def test_an_attempt_that_another_has_ended_is_not_ended_again(make: Make) -> None:
    """A zombie's result becomes LateResultRejected, beside others as alone."""
    one, two = make(), make()
    [task] = fill(one, 1)
    cycle = worker(two)
    [claimed] = cycle.turn([], 1, is_idle=True).claims
    assert worker(one).turn([outcome(one, claimed, "interrupt")], 0, is_idle=True).recorded == 1
    cycle.turn([], 0, is_idle=True)

    turn = cycle.turn([outcome(two, claimed)], 0, is_idle=True)

    assert turn.rejected == 1
    assert topics(one, task) == ["TaskQueued", "TaskClaimed", "AttemptInterrupted", "LateResultRejected"]
    assert queue.verify(one) == []


@pytest.mark.parametrize("what", ["limit", "pause", "disable"])
def test_what_governs_claims_holds_as_soon_as_it_is_acknowledged(make: Make, what: str) -> None:
    """A limit, a pause, a disabling that no view has folded yet governs the next claim all the same."""
    one, two = make(), make()
    fill(one, 4)
    cycle = worker(two)
    queue.catch_up_all(one)
    match what:
        case "limit":
            one.controls.set_limit("task:a", 1, reason="too many at once")
        case "pause":
            one.controls.pause("default", reason="for now")
        case "disable":
            one.controls.disable_runners(reason="for now")

    turn = beside(lambda: cycle.turn([], 4, is_idle=False), one)

    assert len(turn.claims) == (1 if what == "limit" else 0)


def test_a_limit_is_exact_over_many_who_claim_at_once(make: Make) -> None:
    """However many claim at the same time, no more run than the limit says, and all that it allows do."""
    ledgers = [make() for _ in range(4)]
    fill(ledgers[0], 60)
    fill(ledgers[0], 60, "b")
    cycles = [worker(ledger) for ledger in ledgers]
    ledgers[0].controls.set_limit("task:a", 3, reason="three at once")
    queue.catch_up_all(ledgers[0])
    start = threading.Barrier(4)
    done: list[list[Finished]] = [[] for _ in ledgers]

    def turn(number: int) -> Turn:
        start.wait(30)
        return cycles[number].turn([], 3, is_idle=False)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            turns = list(pool.map(turn, range(4)))
            ran = Counter(claimed.state.name for turn in turns for claimed in turn.claims)
            assert ran["a"] == 3
            for number, found in enumerate(turns):
                done[number] = [outcome(ledgers[number], claimed) for claimed in found.claims]
                assert cycles[number].turn(done[number], 0, is_idle=False).recorded == len(done[number])


def work(ledger: Ledger, seed: int, tasks: list[str], over: threading.Event) -> None:
    """Be a worker that meets all outcomes, beside others, and now and then a user who moves a task."""
    try:
        work_on(ledger, seed, tasks, over)
    except BaseException:
        over.set()
        raise


def work_on(ledger: Ledger, seed: int, tasks: list[str], over: threading.Event) -> None:
    dice = random.Random(seed)
    cycle = worker(ledger)
    done: list[Finished] = []
    idle = 0
    while idle < 3 and not over.is_set():
        turn = cycle.turn(done, dice.randint(1, 9), is_idle=True)
        if turn.is_behind:
            continue
        kinds = dice.choices(("succeed", "fail", "delay", "interrupt", "doom"), (6, 1, 1, 1, 1), k=len(turn.claims))
        done = [outcome(ledger, one, kind) for one, kind in zip(turn.claims, kinds, strict=True)]
        idle = 0 if done or turn.running else idle + 1
        if dice.random() < 0.3:
            try:
                ledger.cancel(dice.choice(tasks), reason="at random")
            except Conflict as refused:
                assert "somebody else was first" not in str(refused)
        if dice.random() < 0.1:
            tasks.append(ledger.functions["once"].enqueue(dice.randint(0, 2)).id)


def test_whatever_many_do_at_once_every_task_ends_once_and_the_view_is_the_fold_of_the_log(make: Make) -> None:
    """Four at once with all kinds of outcomes, cancelled and unique tasks: one end each, no user is told of a race."""
    ledgers = [make() for _ in range(4)]
    tasks = fill(ledgers[0], 120) + fill(ledgers[1], 80, "b")
    over = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(work, ledger, seed, tasks, over) for seed, ledger in enumerate(ledgers)]:
            one.result(60)
    last = worker(ledgers[0])
    done: list[Finished] = []
    while (turn := last.turn(done, 100, is_idle=True)).claims or turn.is_behind:
        done = [outcome(ledgers[0], claimed) for claimed in turn.claims]

    assert queue.verify(ledgers[0]) == []
    ends = ("TaskSucceeded", "TaskCancelled", "TaskFailed")
    for task in set(tasks):
        events = ledgers[0].get(task).events
        final = [e for e in events if type(e).__name__ in ends and getattr(e, "final", True)]
        assert len(final) == 1, events
    with ledgers[0].store.read() as snapshot:
        assert snapshot.rows("SELECT count(*) FROM queue") == [(0,)]


def test_what_was_passed_is_folded_after_all_into_a_view_that_is_made_anew(make: Make) -> None:
    """Events that their writers have brought into the rows are not forgotten when the rows are."""
    one, two = make(), make()
    tasks = fill(one, 3)
    cycle = worker(two)
    queue.catch_up_all(one)
    beside(lambda: cycle.turn([], 2, is_idle=True), one)
    with one.store.write() as unit:
        assert unit.passed(queue.VIEW) != []
        unit.run("ALTER TABLE queue DROP COLUMN expires_us")

    assert queue.verify(one) == []
    with one.store.read() as snapshot:
        assert {row[0] for row in snapshot.rows(queue.SQL["running_attempts"])} == set(tasks[:2])
