"""Show what attempts printed: the command `task log`, also while they run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from ledger.api import Ledger
from ledger.clock import to_us
from ledger.errors import NotFound
from ledger.ids import task_stream
from ledger.output import Chunk, OutputLine, chunks_of, lines_of
from ledger.progress import Progress
from ledger.record import AttemptRecord, TaskRecord, fold_on
from projections.tasks import stamp
from runner.bar import Show, bar
from runner.cli_tasks import Form, TaskId
from runner.render import Output, clean, print_line, print_object, short, to_json

LOOK_SECONDS = 0.25
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")


def log(
    context: typer.Context,
    task_id: TaskId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Its number; by default the newest.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the attempt has ended.")] = False,
    output: Form = Output.table,
) -> None:
    """Show what an attempt printed, line by line, with time and stream.

    Example: workledger task log 01890a5d-ac96-774b-bcce-b302099a8057 --follow
    """
    ledger: Ledger = context.obj.existing()
    number = _await_attempt(ledger, task_id, attempt) if follow else _number(ledger.get(task_id).record, attempt)
    if number is None:
        print_line(f"task {task_id} has had no attempt yet")
        return
    record = ledger.get(task_id).record
    if output is Output.table:
        print_line(_first_line(record, record.attempts[number - 1]))
    lines = []
    with bar() if follow and output is Output.table else nullcontext(_show_nothing) as show:
        for line in _follow(ledger, task_id, number, show) if follow else _lines(ledger, task_id, number):
            if output is Output.table:
                print_line(_line(line))
            elif output is Output.jsonl:
                print_line(to_json(_as_json(line)))
            else:
                lines.append(_as_json(line))
    last = ledger.get(task_id).record.attempts[number - 1]
    if output is Output.table:
        print_line(_last_line(last))
    elif output is Output.json:
        found = {"id": task_id, "attempt": number, "outcome": last.outcome, "output": last.output, "usage": last.usage}
        progress = last.progress and last.progress.summary()
        print_object({**found, "progress": progress, "lines": lines}, output)


def _show_nothing(_: Progress | None) -> None:
    """Stand where no bar is drawn."""


def _line(line: OutputLine) -> str:
    return f"{line.at:%H:%M:%S}.{line.at.microsecond // 1000:03} {line.stream[3:]:>3} {_shown(line.text)}"


def _number(record: TaskRecord, attempt: int | None) -> int | None:
    if attempt is not None and attempt > len(record.attempts):
        raise NotFound(f"task {record.state.task_id} has had {len(record.attempts)} attempts; there is no {attempt}")
    return attempt or record.state.attempt or None


def _await_attempt(ledger: Ledger, task_id: str, attempt: int | None) -> int:
    while True:
        record = ledger.get(task_id).record
        number = record.state.attempt if attempt is None else attempt
        if 0 < number <= record.state.attempt:
            return number
        if record.ended_at is not None:
            raise NotFound(f"task {task_id} has ended after {len(record.attempts)} attempts")
        ledger.clock.sleep(LOOK_SECONDS)


def _lines(ledger: Ledger, task_id: str, attempt: int) -> Iterator[OutputLine]:
    with ledger.store.read() as snapshot:
        yield from lines_of(chunks_of(snapshot, task_id, attempt))


def _follow(ledger: Ledger, task_id: str, attempt: int, show: Show) -> Iterator[OutputLine]:
    """Yield the lines of an attempt as they are stored, until it has ended; *show* gets its progress at each look."""
    chunk = entries = 0
    record: TaskRecord | None = None
    while True:
        # Asked before the chunks are read: what an ended attempt printed was stored with its outcome.
        with ledger.store.read() as snapshot:
            after = 0 if record is None else record.state.version
            record = fold_on(record, task_id, snapshot.stream(task_stream(task_id), after=after))
        assert record is not None, "it was found before"
        followed = record.attempts[attempt - 1]
        has_ended = followed.outcome != "running"
        show(followed.progress)
        with ledger.store.read() as snapshot:
            for number, found in chunks_of(snapshot, task_id, attempt, after=max(chunk - 1, 0)):
                yield from lines_of([Chunk(number, found[entries if number == chunk else 0 :])])
                chunk, entries = number, len(found)
        if has_ended:
            return
        sys.stdout.flush()
        ledger.clock.sleep(LOOK_SECONDS)


def _first_line(record: TaskRecord, attempt: AttemptRecord) -> str:
    state = record.state
    return clean(
        f"attempt {attempt.number} of {state.name} ({state.task_id}), asked for by {record.queued.actor}, "
        f"run as {state.run_as}, worker {attempt.worker}, claimed {stamp(attempt.claimed_at)}"
    )


def _last_line(attempt: AttemptRecord) -> str:
    parts = [attempt.outcome]
    if attempt.ended_at is not None:
        began, ended = attempt.started_at or attempt.claimed_at, attempt.finished_at or attempt.ended_at
        parts.append(f"after {(to_us(ended) - to_us(began)) / 1e6:.3f} s")
    if attempt.progress is not None:
        parts.append(" ".join(filter(None, ("progress", attempt.progress.text, short(attempt.progress.message)))))
    if attempt.acted_as:
        parts.append(f"acted as {', '.join(attempt.acted_as)}")
    usage, kept = attempt.usage or {}, attempt.output or {}
    if "cpu_seconds" in usage:
        parts.append(f"CPU {usage['cpu_seconds']:.3f} s")
    if "peak_rss_bytes" in usage:
        parts.append(f"peak memory of its process {usage['peak_rss_bytes'] / 2**20:.0f} MiB")
    if "bytes" in kept:
        parts.append(f"{kept['lines']:,} lines, {kept['bytes']:,} bytes kept")
    if kept.get("dropped_bytes"):
        parts.append(f"{kept['dropped_lines']:,} lines, {kept['dropped_bytes']:,} bytes dropped from the middle")
    return ", ".join(parts)


def _shown(text: str) -> str:
    """Return a printed line for a person: colours survive on a terminal, everything else that steers one does not."""
    text = text.rstrip("\r").rpartition("\r")[2].expandtabs()
    if not sys.stdout.isatty() or "\x1b" not in text:
        return clean(text)
    parts = _COLOUR.split(text)
    return "".join(part if index % 2 else clean(part) for index, part in enumerate(parts)) + "\x1b[0m"


def _as_json(line: OutputLine) -> dict[str, Any]:
    return {"at": line.at, "stream": line.stream, "text": line.text}
