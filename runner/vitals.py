"""Gather what `health` judges: numbers from the log, its views and the host, without writing or waiting for anybody."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson
import psutil

from ledger import deliveries, inbox
from ledger import events as e
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.control_events import QueuePaused
from ledger.control_rules import QUEUE_PREFIX
from ledger.health import Named, Vitals
from ledger.ids import task_stream
from ledger.statements import statements
from ledger.store import Snapshot, Unit
from ledger.task import RUNNING, WAITING, TaskState, retry_delay_seconds
from projections.control_fold import fold_log as fold_controls
from projections.controls import read as read_controls
from projections.heartbeat import Heartbeat
from projections.queue import VIEW, Fold, fold_log, is_prepared
from projections.reports import Reports
from runner.heartbeat import all_of, boot_id, host_name

SQL = statements("projections", "sql/sqlite/health.sql")
MOST_BESIDE = 20_000
"""Events that the views have not folded yet are folded beside them, the first so many; 0.2 s."""
MOST_RUNNING = 100


class Tasks(NamedTuple):
    """The live tasks: those of the view but for the ones that newer events changed, and those as they are then."""

    snapshot: Snapshot
    has_view: bool
    beside: str
    """Positions of the rows that newer events changed, as a JSON list."""
    changed: list[TaskState]
    now_us: int
    paused: frozenset[str]
    """Names of the paused queues."""

    def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return rows of the view."""
        given = {"beside": self.beside, "now": self.now_us, **parameters}
        return self.snapshot.rows(SQL[name], given) if self.has_view else []


def gather(ledger: Ledger) -> Vitals:
    """Return the vitals of a ledger as they are now.

    Raises:
        StorageUnavailable: There is no such ledger, or it cannot be read.

        CorruptEvent: An event that no view has folded yet cannot be read.
    """
    with ledger.store.read() as snapshot:
        tasks = _tasks(snapshot)
        alive, silent, last_sign = _workers(tasks)
        waiting, due, held, oldest_due = _waiting(tasks)
        running = sorted(_running(tasks), reverse=True)
        has_view, head = tasks.has_view, snapshot.head()
        arriving, aside = inbox.counts(snapshot)
        return Vitals(
            alive=alive,
            silent=silent,
            last_sign=last_sign,
            waiting=waiting,
            due=due,
            held=held,
            paused=sorted(tasks.paused),
            oldest_due=oldest_due,
            longest_delay=_longest_delay(tasks),
            running=len(running),
            longest_running=running[:MOST_RUNNING],
            overdue_schedules=[row[0] for row in tasks.rows("overdue")],
            failing_hooks={
                one.hook: one.error or "" for one in deliveries.all_of(snapshot) if one.is_failing(tasks.now_us)
            },
            arriving=arriving,
            set_aside=aside,
            lag=head - snapshot.checkpoint(VIEW) if has_view else head,
            report_lag=max(head - _report_checkpoint(ledger), 0),
            **_storage(ledger),
        )


def _report_checkpoint(ledger: Ledger) -> int:
    reports = Reports(ledger)
    try:
        return reports.checkpoint()
    finally:
        reports.close()


def _tasks(snapshot: Snapshot) -> Tasks:
    now_us = to_us(snapshot.now)
    if not is_prepared(snapshot):
        states = [TaskState._make(row[1:]) for row in fold_log(snapshot).values()] + _arriving(snapshot)
        return Tasks(
            snapshot,
            False,
            "[]",
            states,
            now_us,
            frozenset(_paused(snapshot, fold_controls(snapshot, snapshot.head()).marks)),
        )
    fold = Fold(cast(Unit, snapshot), reading=True)
    newer = snapshot.events_after(snapshot.checkpoint(VIEW), MOST_BESIDE)
    fold.take(newer)
    paused = frozenset(_paused(snapshot, [*read_controls(snapshot).marks, *(raw[1] for raw in newer)]))
    states = [one[1] for one in fold.live.values() if one is not None] + _arriving(snapshot)
    return Tasks(snapshot, True, orjson.dumps(list(fold.stored.values())).decode(), states, now_us, paused)


def _paused(snapshot: Snapshot, streams: Iterable[str]) -> Iterator[str]:
    """Yield the queues that are paused, of those among *streams*: as their streams end."""
    for stream in set(streams):
        if stream.startswith(QUEUE_PREFIX) and isinstance(snapshot.last(stream), QueuePaused):
            yield stream.removeprefix(QUEUE_PREFIX)


def _arriving(snapshot: Snapshot) -> list[TaskState]:
    """Return the tasks in the inbox, the newest so many; whoever catches up takes them in."""
    return [inbox.record_from(event).state for event in inbox.waiting(snapshot, MOST_BESIDE)]


def _waiting(tasks: Tasks) -> tuple[int, int, int, Named | None]:
    """Return how many wait, how many of them are due, how many are in paused queues, and which is due for longest."""
    paused = orjson.dumps(sorted(tasks.paused)).decode()
    counted = tasks.rows("waiting", paused=paused)
    waiting, due, due_us, held = counted[0] if counted else (0, 0, None, 0)
    named = [] if due_us is None else tasks.rows("due_since", due=due_us, paused=paused)
    oldest = [_since(tasks, due_us, task_id, name) for task_id, name in named]
    for state in tasks.changed:
        if state.status == WAITING:
            waiting += 1
            if state.due_us <= tasks.now_us and state.queue in tasks.paused:
                held += 1
            elif state.due_us <= tasks.now_us:
                due += 1
                oldest.append(_since(tasks, state.due_us, state.task_id, state.name))
    return waiting, due, held, min(oldest, key=lambda one: (-one.seconds, one.task_id), default=None)


def _running(tasks: Tasks) -> Iterator[Named]:
    for task_id, name, claimed_us in tasks.rows("running"):
        yield _since(tasks, claimed_us, task_id, name)
    for state in tasks.changed:
        if state.status == RUNNING:
            yield _since(tasks, state.claimed_us or tasks.now_us, state.task_id, state.name)


def _since(tasks: Tasks, moment_us: int, task_id: str, name: str) -> Named:
    return Named(max(tasks.now_us - moment_us, 0) / 1e6, task_id, name)


def _longest_delay(tasks: Tasks) -> Named | None:
    """Return the task with the longest delay after a failure; one that asked for its delay itself has not failed."""
    stopped = {row[0] for row in tasks.rows("stopped_runs")}
    changed = [one for one in tasks.changed if one.status == WAITING and one.used and one.task_id not in stopped]
    found = [(_delay(one), one) for one in changed]
    for used, first, factor, cap in tasks.rows("delays"):
        group = TaskState("", used=used, retry_first=first, retry_factor=factor, retry_cap=cap)
        found.append((_delay(group), group))
    for seconds, state in sorted(found, key=lambda one: one[0], reverse=True):
        policy = {"first": state.retry_first, "factor": state.retry_factor, "cap": state.retry_cap}
        rows = [(state.task_id, state.name, state.version)]
        for task_id, name, version in rows if state.task_id else tasks.rows("delayed", used=state.used, **policy):
            if _has_failed(tasks.snapshot, task_id, version):
                return Named(seconds, task_id, name)
    return None


def _delay(state: TaskState) -> float:
    return retry_delay_seconds(state._replace(retry_jitter=0.0), state.used, 0)


def _has_failed(snapshot: Snapshot, task_id: str, version: int) -> bool:
    for _, event in reversed(snapshot.stream(task_stream(task_id), after=max(version - 5, 0))):
        if isinstance(event, e.TaskFailed | e.AttemptLost | e.TaskDelayed):
            return not isinstance(event, e.TaskDelayed)
    return True


def _workers(tasks: Tasks) -> tuple[int, int, float | None]:
    """Return how many workers are alive and silent, and the seconds since the last sign of any."""
    rows = all_of(tasks.snapshot) if tasks.has_view else []
    alive = sum(_is_alive(row, tasks.now_us) for row in rows)
    signs = [row.beat_us for row in rows]
    stream = tasks.snapshot.rows(SQL["newest_worker"])[0][0]
    if stream is not None and (last := tasks.snapshot.last(stream)) is not None:
        signs.append(to_us(last.at))
    last_sign = max((tasks.now_us - max(signs)) / 1e6, 0.0) if signs else None
    return alive, len(rows) - alive, last_sign


def _is_alive(row: Heartbeat, now_us: int) -> bool:
    """A worker of this host whose process is gone is not alive, however fresh its heartbeat."""
    is_here = row.host == host_name() and row.boot == boot_id()
    return not row.is_silent(now_us) and not (is_here and _is_gone(row))


def _is_gone(row: Heartbeat) -> bool:
    """Return whether the process has ended, also where its parent has not taken note of that yet."""
    try:
        process = psutil.Process(row.pid)
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - row.pid_started) > 1
    except psutil.NoSuchProcess:
        return True


def _storage(ledger: Ledger) -> dict[str, int | None]:
    wal = ledger.store.wal_path()
    if wal is None:
        return {}
    disk = shutil.disk_usage(Path(ledger.store.path).parent)
    return {"disk_free": disk.free, "disk_total": disk.total, "wal": wal.stat().st_size if wal.exists() else 0}
