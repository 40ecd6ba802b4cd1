"""The ledger as it was: the same fold as of the views, stopped at any position, with and without copies to begin from."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidOption, Ledger, NotFound, Retry, past
from ledger.clock import to_us
from ledger.past import as_of
from ledger.sqlite_waypoints import waypoints_path
from ledger.testing import ManualClock, run_queue
from projections import control_fold, queue, schedule_fold
from runner.cycle import Cycle
from tests.api.setup import REASON, count_events
from tests.ledger.living import live

HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on each kind of database, on a manual clock."""
    ledger = Ledger(url, clock=ManualClock())
    yield ledger
    ledger.close()


def everything(found: past.Past) -> dict[str, Any]:
    return {key: sorted(value) if isinstance(value, list) else value for key, value in found.world.plain().items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_past_is_what_the_views_were(ledger: Ledger, seed: int) -> None:
    """At every position it equals what the folds of the three views give up to there, which read the log in other ways."""
    live(ledger, seed)
    head = count_events(ledger)
    assert head > 80
    with ledger.store.read() as snapshot:
        snapshot.head()
        positions = [raw[0] for raw in snapshot.events_after(0, 10_000)]
    for position in positions[:: 1 if ledger.url.startswith("sqlite") else 7]:
        found = ledger.as_of(position)
        with ledger.store.read() as snapshot:
            snapshot.head()
            rows = queue.fold_log(snapshot, position)
            schedules = schedule_fold.fold_log(snapshot, position)
            marks, limits = control_fold.fold_log(snapshot, position).rows()
        assert {one.state.task_id: (one.position, *one.state) for one in (*found.waiting(), *found.running())} == rows
        assert {state.name: state for state in found.world.schedules.values()} == schedules.states
        assert found.world.components == (schedules.disabled or {})
        assert (found.marks, {state.scope: state for state in found.limit_states()}) == (marks, limits)


def test_a_time_means_before_the_first_later_event(ledger: Ledger) -> None:
    """Events of the very moment count; after a clock was set back, what lies behind a later event does not."""
    job: Any = ledger.task(name="job")(lambda: None)
    start = ledger.clock.now()
    one = job.enqueue()
    ledger.clock.sleep(60)
    two = job.enqueue()
    before = count_events(ledger)
    assert isinstance(ledger.clock, ManualClock)
    ledger.clock.advance(timedelta(seconds=-30))
    three = job.enqueue()
    ledger.clock.sleep(600)

    def ids(when: Any) -> list[str]:
        return [task.state.task_id for task in ledger.as_of(when).waiting()]

    assert ids(start - timedelta(microseconds=1)) == []
    assert ids(start) == ids(start + timedelta(seconds=59)) == [one.id]
    assert ids(start + timedelta(seconds=60)) == [one.id, two.id, three.id]
    assert ids(before) == [one.id, two.id]
    assert ledger.as_of(start + timedelta(seconds=30)).at == start + timedelta(seconds=30)
    assert ledger.as_of(0).position == 0


def test_a_past_task_is_what_its_stream_was(ledger: Ledger) -> None:
    """State, attempts and error at each of its events; before it was queued there was none."""

    @ledger.task(max_attempts=2, retry=Retry(first=0), hide=["secret"])
    def job(secret: str) -> str:
        if ledger.current().attempt == 1:
            raise ValueError("no")
        return "done"

    ledger.task(name="other")(lambda: None).enqueue()
    task = job.enqueue("s3cret")
    run_queue(ledger)
    with ledger.store.read() as snapshot:
        positions = [one.position for one in snapshot.stream(f"task:{task.id}")]
    states = [ledger.as_of(position).get(task.id).state.status for position in positions]
    assert states == ["waiting", "running", "waiting", "running", "succeeded"]
    first = ledger.as_of(positions[2]).get(task.id)
    assert (len(first.attempts), first.result, first.queued.args) == (1, None, {"secret": "[hidden]"})
    with pytest.raises(NotFound, match="there was no task"):
        ledger.as_of(positions[0] - 1).get(task.id)


def test_queues_are_counted_at_the_moment_that_is_meant(ledger: Ledger) -> None:
    """What was due, what was not yet and what ran, and since when the oldest was due; a paused queue stands by itself."""
    job: Any = ledger.task(name="job")(lambda: None)
    start = ledger.clock.now()
    job.using(run_after=HOUR).enqueue()
    job.using(priority=1).enqueue()
    job.enqueue()
    ledger.controls.pause("still", reason=REASON, actor="ann")
    Cycle(ledger, "w1").turn([], 1, is_idle=True)
    ledger.clock.sleep(5000)
    early, late = ledger.as_of(start), ledger.as_of(start + timedelta(seconds=4000))
    assert early.position == late.position
    assert [tuple(one)[:5] for one in early.queues()] == [
        ("default", 1, 1, 1, to_us(start)),
        ("still", 0, 0, 0, None),
    ]
    assert tuple(late.queues()[0])[1:4] == (2, 0, 1)
    assert (paused := early.queues()[1].paused) is not None and paused.actor == "user:ann"
    assert early.running_counts().total == 1


@pytest.mark.parametrize("when", [-1, True, 1.5, "yesterday", None, 10**9])
def test_what_is_no_past_is_refused(ledger: Ledger, when: Any) -> None:
    """Neither a position of the log nor an aware time that has come."""
    ledger.task(name="job")(lambda: None).enqueue()
    with pytest.raises(InvalidOption, match=r"no past|no position"):
        ledger.as_of(when)
    with pytest.raises(InvalidOption, match="no time zone"):
        ledger.as_of(ledger.clock.now().replace(tzinfo=None))
    with pytest.raises(InvalidOption, match="in the future"):
        ledger.as_of(ledger.clock.now() + HOUR)


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a file that has lived, with a copy of its folded log every thirteen events."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db", clock=ManualClock())
    live(ledger, 5)
    as_of(ledger, count_events(ledger), every=13)
    yield ledger
    ledger.close()


def copies(ledger: Ledger, sql: str = "SELECT position FROM waypoints ORDER BY position") -> list[Any]:
    path = waypoints_path(ledger.store.path)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection, connection:
        return [row[0] for row in connection.execute(sql)]


def test_a_jump_with_and_without_copies_is_equal(copied: Ledger) -> None:
    """At every position and at every time; copies are there, and are begun from."""
    assert len(copies(copied)) > 3
    for position in range(count_events(copied) + 1):
        far, near = as_of(copied, position, by_waypoints=False), as_of(copied, position)
        assert everything(far) == everything(near)
        by_time = [as_of(copied, far.at, by_waypoints=is_near, every=13) for is_near in (False, True)]
        assert everything(by_time[0]) == everything(by_time[1])
    assert past.verify(copied) == []


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE waypoints SET body = zeroblob(10)",
        "UPDATE waypoints SET digest = 'x'",
        "UPDATE waypoints SET seal = 'another log'",
        "UPDATE waypoints SET shape = 'another version'",
        "DROP TABLE waypoints",
    ],
)
def test_a_copy_that_is_not_whole_or_not_ours_does_not_count(copied: Ledger, sql: str) -> None:
    """Damaged, of another log, of another version, gone: the jump gives the same, and mends what it can."""
    wanted = everything(as_of(copied, 70, by_waypoints=False))
    copies(copied, sql)
    assert everything(as_of(copied, 70)) == wanted
    path = waypoints_path(copied.store.path)
    assert path is not None
    Path(path).write_bytes(b"no database at all, " * 500)
    assert everything(as_of(copied, 70)) == wanted


def test_a_changed_copy_is_found_by_a_fresh_fold(copied: Ledger) -> None:
    """One that is whole by its digest and yet not what the log gives is told, and deleted."""
    at = copies(copied)[1]
    other = as_of(copied, at - 1, by_waypoints=False).world
    other.position = at
    with copied.store.read() as snapshot:
        past.Waypoints(copied.store.path).put(snapshot, other)
    assert past.verify(copied) == [f"copy at position {at}: it is not what the log gives"]
    assert at not in copies(copied)
    assert past.verify(copied) == []
