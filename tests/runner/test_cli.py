"""The command line: what it prints, what it refuses, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger import commands as c
from ledger.acts import act_on
from ledger.clock import to_us
from ledger.ids import mint
from projections.queue import SQL, catch_up_all
from runner.cli import command
from tests.databases import by_driver, execute, insert, is_made
from tests.invoking import invoke

ROOT = Path(__file__).parents[2]
JOBS = """
from ledger import Ledger
ledger = Ledger("sqlite:///work.db")

@ledger.task(max_attempts=2)
def add(a: int, b: int = 2) -> int:
    return a + b

@ledger.task
def say(text: str) -> str:
    return text
"""
KEYS = {"id", "name", "args", "queue", "priority", "state", "attempt", "max_attempts", "due_at", "queued_at"} | {
    "run_as",
    "unique_key",
    "concurrency_key",
    "labels",
    "result",
    "error",
}


@pytest.fixture
def here(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory with an app in jobs.py, on each kind of database, and no settings from outside."""
    (tmp_path / "jobs.py").write_text(JOBS.replace("sqlite:///work.db", url))
    (tmp_path / "url.txt").write_text(url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("WORKLEDGER_URL", raising=False)
    monkeypatch.delenv("WORKLEDGER_APP", raising=False)
    sys.modules.pop("jobs", None)
    yield tmp_path
    sys.modules.pop("jobs", None)


def call(*words: str, code: int = 0, stdin: str | None = None, app_name: str | None = "jobs:ledger") -> str:
    """Call the command in this process, expect *code*, and return what it printed."""
    if app_name:
        sys.modules.pop("jobs", None)
        words = ("--app", app_name, *words)
    result = invoke(list(words), stdin=stdin)
    assert result.exit_code == code, result.output
    return result.output


def lines(*words: str) -> list[dict[str, Any]]:
    """Call the command with -o jsonl and return its objects."""
    return [json.loads(line) for line in call(*words, "-o", "jsonl").splitlines()]


def add(*words: str) -> str:
    """Queue one `add` and return its id."""
    return str(json.loads(call("enqueue", "add", "--args", '{"a": 1}', "-o", "json", *words))["id"])


def ledger_here() -> Ledger:
    """Return the ledger of this directory."""
    return Ledger(url_here())


def url_here() -> str:
    """Return the URL of the app's ledger."""
    return Path("url.txt").read_text()


def do(task_id: str, *commands: c.Command) -> None:
    """Carry out commands on a task as worker w1 would."""
    ledger = ledger_here()
    with ledger.store.write() as unit:
        for command in commands:
            act_on(unit, task_id, command, c.Act(id=mint(unit.now), at=unit.now, actor="worker:w1"))
    ledger.close()


def beat(seconds_ago: float = 0, queues: str = "[]", names: str = '["add"]') -> None:
    """Write the heartbeat row of worker w1."""
    ledger = ledger_here()
    catch_up_all(ledger)
    with ledger.store.write() as unit:
        at_us = to_us(unit.now - timedelta(seconds=seconds_ago))
        row = ("w1", "worker", "host-a", "boot", 4242, 0.0, at_us, at_us, 1, 4, queues, 30_000_000, names)
        unit.run(SQL["put_worker"], row)
    ledger.close()


CLAIM = c.Claim(worker="w1", seen=0)
FAILURE = c.Fail(
    attempt=1, worker="w1", started_at=None, finished_at=None, error={"type": "OSError", "message": "mailbox full"}
)


def test_what_is_queued_is_shown(here: Path) -> None:
    """`enqueue` prints the id; `task show`, `list` and `events` give it back with the promised keys."""
    task_id = add("--queue", "mail", "--priority", "5", "--label", "x", "--label", "y", "--run-as", "alice")
    shown = json.loads(call("task", "show", task_id, "-o", "json"))
    assert shown.keys() >= KEYS
    assert (shown["args"], shown["queue"], shown["priority"]) == ({"a": 1, "b": 2}, "mail", 5)
    assert (shown["labels"], shown["run_as"], shown["state"]) == (["x", "y"], "alice", "waiting")
    assert lines("task", "list") == [shown]
    [event] = lines("task", "events", task_id)
    assert list(event) == ["position", "version", "type", "at", "actor", "reason", "data"]
    assert "TOPIC" not in event["data"], "the type is told beside it"
    assert (event["position"], event["version"], event["type"]) == (1, 1, "TaskQueued")


@pytest.mark.parametrize("source", ["inline", "file", "stdin"])
def test_arguments_come_from_three_places(here: Path, source: str) -> None:
    """--args takes JSON itself, @file and - for the standard input."""
    text = '{"a": 40}'
    (here / "args.json").write_text(text)
    given = {"inline": text, "file": "@args.json", "stdin": "-"}[source]
    call("enqueue", "add", "--args", given, stdin=text)
    assert [row["args"] for row in lines("task", "list")] == [{"a": 40, "b": 2}]


@pytest.mark.parametrize(
    "words",
    [
        ("nope",),
        ("add",),
        ("add", "--args", "{"),
        ("add", "--args", "[1]"),
        ("add", "--args", '{"a": NaN}'),
        ("add", "--args", '{"a": 99999999999999999999}'),
        ("add", "--args", '{"a": ' + "[" * 5000 + "]" * 5000 + "}"),
        ("add", "--args", '{"self": 1}'),
        ("add", "--args", "@missing.json"),
        ("say", "--args", '{"text": "\\ud800"}'),
        ("add", "--args", '{"a": 1}', "--priority", "101"),
        ("add", "--args", '{"a": 1}', "--run-after", "soon"),
        ("add", "--args", '{"a": 1}', "--run-after", "nan"),
        ("add", "--args", '{"a": 1}', "--run-after", "-1"),
        ("add", "--args", '{"a": 1}', "--run-after", "2031-05-01T12:00:00"),
        ("add", "--args", '{"a": 1}', "--expires", "soon"),
        ("add", "--args", '{"a": 1}', "--expires", "0"),
        ("add", "--args", '{"a": 1}', "--expires", "2031-05-01T12:00:00"),
        ("add", "--args", '{"a": 1}', "--max-attempts", "0"),
        ("add", "--args", '{"a": 1}', "--queue", " "),
        ("add", "--args", '{"a": 1}', "--reason", " "),
    ],
)
def test_bad_input_is_a_usage_error_and_stores_nothing(here: Path, words: tuple[str, ...]) -> None:
    """What can never be carried out ends with exit code 2, one line that says why, and no row."""
    output = call("enqueue", *words, code=2)
    assert output.startswith("error: ") and output.count("\n") == 1
    assert not is_made(url_here())


def test_a_held_key_gives_the_task_that_holds_it(here: Path) -> None:
    """A second task of a live key is not queued: the answer is the first one, marked as a duplicate."""
    first = json.loads(call("enqueue", "add", "--args", '{"a": 1}', "--unique", "k", "-o", "json"))
    second = json.loads(call("enqueue", "add", "--args", '{"a": 2}', "--unique", "k", "-o", "json"))
    assert (first["duplicate"], second) == (
        False,
        {"id": first["id"], "duplicate": True, "answer": "unchanged"},
    )


def test_the_system_user_is_always_the_actor(here: Path) -> None:
    """--actor stands beside the operating system's user, never in its place."""
    task_id = add()
    call("--actor", "bob", "task", "cancel", task_id, "--reason", "by hand")
    queued, cancelled = lines("task", "events", task_id)
    assert queued["actor"].startswith("user:")
    assert cancelled["actor"] == f"{queued['actor']}(bob)"
    assert cancelled["reason"] == "by hand"


def test_a_task_can_be_cancelled_retried_and_moved(here: Path) -> None:
    """The three changes do what they say, each with its reason, and are refused in the wrong state."""
    task_id = add()
    assert "is cancelled" in call("task", "cancel", task_id, "--reason", "r")
    call("task", "cancel", task_id, "--reason", "r", code=4)
    assert "is waiting" in call("task", "retry", task_id, "--reason", "r")
    call("task", "retry", task_id, "--reason", "r", code=4)
    moved = call("task", "reschedule", task_id, "--run-after", "2031-05-01T12:00:00+02:00", "--reason", "r")
    assert "due 2031-05-01T10:00:00.000000Z" in moved
    for verb in ("cancel", "retry"):
        call("task", verb, task_id, code=2)
        call("task", verb, "nope", "--reason", "r", code=3)


def test_pages_follow_each_other(here: Path) -> None:
    """--limit and --after walk the whole list, newest first, without overlap."""
    ids = [add() for _ in range(5)]
    first = [row["id"] for row in lines("task", "list", "--limit", "3")]
    rest = [row["id"] for row in lines("task", "list", "--limit", "3", "--after", first[-1])]
    assert first + rest == ids[::-1]
    call("task", "list", "--state", "asleep", code=2)


@pytest.mark.parametrize("option", ["--url", "--app", "--actor", "--config"])
def test_a_global_option_after_the_command_is_told_its_place(here: Path, option: str) -> None:
    """It is a usage error that says where it stands, in a group too; one that is none at all is said as before."""
    for words in (("enqueue", "add"), ("task", "list")):
        assert f"{option} stands before the command: workledger {option} ..." in call(*words, option, "x", code=2)
        assert "No such option: --actr" in call(*words, "--actr", "x", code=2)


def test_why_tells_each_state(here: Path) -> None:
    """`why` names the due time, the retry delay, the queue before a task, its worker, and how it ended."""
    later, due, behind = add("--run-after", "3600"), add(), add()
    assert "not due until" in call("why", later)
    assert "retry delay" not in call("why", later)
    assert "behind 1 other" in call("why", behind)
    assert "No worker is alive for queue 'default'" in call("why", due)
    beat()
    assert "No worker" not in call("why", due)
    beat(queues='["mail"]')
    assert "No worker is alive" in call("why", due)
    do(due, CLAIM)
    beat()
    running = call("why", due)
    assert "attempt 1 on worker w1 (host host-a, pid 4242) since" in running and "not been heard" not in running
    beat(seconds_ago=3600)
    assert "has not been heard of" in call("why", due)
    do(due, FAILURE)
    failed_once = call("why", due)
    assert "retry delay after 1 failure" in failed_once and "OSError: mailbox full" in failed_once
    call("task", "cancel", due, "--reason", "r")
    assert "was cancelled at" in call("why", due)
    assert json.loads(call("why", due, "-o", "json"))["state"] == "cancelled"
    call("why", "nope", code=3)


def test_views_of_the_whole_ledger_take_in_what_no_runner_folded(here: Path) -> None:
    """Queues, workers and what runs now are right although no runner has ever run."""
    waiting, running = add(), add()
    add("--run-after", "3600")
    do(running, CLAIM)
    beat()
    [queue] = lines("queue", "list")
    assert (queue["queue"], queue["waiting_due"], queue["waiting_later"], queue["running"]) == ("default", 1, 1, 1)
    assert queue["oldest_due"] == json.loads(call("task", "show", waiting, "-o", "json"))["due_at"]
    [now] = lines("now")
    assert (now["task"], now["worker"], now["host"], now["pid"], now["attempt"]) == (running, "w1", "host-a", 4242, 1)
    [worker] = lines("worker", "list")
    assert (worker["id"], worker["state"], worker["running"], worker["queues"]) == ("w1", "alive", 1, [])


def test_hostile_text_cannot_steer_the_terminal(here: Path) -> None:
    """Escape sequences and control characters of a task's data are removed from text and escaped in JSON."""
    hostile = "a\x1b[31mred\x1b]0;title\x07\x9b2Jb\r\n\u202eevil[bold]"
    call("enqueue", "say", "--args", json.dumps({"text": hostile}), "--reason", hostile)
    [task] = lines("task", "list")
    outputs = [
        call(*words) for words in (("task", "list"), ("task", "show", task["id"]), ("task", "events", task["id"]))
    ]
    outputs += [call("task", "show", task["id"], "-o", form) for form in ("json", "jsonl")]
    assert not any(character in output for output in outputs for character in "\x1b\x07\x9b\r\u202e")
    assert task["args"] == {"text": hostile} and "[bold]" in outputs[1]


@pytest.mark.parametrize("view", ["queue", "tasks"])
@pytest.mark.parametrize("damage", ["UPDATE {} SET priority = 99", "DELETE FROM {}"])
def test_verify_finds_planted_damage_and_rebuild_mends_it(here: Path, view: str, damage: str) -> None:
    """A changed cell and a deleted row end `projection verify` with 1 and the task's id; a rebuild makes it equal."""
    task_id = add()
    assert "equal to the fold" in call("projection", "verify")
    if view == "queue":
        execute(ledger_here(), damage.format(view))
    else:
        with by_driver(ledger_here(), of_reports=True) as ask:
            ask(damage.format(view))
    assert task_id in call("projection", "verify", code=1)
    call("projection", "verify", "--view", "tasks" if view == "queue" else "queue")
    call("projection", "rebuild", "--view", view)
    call("projection", "verify")


def test_the_database_is_made_and_checked(here: Path) -> None:
    """`db init` makes a ledger, `db check` reads it all and finds an event that cannot be read."""
    call("db", "check", code=5)
    call("db", "init")
    add()
    assert "1 events read, 0 problems" in call("db", "check")
    call("db", "upgrade")
    insert(ledger_here(), 2, "task:x", 1, "TaskQueued.v9")
    assert "position 2" in call("db", "check", code=1)


def test_reading_makes_no_ledger(here: Path, url: str) -> None:
    """Commands that read or change tasks say that there is no ledger, and make none."""
    for words in (("task", "list"), ("now",), ("queue", "list"), ("task", "cancel", "x", "--reason", "r")):
        assert "no ledger at" in call("--url", url, *words, code=5, app_name=None)
    assert not is_made(url)


def test_url_and_app_are_found_where_they_are_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag goes before the environment, --url before the app's own ledger; a wrong --app is a usage error."""
    call("--url", "sqlite:///other.db", "enqueue", "add", "--args", '{"a": 1}')
    assert (here / "other.db").exists() and not is_made(url_here())
    monkeypatch.setenv("WORKLEDGER_URL", "sqlite:///other.db")
    assert "add" in call("task", "list", app_name=None)
    call("--url", "sqlite:///none.db", "task", "list", code=5, app_name=None)
    for wrong in ("jobs", "missing:ledger", "jobs:add", "jobs:none"):
        assert call("enqueue", "add", code=2, app_name=wrong).startswith("error: --app")
    for wrong in ("mysql://x", "postgresql://x?schema=pg_x"):
        assert call("--url", wrong, "task", "list", code=2, app_name=None).startswith("error: ")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group."""
    yield path
    for name, inner in getattr(group, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_every_command_shows_an_example() -> None:
    """--help of every command has a line to copy."""
    found = list(commands(command()))
    assert len(found) > 20
    leaves = [path for path in found if path not in {other[:-1] for other in found}]
    for path in leaves:
        assert "Example: workledger" in invoke([*path, "--help"]).output, path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 0),
        (("db", "init"), 0),
        (("frobnicate",), 2),
        (("task", "show", "nope"), 3),
        (("--url", "sqlite:///none.db", "task", "list"), 5),
    ],
)
def test_the_process_ends_with_the_promised_code(here: Path, words: tuple[str, ...], code: int) -> None:
    """The command as a process of its own exits as documented and keeps stdout free of errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORKLEDGER_URL": url_here()}
    ledger = ledger_here()
    ledger.store.prepare()
    ledger.close()
    process = subprocess.run(
        [sys.executable, "-m", "runner.cli", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == code, process.stderr
    assert bool(process.stdout) == (code == 0)
    assert bool(process.stderr) == (code != 0)


def test_the_process_reports_a_conflict(here: Path) -> None:
    """Cancelling a task twice, from processes of their own, ends with 0 and then with 4."""
    task_id = add()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORKLEDGER_URL": url_here()}
    command = [sys.executable, "-m", "runner.cli", "task", "cancel", task_id, "--reason", "r"]
    codes = [subprocess.run(command, env=environment, capture_output=True, check=False).returncode for _ in range(2)]
    assert codes == [0, 4]


def test_every_option_of_a_call_can_be_set(here: Path) -> None:
    """What Python sets per call, the command line sets too."""
    words = ("--timeout", "5", "--kill-after", "1", "--unique-args", "--unique-until", "start", "--unlimited")
    task_id = add(*words)
    queued = json.loads(call("task", "events", task_id, "-o", "json"))[0]["data"]
    assert (queued["timeout"], queued["kill_after"], queued["unique_until"]) == (5.0, 1.0, "start")
    assert queued["max_attempts"] is None and queued["unique_key"].startswith("add(")
    again = json.loads(
        call(
            "enqueue",
            "add",
            "--args",
            '{"a": 1}',
            "--unique-args",
            "--on-duplicate",
            "reschedule",
            "--run-after",
            "60",
            "-o",
            "json",
        )
    )
    assert again == {"id": task_id, "duplicate": True, "answer": "rescheduled"}
    assert json.loads(call("task", "show", add("--no-retry"), "-o", "json"))["max_attempts"] == 1
    shown = json.loads(call("task", "show", add("--run-after", "60", "--expires", "30"), "-o", "json"))
    assert datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["due_at"]) == timedelta(
        seconds=30
    )
    call("task", "reschedule", shown["id"], "--run-after", "3600", "--reason", "later", code=4)
    call("task", "reschedule", shown["id"], "--run-after", "3600", "--expires", "60", "--reason", "later")


@pytest.mark.parametrize(
    "words",
    [
        ("--unique", "k", "--unique-args"),
        ("--unlimited", "--no-retry"),
        ("--unlimited", "--max-attempts", "3"),
        ("--unique-until", "never"),
        ("--timeout", "0"),
    ],
)
def test_options_that_exclude_each_other_are_refused(here: Path, words: tuple[str, ...]) -> None:
    """Exit code 2 and no row."""
    assert call("enqueue", "add", "--args", '{"a": 1}', *words, code=2)
    assert not is_made(url_here())


def test_why_names_who_cancelled_and_who_holds_the_key(here: Path) -> None:
    """A cancelled unique task: by whom, why, and what stands in the way of a retry."""
    first = add("--unique", "k")
    call("task", "cancel", first, "--reason", "sent by hand")
    second = add("--unique", "k")
    said = call("why", first)
    assert "by user:" in said and "sent by hand" in said and f"Task {second} holds its unique key" in said
    call("task", "reschedule", second, "--run-after", "3600", "--reason", "later")
    assert "it was rescheduled at" in call("why", second)
    beat(names='["other"]')
    call("task", "reschedule", second, "--run-after", "0", "--reason", "now")
    assert "has a task named 'add'" in call("why", second)


def test_verify_and_check_speak_json(here: Path) -> None:
    """Reading commands take -o, these too."""
    add()
    assert [row["is_equal"] for row in json.loads(call("projection", "verify", "-o", "json"))] == [True] * 13
    assert json.loads(call("db", "check", "-o", "json")) == {"events": 1, "problems": []}
