"""The tasks that the fault tests run: each writes its begin and its end to a file of its worker process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger import Fail, Ledger, Retry, current
from ledger.current import Current

DIRECTORY = "WORKLEDGER_FAULTS_DIRECTORY"
"""Names the environment variable that says where the files are written."""
AT_ONCE = Retry(first=0)


def append(name: str, *lines: dict[str, Any]) -> None:
    """Append lines to a file of the directory; they are on disk when this returns."""
    descriptor = os.open(Path(os.environ[DIRECTORY]) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, "".join(json.dumps(line) + "\n" for line in lines).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def effect(kind: str) -> None:
    """Write that the attempt that runs here begins or ends."""
    attempt, pid = current(), os.getpid()
    line = {"task": attempt.id, "attempt": attempt.attempt, "token": attempt.token, "pid": pid, "kind": kind}
    append(f"{pid}.effects", {**line, "monotonic_ns": time.monotonic_ns()})


@contextmanager
def effects() -> Iterator[Current]:
    """Write the begin and the end of the attempt that runs here, whether it succeeds or raises."""
    effect("begin")
    try:
        yield current()
    finally:
        effect("end")


def work(milliseconds: int) -> int:
    """Take some time."""
    with effects() as attempt:
        time.sleep(milliseconds / 1000)
        return attempt.attempt


async def work_async(milliseconds: int) -> None:
    """Take some time without a thread's sleep."""
    with effects() as attempt:
        attempt.progress(1, 2, "begun")
        await asyncio.sleep(milliseconds / 1000)
        attempt.progress(2, 2, "done")


def flaky(milliseconds: int, failures: int) -> None:
    """Raise in the first attempts."""
    with effects() as attempt:
        time.sleep(milliseconds / 1000)
        if attempt.attempt <= failures:
            raise ConnectionError(f"attempt {attempt.attempt} of {failures} that fail")


def doomed() -> None:
    """End as failed at once."""
    with effects():
        raise Fail("it can never work")


def grow(megabytes: int) -> None:
    """Take memory and keep it."""
    with effects():
        _kept.append(b"x" * megabytes * 1024 * 1024)


def clear_caches() -> None:
    """Ask for new processes, and go on for a moment."""
    with effects() as attempt:
        attempt.clear_caches(reason="what was cached has changed")
        time.sleep(0.05)


_kept: list[bytes] = []


def nothing() -> None:
    """Take no time and leave no trace of its own."""


def declare(to: Ledger) -> Ledger:
    """Register the tasks and return the ledger."""
    for function in (work, work_async, flaky, doomed, grow, clear_caches, nothing):
        to.task(retry=AT_ONCE, max_attempts=None)(function)

    @to.task(retry=AT_ONCE, max_attempts=None)
    def parent(milliseconds: int) -> None:
        """Queue one child that stands with this attempt's success, and one that stands at once."""
        with effects():
            to.functions["work"].using(with_outcome=True).enqueue(milliseconds)
            to.functions["work"].enqueue(milliseconds)

    @to.task(retry=AT_ONCE, max_attempts=None)
    def hold(name: str) -> None:
        """Go on until there is a file of this name, or of this name and the attempt's number; then leave a child."""
        with effects() as attempt:
            directory = Path(os.environ[DIRECTORY])
            while not (directory / name).exists() and not (directory / f"{name}.{attempt.attempt}").exists():
                time.sleep(0.005)
            to.functions["work"].using(with_outcome=True).enqueue(0)

    return to


ledger = declare(Ledger.from_env())
