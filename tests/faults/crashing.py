"""The fault app in processes that are ended or frozen at named points: around appends, commits and effects.

The points are met from outside: this module, loaded as the app, lets `sqlite3` make connections that look at each
statement. The ledger has no hooks for it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from ledger import Ledger
from tests.faults.app import AT_ONCE, DIRECTORY, declare, effects

POINT = "WORKLEDGER_FAULTS_POINT"
"""Names the environment variable with the points: JSON of `describe`."""
ORPHAN = '"orphan"'
"""The variable's text for a worker whose supervisor dies as it is made."""
PATIENCE_SECONDS = 60.0
MAIN_PID = os.getpid()
"""The process that imported this module; workers are made from it by fork."""
met: Counter[tuple[int, str]] = Counter()
"""How often each process has met each point."""
lock = threading.Lock()


def describe(*points: tuple[str, int], process: str = "worker", number: int = signal.SIGKILL) -> str:
    """Return the text of the variable for points to be met one after the other, each by a process of its own.

    A point is ``before append TaskClaimed``, ``after commit TaskClaimed``, ``before effect`` and the like, and how
    often it is passed before: 1 is the first time. *process* is ``worker`` or ``main``. The first process is sent the
    signal *number* at the first point, the next one at the second, and so on; after that they live. Number 0 is no
    signal: there the answer of the database is lost, as the error of the disk that the driver would raise.
    """
    return json.dumps({"points": points, "process": process, "signal": number})


def meet(point: str) -> None:
    """Send this process its signal if this is its point, and the time has come."""
    plan = json.loads(os.environ.get(POINT, "{}"))
    is_main = os.getpid() == MAIN_PID
    if not isinstance(plan, dict) or not plan or is_main != (plan["process"] == "main"):
        return
    with lock:
        met[os.getpid(), point] += 1
        taken = len(list(Path(os.environ[DIRECTORY]).glob("*.met")))
        if taken < len(plan["points"]) and _is_due(*plan["points"][taken], point):
            with open(Path(os.environ[DIRECTORY]) / f"{taken}.met", "x") as file:
                file.write(str(os.getpid()))
            if not plan["signal"]:
                raise sqlite3.OperationalError("disk I/O error")
            os.kill(os.getpid(), plan["signal"])


def _is_due(planned: str, nth: int, point: str) -> bool:
    return planned == point and met[os.getpid(), point] >= nth


class Connection(sqlite3.Connection):
    """A connection that meets a point before and after each append and commit of each kind of event."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kinds: list[str] = []
        """Of the events appended in the open transaction."""

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:  # type: ignore[override]
        """Execute as the base class does."""
        points: list[str] = []
        if sql.startswith("BEGIN"):
            self.kinds = []
        elif sql.lstrip().startswith("INSERT INTO stored_events"):
            texts = [value for value in parameters if isinstance(value, str)]
            kinds = dict.fromkeys(text.removesuffix(".v1") for text in texts if text.endswith(".v1"))
            points = [f"append {kind}" for kind in kinds]
            self.kinds += kinds
        elif sql.startswith("DELETE FROM inbox"):
            points = ["take in"]
        elif sql == "COMMIT":
            points = [f"commit {kind}" for kind in dict.fromkeys(self.kinds)]
        for point in points:
            meet(f"before {point}")
        result = super().execute(sql, parameters)
        for point in points:
            meet(f"after {point}")
        return result


def step() -> None:
    """Do something, with a point before, in the midst of and after it."""
    meet("before effect")
    with effects():
        meet("amid effect")
    meet("after effect")


def die(times: int) -> None:
    """End this process in the first attempts."""
    with effects() as attempt:
        if attempt.attempt <= times:
            os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    """In its first attempt stop this process inside a transaction; nothing is written."""
    with effects() as attempt:
        if attempt.attempt == 1:
            with ledger.store.write():
                (Path(os.environ[DIRECTORY]) / "frozen").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(PATIENCE_SECONDS)  # another thread may take the signal: this one must not run on until then


def declare_more(to: Ledger) -> Ledger:
    """Register the tasks of the fault app and those of this module, and return the ledger."""
    declare(to)
    for function in (step, die, freeze):
        to.task(retry=AT_ONCE, max_attempts=None)(function)
    return to


def after_fork() -> None:
    """Meet the point of a worker that is just made; at the point ``orphan`` its supervisor is killed first."""
    if os.environ.get(POINT) == ORPHAN:
        supervisor = os.getppid()
        (Path(os.environ[DIRECTORY]) / "orphan.met").write_text(str(os.getpid()))
        os.kill(supervisor, signal.SIGKILL)
        while os.getppid() == supervisor:
            time.sleep(0.001)
    else:
        meet("after fork")


if POINT in os.environ:
    os.register_at_fork(before=lambda: meet("before fork"), after_in_child=after_fork)
    sqlite3.connect = partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]
ledger = declare_more(Ledger.from_env())
