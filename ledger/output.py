"""Keep what attempts print, beside the log: chunks of lines in a table of their own, which may be pruned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

import orjson

from ledger.clock import from_us
from ledger.events import OutputDigest
from ledger.ledger_events import OutputPruned
from ledger.statements import statements
from ledger.store import Snapshot, Unit
from ledger.task import TaskState

SQL = statements("ledger", "sql/sqlite/output.sql")
PRUNING_SQL = statements("ledger", "sql/sqlite/pruning.sql")
Stream = Literal["stdout", "stderr"]
OutputMode = Literal["all", "failures", "none"]
OUTPUT_PREFIX = "output:"
OUTPUT_MODES = ("all", "failures", "none")
STEP_BYTES = 1024 * 1024


Entry = tuple[int, Stream, str]
"""When (microseconds since 1970), to which stream, what: whole lines, but where one is very long or the last of all."""


class Chunk(NamedTuple):
    """A row of the table: entries in order, numbered from 1 within the attempt. Numbers left out were dropped."""

    number: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One printed line without its end: when, to which stream, what. The text is the task's own and not to be trusted."""

    at: datetime
    stream: Stream
    text: str


class Printed(NamedTuple):
    """What of an attempt's output is to be stored and deleted; at its end also what the outcome says of it."""

    digest: OutputDigest | None
    chunks: Sequence[Chunk] = ()
    dropped: Sequence[int] = ()
    is_dropped: bool = False
    """Nothing of it shall be kept."""


def put(unit: Unit, attempts: Iterable[tuple[TaskState, Printed]]) -> None:
    """Store what claimed attempts printed, over chunks of the same number; delete what they dropped."""
    rows: list[tuple[str, int, int, bytes]] = []
    known: list[tuple[str, int, str, int]] = []
    size = 0
    for state, printed in attempts:
        task_id, attempt = state.task_id, state.attempt
        key = (state.name, state.claimed_us or 0, task_id, attempt)
        if printed.is_dropped:
            unit.run(SQL["drop_attempt"], (task_id, attempt))
            unit.run(PRUNING_SQL["forget_attempt"], key)
        for number in printed.dropped:
            unit.run(SQL["drop_chunk"], (task_id, attempt, number))
        if printed.chunks:
            known.append(key)
        for chunk in printed.chunks:
            body = orjson.dumps(chunk.entries)
            rows.append((task_id, attempt, chunk.number, body))
            size += len(body)
            if size > STEP_BYTES:  # much output is not held in memory twice
                unit.insert_many(SQL["put_chunk"], rows)
                rows, size = [], 0
    if rows:
        unit.insert_many(SQL["put_chunk"], rows)
    if known:
        unit.insert_many(PRUNING_SQL["put_attempt"], known)


def chunks_of(snapshot: Snapshot, task_id: str, attempt: int, after: int = 0) -> Iterator[Chunk]:
    """Return the chunks of an attempt from number *after* + 1 on; the last may grow while the attempt runs."""
    for number, body in snapshot.rows(SQL["chunks"], (task_id, attempt, after)):
        yield Chunk(number, [(at_us, stream, text) for at_us, stream, text in orjson.loads(body)])


def output_stream(name: str) -> str:
    """Return the stream that tells which output of the task *name* was pruned."""
    return OUTPUT_PREFIX + name


def pruned(snapshot: Snapshot, name: str, task_id: str, attempt: int) -> OutputPruned | None:
    """Return the event by which the output of an attempt of the task *name* was deleted, or None."""
    pair = orjson.dumps([task_id, attempt])
    found = snapshot.rows(PRUNING_SQL["pruned_by"], (output_stream(name), pair))
    event = snapshot.decode((found[0][0], found[0][1], found[0][2], found[0][3], found[0][4])) if found else None
    return event if isinstance(event, OutputPruned) else None


def lines_of(chunks: Iterable[Chunk]) -> Iterator[OutputLine]:
    """Return the lines of *chunks*, in order."""
    for chunk in chunks:
        for at_us, stream, text in chunk.entries:
            at = from_us(at_us)
            for line in text.removesuffix("\n").split("\n"):
                yield OutputLine(at, stream, line)


def digest_of(chunks: Iterable[Chunk]) -> str:
    """Return the SHA-256 of the text of *chunks* in order, as the outcome event has it."""
    digest = hashlib.sha256()
    for chunk in chunks:
        for _, _, text in chunk.entries:
            digest.update(text.encode())
    return digest.hexdigest()
