"""Bring what attempts say of their progress into the log: the newest word of each, about once a second."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from ledger import commands as c
from ledger.events import Event, TaskProgressed
from ledger.ids import task_stream
from ledger.progress import Progress, Word, storable
from ledger.store import Snapshot, Unit
from ledger.task import TaskState, decide, evolve
from projections.queue import VIEW, catch_up, is_prepared
from runner.cycle import Claimed, Finished, current_state, put_row

SHARE_OF_RUN = 1 / 1_000
LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0
"""An attempt's words are stored so far apart: a thousandth of its run. A day of progress is 5,400 events."""
NEWEST = 4


class Latest:
    """The newest word of one attempt on its progress: told by any of its threads, taken by the worker's loop."""

    __slots__ = ("_stored", "_stored_at", "_word")

    def __init__(self) -> None:
        self._word: Word | None = None
        self._stored: Word | None = None
        self._stored_at = -math.inf

    def tell(self, done: float, total: float | None, message: str | None) -> None:
        """Note what the task says."""
        self._word = done, total, message

    def word(self, now: float, since: float) -> Word | None:
        """Return the word that is to be stored at *now*, in an attempt that runs *since*; None while that has time."""
        word = self._word
        if word is None or word == self._stored:
            return None
        apart = min(max((now - since) * SHARE_OF_RUN, LEAST_SECONDS), MOST_SECONDS)
        return word if now - self._stored_at >= apart else None

    def note(self, word: Word, now: float) -> None:
        """Note that *word* was stored at *now*."""
        self._stored, self._stored_at = word, now

    def last_word(self, claimed: Claimed, finished: Finished) -> Finished:
        """Return the outcome with the last word, if that is not stored yet, and with the row where it stands by now."""
        word = self._word
        if word is None:
            return finished
        command = None if word == self._stored else command_of(claimed, word)
        return finished._replace(claimed=claimed, progress=command)


class Held(Protocol):
    """An attempt that a worker holds."""

    claimed: Claimed
    progress: Latest

    @property
    def taken_at(self) -> float:
        """When it was claimed, monotonic."""


H = TypeVar("H", bound=Held)


def due(held: Iterable[H], now: float) -> list[tuple[H, Word]]:
    """Return the attempts whose newest word is to be stored now."""
    return [(one, word) for one in held if (word := one.progress.word(now, one.taken_at)) is not None]


def store_progress(unit: Unit, said: Sequence[tuple[H, Word]], act: c.Act) -> list[tuple[H, TaskState, Word]]:
    """Append the words and bring the rows forward; return the attempts as they are when that is committed.

    None of them while the view has far to catch up: their words have time.
    """
    if not said or not is_prepared(unit) or not catch_up(unit):
        return []
    told: list[tuple[H, TaskState, Word]] = []
    events: list[Event] = []
    for held, word in said:
        state, position = current_state(unit, held.claimed)
        caused = decide(state, command_of(held.claimed, word), act)  # nothing, where the attempt is over
        for event in caused:
            state = evolve(state, event)
            put_row(unit, position, state)
        events += caused
        told.append((held, state if caused else held.claimed.state, word))
    unit.append(events)
    unit.pass_own(VIEW)
    return told


def command_of(claimed: Claimed, word: Word) -> c.Progress:
    """Return what an attempt said of its progress as a command."""
    done, total, message = word
    state = claimed.state
    return c.Progress(
        attempt=state.attempt, worker=state.worker or "", done=done, total=total, message=storable(message)
    )


def progress_of(snapshot: Snapshot, task_id: str, version: int, attempt: int) -> Progress | None:
    """Return what a running attempt said last, of a task whose stream is at *version*; None where it said nothing."""
    for after in dict.fromkeys((max(version - NEWEST, 0), 0)):
        for _, event in reversed(snapshot.stream(task_stream(task_id), after=after)):
            if isinstance(event, TaskProgressed) and event.attempt == attempt:
                return Progress(done=event.done, total=event.total, message=event.message, at=event.at)
    return None
