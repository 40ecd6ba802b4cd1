"""The tasks that change what does not belong to them, and those that look whether anything is left of it."""

from __future__ import annotations

import asyncio
import ctypes
import decimal
import faulthandler
import locale
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from os import chdir as early_chdir
from pathlib import Path
from typing import Any

from ledger import Ledger, Retry, current

COLOUR: ContextVar[str] = ContextVar("colour", default="none")
HELD: list[Any] = []
os.environ["GUEST_OLD"] = "as it was"


def state() -> dict[str, Any]:
    """What an attempt finds: everything that another could have left behind."""
    umask = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask"))
    return {
        "directory": os.getcwd(),
        "umask": umask.split()[1],
        "environment": [os.environ.get("GUEST_OLD"), os.environ.get("GUEST_NEW"), os.environ.get("HOME")],
        "locale": locale.setlocale(locale.LC_ALL),
        "timer": signal.getitimer(signal.ITIMER_REAL)[0],
        "signal mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "signal handlers": [str(signal.getsignal(signal.SIGUSR1)), kernel_handlers()],
        "variable": COLOUR.get(),
        "decimal": decimal.getcontext().prec,
        "streams": [type(sys.stdout).__name__, type(sys.stderr).__name__],
    }


def kernel_handlers() -> list[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith(("SigIgn", "SigCgt"))]


def leave_directory() -> None:
    os.chdir("/")


def leave_deleted_directory() -> None:
    gone = Path(f"gone-{current().id}")
    gone.mkdir()
    os.chdir(gone)
    os.rmdir(f"../{gone}")


def leave_directory_by_a_function_taken_before() -> None:
    early_chdir("/")


def leave_directory_past_python() -> None:
    ctypes.CDLL(None).chdir(b"/")
    time.sleep(0.01)


def leave_umask() -> None:
    os.umask(0o123)


def leave_environment() -> None:
    os.environ["GUEST_OLD"] = "another"
    os.environ["GUEST_NEW"] = "one more"
    del os.environ["HOME"]


def leave_locale() -> None:
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def leave_timer() -> None:
    signal.setitimer(signal.ITIMER_REAL, 3600)


def leave_signal_mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGHUP])


def leave_signal_handler() -> None:
    faulthandler.register(signal.SIGUSR1)


def leave_ignored_signal() -> None:
    ctypes.CDLL(None).signal(signal.SIGUSR2, ctypes.c_void_p(1))
    time.sleep(0.15)


def leave_variable() -> None:
    COLOUR.set("red")
    decimal.getcontext().prec = 3


def leave_streams() -> None:
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (left open on purpose)


def leave_nothing() -> None:
    """Set a handler in the one way that threads are refused."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


LEAVES: dict[str, Callable[[], None]] = {
    name.removeprefix("leave_"): found for name, found in list(globals().items()) if name.startswith("leave_")
}


def declare(to: Ledger) -> Ledger:
    """Register the tasks and return the ledger."""

    @to.task
    def look() -> dict[str, Any]:
        return {**state(), "pid": os.getpid()}

    @to.task(retry=False)
    def leave(what: str, fails: bool = False) -> None:
        LEAVES[what]()
        if fails:
            raise ValueError("and it fails")

    @to.task(retry=False)
    async def leave_async(what: str) -> None:
        await asyncio.sleep(0)
        LEAVES[what]()

    @to.task(retry=False, isolation="process")
    def leave_isolated(what: str) -> dict[str, Any]:
        before = state()
        LEAVES[what]()
        return before

    @to.task(retry=False)
    def keep_changed(first: str, then: str) -> list[str]:
        """Change the directory, say so, wait, and tell where it stands then."""
        os.chdir("/")
        Path(first).touch()
        wait_for(then)
        return [os.getcwd()]

    @to.task(retry=Retry(first=0))
    def wait(first: str, then: str) -> None:
        Path(first).touch()
        wait_for(then)

    @to.task
    def touch(path: str) -> None:
        Path(path).touch()

    @to.task(retry=False)
    def left_open() -> None:
        opened = to.store.write()
        HELD.append((opened, opened.__enter__()))
        to.functions["look"].enqueue()

    @to.task
    def acts(name: str, peers: int) -> list[str]:
        """Act as *name* beside others that act as theirs, also in a thread begun meanwhile."""
        BARRIER.wait(20)
        found: list[str] = []
        with current().acting_as(name):
            BARRIER.wait(20)
            thread = threading.Thread(target=lambda: found.append(current().run_as))
            thread.start()
            thread.join()
            found.append(current().run_as)
            BARRIER.wait(20)
        return [*found, current().run_as]

    return to


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.005)


BARRIER = threading.Barrier(4)
ledger = declare(Ledger.from_env())
