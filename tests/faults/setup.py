"""What the fault tests share: a ledger in a directory of its own, real processes on it, and the verdict at the end."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from ledger import Ledger
from projections import controls as control_view
from projections import queue as queue_view
from projections.reports import Reports
from runner.follower import NICENESS
from tests.faults.app import DIRECTORY
from tests.faults.crashing import declare_more
from tests.faults.history import check, postgres_rows, read_history
from tests.processes import Command

Process = subprocess.Popen[bytes] | Command
ROOT = Path(__file__).parents[2]
APP = "tests.faults.app:ledger"
PATIENCE_SECONDS = 60.0
"""How long a condition may take to come true before its test fails: far longer than it does."""
LEASES = {"WORKLEDGER_BEAT_SECONDS": "0.1", "WORKLEDGER_LEASE_SECONDS": "1"}
"""Short ones, for runs in which a worker falls silent."""


class Site:
    """A directory with a ledger, the files that tasks and producers write, and the processes started on it."""

    def __init__(
        self, directory: Path, database: Path | None = None, url: str | None = None, **environment: str
    ) -> None:
        self.directory = directory
        self.database = database or directory / "work.db"
        self.url = url or f"sqlite:///{self.database}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WORKLEDGER_")},
            "PYTHONPATH": str(ROOT),
            "WORKLEDGER_URL": self.url,
            "WORKLEDGER_PRUNE": "false",
            "WORKLEDGER_REPORTS": "false",  # many tests here count processes; the storm keeps reports
            DIRECTORY: str(directory),
            **environment,
        }
        self.started: list[Process] = []

    def ledger(self) -> Any:
        """The ledger with the tasks of the fault apps, for this process; the caller closes it."""
        return declare_more(Ledger(self.url))

    def enqueue(self, *calls: tuple[str, tuple[Any, ...]], **options: Any) -> list[str]:
        """Queue calls of the app's tasks in one commit, acknowledge them and return their ids."""
        ledger = self.ledger()
        made = [ledger.functions[name].using(**options).call(*args) for name, args in calls]
        ids = [task.id for task in ledger.enqueue_many(made)]
        ledger.close()
        with (self.directory / "test.acknowledged").open("a") as file:
            file.writelines(json.dumps({"id": one}) + "\n" for one in ids)
        return ids

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start Python with *words*; what it prints goes to a file of the directory."""
        return self._started(lambda **how: subprocess.Popen([sys.executable, *words], **how), environment)

    def command(self, *words: str, app: str = APP, **environment: str) -> Command:
        """Start the command ``workledger --app … WORDS``."""
        return self._started(lambda **how: Command(["--app", app, *words], **how), environment)

    def _started(self, start: Callable[..., Any], environment: dict[str, str]) -> Any:
        with (self.directory / f"{len(self.started)}.log").open("wb") as log:
            environment = {**self.environment, **environment}
            process = start(cwd=self.directory, env=environment, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def finish(self, process: Process) -> int:
        """Wait for the end of *process* and return its exit code."""
        try:
            return process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{process.args!r} has not ended\n{self.logs()}") from None

    def drain(self, *words: str, app: str = APP, **environment: str) -> int:
        """Work the queue to its end and return the exit code."""
        return self.finish(self.command("run", "--drain", *words, app=app, **environment))

    def close(self) -> None:
        """End what is still running of what was started here, the workers included."""
        for process in self.started:
            if process.poll() is None:
                family = [process.pid, *workers_of(process)]
                for pid in family:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()

    def logs(self) -> str:
        """The ends of what the processes printed, for the message of a failed test."""
        texts = [(path.name, path.read_text(errors="replace")[-3_000:]) for path in self.directory.glob("*.log")]
        return "\n".join(f"--- {name}\n{text}" for name, text in sorted(texts) if text)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What a reader of the database sees, through a connection of its own."""
        if self.url.startswith("postgresql:"):
            return postgres_rows(self.url, sql, parameters)
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=PATIENCE_SECONDS)) as reader:
            return reader.execute(sql, parameters).fetchall()

    def begun(self) -> int:
        """How many attempts have written that they begin."""
        return sum(path.read_text().count('"begin"') for path in self.directory.glob("*.effects"))

    def last_position(self) -> int:
        """The newest position of the log."""
        return int(self.rows("SELECT coalesce(max(position), 0) FROM events")[0][0])

    def count(self, topic: str) -> int:
        """How many events of *topic* the log has."""
        return self.count_where("topic = ?", topic + ".v1")

    def count_where(self, condition: str, *parameters: Any) -> int:
        """How many events of the log meet an SQL *condition*."""
        try:
            return int(self.rows(f"SELECT count(*) FROM stored_events WHERE {condition}", *parameters)[0][0])
        except (IndexError, sqlite3.OperationalError, psycopg.errors.UndefinedTable):  # the database is not made yet
            return 0

    def states(self) -> dict[str, list[str]]:
        """The ids of the tasks in each state, by name and state (``work succeeded``), as a fold of the log gives it."""
        found: dict[str, list[str]] = {}
        ledger = self.ledger()
        for (stream,) in self.rows("SELECT DISTINCT originator_id FROM stored_events WHERE topic = 'TaskQueued.v1'"):
            record = ledger.get(stream.removeprefix("task:")).record
            found.setdefault(f"{record.state.name} {record.state.status}", []).append(record.state.task_id)
        ledger.close()
        return found

    def check(self) -> None:
        """Fail unless the history keeps the promises and every view is equal to the fold of the log."""
        problems = check(read_history(self.url, self.directory))
        assert problems == [], "\n".join([*problems[:20], self.logs()])
        ledger = self.ledger()
        assert queue_view.verify(ledger) == []
        assert control_view.verify(ledger) == []
        assert Reports(ledger).verify() == []
        ledger.close()
        assert self.url.startswith("postgresql:") or self.rows("PRAGMA integrity_check") == [("ok",)]


def workers_of(supervisor: Process) -> list[int]:
    """The processes of the workers that *supervisor* has now."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(supervisor.pid).children()
        followers = psutil.Process().nice() + NICENESS
        return [c.pid for c in children if c.status() != psutil.STATUS_ZOMBIE and c.nice() < followers]
    return []


def wait_until(condition: Callable[[], object], what: str, site: Site | None = None) -> None:
    """Return as soon as *condition* is true; fail with *what* was waited for if that takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what}\n{site.logs() if site else ''}")
        time.sleep(0.01)
