"""Planted secrets: a value that is hidden is searched for in everything that is printed and in every file but the log."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing

import pytest

from tests.faults.setup import ROOT, Site, wait_until
from tests.processes import call

SECRET = "hunter2-4b1d"
JOBS = f"""
import logging
import os
from ledger import Ledger, Retry

ledger = Ledger.from_env()

@ledger.task(hide=["token"], unique=True, retry=Retry(first=0), max_attempts=2)
def send(user: int, token: str = "{SECRET}") -> None:
    logging.getLogger("jobs").warning("sending to %s", user)
    if user < 0:
        raise ValueError("no such user")

@ledger.task(name="old", hide=["token"])
def changed(token: str) -> None: ...

@ledger.schedule("* * * * *", args={{"token": "{SECRET}"}}, hide=["token"], component="web")
def hourly(token: str) -> None: ...
"""
CRONTAB = f"PASSWORD={SECRET}\n* * * * * echo done\n"


def printed(site: Site, *words: str, stdin: str | None = None) -> str:
    """Call the command as a process of its own and return all that it printed."""
    done = call("--app", "jobs:ledger", *words, cwd=site.directory, env=site.environment, stdin=stdin)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def reading(task_id: str) -> list[list[str]]:
    """Every command that shows something, in every form it has."""
    forms = ([], ["-o", "json"])
    telling = [
        ["task", "show", task_id],
        ["task", "list"],
        ["task", "events", task_id],
        ["schedule", "show", "hourly"],
        ["schedule", "history", "hourly"],
    ]
    others = [
        ["task", "list", "--failed-only", "-o", "jsonl"],
        ["task", "log", task_id],
        ["why", task_id],
        ["now"],
        ["queue", "list"],
        ["worker", "list"],
        ["schedule", "list", "-o", "json"],
        ["schedule", "forecast", "--from", "2026-03-01T00:00", "--to", "2026-03-01T01:00"],
        ["projection", "verify"],
        ["db", "check"],
    ]
    return [*([*command, *form] for command in telling for form in forms), *others]


@pytest.fixture
def planted(site: Site) -> tuple[Site, str]:
    """A ledger with tasks that have the secret: succeeded, failed, waiting; scheduled, and from a crontab."""
    (site.directory / "jobs.py").write_text(JOBS)
    (site.directory / "jobs.tab").write_text(CRONTAB)
    site.environment["PYTHONPATH"] = f"{ROOT}:{site.directory}"
    args = json.dumps({"user": -1, "token": SECRET})
    task_id = printed(site, "enqueue", "send", "--args", "-", stdin=args).split()[0]
    for more in ([], ["--on-duplicate", "reschedule", "--run-after", "0"], ["--run-after", "3600", "--no-retry"]):
        printed(site, "enqueue", "send", "--args", "-", *more, stdin=json.dumps({"user": 1, "token": SECRET}))
    printed(site, "import", "crontab", "jobs.tab", "--allow-shell")
    return site, task_id


def test_a_hidden_value_is_in_no_output_and_in_no_file_but_the_log(planted: tuple[Site, str]) -> None:
    """After work, failures, retries and listing: no command shows it, no log, report or other file has it."""
    site, task_id = planted
    run = site.command("run", "--allow-shell", app="jobs:ledger")
    wait_until(
        lambda: site.count_where("topic = 'TaskFailed.v1' AND originator_id = ?", f"task:{task_id}") == 2, "", site
    )
    shown = [printed(site, *command) for command in reading(task_id)]
    shown += [
        printed(site, "task", "run", task_id, "--reason", "to see it fail"),
        printed(site, "task", "run-failed", "--reason", "once more", "--dry-run", "-o", "json"),
        printed(site, "task", "retry", "--all", "--reason", "once more", "-o", "json"),
        printed(site, "task", "cancel", "--name", "send", "--reason", "enough", "-o", "json"),
        printed(site, "enqueue", "send", "--args", "-", stdin=json.dumps({"user": 1, "token": [SECRET, 2**70]})),
        printed(site, "enqueue", "send", "--args", "-", stdin=json.dumps({"usr": 1, "token": SECRET})),
        printed(site, "schedule", "run-now", "hourly", "--reason", "now"),
        printed(site, "import", "crontab", "jobs.tab", "--allow-shell", "--dry-run", "-o", "json"),
    ]
    [imported] = [name for (name,) in site.rows("SELECT name FROM schedules WHERE name <> 'hourly'")]
    shown += [printed(site, "schedule", verb, imported, "-o", "json") for verb in ("show", "history")]
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 1, site.logs()

    assert not [text for text in shown if SECRET in text]
    assert any("[hidden]" in text for text in shown)
    assert sum(len(text) for text in shown) > 20_000, "the commands did show something"
    log = {site.database.name + suffix for suffix in ("", "-wal", "-shm")} | {"jobs.py", "jobs.tab"}
    others = [path for path in site.directory.rglob("*") if path.is_file() and path.name not in log]
    others = [path for path in others if path.suffix != ".pyc"]
    assert {path.suffix for path in others} >= {".log", ".db"}
    assert not [path for path in others if SECRET.encode() in path.read_bytes()]
    assert _report_rows(site), "the report was written"


def _report_rows(site: Site) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(site.directory / "work.reports.db")) as report:
        return report.execute("SELECT args FROM tasks WHERE args LIKE '%[hidden]%'").fetchall()


def test_only_the_recorded_command_shows_it(planted: tuple[Site, str]) -> None:
    """`task reveal` shows the value, and the log says who saw it and why; without a reason it shows nothing."""
    site, task_id = planted
    assert SECRET not in printed(site, "task", "reveal", task_id)
    assert site.count("ReadRecorded") == 0
    assert SECRET in printed(site, "--actor", "ann", "task", "reveal", task_id, "--reason", "customer asks")
    [(state,)] = site.rows("SELECT state FROM stored_events WHERE topic = 'ReadRecorded.v1'")
    recorded = json.loads(state)
    assert (recorded["task"], recorded["what"], recorded["reason"]) == (task_id, ["arguments"], "customer asks")
    assert recorded["actor"].endswith("(ann)")


def test_the_search_finds_what_is_not_hidden(site: Site) -> None:
    """The same value in an argument that is not hidden is found by this search: it can fail."""
    (site.directory / "jobs.py").write_text(JOBS.replace('hide=["token"], unique', "unique"))
    site.environment["PYTHONPATH"] = f"{ROOT}:{site.directory}"
    task_id = printed(site, "enqueue", "send", "--args", "-", stdin=json.dumps({"user": 1, "token": SECRET})).split()[0]
    assert SECRET in printed(site, "task", "show", task_id)
    printed(site, "task", "list")
    files = site.directory.glob("work.reports.db*")
    assert any(SECRET.encode() in path.read_bytes() for path in files)
