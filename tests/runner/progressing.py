"""The tasks whose progress the tests look at: each says it in another way, and waits for a file to go on."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from ledger import Ledger, Retry, current

ledger = Ledger.from_env()


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


@ledger.task(retry=Retry(first=3600))
def plain(go: str) -> None:
    """Say it before and after."""
    current().progress(1, 4, "waiting\x1b[2J")
    wait_for(go)
    current().progress(4, 4, "done")


@ledger.task
def threaded(go: str) -> None:
    """Let a thread say it."""
    thread = threading.Thread(target=lambda: current().progress(2, message="in a thread"))
    thread.start()
    thread.join()
    wait_for(go)


@ledger.task
async def asynchronous(go: str) -> None:
    """Say it between awaits."""
    await asyncio.sleep(0)
    current().progress(3, 5)
    while not Path(go).exists():
        await asyncio.sleep(0.01)
    current().progress(5, 5)


@ledger.task
def busy(go: str) -> None:
    """Say it as often as it can, until told to end."""
    count = 0
    while count % 1_000 or not Path(go).exists():
        count += 1
        current().progress(count)


@ledger.task(timeout=0.5, kill_after=60, retry=False)
def overdue(go: str) -> None:
    """Meet its timeout while it says how far it is; nobody tells it to go on."""
    count = 0
    while True:
        count += 1
        current().progress(count, message="over and over")
