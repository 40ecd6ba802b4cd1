"""A PostgreSQL server that crashes and comes back, and a network that cuts: nothing is lost, doubled or failed for it."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ledger.postgres import PostgresStore
from tests.databases import Server, with_schema
from tests.faults.setup import ROOT, Site, wait_until
from tests.faults.test_storm import stop
from tests.ledger.proxy import Proxy

FAILED_FOR_NOTHING = """
SELECT count(*) FROM events AS failed JOIN events AS queued ON queued.stream = failed.stream AND queued.version = 1
 WHERE failed.topic IN ('TaskFailed.v1', 'AttemptLost.v1') AND queued.data::json->>'name' = 'work'
"""
"""Attempts recorded as failed or lost of a task that never fails, in workers that never die."""


@contextmanager
def under_load(site: Site, url: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Have two workers and two producers work on *url*; at the end all is worked off and the history is checked."""
    runs = [site.command("run", "--workers", "1", "--name", f"run{number}", WORKLEDGER_URL=url) for number in range(2)]
    wait_until(
        lambda: site.count("WorkerStarted") == len(runs), "workers run", site
    )  # a run that begins is no load yet
    queueing = [
        site.start("-m", "tests.faults.produce", f"producer{number}", secrets.token_hex(4), WORKLEDGER_URL=url)
        for number in range(2)
    ]
    yield runs
    (site.directory / "stop").touch()
    for process in queueing:
        assert site.finish(process) == 0, site.logs()
    stop(site, runs)
    site.drain("--workers", "2")
    site.check()


def crash(server: Server, site: Site, times: int) -> None:
    """Crash the server and start it again so many times, as soon as work has gone on."""
    with under_load(site, site.url):
        for _ in range(times):
            least = site.begun() + 10
            wait_until(lambda least=least: site.begun() >= least, "work goes on", site)
            server.stop("immediate")
            server.start()
    assert site.count("TaskSucceeded") > 10 * times


def test_a_server_that_crashes_and_comes_back_loses_and_doubles_nothing(own_server: Server, tmp_path: Path) -> None:
    """`pg_ctl stop -m immediate` under load, three times: what was acknowledged ends once, no commit stays in doubt."""
    site = Site(tmp_path, url=with_schema(own_server.url))
    try:
        crash(own_server, site, 3)
    finally:
        site.close()


@pytest.mark.soak
def test_a_server_that_crashes_for_hours_loses_and_doubles_nothing(own_server: Server, tmp_path: Path) -> None:
    """The same three hundred times."""
    site = Site(tmp_path, url=with_schema(own_server.url))
    try:
        crash(own_server, site, 300)
    finally:
        site.close()


def test_commits_whose_answers_are_lost_are_neither_doubled_nor_failed(tmp_path: Path, postgres_url: str) -> None:
    """A network that cuts thirty times right after or instead of a COMMIT: no task fails or runs beside itself."""
    site, dice = Site(tmp_path, url=postgres_url), random.Random()
    store = PostgresStore(postgres_url)
    store.prepare()
    rest = threading.Event()
    try:
        with Proxy(store.address.parameters) as proxy, under_load(site, proxy.url(store)):
            for number in range(1, 31):
                (proxy.cut_after if dice.random() < 0.7 else proxy.cut_before)(b"COMMIT")
                wait_until(lambda number=number: proxy.cuts >= number, "a commit comes by", site)
                rest.wait(dice.uniform(0, 0.1))
        assert site.rows(FAILED_FOR_NOTHING) == [(0,)]
    finally:
        store.close()
        site.close()


def test_a_test_run_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    """The server of a process that is killed is stopped, and its files are deleted."""
    words = "from tests.databases import new_server; s = new_server(); print(s.place, s.pid, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", words], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        place, pid = process.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        process.kill()

    wait_until(lambda: not psutil.pid_exists(int(pid)) and not Path(place).exists(), "it is gone")
