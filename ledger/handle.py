"""Show one task to Python code: a handle that reads the task's own stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ledger import acts, inbox
from ledger.acts import Answer
from ledger.errors import InvalidOption, NotFound, ResultTimeout, TaskEnded
from ledger.hidden import shown_event
from ledger.ids import task_stream
from ledger.output import OutputLine, chunks_of, lines_of
from ledger.progress import Progress
from ledger.record import AttemptRecord, TaskRecord, fold_record
from ledger.task import ENDED, SUCCEEDED
from ledger.values import is_number, require_reason, shown

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.events import Event

R = TypeVar("R")

FIRST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.1


class Task(Generic[R]):
    """A task of the ledger by its id. Each property reads the log anew; nothing is cached."""

    def __init__(self, ledger: Ledger, task_id: str, *, answer: Answer = "queued") -> None:
        self._ledger = ledger
        self.id = task_id
        self.answer = answer
        """What became of the call that returned this: ``queued`` as a new task, or of the task that holds its unique key:
        ``unchanged``, ``rescheduled``, or ``running`` and so left alone."""

    @property
    def duplicate(self) -> bool:
        """Whether this task was there already, holding the unique key of the call that returned it."""
        return self.answer != "queued"

    def __repr__(self) -> str:
        return f"Task({self.id})"

    @property
    def record(self) -> TaskRecord:
        """All that the task's stream tells.

        Raises:
            NotFound: The ledger has no such task (or it is a `with_outcome` child whose parent has not succeeded, or was
                queued in a transaction that is not committed).

            NotTakenIn: It waited in the inbox, and was set aside there.
        """
        with self._ledger.store.read() as snapshot:
            record = fold_record(self.id, snapshot.stream(task_stream(self.id)))
            if record is None:
                record = inbox.record_of(snapshot, self.id)
        if record is None:
            raise NotFound(f"there is no task {self.id} in this ledger")
        return record

    @property
    def state(self) -> str:
        """``waiting``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        return self.record.state.status

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """Every attempt, oldest first."""
        return self.record.attempts

    @property
    def duplicate_of(self) -> str | None:
        """The id of the task that held the unique key when this one came, which is why it was cancelled; else None."""
        return self.record.duplicate_of

    @property
    def progress(self) -> Progress | None:
        """How far the newest attempt said that it is, at most about a second ago; None where it said nothing."""
        return self.record.progress

    @property
    def events(self) -> list[Event]:
        """Every event of the task, oldest first; hidden arguments are shown as hidden (see `reveal`)."""
        with self._ledger.store.read() as snapshot:
            return [shown_event(event) for _, event in snapshot.stream(task_stream(self.id))]

    @property
    def attempts_left(self) -> int | None:
        """Attempts that may still be used, one that runs included; 0 once it has ended, None: without end."""
        state = self.record.state
        return 0 if state.status in ENDED else state.attempts_left

    def reveal(self, *, reason: str, actor: str | None = None) -> dict[str, Any]:
        """Return the arguments, the hidden ones too; that the actor was shown them is recorded before.

        Raises:
            NotFound: The ledger has no such task.
        """
        require_reason(reason, "reveal")
        with self._ledger.store.write() as unit:
            inbox.take_in_one(unit, self.id)
            return acts.reveal(unit, self.id, self._ledger.act(unit, actor, reason))

    def output(self, attempt: int | None = None) -> list[OutputLine]:
        """Return what an attempt (by default the newest) printed, line by line; so far, if it still runs.

        Empty also where nothing was kept, or what was kept has been pruned.
        """
        with self._ledger.store.read() as snapshot:
            if attempt is None:
                attempt = self.record.state.attempt
            return list(lines_of(chunks_of(snapshot, self.id, attempt)))

    def result(self, timeout: float | None = None) -> R:
        """Wait at most *timeout* seconds (None: for ever) for the task's end and return what its function returned.

        Raises:
            ResultTimeout: It has not ended by then.

            TaskEnded: It failed or was cancelled; the message has the last error.
        """
        clock = self._ledger.clock
        pauses = _pauses(timeout, clock.monotonic)
        while (record := self.record).state.status not in ENDED:
            clock.sleep(self._next(pauses, record, timeout))
        return self._result_of(record)

    async def aresult(self, timeout: float | None = None) -> R:
        """Wait for the result from async code; see `result`."""
        pauses = _pauses(timeout, asyncio.get_running_loop().time)
        while (record := await asyncio.to_thread(lambda: self.record)).state.status not in ENDED:
            await asyncio.sleep(self._next(pauses, record, timeout))
        return self._result_of(record)

    def _next(self, pauses: Iterator[float], record: TaskRecord, timeout: float | None) -> float:
        pause = next(pauses, None)
        if pause is None:
            raise ResultTimeout(f"task {self.id} is still {record.state.status} after {timeout} s")
        return pause

    def _result_of(self, record: TaskRecord) -> R:
        if record.state.status != SUCCEEDED:
            error = record.error or {}
            said = f"{error.get('type', '')} {error.get('message', '')}" if error else record.end_reason or ""
            raise TaskEnded(f"task {self.id} {record.state.status}: {said}")
        return cast(R, record.result)


def _pauses(timeout: float | None, monotonic: Callable[[], float]) -> Iterator[float]:
    """Yield how long to wait before each next look, ever longer, until *timeout* is over.

    Raises:
        InvalidOption: The timeout is no number of seconds.
    """
    if timeout is not None and (not is_number(timeout) or timeout < 0):
        raise InvalidOption(f"timeout is {shown(timeout)}; allowed is a number of seconds from 0 on, or None")
    return _growing(None if timeout is None else monotonic() + timeout, monotonic)


def _growing(deadline: float | None, monotonic: Callable[[], float]) -> Iterator[float]:
    pause = FIRST_PAUSE_SECONDS
    while deadline is None or (left := deadline - monotonic()) > 0:
        yield pause if deadline is None else min(pause, left)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
