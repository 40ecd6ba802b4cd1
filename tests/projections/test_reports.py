"""The report view `tasks`: it says what the log says, catches up, rebuilds, and notices when a cell was changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import CorruptEvent, Ledger, Retry, StorageUnavailable
from ledger import commands as c
from ledger.acts import act_on
from ledger.ids import mint
from projections.reports import Reports, report_path
from tests.databases import by_driver, delete, insert, with_schema

WORKER = "w1"
ERROR = {"type": "ValueError", "message": "no \x1b[31msuch\x1b[0m mailbox", "traceback": "…"}


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger with one task, `add`, which gives up after two attempts, on each kind of database."""
    ledger = Ledger(url)

    @ledger.task(max_attempts=2, retry=Retry(first=60))
    def add(a: int, b: int = 2) -> int:
        return a + b

    yield ledger
    ledger.close()


def queue(ledger: Ledger, a: int = 1, **options: Any) -> str:
    """Queue one `add` and return its id."""
    return ledger.enqueue(ledger.functions["add"].using(**options).call(a)).id


def do(ledger: Ledger, task_id: str, *commands: c.Command, seconds: float = 0) -> datetime:
    """Carry out *commands* on a task as a worker would, *seconds* after the present, and return that moment."""
    with ledger.store.write() as unit:
        at = unit.now + timedelta(seconds=seconds)
        for command in commands:
            act_on(unit, task_id, command, c.Act(id=mint(at), at=at, actor="worker:" + WORKER))
    return at


def claim(ledger: Ledger, task_id: str, seconds: float = 0) -> datetime:
    """Claim a task."""
    return do(ledger, task_id, c.Claim(worker=WORKER, seen=0), seconds=seconds)


def succeed(ledger: Ledger, task_id: str, attempt: int = 1, run_ms: int = 40) -> None:
    """Claim a task and report its success after *run_ms*."""
    started = claim(ledger, task_id)
    finished = started + timedelta(milliseconds=run_ms)
    do(ledger, task_id, c.Succeed(attempt=attempt, worker=WORKER, started_at=started, finished_at=finished, result=[3]))


def fail(ledger: Ledger, task_id: str, attempt: int = 1) -> None:
    """Report the failure of the running attempt."""
    failure = c.Fail(attempt=attempt, worker=WORKER, started_at=None, finished_at=None, error=ERROR)  # type: ignore[arg-type]
    do(ledger, task_id, failure)


def change(reports: Reports, sql: str, *parameters: Any) -> None:
    """Change the report file behind the view's back."""
    with by_driver(reports.ledger, of_reports=True) as ask:
        ask(sql, *parameters)


def a_little_of_everything(ledger: Ledger) -> dict[str, str]:
    """Queue one task for each fate and return their ids by it."""
    ids = {fate: queue(ledger, i) for i, fate in enumerate(("waiting", "succeeded", "retried", "lost", "cancelled"))}
    succeed(ledger, ids["succeeded"])
    claim(ledger, ids["retried"])
    fail(ledger, ids["retried"])
    claim(ledger, ids["lost"])
    do(ledger, ids["lost"], c.Lose(attempt=1, worker=WORKER, cause="killed by signal 9"))
    ledger.cancel(ids["cancelled"], reason="not needed")
    return ids


def test_a_row_says_what_the_task_itself_says(ledger: Ledger) -> None:
    """Whatever became of a task, its row and its stream give one and the same summary, key by key."""
    ids = a_little_of_everything(ledger)
    reports = Reports(ledger)
    reports.catch_up()
    rows = {row.task_id: row.summary() for row in reports.list_tasks()}
    for task_id in ids.values():
        record = ledger.get(task_id).record.summary()
        row = rows[task_id]
        assert row.keys() == record.keys()
        for key, value in record.items():
            if isinstance(value, datetime):
                assert datetime.fromisoformat(row[key]) == value
            else:
                assert row[key] == value, key


def test_times_sort_as_text_and_durations_are_the_workers(ledger: Ledger) -> None:
    """Times have a fixed width; a run lasts as long as the worker reported, a wait from due to claim."""
    task_id = queue(ledger, run_after=datetime(2020, 1, 1, tzinfo=UTC))
    succeed(ledger, task_id, run_ms=1500)
    reports = Reports(ledger)
    reports.catch_up()
    [row] = reports.slowest(5)
    assert row.run_ms == 1500.0
    assert row.due_at == "2020-01-01T00:00:00.000000Z"
    assert row.queued_at.endswith("Z") and len(row.queued_at) == len(row.due_at) == len(row.finished_at or "")
    assert row.wait_ms is not None and row.wait_ms < 60_000


def test_catching_up_in_steps_gives_the_rows_of_one_fold(ledger: Ledger) -> None:
    """Folding event after event, over several objects, ends with the rows that a fresh fold gives."""
    task_id = queue(ledger)
    for attempt in (1, 2):
        Reports(ledger).catch_up()
        claim(ledger, task_id, seconds=3600 * attempt)
        Reports(ledger).catch_up()
        fail(ledger, task_id, attempt)
    ledger.retry(task_id, reason="mailbox is back")
    reports = Reports(ledger)
    assert reports.verify() == []
    [row] = reports.list_tasks()
    assert (row.state, row.attempt, row.attempts_used, row.error_type) == ("waiting", 2, 0, "ValueError")


def test_a_late_result_and_a_loss_are_counted(ledger: Ledger) -> None:
    """The row counts the attempts that were lost and the results that came too late."""
    task_id = queue(ledger)
    started = claim(ledger, task_id)
    do(ledger, task_id, c.Lose(attempt=1, worker=WORKER, cause="lease ran out"))
    late = c.Succeed(attempt=1, worker=WORKER, started_at=started, finished_at=started, result=1)
    do(ledger, task_id, late)
    reports = Reports(ledger)
    reports.catch_up()
    [row] = reports.lost(10)
    assert (row.lost_attempts, row.late_results, row.error_type) == (1, 1, "AttemptLost")
    assert [found.task_id for found in reports.failures(10)] == [task_id]


def test_pages_by_key_show_every_task_once(ledger: Ledger) -> None:
    """Paging with `after` shows each task once, newest first, also while tasks are added."""
    ids = [task.id for task in ledger.enqueue_many(ledger.functions["add"].call(i) for i in range(25))]
    reports = Reports(ledger)
    reports.catch_up()
    seen: list[str] = []
    after = None
    while page := reports.list_tasks(limit=10, after=after):
        seen += [row.task_id for row in page]
        after = page[-1].first_position
        queue(ledger)
        reports.catch_up()
    assert seen == ids[::-1]


def test_filters_hold_together(ledger: Ledger) -> None:
    """State, name and queue narrow the list, alone and combined."""
    ids = a_little_of_everything(ledger)
    other = queue(ledger, queue="mail")
    reports = Reports(ledger)
    reports.catch_up()
    assert [row.task_id for row in reports.list_tasks(state="succeeded")] == [ids["succeeded"]]
    assert [row.task_id for row in reports.list_tasks(state="waiting", name="add", queue="mail")] == [other]
    assert [row.task_id for row in reports.list_tasks(name="add", queue="mail")] == [other]
    assert reports.list_tasks(state="waiting", name="no such name") == []
    assert reports.counts_per_state() == {"waiting": 4, "succeeded": 1, "cancelled": 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "failed"), ("attempts_used", 7), ("result", "[4]"), ("error_message", None), ("fold", "[]")],
)
def test_verify_names_a_changed_cell(ledger: Ledger, column: str, value: Any) -> None:
    """A cell changed behind the view's back is found, with its row, column, live and folded value."""
    ids = a_little_of_everything(ledger)
    task_id = ids["retried"]
    reports = Reports(ledger)
    assert reports.verify() == []
    change(reports, f"UPDATE tasks SET {column} = ? WHERE task_id = ?", value, task_id)
    [difference] = reports.verify()
    assert task_id in difference and f"{column} is {value!r}, the fold gives" in difference


def test_verify_finds_missing_and_foreign_rows(ledger: Ledger) -> None:
    """A deleted row is named, and so is one that no event accounts for; a rebuild makes both good."""
    ids = a_little_of_everything(ledger)
    reports = Reports(ledger)
    assert reports.verify() == []
    change(reports, "DELETE FROM tasks WHERE task_id = ?", ids["waiting"])
    change(reports, "UPDATE tasks SET task_id = 'forged' WHERE task_id = ?", ids["lost"])
    found = reports.verify()
    assert [line.split(":")[0] for line in found] == [f"task {ids['waiting']}", f"task {ids['lost']}", "task forged"]
    with ledger.store.read() as snapshot:
        assert reports.rebuild() == snapshot.head()
    assert reports.verify() == []


def test_a_rebuild_that_fails_leaves_the_live_table(ledger: Ledger) -> None:
    """An unreadable event stops a rebuild with its position, and the rows that stood before still answer."""
    task_id = queue(ledger)
    reports = Reports(ledger)
    reports.catch_up()
    insert(ledger, 2, "task:x", 1, "TaskQueued.v9")
    with pytest.raises(CorruptEvent, match="position 2"):
        reports.rebuild()
    with pytest.raises(CorruptEvent, match="position 2"):
        reports.catch_up()
    assert [row.task_id for row in reports.list_tasks()] == [task_id]


def test_another_log_at_the_same_path_is_folded_anew(ledger: Ledger) -> None:
    """Reports left over from a deleted ledger are not mixed with those of the new one."""
    a_little_of_everything(ledger)
    Reports(ledger).catch_up()
    ledger.close()
    delete(ledger)
    again = Ledger(ledger.url)
    again.task(name="add")(lambda a: a)
    new = again.enqueue(again.functions["add"].call(1)).id
    reports = Reports(again)
    reports.catch_up()
    assert [row.task_id for row in reports.list_tasks()] == [new]
    assert reports.verify() == []
    again.close()


def test_reports_lie_beside_the_ledger_and_may_be_deleted(ledger: Ledger, url: str, tmp_path: Path) -> None:
    """They have a file in WAL mode or a schema; without it they are built again, without a ledger not at all."""
    queue(ledger)
    reports = Reports(ledger)
    reports.catch_up()
    is_file = url.startswith("sqlite:")
    with by_driver(ledger, of_reports=True) as ask:
        if is_file:
            assert (reports.path, ask("PRAGMA journal_mode")) == (str(tmp_path / "work.reports.db"), [("wal",)])
        else:
            schema = f"{url.rpartition('=')[2]}_report_v1"
            assert (schema,) in ask("SELECT schemaname FROM pg_tables WHERE tablename = 'meta_building'")
            ask(f"DROP SCHEMA {schema} CASCADE")
    reports.close()
    if is_file:
        Path(reports.path).unlink()
    Reports(ledger).catch_up()
    assert len(Reports(ledger).list_tasks()) == 1
    missing = Reports(Ledger(f"sqlite:///{tmp_path}/none.db" if is_file else with_schema(url)))
    with pytest.raises(StorageUnavailable, match="no ledger"):
        missing.catch_up()
    assert not missing.file.exists()
    missing.ledger.close()


def test_several_processes_may_catch_up_at_once(ledger: Ledger) -> None:
    """Processes that fold the same log into the same file at once leave the rows of one fold."""
    ids = [task.id for task in ledger.enqueue_many(ledger.functions["add"].call(i) for i in range(5_000))]
    code = "import sys; from ledger import Ledger; from projections.reports import Reports; "
    code += "print(Reports(Ledger(sys.argv[1])).catch_up())"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, ledger.url]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [int(process.communicate()[0]) for process in processes] == [5_000] * 4
    reports = Reports(ledger)
    assert reports.counts_per_state() == {"waiting": len(ids)}
    assert reports.verify() == []


def test_a_ledger_in_memory_has_reports_in_memory() -> None:
    """In memory, nothing is written to any file."""
    ledger = Ledger("memory:")
    ledger.task(name="add")(lambda a: a)
    ledger.enqueue(ledger.functions["add"].call(1))
    reports = Reports(ledger)
    reports.catch_up()
    assert report_path(ledger.store.path) == ":memory:"
    assert len(reports.list_tasks()) == 1
    assert reports.verify() == []


def test_damaged_reports_are_said_and_built_again(ledger: Ledger) -> None:
    """There are only views: where the file is none, or a table is gone, reading says what to do, and a rebuild does it."""
    queue(ledger)
    reports = Reports(ledger)
    reports.catch_up()
    reports.close()
    if reports.dialect == "sqlite":
        Path(reports.path).write_bytes(b"no database" * 1000)
    else:
        change(reports, "DROP TABLE events")
        queue(ledger)
    reports = Reports(ledger)
    with pytest.raises(StorageUnavailable, match="holds nothing but views: `projection rebuild`"):
        reports.catch_up()
    reports = Reports(ledger)
    assert reports.rebuild() == sum(reports.counts_per_state().values()) > 0
    assert reports.verify() == []
