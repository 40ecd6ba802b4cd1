"""What a plan chooses from: a few rows of each group, and yet the claims of one that sees every row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Ledger
from ledger.clock import to_us
from ledger.limits import Limit, Limits, Running
from projections import queue
from runner import candidates
from runner.candidates import Finder
from runner.cycle import Cycle
from runner.plan import DUE, plan
from tests.databases import in_memory

PLACES = st.lists(
    st.tuples(
        st.sampled_from("aaabc"),
        st.sampled_from("qqqr"),
        st.sampled_from((0, 0, 0, 1)),
        st.sampled_from((None, None, "x", "y", "z")),
        st.sampled_from((-1, -1, 0, 60)),
    ),
    max_size=60,
)
LIMITS = st.dictionaries(
    st.sampled_from(("ledger", "queue:q", "task:a", "task:*", "key:x", "key:*")), st.integers(1, 20), max_size=3
)


def filled(places: list[tuple[str, str, int, str | None, int]]) -> Ledger:
    """A ledger in which these wait, due so many seconds from now, and the first three that can be are claimed."""
    ledger = in_memory()
    functions: dict[str, Any] = {name: ledger.task(name=name)(lambda: None) for name in "abc"}
    calls = [
        functions[name]
        .using(
            queue=in_queue,
            priority=priority,
            concurrency_key=key,
            run_after=ledger.clock.now() + timedelta(seconds=due),
        )
        .call()
        for name, in_queue, priority, key, due in places
    ]
    ledger.enqueue_many(calls)
    queue.catch_up_all(ledger)
    Cycle(ledger, "w0").turn([], 3, is_idle=True)
    return ledger


@given(PLACES, LIMITS, st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_a_few_rows_give_the_claims_of_all_rows(
    places: list[tuple[str, str, int, str | None, int]], said: dict[str, int], free: int
) -> None:
    """However the rows lie, and whichever limits hold, reading on as the plan asks comes to the plan of all due rows."""
    ledger = filled(places)
    limits = Limits(Limit(scope, most, "hand") for scope, most in said.items())
    with ledger.store.write() as unit:
        now_us = to_us(unit.now)
        running = Running(unit.rows(queue.SQL["running_counts"]))
        waiting = [row for row in unit.rows(queue.SQL["all_rows"]) if row[3] == "waiting"]
        found = Finder(lambda name, in_queue: True, "all").find(unit, limits, free, now_us, is_idle=True)
    due = [row for row in waiting if row[DUE] <= now_us]

    assert found.plan.claims == plan(due, running, free, is_idle=True, limits=limits).claims
    later = [row[DUE] for row in waiting if row[DUE] > now_us]
    if not due and not running.total:  # where something runs, its end is a turn
        assert found.next_due_us == min(later, default=None)


def keyed(count: int, keys: dict[str, int], make_ledger: Callable[..., Ledger] = in_memory) -> tuple[Ledger, Any]:
    """A ledger with so many tasks of the key "full", one of which runs, and after them those of other *keys*."""
    ledger = make_ledger()
    task = ledger.task(name="a")(lambda: None)
    ledger.enqueue_many(task.using(concurrency_key="full").call() for _ in range(count))
    queue.catch_up_all(ledger)
    Cycle(ledger, "w0").turn([], 1, is_idle=True)
    ledger.enqueue_many(task.using(concurrency_key=key).call() for key, n in keys.items() for _ in range(n))
    ledger.controls.set_limit("key:*", 1, reason="one at a time")
    return ledger, task


def claimed_keys(ledger: Ledger, free: int, cycle: Cycle | None = None) -> list[str | None]:
    turn = (cycle or Cycle(ledger, "w1")).turn([], free, is_idle=True)
    while turn.is_behind:
        turn = (cycle or Cycle(ledger, "w1")).turn([], free, is_idle=True)
    return [claimed.state.concurrency_key for claimed in turn.claims]


@pytest.mark.parametrize("free", [1, 4, 100])
def test_five_thousand_tasks_of_a_full_key_hide_no_other_key(make_ledger: Callable[..., Ledger], free: int) -> None:
    """A name whose first 5,000 due tasks share one full key goes on with its other keys, one of each."""
    ledger, _ = keyed(5_000, {"b": 3, "c": 2, "d": 1}, make_ledger)

    assert claimed_keys(ledger, free) == ["b", "c", "d"][:free]


def test_tasks_without_a_key_are_not_hidden_either(make_ledger: Callable[..., Ledger]) -> None:
    """Tasks of the same name that have no key are not behind those of a full one."""
    ledger, task = keyed(5_000, {}, make_ledger)
    task.enqueue()

    assert claimed_keys(ledger, 4) == [None]


@pytest.mark.parametrize("count", [candidates.MOST_KEYS - 1, candidates.MOST_KEYS + 7])
def test_more_keys_than_one_turn_goes_through_are_all_served(count: int) -> None:
    """Behind a full key, with more keys than one turn looks at, and those before them full: none waits for ever."""
    ledger, _ = keyed(candidates.LEAST_KEYED + 5, {f"k{number:05}": 2 for number in range(count)})
    cycle = Cycle(ledger, "w1")
    seen: set[str | None] = set()
    while found := claimed_keys(ledger, 90, cycle):
        seen.update(found)

    assert len(seen) == count


def test_a_key_that_another_name_fills_in_the_same_turn(make_ledger: Callable[..., Ledger]) -> None:
    """The claims of one plan may fill the key of a name's first task: it goes on with its next key at once."""
    ledger = make_ledger()
    a, b = (ledger.task(name=name, concurrency_key="x")(lambda: None) for name in "ab")
    ledger.enqueue_many([b.call(), a.call(), a.using(concurrency_key="y").call()])
    ledger.controls.set_limit("key:*", 1, reason="one at a time")
    ledger.controls.set_limit("task:a", 1, reason="one at a time")

    assert claimed_keys(ledger, 9) == ["x", "y"]


def test_the_next_due_time_is_seen_behind_a_full_key(make_ledger: Callable[..., Ledger]) -> None:
    """A worker that can claim nothing now knows when a task of a free key will be due."""
    ledger, task = keyed(100, {}, make_ledger)
    task.using(concurrency_key="later", run_after=timedelta(seconds=30)).enqueue()
    turn = Cycle(ledger, "w1").turn([], 4, is_idle=True)

    assert not turn.claims
    assert turn.next_due_us == to_us(ledger.clock.now() + timedelta(seconds=30))


def test_a_worker_serves_its_queues_alone(make_ledger: Callable[..., Ledger]) -> None:
    """With queues given it claims from no other, be it never so free."""
    ledger = make_ledger()
    task: Any = ledger.task(name="a")(lambda: None)
    ledger.enqueue_many(task.using(queue=name).call() for name in ("mail", "slow", "mail", "other"))
    turn = Cycle(ledger, "w1", ["mail", "slow"]).turn([], 9, is_idle=True)

    assert sorted(claimed.state.queue for claimed in turn.claims) == ["mail", "mail", "slow"]


def test_names_that_a_worker_does_not_have_hide_nobody(make_ledger: Callable[..., Ledger]) -> None:
    """A thousand due tasks of an unknown name before it, and a task of a known one is claimed; those stay as they are."""
    ledger = make_ledger()
    gone, known = ledger.task(name="gone")(lambda: None), ledger.task(name="known")(lambda: None)
    ledger.enqueue_many([*(gone.call() for _ in range(1_000)), known.call()])
    del ledger.functions["gone"]
    turn = Cycle(ledger, "w1").turn([], 9, is_idle=True)

    assert [claimed.state.name for claimed in turn.claims] == ["known"]
    with ledger.store.read() as snapshot:
        assert snapshot.rows("SELECT count(*) FROM queue WHERE name = 'gone' AND status = 'waiting'") == [(1_000,)]
