"""Reading commands with --at, what changed between two moments, and why something was decided as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ledger import Ledger, Retry
from ledger import commands as c
from ledger.testing import ManualClock, run_queue
from runner.changes import changes
from runner.cli import command as cli_command
from runner.cycle import Cycle, Finished
from runner.execute import execute
from runner.past_why import why_then
from runner.recorder import Recorder
from tests.api.setup import REASON, count_events
from tests.invoking import invoke

MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on each kind of database, on a manual clock."""
    ledger = Ledger(url, clock=ManualClock())
    yield ledger
    ledger.close()


def call(ledger: Ledger, *words: str, code: int = 0) -> Any:
    """Call the command, expect *code*, and return its JSON; with another code what it printed."""
    result = invoke(["--url", ledger.url, *words, *(["-o", "json"] if code == 0 else [])])
    assert result.exit_code == code, result.output
    return json.loads(result.output) if code == 0 else result.output


def the_same(one: Any) -> Any:
    """Leave out what is of the moment of asking, here the host's: how long something runs, what is due."""

    def kept(found: dict[str, Any]) -> dict[str, Any]:
        if "waiting_due" in found:
            found["waiting"] = found.pop("waiting_due") + found.pop("waiting_later")
        return {key: value for key, value in found.items() if key not in ("seconds", "slow", "oldest_due")}

    return json.loads(json.dumps(one), object_hook=kept)


READING = [
    ("queue", "list"),
    ("now",),
    ("limit", "list"),
    ("task", "list"),
    ("task", "list", "--state", "waiting"),
    ("task", "list", "--state", "failed", "--name", "job"),
    ("task", "list", "--failed-only", "--limit", "1"),
    ("schedule", "history", "often"),
    ("schedule", "forecast", "--from", "2031-05-01T00:00Z", "--to", "2031-05-01T03:00Z"),
    ("component", "list"),
    ("notices",),
    ("task", "show", "ONE"),
    ("task", "events", "ONE"),
]


def test_what_was_shown_then_is_shown_of_then(ledger: Ledger) -> None:
    """At each step what every reading command says is kept; asked later for that position it says the same again."""
    ledger.schedule("*/5 * * * *", name="often")(lambda: None)
    ledger.schedule("0 * * * *", name="hourly", component="web")(lambda: None)

    @ledger.task(max_attempts=2, retry=Retry(first=60))
    def job(number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number

    ledger.schedules.sync(reason=REASON)
    one = job.enqueue(1)
    seen: list[tuple[int, dict[Any, Any]]] = []

    def look() -> None:
        words = [tuple(one.id if word == "ONE" else word for word in command) for command in READING]
        seen.append((count_events(ledger), {command: the_same(call(ledger, *command)) for command in words}))

    look()
    job.using(queue="other", labels=["x"]).enqueue(2)
    ledger.controls.set_limit("task:job", 5, reason=REASON)
    cycle = Cycle(ledger, "w1")
    turn = cycle.turn([], 1, is_idle=True)
    look()
    ledger.controls.pause("other", reason=REASON)
    ledger.schedules.disable_component("web", reason=REASON)
    cycle.turn([execute(ledger, claimed, lambda: False) for claimed in turn.claims], 0, is_idle=True)
    look()
    ledger.clock.sleep(400)
    run_queue(ledger)
    ledger.controls.resume("other", reason=REASON)
    ledger.cancel(job.enqueue(4).id, reason=REASON)
    look()
    ledger.clock.sleep(1000)
    run_queue(ledger)

    states = []
    for position, said in seen:
        for command, then in said.items():
            assert the_same(call(ledger, *command, "--at", str(position))) == then, command
        states.append(call(ledger, "task", "show", one.id, "--at", str(position))["state"])
    assert states == ["waiting", "running", "waiting", "failed"]
    assert [then["component", "list"][0]["state"] for _, then in seen] == ["enabled"] * 2 + ["disabled"] * 2
    assert [len(then["notices",]) for _, then in seen] == [0, 0, 0, 1]
    drawn = [call(ledger, "task", "timeline", one.id, "--at", str(position)) for position, _ in seen]
    assert [[span["what"] for span in spans if span["what"].startswith("attempt")] for spans in drawn] == [
        [], ["attempt 1"], ["attempt 1"], ["attempt 1", "attempt 2"],
    ]  # fmt: skip
    assert call(ledger, "worker", "list", "--at", "1") == []
    schedules = [call(ledger, "schedule", "list", "--at", str(position)) for position, _ in (seen[0], seen[3])]
    assert [rows[0]["last_success"] is None for rows in schedules] == [True, False]
    assert call(ledger, "schedule", "show", "often", "--at", str(seen[0][0]))["name"] == "often"


NO_PAST = {
    "compare": "takes two attempts, each with what it was given and did",
    "config show": "settings are no events",
    "db check": "checks the database as it is; the log is in it",
    "db backup": "copies the database as it is",
    "db copy": "copies the whole log",
    "diff": "has a past of its own: --from and --to",
    "history": "lists what has been: --since and --until",
    "stats": "adds up what has been: --since and --until",
    "inbox list": "what waits outside the log has no position",
    "projection list": "views are made anew at will; of them only the present is kept",
    "projection verify": "compares views as they are",
    "report list": "lists queries, not what they find",
    "report query": "reads the views as they are",
    "replay decisions": "has a past of its own: --from and --to",
    "schedule override": "reads the settings",
    "schedule preview": "reads no ledger",
    "task replay": "runs an attempt as it was",
}
CHANGING = ("--reason", "enqueue", "inbox retry")
"""Commands with this option, and these two, change something: they read no past."""


def test_every_command_that_reads_can_read_the_past() -> None:
    """Of all commands that print rows, those that change nothing have --at, but for a few, each with its reason."""

    def leaves(command: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, f"{path} {name}".strip())
        yield path, {option for parameter in command.params for option in parameter.opts}

    reading = {
        path: "--at" in options
        for path, options in leaves(cli_command())
        if "--output" in options and path not in CHANGING and not options.intersection(CHANGING)
    }
    assert {path for path, has_past in reading.items() if not has_past} == NO_PAST.keys()
    assert sum(reading.values()) >= 18


def test_a_moment_that_is_none_is_refused(ledger: Ledger) -> None:
    """Text that is neither, a time without zone, the future; and what is of the present alone says where to look."""
    ledger.task(name="job")(lambda: None).enqueue()
    for text in ("soon", "2031-05-01T12:00:00", "99", "-1"):
        assert "error:" in call(ledger, "queue", "list", f"--at={text}", code=2)
    assert "2031" in call(ledger, "queue", "list", "--at", "2031-05-01T12:00:00Z", code=2)
    assert "health is of the present" in call(ledger, "health", "--at", "1", code=2)
    assert "there was no task" in call(
        ledger, "task", "show", ledger.as_of(1).waiting()[0].state.task_id, "--at=0", code=3
    )


def test_nothing_between_two_moments_is_said_in_words(ledger: Ledger) -> None:
    """No range of positions that ends before it begins."""
    ledger.task(name="job")(lambda: None).enqueue()
    told = invoke(["--url", ledger.url, "diff", "--from", "1", "--to", "1"]).output
    assert told.startswith("nothing happened between them\n")


def test_what_changed_between_two_moments(ledger: Ledger) -> None:
    """Each task with where it was and is, schedules, limits, pauses, and every act of a person, once, with its reason."""
    ledger.schedule("*/5 * * * *", name="often")(lambda: None)

    @ledger.task(max_attempts=2, retry=Retry(first=600))
    def job(number: int) -> None:
        if number:
            raise ValueError("no")

    ledger.schedules.sync(reason=REASON)
    done, failing, left = job.enqueue(0), job.enqueue(1), job.using(run_after=timedelta(days=1)).enqueue(0)
    dead = job.using(max_attempts=1).enqueue(1)
    run_queue(ledger)
    since = count_events(ledger)
    middle = ledger.clock.now()
    ledger.clock.sleep(900)
    new = job.enqueue(0)
    run_queue(ledger)
    ledger.retry(dead.id, reason="again", actor="ann")
    ledger.controls.set_limit("ledger", 7, reason="calm", actor="bob")
    ledger.controls.pause("mail", reason="calm", actor="bob")
    ledger.schedules.set("often", "0 4 * * *", reason="less", actor="cy")

    found = changes(ledger, since, count_events(ledger))

    moved = {row["task"]: (row["from"], row["to"], row["attempts"]) for row in found.tasks}
    assert moved[failing.id] == ("waiting", "failed", 1)
    assert moved[dead.id] == ("failed", "waiting", 0)
    assert moved[new.id] == (None, "succeeded", 1)
    assert done.id not in moved and left.id not in moved
    assert found.controls == [
        {"what": "limit ledger", "from": None, "to": 7},
        {"what": "queue mail", "from": None, "to": "stopped"},
    ]
    [schedule] = found.schedules
    assert (schedule["schedule"], schedule["fired"]) == ("often", 1)
    assert schedule["changes"]["fields"] == {"from": "*/5 * * * *", "to": "0 4 * * *"}
    told = [(act["actor"], act["reason"]) for act in found.acts]
    assert told == [("user:ann", "again"), ("user:bob", "calm"), ("user:bob", "calm"), ("user:cy", "less")]
    assert call(ledger, "diff", "--from", str(since))["controls"] == found.controls
    assert [row["task"] for row in changes(ledger, middle, found.upto.position).tasks] == list(moved)
    assert changes(ledger, since, since).tasks == []
    assert "lies before" in call(ledger, "diff", "--from", "9", "--to", "3", code=2)


def test_why_something_was_decided_then(ledger: Ledger) -> None:
    """A waiting task: its place in the plan made again, or the limit that was full. A claimed one: what its worker saw."""
    job: Any = ledger.task(name="job")(lambda: None)
    ledger.controls.set_limit("task:job", 2, reason=REASON)
    tasks = [job.using(priority=n).enqueue() for n in range(4)]
    waiting = count_events(ledger)
    Cycle(ledger, "w1").turn([], 9, is_idle=True)
    claimed = count_events(ledger)
    ledger.clock.sleep(60)
    run_queue(ledger)

    def said(task: Any, position: int) -> str:
        return "\n".join(why_then(ledger, task.id, ledger.as_of(position)))

    assert "claims it as number 1 of 2" in said(tasks[3], waiting)
    assert "passes it over: the limit task:job was full at 2" in said(tasks[0], waiting)
    assert "It is next in queue" in said(tasks[3], waiting)
    assert "waiting behind 3 others" in said(tasks[0], waiting)
    assert "The limit of task 'job' is full: 2 run" in said(tasks[0], claimed)
    assert "passes it over: the limit task:job was full at 2" in said(tasks[0], claimed)
    running = said(tasks[2], claimed)
    assert f"saw position {waiting}: 4 due tasks of 1 name, and claimed 2" in running
    assert "gives it place 2 of 2" in running
    assert call(ledger, "why", tasks[2].id, "--at", str(claimed))["state"] == "running"


def test_the_log_of_an_attempt_is_what_it_had_printed_by_then(ledger: Ledger) -> None:
    """Lines up to the moment, and the outcome that was known; a past is not followed."""
    task = ledger.task(name="job")(lambda: None).enqueue()
    cycle = Cycle(ledger, "w1")
    [claimed] = cycle.turn([], 1, is_idle=True).claims
    recorder = Recorder(10_000, ledger.clock)
    begun = ledger.clock.now()
    for word in ("one", "two", "three"):
        recorder.write("stdout", word + "\n")
        ledger.clock.sleep(60)
    act = c.Succeed(attempt=1, worker="w1", started_at=begun, finished_at=ledger.clock.now(), result=None)
    cycle.turn([Finished(claimed, act, printed=recorder.close(is_kept=True))], 0, is_idle=True)

    def log(at: str) -> tuple[str, list[str]]:
        found = call(ledger, "task", "log", task.id, "--at", at)
        return found["outcome"], [line["text"] for line in found["lines"]]

    assert log((begun + MINUTE).isoformat()) == ("running", ["one", "two"])
    assert log(str(count_events(ledger))) == ("succeeded", ["one", "two", "three"])
    assert "exclude each other" in call(ledger, "task", "log", task.id, "--at", "2", "--follow", code=2)
