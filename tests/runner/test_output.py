"""What tasks print: passed on, and bounded for each attempt."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.current import Current, reset_current, set_current
from ledger.signals import OutputLimit
from runner.output import LimitedStream

JOBS = """
from ledger import Ledger
ledger = Ledger("sqlite:///work.db")

@ledger.task(retry=False)
def flood() -> None:
    line = "x" * 65_535 + chr(10)
    for _ in range(1 << 14):
        print(line, end="")

@ledger.task
def greet(number: int) -> int:
    print("hello", number)
    return number

if __name__ == "__main__":
    flood.using(priority=1).enqueue()
    ledger.enqueue_many(greet.call(n) for n in range(50))
"""


def attempt(number: int) -> Current:
    return Current(task_id="t", name="n", attempt=number, run_as="system", worker="w")


def test_each_attempt_has_a_bound_of_its_own() -> None:
    """What goes beyond the bound is dropped and raises, again at every print; other attempts are not touched."""
    kept = io.StringIO()
    stream = LimitedStream(kept, 10)
    stream.write("x" * 100)  # outside a task there is no bound
    for number in (1, 2):
        token = set_current(attempt(number))
        stream.write("0123456789")
        for _ in range(2):
            with pytest.raises(OutputLimit, match="more than 10 characters"):
                stream.write("a")
        reset_current(token)
    assert kept.getvalue() == "x" * 100 + "0123456789" * 2


def test_a_gigabyte_on_stdout_fails_alone(tmp_path: Path) -> None:
    """A task that prints 1 GB ends as failed with OutputLimit; the fifty beside it succeed."""
    (tmp_path / "jobs.py").write_text(JOBS)
    environment = {**os.environ, "WORKLEDGER_URL": f"sqlite:///{tmp_path}/work.db"}
    subprocess.run([sys.executable, "jobs.py"], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "runner.cli", "--app", "jobs:ledger", "run", "--drain"]
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with (tmp_path / "out.txt").open("wb") as out:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=out, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1, "an attempt raised"
    assert b"OutputLimit" in done.stderr
    assert (tmp_path / "out.txt").stat().st_size < 300 * 1024 * 1024
    listing = [sys.executable, "-m", "runner.cli", "task", "list", "--limit", "100", "-o", "jsonl"]
    rows = subprocess.run(listing, cwd=tmp_path, env=environment, capture_output=True, check=True).stdout
    assert rows.count(b'"succeeded"') == 50
    assert rows.count(b'"failed"') == 1
