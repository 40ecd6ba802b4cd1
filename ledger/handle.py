"""Show one task to Python code: a handle that reads the task's own stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ledger.errors import InvalidOption, NotFound, ResultTimeout, TaskEnded
from ledger.ids import task_stream
from ledger.output import OutputLine, chunks_of, lines_of
from ledger.progress import Progress
from ledger.record import AttemptRecord, TaskRecord, fold_record
from ledger.task import ENDED, SUCCEEDED
from ledger.values import is_number, shown

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.events import Event

R = TypeVar("R")

FIRST_PAUSE_SECONDS = 0.001
LONGEST_PAUSE_SECONDS = 0.1


class Task(Generic[R]):
    """A task of the ledger by its id. Each property reads the log anew; nothing is cached."""

    def __init__(self, ledger: Ledger, task_id: str, *, duplicate: bool = False) -> None:
        self._ledger = ledger
        self.id = task_id
        self.duplicate = duplicate
        """Whether this task was there already, holding the unique key of the call that returned it."""

    def __repr__(self) -> str:
        return f"Task({self.id})"

    @property
    def record(self) -> TaskRecord:
        """All that the task's stream tells.

        Raises:
            NotFound: The ledger has no such task (or it is a `with_outcome` child whose parent has not succeeded).
        """
        with self._ledger.store.read() as snapshot:
            record = fold_record(self.id, snapshot.stream(task_stream(self.id)))
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
    def progress(self) -> Progress | None:
        """How far the newest attempt said that it is, at most about a second ago; None where it said nothing."""
        return self.record.progress

    @property
    def events(self) -> list[Event]:
        """Every event of the task, oldest first."""
        with self._ledger.store.read() as snapshot:
            return [event for _, event in snapshot.stream(task_stream(self.id))]

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
        if timeout is not None and (not is_number(timeout) or timeout < 0):
            raise InvalidOption(f"timeout is {shown(timeout)}; allowed is a number of seconds from 0 on, or None")
        clock = self._ledger.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        pause = FIRST_PAUSE_SECONDS
        while (record := self.record).state.status not in ENDED:
            if deadline is not None and clock.monotonic() >= deadline:
                raise ResultTimeout(f"task {self.id} is still {record.state.status} after {timeout} s")
            clock.sleep(pause if deadline is None else min(pause, max(deadline - clock.monotonic(), 0)))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        if record.state.status != SUCCEEDED:
            error = record.error or {}
            raise TaskEnded(f"task {self.id} {record.state.status}: {error.get('type', '')} {error.get('message', '')}")
        return cast(R, record.result)
