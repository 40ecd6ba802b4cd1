"""Pruning: output goes by age and by number, never that of a running attempt, never an event, and always on record."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Conflict, InvalidOption, Ledger
from ledger import commands as c
from ledger.acts import act_on
from ledger.ids import mint
from ledger.ledger_events import OutputPruned
from ledger.output import PRUNING_SQL as SQL
from ledger.output import Chunk, Printed, output_stream, pruned, put
from ledger.postgres import PostgresStore
from ledger.task import TaskState
from ledger.testing import ManualClock
from runner.check import check
from runner.prune import Pruned, Rules, prune, would_prune
from tests.databases import execute, in_memory
from tests.processes import call
from tests.runner.keeping import begin, end

ROOT = Path(__file__).parents[2]
BASE = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHY = "a test"


def hourly(ledger: Ledger, clock: ManualClock, *names: str, count: int = 72) -> dict[str, list[str]]:
    """Let each name run once in each of the last *count* hours before BASE; return task ids by name, newest first."""
    ids: dict[str, list[str]] = {name: [] for name in names}
    for hours in range(count - 1, -1, -1):
        clock.advance_to(BASE - hours * HOUR)
        for name in names:
            state, printed = begin(ledger, name, f"{name} {hours} hours before\n")
            end(ledger, state, printed)
            ids[name].insert(0, state.task_id)
    clock.advance_to(BASE + timedelta(seconds=1))
    return ids


def kept(ledger: Ledger, ids: list[str]) -> list[int]:
    """Which of the tasks, counted from the newest, still have output."""
    return [index for index, task_id in enumerate(ids) if ledger.get(task_id).output()]


def events(ledger: Ledger) -> list[OutputPruned]:
    with ledger.store.read() as snapshot:
        return [
            event for name in ledger.functions for _, event in snapshot.stream(output_stream(name))
            if isinstance(event, OutputPruned)
        ]  # fmt: skip


def new(make_ledger: Callable[..., Ledger] = in_memory) -> tuple[Ledger, ManualClock]:
    clock = ManualClock(BASE - 100 * HOUR)
    return make_ledger(clock), clock


@pytest.mark.parametrize(("days", "left"), [(2, 48), (1, 24), (0.5, 12), (28, 72), (0, 0)])
def test_output_older_than_so_many_days_goes(days: float, left: int) -> None:
    """Of 72 hourly runs those that began within the time stay (vector 125)."""
    ledger, clock = new()
    ids = hourly(ledger, clock, "report")
    prune(ledger, Rules(days=days, runs=1_000), reason=WHY)
    assert kept(ledger, ids["report"]) == list(range(left))
    assert check(ledger, is_deep=True).problems == []


@pytest.mark.parametrize(("runs", "left"), [(144, 72), (72, 72), (24, 24), (5, 5), (0, 0)])
def test_of_each_name_the_newest_stay(runs: int, left: int) -> None:
    """Of two names with 72 runs each, the newest of each stay; 0 keeps none (vector 126)."""
    ledger, clock = new()
    ids = hourly(ledger, clock, "a", "b")
    prune(ledger, Rules(days=36_500, runs=runs), reason=WHY)
    assert [kept(ledger, ids[name]) for name in "ab"] == [list(range(left))] * 2
    assert check(ledger, is_deep=True).problems == []


def test_both_rules_hold_beside_each_other(make_ledger: Callable[..., Ledger]) -> None:
    """Two days leave 48 of each name although 50 may stay; then ten runs leave ten (vectors 127 and 128)."""
    ledger, clock = new(make_ledger)
    ids = hourly(ledger, clock, "a", "b")
    done = prune(ledger, Rules(days=2, runs=50), reason=WHY)
    assert [kept(ledger, ids[name]) for name in "ab"] == [list(range(48))] * 2
    assert {(one.name, one.attempts, one.cause) for one in done} == {(name, 24, "older than 2 days") for name in "ab"}
    done = prune(ledger, Rules(days=2, runs=10), reason=WHY)
    assert [kept(ledger, ids[name]) for name in "ab"] == [list(range(10))] * 2
    assert {one.cause for one in done} == {"beyond the newest 10 of its name"}


def test_what_goes_is_in_the_log(make_ledger: Callable[..., Ledger]) -> None:
    """Each attempt whose output went is in one OutputPruned with size, rule, actor and reason; no other event changes."""
    ledger, clock = new(make_ledger)
    ids = hourly(ledger, clock, "a", count=5)["a"]
    with ledger.store.read() as snapshot:
        before = snapshot.events_after(0, 1_000)
        size = sum(snapshot.rows(SQL["size"], (task_id, 1))[0][0] for task_id in ids[2:])
    prune(ledger, Rules(runs=2), reason=WHY, actor="ann")
    [event] = events(ledger)
    assert event.attempts == [[task_id, 1] for task_id in reversed(ids[2:])]
    assert (event.name, event.bytes, event.actor, event.reason) == ("a", size, "user:ann", WHY)
    with ledger.store.read() as snapshot:
        assert snapshot.events_after(0, 1_000)[:-1] == before
        assert [pruned(snapshot, "a", task_id, 1) is not None for task_id in ids] == [False, False, True, True, True]
        assert pruned(snapshot, "a", ids[2], 2) is None
    assert prune(ledger, Rules(runs=2), reason=WHY) == [] and len(events(ledger)) == 1


def test_a_running_attempt_keeps_its_output(make_ledger: Callable[..., Ledger]) -> None:
    """Neither rule touches what a running attempt has printed; once it has ended they do."""
    ledger, clock = new(make_ledger)
    state, printed = begin(ledger, "a", "so far\n")
    clock.advance(timedelta(days=400))
    rules = Rules(days=0, runs=0)
    assert would_prune(ledger, rules) == prune(ledger, rules, reason=WHY) == []
    assert [line.text for line in ledger.get(state.task_id).output()] == ["so far"]
    end(ledger, state, printed)
    assert [one.attempts for one in prune(ledger, rules, reason=WHY)] == [1]


def test_output_of_a_lost_attempt_goes_too(make_ledger: Callable[..., Ledger]) -> None:
    """An attempt that was lost has no digest in the log; what it had printed is pruned all the same."""
    ledger, clock = new(make_ledger)
    state, _ = begin(ledger, "a", "before the end\n")
    with ledger.store.write() as unit:
        act_on(unit, state.task_id, c.Lose(attempt=1, worker="w", cause="gone"), ledger.act(unit))
    clock.advance(HOUR)
    assert [one.attempts for one in prune(ledger, Rules(days=0), reason=WHY)] == [1]
    assert check(ledger, is_deep=True).problems == []


def fake(ledger: Ledger, count: int, text: str = "x\n", chunks: int = 1) -> None:
    """Store output of *count* attempts that ended long ago, as a worker would."""
    entries = [(0, "stdout", text)]
    with ledger.store.write() as unit:
        rows = [
            (
                TaskState(mint(unit.now), name="a", attempt=1, claimed_us=n),
                [Chunk(1 + k, entries) for k in range(chunks)],
            )  # type: ignore[arg-type]
            for n in range(count)
        ]
        put(unit, [(state, Printed(None, given)) for state, given in rows])


def test_a_transaction_takes_a_thousand_at_most(make_ledger: Callable[..., Ledger]) -> None:
    """2,500 attempts go in three commits, oldest first, each attempt in one event."""
    ledger, _ = new(make_ledger)
    ledger.task(name="a")(lambda: None)
    fake(ledger, 2_500)
    prune(ledger, Rules(days=1), reason=WHY)
    found = events(ledger)
    assert [len(event.attempts) for event in found] == [1_000, 1_000, 500]
    assert len({tuple(pair) for event in found for pair in event.attempts}) == 2_500
    assert len({event.command for event in found}) == 3


def test_a_transaction_takes_few_large_ones(make_ledger: Callable[..., Ledger]) -> None:
    """Attempts of 33 MiB each go one a commit: freeing so much keeps other writers waiting long enough."""
    ledger, _ = new(make_ledger)
    ledger.task(name="a")(lambda: None)
    fake(ledger, 3, "x" * (11 * 1024 * 1024), chunks=3)
    [done] = prune(ledger, Rules(days=1), reason=WHY)
    assert [len(event.attempts) for event in events(ledger)] == [1, 1, 1]
    assert done == Pruned("a", "older than 1 days", 3, sum(event.bytes for event in events(ledger)))


def test_without_its_event_nothing_goes(make_ledger: Callable[..., Ledger]) -> None:
    """Where the event cannot be appended, every row is still there."""
    ledger, clock = new(make_ledger)
    ids = hourly(ledger, clock, "a", count=3)["a"]
    with ledger.store.write() as unit:
        if isinstance(ledger.store, PostgresStore):
            unit.run("ALTER TABLE stored_events ADD CHECK (topic <> 'OutputPruned.v1')")
        else:
            unit.run("CREATE TRIGGER no BEFORE INSERT ON stored_events WHEN NEW.topic = 'OutputPruned.v1' "
                     "BEGIN SELECT RAISE(FAIL, 'no'); END")  # fmt: skip
    with pytest.raises(Conflict):
        prune(ledger, Rules(runs=0), reason=WHY)
    assert kept(ledger, ids) == [0, 1, 2]
    assert check(ledger, is_deep=True).problems == []


def test_a_dry_run_says_what_would_go_and_changes_nothing(make_ledger: Callable[..., Ledger]) -> None:
    """It counts what prune then deletes, name by name and rule by rule."""
    ledger, clock = new(make_ledger)
    ids = hourly(ledger, clock, "a", "b", count=30)
    rules = Rules(days=1, runs=10)
    with ledger.store.read() as snapshot:
        head = snapshot.head()
    would = would_prune(ledger, rules)
    with ledger.store.read() as snapshot:
        assert snapshot.head() == head
    assert kept(ledger, ids["a"]) == list(range(30))
    assert prune(ledger, rules, reason=WHY) == would
    assert [(one.name, one.attempts) for one in would] == [("a", 6), ("a", 14), ("b", 6), ("b", 14)]


@pytest.mark.parametrize(
    "values",
    [{}, {"days": -1}, {"days": float("nan")}, {"days": 40_000}, {"runs": -1}, {"runs": 1.5}, {"runs": True}],
)
def test_rules_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    """No rule at all, or one outside what is allowed."""
    with pytest.raises(InvalidOption):
        Rules(**values)


def test_pruning_needs_a_reason() -> None:
    """As every act of an administrator."""
    ledger, _ = new()
    with pytest.raises(InvalidOption, match="reason"):
        prune(ledger, Rules(days=1), reason=" ")


def test_the_search_goes_through_the_index_and_past_the_bodies() -> None:
    """Names, the oldest and the newest of one are found by the index; sizes are those of one attempt's rows."""
    ledger, _ = new()
    with ledger.store.write() as unit:
        for statement, parameters in (
            ("newest_but", ("a", 1)),
            ("oldest", ("a", 0, "", 0, 1, "", 0, 1)),
            ("size", ("a", 1)),
        ):
            plan = [row[3] for row in unit.rows("EXPLAIN QUERY PLAN " + SQL[statement], parameters)]
            assert len(plan) == 1 and plan[0].startswith("SEARCH") and "USING PRIMARY KEY" in plan[0], plan
        plan = [row[3] for row in unit.rows("EXPLAIN QUERY PLAN " + SQL["names"])]
        assert not [step for step in plan if step.startswith("SCAN output")], plan


# The command and the built-in schedule


APP = """
from ledger import Ledger
ledger = Ledger.from_env()

@ledger.task(max_attempts=1)
def say(word: str) -> None:
    print(word)
"""


class Shell:
    """A directory with an app, and the real command in it."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.url = url or f"sqlite:///{directory}/work.db"
        (directory / "tasks.py").write_text(APP)
        self.directory = directory
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WORKLEDGER_APP": "tasks:ledger",
            "WORKLEDGER_URL": self.url,
        }
        self.environment.pop("WORKLEDGER_PRUNE", None)

    def __call__(self, *words: str, code: int = 0, **environment: str) -> str:
        done = call(*words, cwd=self.directory, env={**self.environment, **environment})
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def json(self, *words: str, **environment: str) -> Any:
        return json.loads(self(*words, "-o", "json", **environment))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def each_shell(tmp_path: Path, url: str) -> Shell:
    return Shell(tmp_path, url)


def test_the_command_prunes_and_the_log_of_a_task_says_so(each_shell: Shell) -> None:
    """--dry-run needs no reason and deletes nothing; then `task log` says when, by whom and by which rule."""
    ids = [
        each_shell.json("enqueue", "say", "--args", json.dumps({"word": word}), WORKLEDGER_PRUNE="false")["id"]
        for word in ("old", "new")
    ]
    each_shell("run", "--drain", WORKLEDGER_PRUNE="false")
    assert "1 attempt, " in each_shell("prune", "--keep-runs", "1", "--dry-run")
    assert "reason" in each_shell("prune", "--keep-runs", "1", code=2)
    assert "out old" in each_shell("task", "log", ids[0])
    done = each_shell.json("prune", "--keep-runs", "1", "--reason", "disk is full")
    assert (done["dry_run"], done["attempts"]) == (False, 1)
    said = each_shell("task", "log", ids[0])
    assert "which was pruned at 2" in said and "by user:" in said and "out old" not in said
    assert "beyond the newest 1 of its name (disk is full)" in said
    assert each_shell.json("task", "log", ids[0])["pruned"]["cause"] == "beyond the newest 1 of its name"
    assert "out new" in each_shell("task", "log", ids[1]) and each_shell.json("task", "log", ids[1])["pruned"] is None
    each_shell("db", "check")
    execute(Ledger(each_shell.url), "DELETE FROM output")
    said = each_shell("db", "check", code=1)
    assert ids[1] in said and "no OutputPruned event" in said and ids[0] not in said


def test_a_worker_prunes_every_day_at_a_drawn_time(shell: Shell) -> None:
    """`run` declares the schedule; it can be changed and asked for like others, and its run is a worker's act."""
    ids = [shell.json("enqueue", "say", "--args", json.dumps({"word": word}))["id"] for word in ("old", "new")]
    shell("run", "--drain", WORKLEDGER_PRUNE_RUNS="1")
    row = shell.json("schedule", "show", "workledger.prune")
    assert (row["minute"], row["hour"], row["args"], row["app"]) == ("R", "R", {"days": 28.0, "runs": 1}, "workledger")
    drawn = row["resolved"]
    assert drawn.split()[2:] == ["*"] * 3 and all(value.isdigit() for value in drawn.split()[:2])
    shell("schedule", "set", "workledger.prune", "--hour", "3", "--reason", "at night")
    shell("schedule", "run-now", "workledger.prune", "--reason", "now")
    shell("run", "--drain", WORKLEDGER_PRUNE_RUNS="1")
    assert "out old" not in shell("task", "log", ids[0]) and "out new" in shell("task", "log", ids[1])
    assert "by worker:" in shell("task", "log", ids[0])
    row = shell.json("schedule", "show", "workledger.prune")
    assert row["hour"] == "3" and row["resolved"].split()[0] == drawn.split()[0]
    assert row["last_outcome"] == "succeeded"


def test_the_settings_rule_the_daily_pruning(shell: Shell) -> None:
    """Other rules are a newer default, older ones again too; without the setting it is retired, and comes back."""
    shell("db", "init")

    def row() -> Any:
        return shell.json("schedule", "show", "workledger.prune")

    for runs in ("5", "7", "5"):
        shell("schedule", "sync", WORKLEDGER_PRUNE_RUNS=runs)
        assert row()["args"]["runs"] == int(runs)
    shell("run", "--drain", WORKLEDGER_PRUNE="false")
    assert row()["status"] == "retired"
    shell("run", "--drain", WORKLEDGER_PRUNE_RUNS="5")
    assert row()["status"] == "declared"
    version = row()["version"]
    shell("run", "--drain", WORKLEDGER_PRUNE_RUNS="5")
    assert row()["version"] == version
