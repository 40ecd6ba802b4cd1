"""Run a recorded attempt again, here, with what it had then; store nothing, and tell what differs from the record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

import orjson

from ledger import acts
from ledger import events as e
from ledger.api import Ledger
from ledger.current import Current
from ledger.errors import NotFound
from ledger.ids import task_stream
from ledger.output import Chunk, OutputMode, chunks_of, digest_of, lines_of
from ledger.record import AttemptRecord, fold_record
from ledger.shadow import ShadowStore
from ledger.signals import Delay
from ledger.store import Recorded
from ledger.task import TaskState, evolve
from ledger.values import counted
from runner.cycle import Claimed
from runner.execute import call_function, describe, end, identity, run_coroutine
from runner.output import MOST_OUTPUT, Echo, TaskStream
from runner.recorder import Recorder

KEEP_BYTES = 8 * 1024 * 1024
MOST_DIFF_LINES = 200
NO_OUTCOME = ("running", "lost", "interrupted")
"""Outcomes that are none of the function's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """How an attempt came out: *outcome* as in `AttemptRecord`, for a cancelled one that of its function, if known."""

    outcome: str
    result: Any = None
    error: e.ErrorDetail | None = None
    seconds: float | None = None
    """After which it asked to run again."""
    output: str | None = None
    """SHA-256 of what it printed; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it was: *what* is ``outcome``, ``result``, ``error``, ``delay`` or ``output``."""

    what: str
    recorded: Any
    here: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay gave, beside the record."""

    task_id: str
    name: str
    attempt: int
    recorded: Came
    here: Came
    differences: tuple[Difference, ...]
    output_diff: tuple[str, ...]
    """Lines of a unified diff, where both outputs are at hand and differ."""
    would: tuple[e.Event, ...]
    """The events that the function would have appended: of tasks that it queued, of whatever it changed."""
    raised: BaseException | None = None
    code_version: str | None = None
    """Of the recorded attempt."""

    @property
    def is_comparable(self) -> bool:
        """Whether the record has an outcome of the function to compare with."""
        return self.recorded.outcome not in NO_OUTCOME


def replay(
    ledger: Ledger,
    task_id: str,
    attempt: int | None = None,
    *,
    mode: OutputMode = "all",
    keep_bytes: int = KEEP_BYTES,
    echo: Echo | None = None,
) -> Replayed:
    """Run the function of a recorded attempt (by default the newest) in this thread and compare.

    It has the recorded arguments, identity, `Current.now` and `Current.random`. Nothing is stored: until this returns
    the ledger is one that keeps to itself what is appended. No time limit holds. *mode* and *keep_bytes* are those by
    which its output was kept.

    Raises:
        NotFound: There is no such task or attempt.

        NotRegistered: This process has no function for it.

        KeyboardInterrupt: It was interrupted.
    """
    recorded, number = _found(ledger, task_id, attempt)
    claimed = _claimed(task_id, number, recorded)
    function = ledger.function(claimed.state.name)
    claimed = claimed._replace(state=claimed.state._replace(name=function.name, timeout=None))
    current = Current(
        **identity(claimed.state),
        ledger=ledger,
        open_sink=lambda: Recorder(keep_bytes, ledger.clock, echo),
        principals=ledger.principals,
        is_replay=True,
    )
    here, printed, raised, would = _run(ledger, claimed, current)
    was = _recorded(recorded, number)
    kept = function.traits.output or mode
    is_kept = kept == "all" or (kept == "failures" and was.outcome != "succeeded")
    differences = _differences(was, here, is_output_kept=is_kept)
    is_other = any(one.what == "output" for one in differences)
    return Replayed(
        task_id=task_id,
        name=function.name,
        attempt=number,
        recorded=was,
        here=here,
        differences=differences,
        output_diff=_diff(ledger, task_id, number, was.output, printed) if is_other else (),
        would=would,
        raised=raised,
        code_version=_attempt(recorded, task_id, number).code_version,
    )


def _run(
    ledger: Ledger, claimed: Claimed, current: Current
) -> tuple[Came, Sequence[Chunk], BaseException | None, tuple[e.Event, ...]]:
    """Run the function; return how it came out, what it printed, what it raised, and what it would have appended."""
    function = ledger.function(claimed.state.name)
    with _shadowed(ledger) as shadow, _caught():
        result, error = call_function(ledger, function, claimed, current, run_coroutine)
        printed = end(current, is_kept=True)
        if error is None and current.children:
            with shadow.write() as unit:
                acts.enqueue(unit, current.children, ledger.act(unit), keep_duplicates=True)
    if isinstance(error, KeyboardInterrupt):
        raise error
    digest = None if printed is None or printed.digest is None else printed.digest["sha256"]
    return _came(result, error, digest), printed.chunks if printed else (), error, tuple(shadow.events)


def _found(ledger: Ledger, task_id: str, attempt: int | None) -> tuple[list[Recorded], int]:
    ledger.get(task_id)
    with ledger.store.read() as snapshot:
        recorded = snapshot.stream(task_stream(task_id))
    newest = max((one.event.attempt for one in recorded if isinstance(one.event, e.TaskClaimed)), default=0)
    number = newest if attempt is None else attempt
    if not 1 <= number <= newest:
        had = "has had no attempt yet" if not newest else f"has had {counted(newest, 'attempt')}; there is no {number}"
        raise NotFound(f"task {task_id} {had}")
    return recorded, number


def _claimed(task_id: str, number: int, recorded: Sequence[Recorded]) -> Claimed:
    """Return the attempt as it was claimed."""
    state, queued = TaskState(task_id), None
    for position, event in recorded:
        state = evolve(state, event)
        if isinstance(event, e.TaskQueued):
            queued = position, event
        if isinstance(event, e.TaskClaimed) and event.attempt == number:
            break
    assert queued is not None, "a task that was claimed was queued"
    return Claimed(queued[0], state, queued[1].args, queued[1].retry)


def _attempt(recorded: Sequence[Recorded], task_id: str, number: int) -> AttemptRecord:
    record = fold_record(task_id, recorded)
    assert record is not None
    return record.attempts[number - 1]


def _recorded(recorded: Sequence[Recorded], number: int) -> Came:
    """Return how the attempt came out by the record."""
    for _, event in reversed(recorded):
        if getattr(event, "attempt", None) != number:
            continue
        output = (getattr(event, "output", None) or {}).get("sha256")
        match event:
            case e.TaskSucceeded():
                return Came(outcome="succeeded", result=event.result, output=output)
            case e.TaskFailed():
                return Came(outcome="failed", error=event.error, output=output)
            case e.TaskDelayed():
                return Came(outcome="delayed", seconds=event.seconds, output=output)
            case e.TaskCancelled():
                return Came(outcome=event.ended or "cancelled", error=event.error, output=output)
            case e.AttemptLost():
                return Came(outcome="lost")
            case e.AttemptInterrupted():
                return Came(outcome="interrupted")
    return Came(outcome="running")


def _came(result: Any, error: BaseException | None, output: str | None) -> Came:
    match error:
        case None:
            return Came(outcome="succeeded", result=result, output=output)
        case Delay():
            return Came(outcome="delayed", seconds=error.seconds, output=output)
        case _:
            return Came(outcome="failed", error=describe(error), output=output)


def _differences(was: Came, here: Came, *, is_output_kept: bool) -> tuple[Difference, ...]:
    """Return what differs; an attempt that came to no end of its own differs in nothing."""
    if was.outcome in NO_OUTCOME:
        return ()
    pairs: list[tuple[str, Any, Any]] = [("outcome", was.outcome, here.outcome)]
    pairs.append(("error", _told(was.error), _told(here.error)))
    if was.outcome == here.outcome:
        pairs += [("result", was.result, here.result), ("delay", was.seconds, here.seconds)]
    if is_output_kept:
        pairs.append(("output", was.output, here.output))
    return tuple(Difference(what=w, recorded=r, here=h) for w, r, h in pairs if _canonical(r) != _canonical(h))


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _told(error: e.ErrorDetail | None) -> str | None:
    """Return an error without its traceback, in which line numbers may differ."""
    return None if error is None else f"{error.get('type', '')}: {error.get('message', '')}"


def _diff(ledger: Ledger, task_id: str, number: int, recorded: str | None, printed: Sequence[Chunk]) -> tuple[str, ...]:
    """Return the lines that differ, none where the text that was *recorded* by its digest is no longer at hand."""
    with ledger.store.read() as snapshot:
        stored = list(chunks_of(snapshot, task_id, number))
    if recorded is not None and digest_of(stored) != recorded:
        return ()
    before, after = ([line.text for line in lines_of(chunks)] for chunks in (stored, printed))
    lines = list(unified_diff(before, after, "recorded", "here", lineterm="", n=1))
    left = len(lines) - MOST_DIFF_LINES
    return tuple([*lines[:MOST_DIFF_LINES], f"… {left} more lines differ"] if left > 0 else lines)


@contextmanager
def _shadowed(ledger: Ledger) -> Iterator[ShadowStore]:
    store = ledger.store
    ledger.store = shadow = ShadowStore(store)
    try:
        yield shadow
    finally:
        ledger.store = store


@contextmanager
def _caught() -> Iterator[None]:
    """Catch what is printed through Python's streams, where this process does not do so for good."""
    out, error = sys.stdout, sys.stderr
    streams: Callable[..., Any] = TaskStream
    if not isinstance(out, TaskStream):
        sys.stdout, sys.stderr = streams("stdout", out, MOST_OUTPUT, None), streams("stderr", error, MOST_OUTPUT, None)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, error
