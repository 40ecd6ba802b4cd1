"""Put two attempts side by side: of two tasks, or of one; what they were asked, how they ended, what they printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff
from typing import Any, NamedTuple

import orjson

from ledger import events as e
from ledger.api import Ledger
from ledger.errors import NotFound
from ledger.ids import task_stream
from ledger.output import Chunk, chunks_of, lines_of
from ledger.record import AttemptRecord, TaskRecord, fold_record
from ledger.values import counted

MOST_LINES = 200


class Row(NamedTuple):
    """One thing in which two attempts may differ; times are aware, durations seconds."""

    what: str
    one: Any
    other: Any

    @property
    def is_same(self) -> bool:
        """Whether both have the same."""
        return _canonical(self.one) == _canonical(self.other)


@dataclass(frozen=True, slots=True)
class Side:
    """An attempt, its task, its result if it had one, and what is kept of its output. *attempt* None: had none yet."""

    record: TaskRecord
    attempt: AttemptRecord | None
    result: Any
    output: Sequence[Chunk]


class Compared(NamedTuple):
    """Two attempts side by side, and a unified diff of what they printed."""

    rows: tuple[Row, ...]
    output_diff: tuple[str, ...]


def compare(ledger: Ledger, one: str, other: str) -> Compared:
    """Compare two attempts, each given as ``<task id>:<number>``, or ``<task id>`` for its newest.

    Raises:
        NotFound: There is no such task or attempt.
    """
    a, b = side_of(ledger, one), side_of(ledger, other)
    return Compared(tuple(Row(*pair) for pair in _pairs(a, b)), tuple(_diff(a.output, b.output, one, other)))


def side_of(ledger: Ledger, text: str) -> Side:
    """Return the attempt that *text* names; see `compare`."""
    task_id, _, number = text.partition(":")
    with ledger.store.read() as snapshot:
        recorded = snapshot.stream(task_stream(task_id))
        record = fold_record(task_id, recorded)
        if record is None:
            raise NotFound(f"there is no task {task_id} in this ledger")
        attempts = record.attempts
        if number and not (number.isdecimal() and 1 <= int(number) <= len(attempts)):
            raise NotFound(f"task {task_id} has had {counted(len(attempts), 'attempt')}; there is no {number}")
        attempt = attempts[int(number) - 1] if number else attempts[-1] if attempts else None
        output = [] if attempt is None else list(chunks_of(snapshot, task_id, attempt.number))
    succeeded = [one.event for one in recorded if isinstance(one.event, e.TaskSucceeded)]
    result = next((one.result for one in succeeded if attempt and one.attempt == attempt.number), None)
    return Side(record, attempt, result, output)


def _pairs(one: Side, other: Side) -> Iterator[tuple[str, Any, Any]]:
    tasks = (one.record.queued, other.record.queued)
    yield "task", one.record.state.task_id, other.record.state.task_id
    for name in ("name", "queue", "priority", "run_as", "actor"):
        yield name, getattr(tasks[0], name), getattr(tasks[1], name)
    for name in {**tasks[0].args, **tasks[1].args}:
        yield f"args.{name}", tasks[0].args.get(name), tasks[1].args.get(name)
    yield "state", one.record.state.status, other.record.state.status
    for what in ("number", "outcome", "worker", "code_version", "claimed_at"):
        of_both = [getattr(side.attempt, what, None) for side in (one, other)]
        yield "attempt" if what == "number" else what, of_both[0], of_both[1]
    yield "result", one.result, other.result
    yield "error", _error(one.attempt), _error(other.attempt)
    yield "seconds", _seconds(one.attempt), _seconds(other.attempt)
    for what in ("cpu_seconds", "peak_rss_bytes"):
        yield what, _of(one.attempt, "usage", what), _of(other.attempt, "usage", what)
    for what in ("lines", "bytes"):
        yield f"output_{what}", _of(one.attempt, "output", what), _of(other.attempt, "output", what)


def _error(attempt: AttemptRecord | None) -> str | None:
    if attempt is None or attempt.error is None:
        return attempt.cause if attempt is not None else None
    return f"{attempt.error.get('type')}: {attempt.error.get('message')}"


def _seconds(attempt: AttemptRecord | None) -> float | None:
    """Return how long it ran: by its worker's clock, else from its claim to its end by the log's."""
    if attempt is None:
        return None
    began: datetime = attempt.started_at or attempt.claimed_at
    ended = attempt.finished_at or attempt.ended_at
    return None if ended is None else round((ended - began).total_seconds(), 6)


def _of(attempt: AttemptRecord | None, what: str, key: str) -> Any:
    return (getattr(attempt, what, None) or {}).get(key)


def _diff(one: Sequence[Chunk], other: Sequence[Chunk], one_name: str, other_name: str) -> Iterator[str]:
    """Yield the lines of a unified diff of what two attempts printed, at most 200."""
    before, after = ([line.text for line in lines_of(chunks)] for chunks in (one, other))
    lines = list(unified_diff(before, after, one_name, other_name, lineterm="", n=1))
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"… {len(lines) - MOST_LINES} more lines differ"


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
