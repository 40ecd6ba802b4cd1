"""The tasks whose output the tests look at: each way of printing that a worker catches."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ledger import Ledger, Retry, current

early_handler = logging.StreamHandler()
logging.getLogger("early").addHandler(early_handler)
logging.getLogger("early").propagate = False
POOL = ThreadPoolExecutor(1)
ledger = Ledger.from_env()


@ledger.task
def plain(word: str) -> None:
    """Print to both streams, in parts, with colours, and without a line's end at the end."""
    print("hello", word)
    print("careful", file=sys.stderr)
    sys.stdout.write("in ")
    sys.stdout.write("parts\n")
    current().trace("traced", 1)
    print("\x1b[31mred\x1b[0m \x1b]0;title\x07 \ud800")
    print("no end", end="")


@ledger.task
def buffers() -> None:
    """Print into buffers of its own, one of which is thrown away."""
    for word in ("thrown away", "passed on"):
        with contextlib.redirect_stdout(io.StringIO()) as inner:
            print(word)
    print(inner.getvalue(), end="")


@ledger.task
def logs() -> None:
    """Log by a logger that nobody configured and by one whose handler was made with the module."""
    logging.getLogger("mine").info("by the root")
    logging.getLogger("early").warning("by its own handler")


@ledger.task
def elsewhere(word: str) -> None:
    """Print from a thread, a pool that outlives the attempt, a command and a forked process."""
    print("task", word)
    thread = threading.Thread(target=print, args=("thread", word))
    thread.start()
    thread.join()
    POOL.submit(print, "pool", word).result()
    subprocess.run(
        [sys.executable, "-c", f"import sys; print('command', '{word}'); sys.stderr.write('bad\\n')"], check=True
    )
    subprocess.run(["echo", "not for us"], stdout=subprocess.DEVNULL, check=True)
    process = multiprocessing.get_context("fork").Process(target=print, args=("forked", word))
    process.start()
    process.join()


@ledger.task
async def asynchronous(word: str) -> None:
    """Print around an await, and by a command run from the loop."""
    print("before", word)
    await asyncio.sleep(0.01)
    process = await asyncio.create_subprocess_exec("echo", "command", word)
    await process.wait()
    print("after", word)


@ledger.task
def much(lines: int) -> None:
    """Print numbered lines of 100 characters."""
    for number in range(lines):
        print(f"{number:099}")


@ledger.task(retry=False)
def fails() -> None:
    """Print and fail."""
    print("soon")
    raise ValueError("no")


@ledger.task(output="failures")
def quiet(fail: bool, wait_for: str = "") -> None:
    """Print; its output is kept where it fails."""
    print("quiet")
    while wait_for and not Path(wait_for).exists():
        time.sleep(0.01)
    if fail:
        raise ValueError("loud")


@ledger.task(output="none")
def silent() -> None:
    """Print what nobody keeps."""
    print("secret")


@ledger.task(retry=Retry(first=3600))
def waits(path: str, *, dies: bool = False) -> None:
    """Print, wait for a file to appear, print again or end the process."""
    print("first")
    while not Path(path).exists():
        time.sleep(0.01)
    if dies:
        os._exit(3)
    print("second")
