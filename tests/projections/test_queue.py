"""The queue view: whatever happened in whatever steps, its rows are the fold of the log, and damage is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Conflict, CorruptEvent, Ledger, Retry, current
from ledger import commands as c
from ledger.acts import act_on, retry
from ledger.ids import mint
from ledger.postgres_unit import adapted
from ledger.testing import memory_ledger
from projections import queue, schedules
from runner.cycle import Cycle
from runner.execute import execute
from tests.databases import damage

VERBS = (
    "queue",
    "claim",
    "succeed",
    "fail",
    "lose",
    "interrupt",
    "late",
    "cancel",
    "retry",
    "progress",
    "catch up",
    "turn",
)
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 3)), max_size=60)
ERROR = {"type": "E", "message": "", "traceback": ""}


def declared(ledger: Ledger) -> Ledger:
    """Register a task that fails for good at its second failure, due again at once."""
    ledger.task(name="add", max_attempts=2, retry=Retry(first=0))(lambda a: current().progress(a))
    return ledger


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = declared(Ledger(url))
    yield ledger
    ledger.close()


def fill(ledger: Ledger, count: int = 3) -> list[str]:
    return [task.id for task in ledger.enqueue_many(ledger.functions["add"].call(a) for a in range(count))]


def command(verb: str, attempt: int) -> c.Command:
    held = {"attempt": attempt, "worker": "w1"}
    at = {"started_at": memory_ledger().clock.now(), "finished_at": memory_ledger().clock.now()}
    match verb:
        case "claim":
            return c.Claim(worker="w1", seen=0)
        case "succeed":
            return c.Succeed(**held, **at, result=None)
        case "fail":
            return c.Fail(**held, **at, error=ERROR)  # type: ignore[typeddict-item]
        case "late":
            return c.Succeed(attempt=attempt, worker="w2", **at, result=None)
        case "lose":
            return c.Lose(**held, cause="gone")
        case "progress":
            return c.Progress(**held, done=attempt)
        case "interrupt":
            return c.Interrupt(**held, cause="given back")
        case _:
            return c.Cancel()


def carry_out(ledger: Ledger, tasks: list[str], verb: str, number: int) -> None:
    """Do one step; what the state of the task does not allow is refused and leaves no trace."""
    if verb == "catch up":
        with ledger.store.write() as unit:
            queue.prepare(unit)
            queue.catch_up(unit, limit=number + 1)
    elif verb == "queue" or not tasks:
        tasks += fill(ledger, 1)
    elif verb == "turn":
        cycle = Cycle(ledger, "w1")
        turn = cycle.turn([], 2, is_idle=True)
        cycle.turn([execute(ledger, one, bool) for one in turn.claims], 0, is_idle=True)
    else:
        task_id = tasks[number % len(tasks)]
        attempt = len(ledger.get(task_id).attempts)
        try:
            with ledger.store.write() as unit:
                act = c.Act(id=mint(unit.now), at=unit.now, actor="worker:w1", reason="test")
                if verb == "retry":
                    retry(unit, task_id, act)
                else:
                    act_on(unit, task_id, command(verb, attempt), act)
        except Conflict:
            pass


def told_by_the_log(ledger: Ledger) -> dict[str, tuple[int, str, int]]:
    """Task id → (version, status, attempt) of each live task, read from the stored JSON by rules of its own."""
    with ledger.store.read() as snapshot:
        found = snapshot.rows("SELECT stream, version, topic, data FROM events ORDER BY position")
    tasks: dict[str, tuple[int, str, int]] = {}
    for stream, version, topic, state in found:
        task_id, data, kind = stream.removeprefix("task:"), json.loads(state), topic.removesuffix(".v1")
        if not stream.startswith("task:"):
            continue
        _, status, attempt = tasks.get(task_id, (0, "", 0))
        if kind in ("TaskQueued", "TaskRetried", "AttemptInterrupted"):
            status = "waiting"
        elif kind == "TaskClaimed":
            status, attempt = "running", data["attempt"]
        elif kind in ("TaskSucceeded", "TaskCancelled") or data.get("final"):
            status = "ended"
        elif kind in ("TaskFailed", "AttemptLost"):
            status = "waiting"
        tasks[task_id] = version, status, attempt
    return {task_id: one for task_id, one in tasks.items() if one[1] != "ended"}


@given(STEPS)
@settings(max_examples=120, deadline=None)
def test_live_rows_are_the_fold_of_the_log(steps: list[tuple[str, int]]) -> None:
    """After any history, caught up in any steps and brought forward by cycles, live rows, a rebuild and the log agree."""
    check_live_rows(declared(memory_ledger()), steps)


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_live_rows_are_the_fold_of_the_log_on_postgres(
    postgres_ledgers: Callable[[], Ledger], steps: list[tuple[str, int]]
) -> None:
    """The same on PostgreSQL."""
    check_live_rows(declared(postgres_ledgers()), steps)


def check_live_rows(ledger: Ledger, steps: list[tuple[str, int]]) -> None:
    tasks: list[str] = []
    for verb, number in steps:
        carry_out(ledger, tasks, verb, number)
    queue.catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        live = {row[1]: row for row in snapshot.rows(queue.SQL["all_rows"])}
    queue.rebuild(ledger)
    with ledger.store.read() as snapshot:
        rebuilt = {row[1]: row for row in snapshot.rows(queue.SQL["all_rows"])}

    assert live == rebuilt
    assert {task_id: (row[2], row[3], row[10]) for task_id, row in live.items()} == told_by_the_log(ledger)
    assert queue.verify(ledger) == []


@given(STEPS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_fold_up_to_a_position_is_the_view_as_it_was(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    """What a fold stopped at a position gives is what the view held when the log ended there."""
    ledger = declared(memory_ledger())
    tasks: list[str] = []
    seen: dict[int, dict[str, Any]] = {}
    for verb, number in steps:
        carry_out(ledger, tasks, verb, number)
        queue.catch_up_all(ledger)
        with ledger.store.read() as snapshot:
            seen[snapshot.head()] = {row[1]: row for row in snapshot.rows(queue.SQL["all_rows"])}
    if not seen:
        return
    position = data.draw(st.sampled_from(sorted(seen)))
    with ledger.store.read() as snapshot:
        assert queue.fold_log(snapshot, position) == seen[position]


@pytest.mark.parametrize("column", ["version", "status", "due_us", "attempt", "priority", "key_stream", "worker"])
def test_verify_names_a_changed_cell(ledger: Ledger, column: str) -> None:
    """A cell changed by hand is named with its task, what it is and what it should be."""
    [task, *_] = fill(ledger)
    queue.catch_up_all(ledger)
    with ledger.store.write() as unit:
        unit.run(f"UPDATE queue SET {column} = '7' WHERE task_id = ?", (task,))

    [found] = queue.verify(ledger)
    assert found.startswith(f"task {task}: {column} is ") and "the fold gives" in found
    queue.rebuild(ledger)
    assert queue.verify(ledger) == []


def test_verify_finds_missing_and_foreign_rows(ledger: Ledger) -> None:
    """A row deleted by hand and a row that no event gave are both named."""
    gone, other, _ = fill(ledger)
    queue.catch_up_all(ledger)
    with ledger.store.write() as unit:
        unit.run("DELETE FROM queue WHERE task_id = ?", (gone,))
        unit.run("UPDATE queue SET task_id = 'ghost' WHERE task_id = ?", (other,))

    assert queue.verify(ledger) == [
        f"task {gone}: the live row is missing",
        f"task {other}: the live row is missing",
        "task ghost: a live row that the log does not give",
    ]


@pytest.mark.parametrize("act", [queue.catch_up_all, queue.rebuild])
def test_a_damaged_event_stops_the_view_at_its_position(ledger: Ledger, act: Any) -> None:
    """An event that cannot be read is named by position, also one of a task that has ended; the view stays as it was."""
    tasks = fill(ledger)
    queue.catch_up_all(ledger)
    ledger.cancel(tasks[1], reason="test")
    ledger.close()
    damaged = 4 if act is queue.catch_up_all else 2
    damage(ledger, damaged)
    with pytest.raises(CorruptEvent, match=f"position {damaged}"):
        act(ledger)

    with ledger.store.read() as snapshot:
        assert [row[1] for row in snapshot.rows(queue.SQL["all_rows"])] == tasks


PLACES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(-2, 2), st.booleans()), max_size=30
)


@given(PLACES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_heads_are_the_first_tasks_of_the_distinct_places(
    places: list[tuple[str, str, int, bool]], keyed: bool
) -> None:
    """The jumps through the index find the first task of each (name, queue, priority) that waits, once, in order."""
    check_heads(memory_ledger(), places, keyed)


@given(PLACES, st.booleans())
@settings(max_examples=25, deadline=None)
def test_heads_are_the_first_tasks_of_the_distinct_places_on_postgres(
    postgres_ledgers: Callable[[], Ledger], places: list[tuple[str, str, int, bool]], keyed: bool
) -> None:
    """The same on PostgreSQL."""
    check_heads(postgres_ledgers(), places, keyed)


def check_heads(ledger: Ledger, places: list[tuple[str, str, int, bool]], keyed: bool) -> None:
    functions = {name: ledger.task(name=name)(lambda: None) for name in "abc"}
    for name, in_queue, priority, is_later in places:
        later = timedelta(days=is_later)
        key = "k" if keyed else None
        functions[name].using(queue=in_queue, priority=priority, run_after=later, concurrency_key=key).enqueue()
    queue.catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        found = snapshot.rows(queue.SQL["keyed_heads" if keyed else "heads"])
        other = snapshot.rows(queue.SQL["heads" if keyed else "keyed_heads"])
        rows = snapshot.rows(queue.SQL["all_rows"])

    assert [row[4:7] for row in found] == sorted({place[:3] for place in places})
    firsts: dict[Any, Any] = {}
    for row in sorted(rows, key=lambda row: (row[7], row[0])):
        firsts.setdefault(row[4:7], row)
    assert found == [firsts[place] for place in sorted(firsts)]
    assert other == []


HOT = (
    "lost_rows",
    *("heads", "keyed_heads", "due_rows", "keyed_due_rows", "due_rows_of_key", "keys", "next_due", "keyed_next_due"),
    *("rows_of_worker", "row_of_task", "requests", "running_counts", "expired_rows", "next_expiry"),
)


@pytest.mark.parametrize("statement", HOT)
def test_no_hot_statement_scans_the_rows_on_postgres(postgres_url: str, statement: str) -> None:
    """What a cycle asks is answered from indexes, however many tasks wait, and in their order, where it has one."""
    ledger = declared(Ledger(postgres_url))
    fill(ledger)
    queue.catch_up_all(ledger)
    text, _ = adapted(queue.SQL[statement], dict.fromkeys(("name", "queue", "priority", "after", "most")))
    parameters = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", text))))
    with ledger.store.write() as unit:
        unit.run("SET LOCAL enable_seqscan = off")  # three rows would be scanned
        unit.run("SET LOCAL enable_bitmapscan = off")
        unit.run("SET LOCAL plan_cache_mode = force_generic_plan")
        unit.run(f"PREPARE hot AS {text}")
        plan = unit.rows("EXPLAIN EXECUTE hot" + (f" ({parameters})" if parameters else ""))
        unit.run("DEALLOCATE hot")
    ledger.close()
    steps = [row[0].strip("-> ") for row in plan]

    assert any(step.startswith("Index") for step in steps), steps
    assert not [step for step in steps if step.startswith("Seq Scan")], steps
    if statement not in ("heads", "keyed_heads", "running_counts"):  # these sort what they have found: few groups
        assert not [step for step in steps if step.startswith(("Sort", "Incremental Sort"))], steps


@pytest.mark.parametrize("statement", HOT)
def test_no_hot_statement_scans_the_rows(tmp_path: Path, statement: str) -> None:
    """What a cycle asks is answered from indexes, however many tasks wait."""
    ledger = declared(Ledger(f"sqlite:///{tmp_path}/work.db"))
    fill(ledger)
    queue.catch_up_all(ledger)
    sql = queue.SQL[statement]
    named = dict.fromkeys(("name", "queue", "priority", "after", "most"))
    with ledger.store.read() as snapshot:
        given: Any = named if ":name" in sql else [None] * len(set(re.findall(r"\?\d", sql)) or re.findall(r"\?", sql))
        steps = [row[3] for row in snapshot.rows("EXPLAIN QUERY PLAN " + sql, given)]
    ledger.close()

    small = ("SCAN g", "SCAN k", "SCAN CONSTANT ROW", "SCAN json_each", "SCAN (subquery")
    assert not [
        step for step in steps if step.startswith("SCAN") and "USING" not in step and not step.startswith(small)
    ]
    assert not [step for step in steps if "ORDER BY" in step]
    if statement == "lost_rows":
        assert any("queue_lost" in step for step in steps), steps
    if statement == "heads":
        assert any("(name=? AND queue=? AND priority>?)" in step for step in steps), steps


def test_views_of_an_older_shape_are_made_anew(ledger: Ledger) -> None:
    """Tables that an older version left behind are dropped and folded again up to the checkpoint they share."""
    tasks = fill(ledger)
    ledger.schedule("0 3 * * *", name="nightly")(lambda: None)
    ledger.schedules.register()
    queue.catch_up_all(ledger)
    with ledger.store.write() as unit:
        unit.run("DROP INDEX queue_expires")
        unit.run("ALTER TABLE queue DROP COLUMN expires_us")
        unit.run("ALTER TABLE workers ADD COLUMN beard TEXT")
        unit.run("ALTER TABLE schedules DROP COLUMN failures")
    ledger.cancel(tasks[0], reason="after the checkpoint")

    assert queue.verify(ledger) == schedules.verify(ledger) == []
    with ledger.store.read() as snapshot:
        assert queue.is_prepared(snapshot)
        assert len(snapshot.rows("SELECT * FROM queue")) == 2
        assert len(snapshot.rows("SELECT * FROM schedules")) == 1
