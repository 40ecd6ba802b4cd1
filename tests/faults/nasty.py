"""Tasks that harm the process they run in, each in its own way; and tasks that only want to be left alone."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from pathlib import Path
from typing import Any

from ledger import Ledger, Retry, TimeLimit
from ledger.signals import OutputLimit
from tests.faults.app import AT_ONCE, DIRECTORY, append, declare, effects

ATTEMPTS = 2
GIGABYTE = 1 << 30
UNLIMITED = "keep_the_interpreter without a limit"


def leave() -> None:
    """End the process as if all were well."""
    with effects():
        os._exit(0)


def leave_with_code() -> None:
    """End the process as if something were wrong."""
    with effects():
        os._exit(7)


def segfault() -> None:
    """Read where nothing is."""
    with effects():
        ctypes.string_at(0)


def abort() -> None:
    """End the process as the C library does it."""
    with effects():
        os.abort()


def ignore_the_limit() -> None:
    """Go on whatever is raised."""
    with effects():
        while True:
            try:
                time.sleep(0.01)
            except TimeLimit:
                pass


def sleep_long() -> None:
    """Block in one call."""
    with effects():
        time.sleep(3_600)


def hash_much() -> None:
    """Compute in C without the interpreter's lock."""
    with effects():
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1 << 30)


def keep_the_interpreter() -> None:
    """Compute in C and let no other thread run."""
    with effects():
        sum(range(10**12))


async def block_the_loop() -> None:
    """Block in the event loop."""
    with effects():
        time.sleep(3_600)


def queue_when_locked() -> None:
    """Once another program holds the database: queue a task, which takes until the time is over."""
    with effects():
        while not (Path(os.environ[DIRECTORY]) / "locked").exists():
            time.sleep(0.005)
        task = ledger.functions["work"].enqueue(0)
        append("child.acknowledged", {"id": task.id})
        while True:
            time.sleep(0.005)


def flood() -> None:
    """Print a gigabyte, whatever is raised on the way."""
    refused = None
    with effects():
        line = "x" * 65_535 + "\n"
        for _ in range(GIGABYTE // len(line)):
            try:
                print(line, end="")
            except OutputLimit as error:
                refused = error
        if refused is not None:
            raise refused


def peak_kilobytes() -> int:
    """The most memory that this process has had in use."""
    with effects():
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1])


ENDS_ITS_PROCESS = (leave, leave_with_code, segfault, abort)
GOES_ON = (ignore_the_limit, sleep_long, hash_much, keep_the_interpreter, block_the_loop)


def declare_nasty(to: Ledger) -> Any:
    """Register the tasks of the fault app and those of this module, and return the ledger."""
    declare(to)
    for function in (*ENDS_ITS_PROCESS, flood):
        to.task(retry=AT_ONCE, max_attempts=ATTEMPTS)(function)
    for function in GOES_ON:
        to.task(retry=Retry(first=0), max_attempts=ATTEMPTS, timeout=0.2, kill_after=0.2)(function)
    to.task(name=UNLIMITED, retry=AT_ONCE, max_attempts=ATTEMPTS)(keep_the_interpreter)
    to.task(retry=False, timeout=1)(queue_when_locked)
    to.task(peak_kilobytes)
    return to


ledger = declare_nasty(Ledger.from_env())
