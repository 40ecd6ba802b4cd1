"""Changes of many tasks at once: what is changed, what is left and said so, and that a batch is stored whole."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Conflict, InvalidOption, Ledger, Retry, Task
from ledger.acts import act_on
from ledger.commands import Cancel, Claim
from ledger.testing import ManualClock, memory_ledger, run_queue
from projections import queue as queue_view
from projections.listing import Filter
from projections.reports import Reports
from runner.bulk import BATCH, Changed, cancel_all, change_batch, retry_all, run_failed
from tests.invoking import invoke

REASON = "the mail server is back"


@pytest.fixture(params=["memory", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """A ledger with a task that fails at once, one that is retried in an hour, and one that works."""
    ledger: Ledger = memory_ledger() if request.param == "memory" else request.getfixturevalue("postgres_ledgers")()

    def fail(number: int = 0) -> None:
        raise ConnectionError("down")

    ledger.task(name="once", retry=False)(fail)
    ledger.task(name="again", retry=Retry(first=3_600), max_attempts=5)(fail)
    ledger.task(name="good")(lambda number=0: number)
    return ledger


def queue_all(ledger: Ledger, name: str, count: int, **options: Any) -> list[Task[Any]]:
    function = ledger.functions[name]
    return ledger.enqueue_many(function.using(**options).call(number=n) for n in range(count))


def states(tasks: list[Task[Any]]) -> set[str]:
    return {task.state for task in tasks}


def test_all_failed_tasks_of_a_filter_wait_again(ledger: Ledger) -> None:
    """Those that the filter fits are retried with actor, reason and all attempts; the others are left."""
    mail, other = queue_all(ledger, "once", 250, queue="mail"), queue_all(ledger, "once", 3)
    done_already = queue_all(ledger, "good", 3, queue="mail")
    run_queue(ledger)
    dry = retry_all(ledger, Filter(queue="mail"), reason=REASON, dry_run=True)
    assert (dry.found, dry.changed, dry.by_name, states(mail)) == (250, 0, {"once": 250}, {"failed"})
    done = retry_all(ledger, Filter(queue="mail"), reason=REASON, actor="ann")
    assert (done.found, done.changed, done.conflicts) == (250, 250, 0)
    assert (states(mail), states(other), states(done_already)) == ({"waiting"}, {"failed"}, {"succeeded"})
    retried = [task.events[-1] for task in mail]
    assert {(event.actor, event.reason) for event in retried} == {("user:ann", REASON)}
    assert [len(group) for group in _acts(retried)] == [BATCH, BATCH, 50], "bounded batches, each one act"
    assert {task.attempts_left for task in mail} == {1}
    again = retry_all(ledger, Filter(queue="mail"), reason=REASON)
    assert (again.found, again.changed) == (0, 0), "a second time nothing is left to do"
    assert queue_view.verify(ledger) == Reports(ledger).verify() == []


def _acts(events: list[Any]) -> list[list[Any]]:
    groups: dict[str, list[Any]] = {}
    for event in sorted(events, key=lambda event: event.command):
        groups.setdefault(event.command, []).append(event)
    return list(groups.values())


def test_cancelled_tasks_are_retried_only_where_asked_for(ledger: Ledger) -> None:
    """Without a state the failed ones are meant; cancelled ones were ended on purpose."""
    tasks = queue_all(ledger, "good", 2)
    cancel_all(ledger, Filter(name="good"), reason=REASON)
    assert retry_all(ledger, Filter(name="good"), reason=REASON).found == 0
    assert retry_all(ledger, Filter(state="cancelled"), reason=REASON).changed == 2
    assert states(tasks) == {"waiting"}


def test_all_live_tasks_of_a_filter_are_cancelled(ledger: Ledger) -> None:
    """Waiting ones end, running ones are asked to, ended ones are not found; one state alone can be meant."""
    waiting, ended = queue_all(ledger, "good", 3, run_after=timedelta(hours=1)), queue_all(ledger, "once", 2)
    found: list[Any] = []

    @ledger.task(priority=5)
    def job() -> bool:
        found.append(cancel_all(ledger, Filter(state="running"), reason=REASON))
        return ledger.current().cancelled

    running = job.enqueue()
    run_queue(ledger)
    assert (found[0].changed, running.events[-2].reason) == (1, REASON)
    done = cancel_all(ledger, Filter(), reason=REASON)
    assert (done.changed, done.conflicts, states(waiting), states(ended)) == (3, 0, {"cancelled"}, {"failed"})


def test_all_that_failed_is_due_now_oldest_first(ledger: Ledger) -> None:
    """Ended ones are retried, those in back-off pulled forward with their count kept, the rest is left alone."""
    ended, back_off = queue_all(ledger, "once", 3), queue_all(ledger, "again", 2)
    later = queue_all(ledger, "again", 2, run_after=timedelta(hours=2))
    good = queue_all(ledger, "good", 1)
    run_queue(ledger)
    done = run_failed(ledger, Filter(), reason=REASON)
    assert (done.found, done.changed, done.by_name) == (5, 5, {"once": 3, "again": 2})
    assert run_queue(ledger) == 5
    assert [len(task.attempts) for task in (*ended, *back_off)] == [2] * 5
    assert ([task.record.state.used for task in back_off], states(good)) == ([2, 2], {"succeeded"})
    assert [len(task.attempts) for task in later] == [0, 0]
    claims = [task.attempts[-1].claimed_at for task in ended]
    positions = [event.originator_version for task in ended for event in task.events if event.reason == REASON]
    assert claims == sorted(claims) and positions == [4, 4, 4]
    assert run_failed(ledger, Filter(name="again", state="waiting"), reason=REASON).found == 2


def test_what_has_no_key_to_take_is_counted_and_left(ledger: Ledger) -> None:
    """A task whose key another one holds by now is a conflict, not an error: the others of its batch are changed."""
    [held] = queue_all(ledger, "once", 1, unique="k")
    tasks = queue_all(ledger, "once", 3)
    run_queue(ledger)
    holder = ledger.functions["once"].using(unique="k", run_after=timedelta(days=1)).enqueue()
    done = retry_all(ledger, Filter(name="once"), reason=REASON)
    assert (done.found, done.changed, done.conflicts) == (4, 3, 1)
    assert len(done.refusals) == 1 and holder.id in done.refusals[0]
    assert (held.state, states(tasks)) == ("failed", {"waiting"})


def test_what_has_begun_since_it_was_listed_is_left(ledger: Ledger) -> None:
    """A cancel of what waits does not ask a task to end that has begun meanwhile, nor one that somebody retried."""
    begun, waiting = queue_all(ledger, "good", 2)
    reports = Reports(ledger)
    reports.catch_up()
    rows = [row for row in reports.list_tasks() if row.state == "waiting"]
    with ledger.store.write() as unit:
        act_on(unit, begun.id, Claim(worker="w1", seen=1), ledger.act(unit))
    done = Changed()
    change_batch(ledger, rows, lambda unit, row, act: act_on(unit, row.task_id, Cancel(), act), REASON, None, done)
    assert (done.changed, done.conflicts, begun.state, waiting.state) == (1, 1, "running", "cancelled")
    assert done.refusals == [f"task {begun.id} is running by now; it was waiting when it was listed"]


@pytest.mark.parametrize(
    ("change", "state"),
    [(retry_all, "waiting"), (retry_all, "succeeded"), (cancel_all, "failed"), (run_failed, "cancelled")],
)
def test_a_state_that_the_change_is_not_for_is_refused(ledger: Ledger, change: Any, state: str) -> None:
    """The message names the states that the change is possible in."""
    with pytest.raises(InvalidOption, match="is possible for tasks that are"):
        change(ledger, Filter(state=state), reason=REASON)


@pytest.mark.parametrize("change", [retry_all, cancel_all, run_failed])
@pytest.mark.parametrize("reason", [None, "", " "])
def test_a_reason_is_needed(ledger: Ledger, change: Any, reason: Any) -> None:
    """Nothing is changed without one."""
    [task] = queue_all(ledger, "once", 1)
    run_queue(ledger)
    with pytest.raises(InvalidOption, match="reason"):
        change(ledger, Filter(), reason=reason)
    assert task.state == "failed"


def test_a_run_of_a_schedule_that_is_retried_is_its_newest_again() -> None:
    """Retried in bulk, a schedule's run is what the schedule shows and waits for."""
    clock = ManualClock()
    ledger = memory_ledger(clock)

    @ledger.schedule("0 * * * *", max_attempts=1)
    def hourly() -> None:
        raise ValueError("no")

    run_queue(ledger, until=clock.now() + timedelta(hours=1))
    run = ledger.schedules.get("hourly").run_id
    assert run is not None
    assert retry_all(ledger, Filter(name="hourly"), reason=REASON).changed == 1
    state = ledger.schedules.get("hourly")
    assert (state.run_id, state.is_live) == (run, True)
    with pytest.raises(Conflict):
        ledger.retry(run, reason=REASON)


# The commands


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A working directory whose ledger has three failed tasks in two queues and a waiting one."""
    monkeypatch.chdir(tmp_path)
    ledger = Ledger("sqlite:///workledger.db")

    @ledger.task(retry=False)
    def fail() -> None:
        raise ConnectionError("down")

    ledger.enqueue_many([fail.call(), fail.call(), fail.using(queue="mail", labels=["x"]).call()])
    run_queue(ledger)
    fail.enqueue()
    return ledger


def call(*words: str, code: int = 0) -> str:
    result = invoke(list(words))
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_say_what_they_would_do_and_do_it(here: Ledger) -> None:
    """`--dry-run` counts and changes nothing; then the count is what is done; a second call finds nothing."""
    words = ("task", "retry", "--queue", "mail", "--reason", REASON)
    assert call(*words, "--dry-run") == "1 task (1 fail) would be retried\n"
    assert len(json.loads(call("task", "list", "--state", "failed", "-o", "json"))) == 3
    assert call(*words) == "1 of 1 task (1 fail) retried\n"
    done = json.loads(call(*words, "-o", "json"))
    assert done == {"found": 0, "changed": 0, "conflicts": 0, "by_name": {}, "refusals": [], "dry_run": False}
    assert call("task", "run-failed", "--reason", REASON) == "2 of 2 tasks (2 fail) made due\n"
    assert call("task", "cancel", "--all", "--reason", REASON) == "4 of 4 tasks (4 fail) cancelled\n"
    assert call("task", "retry", "--state", "cancelled", "--label", "x", "--reason", REASON).startswith("1 of 1")


@pytest.mark.parametrize("verb", ["retry", "cancel"])
@pytest.mark.parametrize(
    "words", [(), ("ID", "--all"), ("ID", "--queue", "mail"), ("ID", "--dry-run"), ("--state", "lost"), ("--label", "")]
)
def test_which_tasks_are_meant_is_said_plainly(here: Ledger, verb: str, words: tuple[str, ...]) -> None:
    """Neither an id nor a filter nor --all, an id with any of them, and a bad filter: exit code 2, nothing changed."""
    with here.store.read() as snapshot:
        before = snapshot.head()
    task_id = json.loads(call("task", "list", "--limit", "1", "-o", "json"))[0]["id"]
    call("task", verb, *[task_id if word == "ID" else word for word in words], "--reason", REASON, code=2)
    call("task", verb, "--all", code=2)
    with here.store.read() as snapshot:
        assert snapshot.head() == before


def test_lists_take_the_filters_and_show_what_is_left(here: Ledger) -> None:
    """`task list` has every filter, and a column with the attempts left."""
    assert "left" in call("task", "list").splitlines()[0].split()
    for words, count in {
        ("--failed-only",): 3,
        ("--label", "x"): 1,
        ("--run-as", "system", "--queue", "default"): 3,
        ("--queued-by", "user:nobody"): 0,
        ("--name", "fail", "--state", "waiting"): 1,
    }.items():
        assert len(json.loads(call("task", "list", *words, "-o", "json"))) == count, words
    call("task", "list", "--state", "gone", code=2)
