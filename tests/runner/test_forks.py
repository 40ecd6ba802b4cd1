"""Changed copies of tasks, and two runs side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ledger import InvalidArguments, InvalidValue, Ledger, NotFound, NotRegistered, Retry
from ledger.forks import fork, forks_of
from ledger.testing import ManualClock, run_queue
from projections import queue as queue_view
from runner.compare import compare
from tests.api.setup import REASON, count_events, queued

HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on each kind of database, on a manual clock."""
    ledger = Ledger(url, clock=ManualClock())
    yield ledger
    ledger.close()


def test_a_fork_has_the_original_but_for_what_changed(ledger: Ledger) -> None:
    """Arguments that are not named stay, hidden ones too; options stay but for key, expiry and due time; links are kept."""

    @ledger.task(hide=["secret"], retry=Retry(first=3), queue="mail")
    def send(to: int, *more: int, secret: str = "x", **rest: Any) -> int:
        return to

    using = send.using(priority=5, run_as="ann", labels=["a"], unique="k", run_after=HOUR, expires=HOUR, timeout=9)
    task = using.enqueue(1, 2, 3, secret="s3cret", extra=4)
    one = fork(ledger, task.id, {"to": 8}, reason=REASON, actor="bob")
    other = fork(ledger, task.id)
    with ledger.store.read() as snapshot:
        first = snapshot.stream(f"task:{one.id}")[0].event
        assert forks_of(snapshot, task.id) == [one.id, other.id]
        assert forks_of(snapshot, one.id) == []
    before, after = queued(task), queued(one)
    assert first.args == {"to": 8, "more": [2, 3], "secret": "s3cret", "rest": {"extra": 4}}
    assert after.args["secret"] == "[hidden]"
    same = ("name", "queue", "priority", "run_as", "retry", "max_attempts", "timeout", "kill_after", "labels")
    assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
    assert (after.forked_from, after.actor, after.reason) == (task.id, "user:bob", REASON)
    assert (after.unique_key, after.expires_at, after.due_at) == (None, None, after.at)
    assert before.forked_from is None
    run_queue(ledger)
    assert (one.result(), other.result(), task.state) == (8, 1, "waiting")
    assert queue_view.verify(ledger) == []


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(ledger: Ledger) -> None:
    """An unknown task, one without a function here, arguments that do not fit or are no JSON."""
    job: Any = ledger.task(name="job")(lambda number: number)
    gone: Any = ledger.task(name="gone")(lambda: None)
    task, lost = job.enqueue(1), gone.enqueue()
    del ledger.functions["gone"]
    before = count_events(ledger)
    with pytest.raises(NotFound, match="no task nothing"):
        fork(ledger, "nothing")
    with pytest.raises(NotRegistered, match="'gone'"):
        fork(ledger, lost.id)
    with pytest.raises(InvalidArguments, match="other"):
        fork(ledger, task.id, {"other": 1})
    with pytest.raises(InvalidValue):
        fork(ledger, task.id, {"number": float("nan")})
    assert count_events(ledger) == before


def test_two_runs_side_by_side(ledger: Ledger) -> None:
    """Two attempts of one task, and two tasks: arguments, outcome, result, error and duration, each with whether it is same."""

    @ledger.task(max_attempts=2, retry=Retry(first=0), hide=["secret"])
    def job(number: int, secret: str = "a") -> dict[str, int]:
        ledger.clock.sleep(number)
        if ledger.current().attempt == 1:
            raise ValueError("first")
        return {"number": number}

    task, other = job.enqueue(3), job.enqueue(4, "b")
    run_queue(ledger)

    def of(one: str, two: str) -> dict[str, Any]:
        return {row.what: (row.one, row.other, row.is_same) for row in compare(ledger, one, two).rows}

    within = of(f"{task.id}:1", task.id)
    assert within["attempt"] == (1, 2, False)
    assert within["outcome"] == ("failed", "succeeded", False)
    assert within["error"] == ("ValueError: first", None, False)
    assert within["result"] == (None, {"number": 3}, False)
    assert within["seconds"] == (3.0, 3.0, True)
    between = of(task.id, other.id)
    assert between["args.number"] == (3, 4, False)
    assert between["args.secret"] == ("[hidden]", "[hidden]", True)
    assert between["seconds"] == (3.0, 4.0, False)
    for wrong in (f"{task.id}:3", f"{task.id}:0", f"{task.id}:x", "nothing"):
        with pytest.raises(NotFound):
            compare(ledger, task.id, wrong)
    waiting = job.using(run_after=HOUR).enqueue(1)
    assert of(waiting.id, task.id)["outcome"] == (None, "succeeded", False)
