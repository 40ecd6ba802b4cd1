"""A wait ends by a nudge, somebody else's commit or its time, however many files its process has open."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger import Ledger
from runner.wake import Wake


@pytest.fixture
def many_files() -> Iterator[None]:
    """More open files than the descriptor sets of select(2) can hold; those opened next are numbered above them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    while opened[-1] <= 1100:
        opened.append(os.dup(opened[0]))
    yield
    for descriptor in opened:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_who_waits_may_have_a_thousand_open_files(url: str) -> None:
    """The pipe, the file watch and the database's socket may have any number."""
    ledger, other = Ledger(url), Ledger(url)
    function = other.task(name="a")(lambda number: None)
    ledger.store.prepare()
    function.enqueue(0)  # the write-ahead log is there
    wal = Path(url.removeprefix("sqlite:///") + "-wal") if url.startswith("sqlite:") else None
    wake = Wake(ledger.store, wal)
    wake.forget_commits()
    with ThreadPoolExecutor(1) as pool:
        assert not wake.wait(0.01, for_commits=True)

        waiting = pool.submit(wake.wait, 60, for_commits=True)
        function.enqueue(1)
        assert waiting.result(30)

        wake.forget_commits()
        waiting = pool.submit(wake.wait, 60, for_commits=True)
        wake.nudge()
        assert not waiting.result(30)
    wake.close()
    other.close()
    ledger.close()
