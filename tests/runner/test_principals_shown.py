"""Who asked and as whom it runs, in what the command line shows of a task while it runs and afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from tests.faults.setup import Site, wait_until
from tests.processes import call
from tests.runner.guest_app import declare

APP = "tests.runner.guest_app:ledger"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.close()


def said(site: Site, *words: str, code: int = 0) -> str:
    done = call("--app", APP, *words, cwd=site.directory, env=site.environment)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_both_are_shown_by_every_list(site: Site) -> None:
    """By `now`, `task list`, `task show` and `task log`, as a table and as JSON."""
    ledger: Any = declare(Ledger(f"sqlite:///{site.database}"))
    first, then = site.directory / "first", site.directory / "then"
    task = ledger.functions["wait"].using(run_as="ann", actor="bea").enqueue(str(first), str(then))
    run = site.command("run", app=APP)
    wait_until(first.exists, "it has begun", site)

    for words in (["now"], ["task", "list"]):
        [row] = json.loads(said(site, *words, "-o", "json"))
        assert (row["actor"], row["run_as"]) == ("user:bea", "ann"), words
        assert "user:bea" in said(site, *words) and "ann" in said(site, *words)
    shown = json.loads(said(site, "task", "show", task.id, "-o", "json"))
    assert (shown["actor"], shown["run_as"]) == ("user:bea", "ann")
    assert "asked for by user:bea, run as ann" in said(site, "task", "log", task.id)
    then.touch()
    wait_until(lambda: task.state == "succeeded", "it has ended", site)
    run.terminate()
    assert site.finish(run) == 0
    ledger.close()


def test_as_whom_it_acted_is_shown_with_the_attempt(site: Site) -> None:
    """By `task show` beside the attempt, by `task log` at its end, by `task events` in the outcome."""
    ledger: Any = declare(Ledger(f"sqlite:///{site.database}"))
    tasks = [ledger.functions["acts"].using(run_as="ann").enqueue(name, 4) for name in ("bea", "cem", "dot", "eva")]
    assert site.drain(app=APP) == 0, site.logs()

    assert "bea" in said(site, "task", "show", tasks[0].id)
    assert "acted as bea" in said(site, "task", "log", tasks[0].id)
    assert json.loads(said(site, "task", "events", tasks[0].id, "-o", "json"))[-1]["data"]["acted_as"] == ["bea"]
    ledger.close()
