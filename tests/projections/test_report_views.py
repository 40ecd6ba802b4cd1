"""The report views tell what the log tells: checked against what a few lines of Python count in the raw log."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger
from ledger.codec import EVENT_CLASSES
from ledger.sqlite import SqliteStore
from projections.hourly import BOUNDS_US, Buckets
from projections.report_file import SCRATCH, ReportFile
from projections.report_views import VIEWS
from projections.reports import Reports
from projections.verifying import fold_afresh
from tests.databases import by_driver
from tests.projections.everything import SECRET, fill, ledger_of

FROZEN = Path(__file__).parents[1] / "frozen" / "report_v1.json"
ENDS = ("TaskSucceeded", "TaskFailed", "TaskDelayed", "AttemptLost", "AttemptInterrupted", "TaskCancelled")
NAMES = {kind: kind.removeprefix("Task").removeprefix("Attempt").lower() for kind in ENDS}


@pytest.fixture(scope="module")
def ledger(module_url: str) -> Iterator[Ledger]:
    """A ledger to which everything has happened, its reports at the head."""
    ledger = ledger_of(module_url)
    fill(ledger)
    Reports(ledger).catch_up()
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def log(ledger: Ledger) -> list[dict[str, Any]]:
    """The log as plain JSON, read by plain SQL."""
    with by_driver(ledger) as ask:
        rows = ask("SELECT position, stream, version, topic, CAST(data AS text) FROM events ORDER BY position")
    return [
        {**json.loads(data), "position": p, "stream": s, "version": v, "type": t.removesuffix(".v1")}
        for p, s, v, t, data in rows
    ]


def query(ledger: Ledger, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    """The rows of a query on the views, as reporting SQL names them."""
    with Reports(ledger).read() as unit:
        columns = unit.columns(sql, parameters)
        return [dict(zip(columns, row, strict=True)) for row in unit.rows(sql, parameters)]


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def of_tasks(log: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each event of a task with its TaskQueued."""
    queued: dict[str, dict[str, Any]] = {}
    for event in log:
        if event["stream"].startswith("task:"):
            queued.setdefault(event["stream"], event)
            yield event, queued[event["stream"]]


def test_columns_are_only_ever_added(ledger: Ledger) -> None:
    """Every column of the released contract is there with its type; a new one is written down with it."""
    sql = (
        "SELECT m.name, c.name, c.type FROM sqlite_master AS m, pragma_table_info(m.name) AS c"
        " WHERE m.type = 'table' ORDER BY m.name, c.cid"
        if isinstance(ledger.store, SqliteStore)
        else "SELECT table_name, column_name, data_type || coalesce(' ' || collation_name, '')"
        " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position"
    )
    types = {"text C": "TEXT", "bigint": "INTEGER", "double precision": "REAL"}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    with by_driver(ledger, of_reports=True) as ask:
        for table, column, kind in ask(sql):
            found[table][column] = types.get(kind, kind)
    assert found == json.loads(FROZEN.read_text())
    for view in VIEWS:
        for table in view.tables:
            assert list(found[table.name]) == list(table.columns)


def test_the_log_holds_all_that_the_views_tell_of(log: list[dict[str, Any]]) -> None:
    """What follows is checked on a log that has an event of every type there is."""
    assert {kind.__name__ for kind in EVENT_CLASSES} == {event["type"] for event in log}


def test_events_are_the_log(ledger: Ledger, log: list[dict[str, Any]]) -> None:
    """Each event has one row that says all that it says, but for what is hidden."""
    rows = query(ledger, "SELECT * FROM report_v1.events ORDER BY position")
    assert len(rows) == len(log)
    for row, event in zip(rows, log, strict=True):
        for name in ("position", "stream", "version", "type", "actor", "command"):
            assert row[name] == event[name]
        assert (moment(row["at"]), row["reason"]) == (moment(event["at"]), event.get("reason"))
        data = json.loads(row["data"])
        if event.get("hidden"):
            assert data.pop("args") == {**event.pop("args"), "password": "[hidden]"}
        for name in data:
            both = (moment(data[name]), moment(event[name])) if name.endswith("_at") else (data[name], event[name])
            assert both[0] == both[1], name
        assert data.keys() == event.keys() - {
            "position",
            "stream",
            "version",
            "type",
            "at",
            "actor",
            "reason",
            "command",
        }


def test_attempts_have_one_row_each(ledger: Ledger, log: list[dict[str, Any]]) -> None:
    """Every claim is an attempt, with the outcome, worker, times and error that the log gives it."""
    wanted: dict[tuple[str, int], dict[str, Any]] = {}
    for event, queued in of_tasks(log):
        key = (event["stream"][5:], event.get("attempt"))
        if event["type"] == "TaskClaimed":
            wanted[key] = {"name": queued["name"], "worker": event["worker"], "outcome": "running"}
            wanted[key] |= {"claimed_position": event["position"], "ended_position": None}
        elif event["type"] in ENDS and key in wanted:
            wanted[key] |= {"outcome": NAMES[event["type"]], "ended_position": event["position"]}
            wanted[key]["error_type"] = (event.get("error") or {}).get("type")
            if event["type"] == "AttemptLost":
                wanted[key]["error_type"] = "AttemptLost"
    rows = {(row["task_id"], row["attempt"]): row for row in query(ledger, "SELECT * FROM report_v1.attempts")}
    assert rows.keys() == wanted.keys()
    for key, fields in wanted.items():
        assert {name: rows[key][name] for name in fields} == fields
    [printed, _] = query(ledger, "SELECT * FROM report_v1.attempts WHERE cpu_ms = 250.0")
    assert printed["peak_rss_bytes"] == 1_000_000


def test_hours_count_what_happened_in_them(ledger: Ledger, log: list[dict[str, Any]]) -> None:
    """Counts per hour, name and queue are those of the log, and no percentile is below the true one or 10 % above."""
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    runs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    claimed: dict[tuple[str, int], str] = {}
    columns = {"TaskQueued": "queued", "TaskClaimed": "started", "TaskSucceeded": "succeeded",
               "TaskCancelled": "cancelled", "AttemptInterrupted": "interrupted"}  # fmt: skip
    for event, queued in of_tasks(log):
        key = (event["at"][:13], queued["name"], queued["queue"])
        kind = event["type"]
        if kind in columns:
            counts[key][columns[kind]] += 1
        if kind in ("TaskFailed", "TaskDelayed", "AttemptLost"):
            counts[key]["failed" if event["final"] else "retried"] += 1
            counts[key]["lost"] += kind == "AttemptLost"
        attempt = (event["stream"], event.get("attempt", 0))
        if kind == "TaskClaimed":
            claimed[attempt] = event["at"]
        if kind in ENDS and "attempt" in event:
            began = moment(event.get("started_at", claimed[attempt]))
            ended = moment(event.get("finished_at", event["at"]))
            assert began is not None and ended is not None
            runs[key].append((ended - began).total_seconds() * 1000)
    rows = query(ledger, "SELECT * FROM report_v1.hourly")
    assert {(row["hour"][:13], row["name"], row["queue"]) for row in rows} == counts.keys()
    assert len({row["hour"] for row in rows}) >= 3
    for row in rows:
        key = (row["hour"][:13], row["name"], row["queue"])
        names = ("queued", "started", "succeeded", "failed", "retried", "lost", "interrupted", "cancelled")
        assert {name: row[name] for name in names} == {name: counts[key][name] for name in names}
        if not runs[key]:
            assert row["run_max_ms"] is None
            continue
        ordered = sorted(runs[key])
        assert row["run_max_ms"] == pytest.approx(ordered[-1])
        for column, share in (("run_p50_ms", 0.5), ("run_p95_ms", 0.95)):
            true = ordered[math.ceil(share * len(ordered)) - 1]
            assert true - 0.001 <= row[column] <= true * 1.1 + 0.001


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_is_the_bound_of_its_bucket(durations: list[float], share: float) -> None:
    """Whatever the durations, a percentile is at least the true one (to the microsecond) and at most 9.1 % above."""
    buckets = Buckets()
    for milliseconds in durations:
        buckets.add(milliseconds)
    true = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found = buckets.percentile(share)

    assert found is not None
    assert true - 0.0006 <= found <= max(true * 2 ** (1 / 8) + 0.002, 0.002)
    assert found <= max(durations)
    assert list(BOUNDS_US) == sorted(BOUNDS_US)


def test_queues_and_workers_add_up(ledger: Ledger, log: list[dict[str, Any]]) -> None:
    """The counts of each queue are those of its tasks' states; those of each worker, of its attempts' outcomes."""
    states = query(ledger, "SELECT queue, state, count(*) AS n FROM report_v1.tasks GROUP BY queue, state")
    by_queue: dict[str, dict[str, int]] = defaultdict(dict)
    for row in states:
        by_queue[row["queue"]][row["state"]] = row["n"]
    for row in query(ledger, "SELECT * FROM report_v1.queues"):
        has = {s: row[s] for s in ("waiting", "running", "succeeded", "failed", "cancelled")}
        assert has == {s: by_queue[row["queue"]].get(s, 0) for s in has}
        assert row["queued"] == sum(has.values())
        paused = (1, "user:ann", "once more") if row["queue"] == "mail" else (0, None, None)
        assert (row["is_paused"], row["paused_by"], row["pause_reason"]) == paused
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in query(ledger, "SELECT worker, outcome FROM report_v1.attempts"):
        outcomes[row["worker"]][row["outcome"]] += 1
    rejected = Counter(event["worker"] for event in log if event["type"] == "LateResultRejected")
    found = {row["worker_id"]: row for row in query(ledger, "SELECT * FROM report_v1.workers")}
    assert outcomes.keys() <= found.keys()
    for worker, counted in outcomes.items():
        row = found[worker]
        assert row["claimed"] == sum(counted.values())
        assert {name: row[name] for name in NAMES.values()} == {name: counted[name] for name in NAMES.values()}
        assert row["rejected"] == rejected[worker]


def test_operators_are_those_who_acted(ledger: Ledger) -> None:
    """Acts by hand are listed with their reasons; queueing and what workers record are none."""
    rows = query(ledger, "SELECT actor, action, target, name, reason FROM report_v1.operators ORDER BY position")
    [lost] = {row["target"].removeprefix("inbox:") for row in rows if row["action"] == "InboxDiscarded"}
    acts = [(row["action"], row["name"], row["reason"]) for row in rows if row["actor"] == "user:bob"]
    assert acts == [
        ("TaskRetried", "doomed", "once more"),
        ("TaskRescheduled", "flaky", "not yet"),
        ("TaskCancelled", "flaky", "not at all"),
        ("ScheduleCustomised", "often", "more often"),
        ("ScheduleDisabled", "often", "enough"),
        ("ComponentDisabled", None, "all of it"),
        ("QueuePaused", "mail", "mail host moves"),
        ("QueueResumed", "mail", "moved"),
        ("CancelRequested", "flaky", "stop it"),
        ("OutputPruned", "flaky", "space"),
        ("InboxDiscarded", lost, "space"),
    ]
    [nightly] = query(ledger, "SELECT task_id FROM report_v1.tasks WHERE name = 'nightly'")
    run = nightly["task_id"]
    [measured] = {row["target"].removeprefix("forks:") for row in rows if row["action"] == "ForkQueued"}
    assert [(row["action"], row["target"]) for row in rows if row["actor"] == "user:ann"] == [
        ("QueuePaused", "queue:mail"),
        ("ScheduleDisabled", "schedule:nightly"),
        ("ScheduleEnabled", "schedule:nightly"),
        ("ScheduleCustomised", "schedule:nightly"),
        ("ScheduleReset", "schedule:nightly"),
        ("ComponentDisabled", "ledger"),
        ("ComponentEnabled", "ledger"),
        ("RunRequested", "schedule:nightly"),
        ("FailDelayCleared", "schedule:nightly"),
        ("TaskCancelled", f"task:{run}"),
        ("LimitChanged", "limit:task:flaky"),
        ("RunnersDisabled", "ledger"),
        ("RunnersEnabled", "ledger"),
        ("CachesCleared", "ledger"),
        ("ReadRecorded", f"reads:{measured}"),
        ("ForkQueued", f"forks:{measured}"),
        ("StopRequested", "ledger"),
        ("ScheduleRetired", "schedule:nightly"),
    ]
    assert not {row["action"] for row in rows} & {"TaskQueued", "TaskClaimed", "TaskSucceeded", "SlotFired"}


def test_firings_tell_the_fate_of_each_slot(ledger: Ledger, log: list[dict[str, Any]]) -> None:
    """Every fired slot and every span of missed ones has a row; the schedule's row adds them up and names its last run."""
    rows = query(ledger, "SELECT * FROM report_v1.firings ORDER BY position")
    fired = [event for event in log if event["type"] in ("SlotFired", "RunRequested")]
    missed = [event for event in log if event["type"] == "SlotsMissed"]
    assert [row["task_id"] for row in rows if row["decision"] == "queued"] == [event["task"] for event in fired]
    assert [(row["count"], row["cause"]) for row in rows if row["task_id"] is None] == [
        (event["count"], event["cause"]) for event in missed
    ]
    nightly, schedule = query(ledger, "SELECT * FROM report_v1.schedules ORDER BY name")
    assert (nightly["status"], nightly["fired"]) == ("retired", 1)
    *fired, asked = fired
    assert (schedule["fired"], schedule["missed"]) == (len(fired), sum(event["count"] for event in missed))
    assert (schedule["last_task"], schedule["last_outcome"]) == (fired[-1]["task"], "succeeded")
    assert (nightly["last_task"], asked["actor"]) == (asked["task"], "user:ann")
    assert (schedule["is_enabled"], schedule["is_component_off"], schedule["is_customised"]) == (0, 1, 1)
    assert (schedule["fields"], schedule["changed_by"], schedule["change_reason"]) == (
        "*/5 * * * *",
        "user:bob",
        "enough",
    )
    component = query(ledger, "SELECT * FROM report_v1.components ORDER BY component")[-1]
    assert (component["component"], component["is_disabled"], component["reason"]) == ("reporting", 1, "all of it")


def test_output_is_known_by_its_digest(ledger: Ledger) -> None:
    """What outcomes say of output is there, and when it was pruned."""
    rows = query(ledger, "SELECT * FROM report_v1.output WHERE sha256 = ? ORDER BY task_id", "ab" * 32)
    assert [(row["bytes"], row["lines"], row["dropped_bytes"], row["dropped_lines"]) for row in rows] == [
        (120, 3, 7, 1)
    ] * 2
    assert [row["pruned_at"] is not None for row in rows] == [True, False]


def test_the_views_say_how_fresh_they_are(ledger: Ledger, log: list[dict[str, Any]]) -> None:
    """Table meta has each view at the head, with the time of the last event."""
    for row in query(ledger, "SELECT * FROM report_v1.meta"):
        assert (row["checkpoint"], row["head"], row["lag"], row["error"]) == (len(log), len(log), 0, None)
        assert moment(row["newest_at"]) == moment(log[-1]["at"])


def test_hidden_arguments_are_in_no_report(ledger: Ledger) -> None:
    """The value of a hidden argument is in the log, and in no cell of a view; nor in any byte of the report file."""
    with by_driver(ledger) as ask:
        assert SECRET in str(ask("SELECT CAST(data AS text) FROM events"))
    with by_driver(ledger, of_reports=True) as ask:
        cells = str([ask(f"SELECT * FROM {table.name}") for view in VIEWS for table in view.tables])
    assert "[hidden]" in cells
    assert SECRET not in cells
    if isinstance(ledger.store, SqliteStore):
        path = Path(ledger.store.path)
        assert SECRET.encode() in b"".join(file.read_bytes() for file in path.parent.glob("work.db*"))
        assert SECRET.encode() not in b"".join(file.read_bytes() for file in path.parent.glob("work.reports.db*"))


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_borders_of_batches_change_no_row(ledger: Ledger, batch: int) -> None:
    """Folded event by event, by seven or by hundred, every table has the same rows as in one batch."""
    assert all_rows(ledger, batch) == all_rows(ledger, 1_000_000)


def all_rows(ledger: Ledger, batch: int) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table after a fresh fold in batches of *batch* events."""
    reports = Reports(ledger)
    scratch = ReportFile(SCRATCH)
    fold_afresh(ledger.store, scratch, reports.keepers[0], VIEWS, reports.checkpoint(), batch)
    with scratch.read() as unit:
        rows = {
            table.name: unit.rows(f"SELECT * FROM {table.name} ORDER BY 1, 2")
            for view in VIEWS
            for table in view.tables
        }
    scratch.close()
    assert all(rows.values())
    return rows
