"""Check a ledger for damage: its file, every event, kept output; with depth also order, streams, keys and views."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ledger import events as e
from ledger import inbox, past
from ledger.api import Ledger
from ledger.copying import copied_upto
from ledger.errors import CorruptEvent, LedgerError
from ledger.events import Event, KeyReserved
from ledger.ids import TASK_PREFIX
from ledger.ledger_events import OutputPruned
from ledger.output import chunks_of, digest_of
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot
from ledger.task import ends
from projections import controls as control_view
from projections import queue as queue_view
from projections import schedules as schedule_view
from projections.reports import Reports

SQL = statements("ledger", "sql/sqlite/check.sql")
BATCH = 2_000
_RUNS = (
    e.TaskSucceeded | e.TaskFailed | e.TaskDelayed | e.AttemptLost | e.AttemptInterrupted | e.CancelRequested
    | e.TaskProgressed
)  # fmt: skip
"""Events that only a running task has."""


@dataclass(slots=True)
class Findings:
    """How many events were read, and a sentence for each thing that is wrong."""

    events: int = 0
    problems: list[str] = field(default_factory=list)


def check(ledger: Ledger, *, is_deep: bool = False) -> Findings:
    """Read the whole ledger and return what is wrong; a deep check brings the views up to the log first."""
    found = Findings()
    log = _Log(is_deep=is_deep, is_gapless=ledger.store.is_gapless)
    try:
        found.problems += ledger.store.damage()
    except LedgerError as error:
        found.problems.append(str(error))
    _look(ledger, found, log.problems)
    found.events = log.count
    _look(ledger, found, _inbox)
    if is_deep:
        for look in (_streams, _output_tables):
            _look(ledger, found, look)
        for view, verify in _VERIFIERS.items():
            try:
                found.problems += [f"view {view}: {difference}" for difference in verify(ledger)]
            except LedgerError as error:
                found.problems.append(f"view {view} cannot be compared: {error}")
        found.problems += _reports(ledger)
        _look(ledger, found, _keys)
    return found


def _look(ledger: Ledger, found: Findings, look: Callable[[Snapshot], Iterator[str]]) -> None:
    """Keep what one look says; one that cannot go on says why, and the others go on."""
    try:
        with ledger.store.read() as snapshot:
            found.problems.extend(look(snapshot))
    except LedgerError as error:
        found.problems.append(str(error))


class _Log:
    """One pass over the log in its order. *count* is how many events it met."""

    def __init__(self, *, is_deep: bool, is_gapless: bool) -> None:
        self.count = 0
        self._is_gapless = is_gapless
        self._is_deep = is_deep
        self._missing: set[tuple[str, int]] = set()
        """Attempts whose outcome has a digest while their output is gone, until an `OutputPruned` says so."""
        self._tasks: dict[str, tuple[int | None, bool]] = {}
        """Live tasks: the number of the newest attempt, None where a retry left it open, and whether it runs."""

    def problems(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield what is wrong."""
        position, copied = 0, copied_upto(snapshot)
        while raws := snapshot.events_after(position, BATCH):
            for raw in raws:
                self.count += 1
                if self._is_deep and self._is_gapless and raw[0] != position + 1 and raw[0] > copied:
                    yield f"positions {position + 1} to {raw[0] - 1} are missing"
                position = raw[0]
                yield from self._event(snapshot, raw)
        for task_id, attempt in sorted(self._missing):
            yield f"the output of attempt {attempt} of task {task_id} is missing, and no OutputPruned event says why"

    def _event(self, snapshot: Snapshot, raw: RawEvent) -> Iterator[str]:
        try:
            event = snapshot.decode(raw)
        except CorruptEvent as error:
            yield str(error)
            return
        if isinstance(event, OutputPruned):
            self._missing.difference_update((str(task), int(attempt)) for task, attempt in event.attempts)
        elif (digest := getattr(event, "output", None)) is not None:
            yield from self._output(snapshot, event, digest)
        if self._is_deep and raw[1].startswith(TASK_PREFIX):
            yield from self._task(raw[1].removeprefix(TASK_PREFIX), event, raw[0])

    def _output(self, snapshot: Snapshot, event: Event, digest: e.OutputDigest) -> Iterator[str]:
        task_id = event.originator_id.removeprefix(TASK_PREFIX)
        attempt = int(event.attempt)  # type: ignore[attr-defined]
        try:
            chunks = list(chunks_of(snapshot, task_id, attempt))
        except ValueError as error:
            yield f"the output of attempt {attempt} of task {task_id} cannot be read: {error}"
            return
        if not chunks:
            self._missing.add((task_id, attempt))
        elif digest_of(chunks) != digest["sha256"]:
            yield f"the output of attempt {attempt} of task {task_id} is not what its outcome says (SHA-256 differs)"

    def _task(self, task_id: str, event: Event, position: int) -> Iterator[str]:
        """Follow a task through its states: one end a round, one attempt at a time, attempts numbered one by one."""
        where = f"task {task_id}: {type(event).__name__} at position {position}"
        attempt, is_running = self._tasks.get(task_id, (None, False))
        is_live = task_id in self._tasks
        match event:
            case e.TaskQueued():
                if is_live or event.originator_version != 1:
                    yield f"{where} queues it a second time"
                self._tasks[task_id] = (0, False)
            case e.TaskRetried():
                if is_live:
                    yield f"{where} retries a task that has not ended"
                self._tasks[task_id] = (None, False)
            case e.LateResultRejected():
                pass
            case _ if not is_live:
                yield f"{where} follows its end"
            case e.TaskClaimed():
                if is_running or (attempt is not None and event.attempt != attempt + 1):
                    yield f"{where} claims attempt {event.attempt} after {attempt}{', which runs' * is_running}"
                self._tasks[task_id] = (event.attempt, True)
            case _:
                if isinstance(event, _RUNS) and not is_running:
                    yield f"{where} tells of a run, and it does not run"
                still = is_running and isinstance(event, e.CancelRequested | e.TaskProgressed)
                self._tasks[task_id] = (attempt, still)
        if is_live and ends(event):
            self._tasks.pop(task_id, None)


def _inbox(snapshot: Snapshot) -> Iterator[str]:
    for entry in inbox.set_aside(snapshot):
        yield f"task {entry.task_id} waits in the inbox and cannot be taken into the log: {entry.error}"
    if inbox.is_there(snapshot):
        for (task_id,) in snapshot.rows(inbox.SQL["in_both"]):
            yield f"task {task_id} is in the inbox and in the log"


def _streams(snapshot: Snapshot) -> Iterator[str]:
    for stream, count, low, high in snapshot.rows(SQL["gaps"]):
        yield f"stream {stream} has {count} events, versions {low} to {high}: some are missing"
    for stream, version, position in snapshot.rows(SQL["disorder"]):
        yield f"stream {stream}: version {version} at position {position} stands before the version it follows"


def _keys(snapshot: Snapshot) -> Iterator[str]:
    for stream, version in snapshot.rows(SQL["key_repeats"]):
        yield f"key {stream}: version {version} repeats what the one before it said"
    reserved = {}
    for raw in snapshot.rows(SQL["last_of_keys"]):
        event = snapshot.decode((raw[0], raw[1], raw[2], raw[3], raw[4]))
        if isinstance(event, KeyReserved):
            reserved[raw[1]] = event.task
    held = dict(snapshot.rows(SQL["held_keys"]))
    for stream, task_id in sorted(reserved.items() - held.items()):
        yield f"key {stream} is reserved by task {task_id}, which does not hold it"
    for stream, task_id in sorted(held.items() - reserved.items()):
        yield f"task {task_id} holds the key {stream}, which is not reserved by it"


def _output_tables(snapshot: Snapshot) -> Iterator[str]:
    for said, statement in (
        ("is not listed, so that it would never be pruned", "output_unlisted"),
        ("is listed, and there is none", "output_listed_in_vain"),
        ("is kept, and the log knows no such attempt", "output_of_nobody"),
    ):
        for task_id, attempt in snapshot.rows(SQL[statement]):
            yield f"output of attempt {attempt} of task {task_id} {said}"


def _reports(ledger: Ledger) -> list[str]:
    """Return how the report views, and the application's own where its code is here, differ from the log."""
    reports = Reports(ledger)
    try:
        return [f"view {view}: {said}" for view, lines in reports.verify_each().items() for said in lines]
    except LedgerError as error:
        return [f"the reports cannot be compared: {error}"]
    finally:
        reports.close()


_VERIFIERS = {
    "travel": past.verify,
    "queue": queue_view.verify,
    "schedules": schedule_view.verify,
    "controls": control_view.verify,
}
