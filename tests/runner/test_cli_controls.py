"""The commands that govern the running of tasks: what they print, refuse and record, and how they show in the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.ids import mint
from projections.control_fold import SQL as CONTROL_SQL
from projections.queue import catch_up_all
from runner.cycle import Cycle
from runner.heartbeat import show
from tests.runner.test_cli import call, lines

APP = """
from ledger import Ledger
ledger = Ledger.from_env(limits={"queue:mail": 2})

@ledger.task(limit=3)
def add(a: int) -> int:
    return a
"""


@pytest.fixture
def here(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an app in jobs.py that declares limits."""
    (tmp_path / "jobs.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKLEDGER_URL", url)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("jobs", None)


@pytest.fixture
def ledger(here: Path, url: str) -> Iterator[Ledger]:
    """A ledger in the working directory whose app has limits, with two waiting tasks, one of them of a key."""
    call("enqueue", "add", "--args", '{"a": 1}')
    call("enqueue", "add", "--args", '{"a": 2}', "--concurrency-key", "customer 7", "--queue", "mail")
    ledger = Ledger(url)
    ledger.task(name="add")(lambda a: a)
    yield ledger
    ledger.close()


def ids() -> dict[str, str]:
    """The ids of the two tasks by queue."""
    return {row["queue"]: row["id"] for row in lines("task", "list")}


def why(queue: str) -> list[str]:
    said: list[str] = json.loads(call("why", ids()[queue], "-o", "json"))["why"]
    return said


def controls_shown() -> list[tuple[str, Any]]:
    return [(row["control"], row["name"]) for row in lines("now") if "control" in row]


def test_limits_of_code_and_settings_are_brought_to_the_log(ledger: Ledger, here: Path) -> None:
    """`limit sync` does what a start of `run` does, and says what has changed."""
    (here / "workledger.toml").write_text('[limits]\n"key:*" = 1\n"task:add" = "none"\n')
    assert call("limit", "sync").splitlines() == ["3 limits changed", "  queue:mail", "  task:add", "  key:*"]
    assert call("limit", "sync") == "nothing has changed\n"
    found = {
        row["scope"]: (row["most"], row["source"], row["code"], row["configuration"]) for row in lines("limit", "list")
    }
    assert found == {
        "key:*": (1, "configuration", None, 1),
        "queue:mail": (2, "code", 2, None),
        "task:add": (None, "configuration", 3, "none"),
    }
    call("limit", "set", "task:add", "9", "--reason", "r", code=4)


def test_a_limit_is_set_shown_and_reset(ledger: Ledger) -> None:
    """Who set it, why, and how many run are listed; reset, the code's counts again."""
    call("limit", "sync")
    said = call("--actor", "ann", "limit", "set", "task:add", "1", "--reason", "the mail server asked for it")
    assert said == "task:add has a limit of 1, by hand\n"
    Cycle(ledger, "w").turn([], 1, is_idle=True)
    [row] = [row for row in lines("limit", "list") if row["scope"] == "task:add"]
    assert (row["most"], row["running"], row["code"], row["hand"]) == (1, 1, 3, 1)
    assert row["actor"].endswith("(ann)") and row["reason"] == "the mail server asked for it"
    assert "the mail server asked for it" in call("limit", "list")
    assert call("limit", "set", "task:add", "none", "--reason", "r") == "task:add has no limit, by hand\n"
    assert call("limit", "reset", "task:add", "--reason", "r") == "task:add has a limit of 3, by code\n"
    call("limit", "set", "key:k", "2", "--reason", "r")
    assert json.loads(call("limit", "reset", "key:k", "--reason", "r", "-o", "json"))["most"] is None


def test_the_fullest_of_a_pattern_is_shown(ledger: Ledger) -> None:
    """Of a pattern the queue, task or key of which most run is named."""
    call("limit", "set", "key:customer*", "5", "--reason", "r")
    Cycle(ledger, "w").turn([], 2, is_idle=True)

    [row] = lines("limit", "list")
    assert (row["running"], row["fullest"]) == (1, "customer 7")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("set", "mail", "3"), "the scope of a limit is 'mail'"),
        (("set", "task:add", "0"), "allowed is a whole number from 1 to 1,000,000, or None; `queue pause`"),
        (("set", "task:add", "many"), "a limit is 'many'; allowed is a whole number from 1 to 1,000,000, or none"),
        (("reset", "nobody:x"), "the scope of a limit is"),
    ],
)
def test_a_bad_limit_is_refused(ledger: Ledger, words: tuple[str, ...], says: str) -> None:
    """Exit code 2 and what is allowed; nothing is stored."""
    assert says in call("limit", *words, "--reason", "r", code=2)
    assert call("limit", "list") == "no limits\n"


def test_a_reason_is_required(ledger: Ledger) -> None:
    """Each of the commands needs --reason."""
    for words in (
        ("limit", "set", "ledger", "1"),
        ("limit", "reset", "ledger"),
        ("queue", "pause", "mail"),
        ("queue", "resume", "mail"),
        ("runners", "disable"),
        ("runners", "enable"),
        ("stop",),
        ("recycle",),
    ):
        assert "--reason" in call(*words, code=2)


def test_a_paused_queue_is_seen_everywhere(ledger: Ledger) -> None:
    """`queue list`, `now` and `why` say who paused it, when and why; a queue without tasks is listed too."""
    assert (
        call("queue", "pause", "mail", "--reason", "server moves")
        == "queue mail is paused; 1 wait in it, 0 still run\n"
    )
    assert call("queue", "pause", "mail", "--reason", "again") == "queue mail was paused; 1 wait in it, 0 still run\n"
    call("queue", "pause", "empty", "--reason", "typed wrong")
    rows = {row["queue"]: row["paused"] for row in lines("queue", "list")}
    assert {name: paused and paused["reason"] for name, paused in rows.items()} == {
        "default": None,
        "mail": "server moves",
        "empty": "typed wrong",
    }
    assert "server moves" in call("queue", "list") and "server moves" in call("now")
    assert controls_shown() == [("queue paused", "empty"), ("queue paused", "mail")]
    [sentence] = [one for one in why("mail") if "paused" in one]
    assert sentence.startswith("Queue 'mail' is paused since 2") and ": server moves; `queue resume` lets" in sentence
    assert not [one for one in why("default") if "paused" in one]
    assert call("queue", "resume", "mail", "--reason", "done") == "queue mail is resumed; 1 wait in it, 0 run\n"
    assert call("queue", "resume", "mail", "--reason", "done").startswith("queue mail was not paused")
    assert controls_shown() == [("queue paused", "empty")]


def test_disabled_runners_are_seen_everywhere(ledger: Ledger) -> None:
    """`now` and `why` say who disabled them, when and why."""
    assert call("runners", "disable", "--reason", "backup") == "runners are disabled\n"
    assert call("runners", "disable", "--wait", "--reason", "backup") == "runners were disabled\nnothing runs\n"
    assert controls_shown() == [("runners disabled", None)]
    assert any(one.startswith("The runners are disabled since 2") and ": backup;" in one for one in why("default"))
    assert call("runners", "enable", "--reason", "done") == "runners are enabled\n"
    assert call("runners", "enable", "--reason", "done") == "runners were enabled\n"
    assert controls_shown() == []


def test_waiting_for_what_runs_has_an_end(ledger: Ledger) -> None:
    """Exit code 1 when tasks still run then; SECONDS without --wait is refused before anything is said."""
    call("runners", "disable", "5", "--reason", "backup", code=2)
    assert controls_shown() == []
    Cycle(ledger, "w").turn([], 2, is_idle=True)
    said = call("runners", "disable", "--wait", "0.1", "--reason", "backup", code=1)
    assert said == "runners are disabled\n2 tasks still run\n"


def test_full_limits_are_explained(ledger: Ledger) -> None:
    """`why` names each limit in the way, how many run and who says it."""
    call("limit", "set", "task:*", "1", "--reason", "r")
    call("limit", "set", "ledger", "1", "--reason", "r")
    Cycle(ledger, "w").turn([], 1, is_idle=True)
    waiting = next(row["queue"] for row in lines("task", "list") if row["state"] == "waiting")
    found = [one for one in why(waiting) if "limit" in one]
    assert found == [
        "The limit of the ledger is full: 1 runs, at most 1 may (by hand).",
        "The limit of task 'add' is full: 1 runs, at most 1 may (by hand, task:*).",
    ]


def test_the_key_of_a_full_limit_is_named(ledger: Ledger) -> None:
    """Also a concurrency key."""
    call("enqueue", "add", "--args", '{"a": 3}', "--concurrency-key", "customer 7", "--queue", "mail")
    call("limit", "set", "key:*", "1", "--reason", "r")
    Cycle(ledger, "w", ["mail"]).turn([], 5, is_idle=True)
    [waiting] = [row["id"] for row in lines("task", "list", "--queue", "mail") if row["state"] == "waiting"]
    assert "The limit of concurrency key 'customer 7' is full: 1 runs, at most 1 may (by hand, key:*)." in call(
        "why", waiting
    )


@pytest.mark.parametrize(("command", "shown"), [("stop", "stop requested"), ("recycle", "recycling")])
def test_who_has_not_left_yet_is_seen(ledger: Ledger, command: str, shown: str) -> None:
    """After a stop or a recycle, `now` counts the workers that are still there and `worker list` says who told them."""
    assert call(command, "--reason", "nobody there").startswith("0 workers were told")
    with ledger.store.write() as unit:
        for name in ("one", "two"):
            show(unit, mint(unit.now), name, threads=1, queues=(), lease_seconds=30, names=())
    assert controls_shown() == []
    assert call(command, "--reason", "release 7").startswith("2 workers were told")
    with ledger.store.write() as unit:
        show(unit, mint(unit.now), "three", threads=1, queues=(), lease_seconds=30, names=())
    [row] = [row for row in lines("now") if "control" in row]
    assert (row["control"], row["reason"], row["details"]) == (shown, "release 7", "2 workers have not left yet")
    leaving = {row["name"]: row["leaving"] for row in lines("worker", "list")}
    assert leaving["three"] is None
    assert leaving["one"] == leaving["two"]
    assert leaving["one"].startswith(f"{shown} by user:") and leaving["one"].endswith(": release 7")


def test_the_view_is_verified_and_rebuilt(ledger: Ledger) -> None:
    """Planted damage in the controls is found by `projection verify`, exit code 1, and mended by `projection rebuild`."""
    call("queue", "pause", "mail", "--reason", "r")
    call("limit", "set", "ledger", "1", "--reason", "r")
    catch_up_all(ledger)
    with ledger.store.write() as unit:
        unit.run("UPDATE limits SET hand = 100")
        unit.run("DELETE FROM marks WHERE mark = 'queue:mail'")
    found = call("projection", "verify", "--view", "controls", code=1)
    assert found.splitlines() == [
        "controls: 2 differences",
        "  limit ledger: hand is 100, the fold gives 1",
        "  mark queue:mail: the live row is missing",
    ]
    call("projection", "rebuild", "--view", "controls")
    assert "controls: equal to the fold of the log" in call("projection", "verify")
    with ledger.store.read() as snapshot:
        assert len(snapshot.rows(CONTROL_SQL["all_marks"])) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[limits]\nmail = 3\n", "the scope of a limit is 'mail'"),
        ('[limits]\n"task:a" = 0\n', "a limit is 0"),
        ('[limits]\n"task:a" = "many"\n', "limits"),
        ("max_tasks_per_worker = 0\n", "max_tasks_per_worker"),
        ("max_memory_per_worker = 0\n", "max_memory_per_worker"),
    ],
)
def test_bad_settings_are_refused(here: Path, text: str, says: str) -> None:
    """A settings file with a limit that cannot be is exit code 2, with its key and what is allowed."""
    (here / "workledger.toml").write_text(text)
    assert says in call("now", code=2)
