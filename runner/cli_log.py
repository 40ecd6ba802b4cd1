"""Show what attempts printed: the command `task log`, also while they run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.api import Ledger
from ledger.clock import from_us, to_us
from ledger.errors import InvalidOption, NotFound
from ledger.ids import task_stream
from ledger.ledger_events import OutputPruned
from ledger.output import Chunk, Entry, OutputLine, chunks_of, lines_of, pruned
from ledger.past import Past
from ledger.progress import Progress
from ledger.reads import OUTPUT
from ledger.record import AttemptRecord, TaskRecord, fold_on
from ledger.values import counted
from projections.tasks import stamp
from runner.at import At, past_of
from runner.parameters import Form, TaskId
from runner.render import Output, clean, print_line, print_object, short, to_json

if TYPE_CHECKING:
    from runner.bar import Show

LOOK_SECONDS = 0.25
_END = "\n"
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")


class Colour(StrEnum):
    """When colours are shown."""

    auto = "auto"
    always = "always"
    never = "never"


def log(
    context: typer.Context,
    task_id: TaskId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Its number; by default the newest.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the attempt has ended.")] = False,
    colour: Annotated[
        Colour, typer.Option("--color", help="Whether colours of the output are shown; auto: on a terminal.")
    ] = Colour.auto,
    at: At = None,
    output: Form = Output.table,
) -> None:
    """Show what an attempt printed, line by line, with time and stream.

    Example: workledger task log 01890a5d-ac96-774b-bcce-b302099a8057 --follow
    """
    ledger: Ledger = context.obj.existing()
    if at is not None and follow:
        raise InvalidOption("--at and --follow exclude each other: the past does not go on")
    past = None if at is None else past_of(context.obj, at)
    record = _record(ledger, task_id, past)
    number = _await_attempt(ledger, task_id, attempt) if follow else _number(record, attempt)
    if number is None:
        print_line(f"task {task_id} has had no attempt yet")
        return
    context.obj.note_read(ledger, [task_id], OUTPUT)
    is_coloured = colour is Colour.always or (colour is Colour.auto and sys.stdout.isatty())
    if output is Output.table:
        record = _record(ledger, task_id, past)
        print_line(_first_line(record, record.attempts[number - 1]))
        with _bar() if follow else nullcontext(_show_nothing) as show:
            for chunk in _follow(ledger, task_id, number, show) if follow else _chunks(ledger, task_id, number, past):
                sys.stdout.write("".join(_shown(entry, is_coloured=is_coloured) for entry in chunk.entries))
        print_line(_last_line(ledger, _record(ledger, task_id, past), number))
        return
    chunks = _follow(ledger, task_id, number, _show_nothing) if follow else _chunks(ledger, task_id, number, past)
    if output is Output.jsonl:
        for line in lines_of(chunks):
            print_line(to_json(_as_json(line)))
    else:
        lines = [_as_json(line) for line in lines_of(chunks)]
        print_object({**_as_object(ledger, _record(ledger, task_id, past), number), "lines": lines}, output)


def _record(ledger: Ledger, task_id: str, past: Past | None) -> TaskRecord:
    return ledger.get(task_id).record if past is None else past.get(task_id)


def _bar() -> AbstractContextManager[Show]:
    from runner.bar import bar  # its library takes long to import, and few follow

    return bar()


def _show_nothing(_: Progress | None) -> None:
    """Stand where no bar is drawn."""


def _number(record: TaskRecord, attempt: int | None) -> int | None:
    if attempt is not None and attempt > len(record.attempts):
        raise NotFound(
            f"task {record.state.task_id} has had {counted(len(record.attempts), 'attempt')}; there is no {attempt}"
        )
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


def _chunks(ledger: Ledger, task_id: str, attempt: int, past: Past | None = None) -> Iterator[Chunk]:
    """Yield what is kept of an attempt's output, of the *past* what it had printed by then."""
    with ledger.store.read() as snapshot:
        for chunk in chunks_of(snapshot, task_id, attempt):
            if past is not None:
                chunk = chunk._replace(entries=[one for one in chunk.entries if from_us(one[0]) <= past.at])  # noqa: PLW2901
            yield chunk


def _follow(ledger: Ledger, task_id: str, attempt: int, show: Show) -> Iterator[Chunk]:
    """Yield what an attempt prints as it is stored, until it has ended; *show* gets its progress at each look."""
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
                yield Chunk(number, found[entries if number == chunk else 0 :])
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


def _last_line(ledger: Ledger, record: TaskRecord, number: int) -> str:
    """Return how the attempt ended, what it took, and what became of its output."""
    task_id = record.state.task_id
    attempt = record.attempts[number - 1]
    usage, kept = attempt.usage or {}, attempt.output or {}
    parts = [f"attempt {number} of {record.state.name} ({task_id}), run as {record.state.run_as}: {attempt.outcome}"]
    if (seconds := _seconds(attempt)) is not None:
        parts.append(f"after {seconds:.3f} s")
    if attempt.progress is not None:
        parts.append(" ".join(filter(None, ("progress", attempt.progress.text, short(attempt.progress.message)))))
    if attempt.acted_as:
        parts.append(f"acted as {', '.join(attempt.acted_as)}")
    if "cpu_seconds" in usage:
        parts.append(f"CPU {usage['cpu_seconds']:.3f} s")
    if "peak_rss_bytes" in usage:
        parts.append(f"peak memory of its process {usage['peak_rss_bytes'] / 2**20:.0f} MiB")
    gone = _pruned(ledger, record, attempt)
    if "bytes" in kept:
        parts.append(f"{kept['lines']:,} lines, {kept['bytes']:,} bytes {'of output' if gone else 'kept'}")
    if kept.get("dropped_bytes"):
        parts.append(f"{kept['dropped_lines']:,} lines, {kept['dropped_bytes']:,} bytes dropped from the middle")
    if gone is not None:
        parts.append(f"which was pruned at {stamp(gone.at)} by {gone.actor}, {gone.cause} ({gone.reason})")
    return clean(", ".join(parts))


def _seconds(attempt: AttemptRecord) -> float | None:
    """Return how long the attempt ran: by its worker's clock, where it could say so, else from claim to end."""
    if attempt.ended_at is None:
        return None
    began, ended = attempt.started_at or attempt.claimed_at, attempt.finished_at or attempt.ended_at
    return (to_us(ended) - to_us(began)) / 1e6


def _pruned(ledger: Ledger, record: TaskRecord, attempt: AttemptRecord) -> OutputPruned | None:
    """Return by which event the attempt's output was deleted; None where it is kept, or there was none."""
    task_id = record.state.task_id
    with ledger.store.read() as snapshot:
        if attempt.ended_at is None or next(iter(chunks_of(snapshot, task_id, attempt.number)), None) is not None:
            return None
        return pruned(snapshot, record.state.name, task_id, attempt.number)


def _shown(entry: Entry, *, is_coloured: bool) -> str:
    """Return an entry as a person reads it, each line after its time and stream."""
    at_us, stream, text = entry
    text = text.removesuffix("\n")
    head = f"{_second(at_us // 1_000_000)}.{at_us // 1000 % 1000:03} {stream[3:]:>3} "
    # Text with nothing to neutralise, which is nearly all, goes through as a whole.
    if not text.replace("\n", "").isprintable():
        text = "\n".join(_neutral(line, is_coloured=is_coloured) for line in text.split("\n"))
    return f"{head}{text.replace(_END, _END + head)}\n"


@lru_cache(maxsize=1_024)
def _second(second: int) -> str:
    return f"{from_us(second * 1_000_000):%H:%M:%S}"


def _neutral(line: str, *, is_coloured: bool) -> str:
    """Return a printed line as a terminal would end up with it: colours survive if asked, nothing else steers."""
    line = line.rstrip("\r").rpartition("\r")[2].expandtabs()
    if not is_coloured or "\x1b" not in line:
        return clean(line)
    parts = _COLOUR.split(line)
    return "".join(part if index % 2 else clean(part) for index, part in enumerate(parts)) + "\x1b[0m"


def _as_json(line: OutputLine) -> dict[str, Any]:
    return {"at": line.at, "stream": line.stream, "text": line.text}


def _as_object(ledger: Ledger, record: TaskRecord, number: int) -> dict[str, Any]:
    attempt = record.attempts[number - 1]
    gone = _pruned(ledger, record, attempt)
    return {
        "id": record.state.task_id,
        "name": record.state.name,
        "attempt": number,
        "run_as": record.state.run_as,
        "worker": attempt.worker,
        "claimed_at": attempt.claimed_at,
        "outcome": attempt.outcome,
        "seconds": _seconds(attempt),
        "output": attempt.output,
        "usage": attempt.usage,
        "progress": attempt.progress and attempt.progress.summary(),
        "pruned": gone and {"at": gone.at, "actor": gone.actor, "cause": gone.cause, "reason": gone.reason},
    }
