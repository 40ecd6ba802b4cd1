"""The tasks that run in processes of their own: what they print, how they end, as whom, and what they ask of the ledger."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import logging
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ledger import Current, Fail, Ledger, OSUsers, Retry, acting_as, current, require_capability

MIB = 2**20


@contextmanager
def around(attempt: Current) -> Iterator[None]:
    """Tell on the output what the hook sees."""
    print("in", attempt.name, os.geteuid())
    try:
        yield
    except BaseException as error:
        print("out", type(error).__name__)
        raise
    print("out")


def signals_of_a_command() -> list[str]:
    """Which signals a command begins with blocked and ignored, as two masks in hexadecimal."""
    words = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[1::2]


def declare(to: Ledger) -> Ledger:
    """Register the tasks and return the ledger."""
    isolated: Any = lambda **options: to.task(**{"isolation": "process", "retry": False, **options})  # noqa: E731

    @isolated()
    def where(number: int) -> dict[str, Any]:
        attempt = current()
        return {
            "pid": os.getpid(),
            "threads": threading.active_count(),
            "number": number,
            "token": attempt.token == f"{attempt.id}:1",
            "is_isolated": attempt.is_isolated,
            "stdin": sys.stdin.read(),
            "command": subprocess.run(
                ["ls", "/proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False
            ).stdout.split(),
            "signals": signals_of_a_command(),
            "random": random.random(),
        }

    @isolated()
    async def asynchronous() -> int:
        await asyncio.sleep(0.01)
        print("in a loop")
        return os.getpid()

    @isolated()
    def prints() -> None:
        print("one")
        os.system("echo two")
        print("three", file=sys.stderr)
        subprocess.run(["sh", "-c", "echo four >&2"], check=True)
        logging.getLogger("mine").warning("five")
        os.write(1, b"six\n")
        thread = threading.Thread(target=print, args=("seven",))
        thread.start()
        thread.join()
        if os.fork() == 0:
            print("eight")
            os._exit(0)
        os.wait()
        ctypes.CDLL(None).puts(b"nine")
        ctypes.CDLL(None).fflush(None)
        print("ten \ud800 \x1b[31m", end="")

    @isolated()
    def prints_unheard(first: str, then: str, done: str) -> None:
        """Print by turns through Python and past it, while nobody reads."""
        Path(first).touch()
        while not Path(then).exists():
            time.sleep(0.01)
        for number in range(3):
            print("python", number)
            print("error", number, file=sys.stderr)
            print("", end="")
            os.system(f"echo shell {number}")
        Path(done).touch()

    @isolated()
    def prints_much(megabytes: int) -> None:
        line = "x" * 99 + "\n"
        for _ in range(megabytes * 10):
            sys.stdout.write(line * 1_000)

    @isolated(output="failures")
    def quiet(fails: bool) -> None:
        os.system("echo quiet")
        if fails:
            raise ValueError("loud")

    @isolated()
    def ends(how: str) -> None:
        print("before")
        match how:
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exited":
                os._exit(0)
            case "crashed":
                ctypes.string_at(0)
            case "raised":
                raise Fail("for good")
            case "left":
                sys.exit(3)
            case "delayed":
                current().delay(3600)
            case "forked":
                os.fork()  # the copy comes back too
            case "daemon":
                subprocess.Popen(["sh", "-c", "while echo more; do :; done"])
            case "unjson":
                current().children.append(object())  # type: ignore[arg-type]

    @isolated()
    def progresses(times: int, dies: bool) -> None:
        for number in range(1, times + 1):
            current().progress(number, times, f"step {number}")
        if dies:
            os._exit(1)

    @isolated()
    def lies(name: str) -> None:
        """Send the worker what a process should not, and be gone."""
        for descriptor in range(3, 64):
            with suppress(OSError):
                talk = socket.socket(fileno=os.dup(descriptor))
                if talk.type == socket.SOCK_SEQPACKET:
                    for packet in PACKETS[name]:
                        talk.send(packet.encode("latin-1"))
                    os._exit(0)
        raise AssertionError("there is no such line")

    @isolated(memory_limit=64 * MIB)
    def takes_memory(how: str) -> int:
        print("before")
        held: list[Any] = []
        while how == "heap":
            held.append(bytearray(MIB))
        if how == "shared":
            held.append(mmap.mmap(-1, 100 * MIB))
        if how == "within":
            held.append(bytearray(32 * MIB))
        if how == "for ever":
            globals()["KEPT"] = held
            while True:
                held.append("x" * 100)
        return len(held)

    @isolated(cpu_limit=1)
    def takes_cpu(how: str) -> None:
        while how == "python":
            pass
        if how == "c":
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # asks nobody until it is done
        if how == "sleeps":
            time.sleep(1.5)

    @isolated(timeout=0.3, kill_after=30.0)
    def overtime(path: str) -> None:
        try:
            time.sleep(60)
        finally:
            Path(path).touch()

    @isolated(timeout=0.3, kill_after=30.0)
    async def overtime_async() -> None:
        await asyncio.sleep(60)

    @isolated(timeout=0.1, kill_after=0.2)
    def stubborn(path: str) -> None:
        child = subprocess.Popen(["sleep", "600"])
        Path(path).write_text(f"{os.getpid()} {child.pid}")
        while True:
            with suppress(BaseException):
                time.sleep(60)

    @isolated(timeout=0.2, kill_after=30.0)
    def in_transaction(path: str) -> None:
        """Meet the timeout inside a transaction of the ledger, which must not be broken by it."""
        with to.store.write():
            Path(path).touch()
            time.sleep(0.5)
            to.functions["where"].enqueue(1)
        while True:
            time.sleep(0.01)

    @isolated(retry=Retry(first=0))
    def waits(first: str, then: str) -> str:
        Path(first).write_text(str(os.getpid()))
        while not Path(then).exists():
            if current().cancelled:
                return "cancelled"
            time.sleep(0.01)
        return "done"

    @isolated()
    def queues() -> list[Any]:
        own = to.functions["plain"]
        return [
            own.enqueue().id,
            own.using(with_outcome=True, run_after=None, labels=["late"]).enqueue().id,
            to.get(current().id).state,
        ]

    @isolated()
    def queues_and_fails() -> None:
        to.functions["plain"].using(with_outcome=True).enqueue()
        raise ValueError("no")

    @isolated(around=around)
    def hooked(fails: bool) -> None:
        print("runs")
        if fails:
            raise KeyError("no")

    @isolated()
    def left_open() -> None:
        globals()["HELD"] = [opened := to.store.write(), opened.__enter__()]
        to.functions["plain"].enqueue()

    @isolated(around=around)
    def who(acts_as: str | None = None) -> dict[str, Any]:
        found = {"run_as": current().run_as, "ids": ids(), "home": os.environ.get("HOME")}
        found["file"] = owner_of_a_new_file()
        found["command"] = subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip()
        if acts_as:
            with acting_as(acts_as):
                found["acting"] = [current().run_as, ids(), owner_of_a_new_file()]
            found["after"] = [current().run_as, ids()]
        found["death_signal"] = death_signal()
        require_capability("nogroup")
        return found

    @isolated()
    def goes_back() -> None:
        """Try to get the worker's own rights back."""
        for change in (os.setuid, os.seteuid, os.setgid):
            with suppress(PermissionError):
                change(0)
                print("went back by", change.__name__)
        with acting_as("system"):
            print("acted as the system")

    @to.task
    def plain() -> int:
        return os.getpid()

    return to


def ids() -> list[Any]:
    return [list(os.getresuid()), list(os.getresgid()), sorted(os.getgroups())]


def owner_of_a_new_file() -> int:
    path = Path(os.environ["SHARED"]) / f"{os.getpid()}-{time.monotonic_ns()}"
    path.touch()
    return path.stat().st_uid


def death_signal() -> int:
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))
    return number.value


PACKETS = {
    "no packet": [""],
    "no kind": ["?what"],
    "no stream": ["o\x09\x00text"],
    "no json": ["lnothing"],
    "no progress": ["p[-1, null, null]"],
    "no word": ["p[1]"],
    "no outcome": ['l{"kind": "succeeded"}'],
    "unknown": ['l{"kind": "claimed", "told": {}, "children": []}'],
    "foreign field": [
        'l{"kind":"succeeded","told":{"started_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:00:00Z","result":1,'
        '"acted_as":null},"children":[{"task_id":"x","on_duplicate":"return","command":{"name":"plain","worker":"w"}}]}'
    ],
}

ledger = declare(Ledger.from_env(identities=OSUsers(["nobody", "daemon"]) if "AS_USERS" in os.environ else None))
