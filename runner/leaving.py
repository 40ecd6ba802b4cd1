"""Say when a worker leaves before its run ends, why, and whether a new process takes its place. Pure but for memory."""

from __future__ import annotations

from typing import NamedTuple

import psutil

from ledger.errors import InvalidOption
from projections.control_fold import Mark
from runner.board import REPLACED, STOPPED
from runner.options import RunOptions

MEBIBYTE = 1024 * 1024


class Leave(NamedTuple):
    """Why a worker leaves: *cause* as its WorkerStopped says it, *left* as its board does."""

    cause: str
    left: int


def told(stop: Mark | None, recycle: Mark | None) -> Leave | None:
    """Return why the worker leaves by what all workers were told, or None."""
    if stop is not None:
        return Leave(f"all runs were told to stop by {stop.actor}: {stop.reason}", STOPPED)
    if recycle is not None:
        return Leave(f"recycled, as asked by {recycle.actor}: {recycle.reason}", REPLACED)
    return None


def spent(run: RunOptions, taken: int) -> Leave | None:
    """Return why the worker leaves after so many attempts, or None."""
    most = run.max_tasks_per_worker
    if most is None or taken < most:
        return None
    return Leave(f"recycled after {taken} {'task' if taken == 1 else 'tasks'}", REPLACED)


def bloated(run: RunOptions, taken: int) -> Leave | None:
    """Return why the worker leaves by its memory, or None. A new one always takes a task: so the work goes on."""
    if run.max_memory_per_worker is None or not taken:
        return None
    resident = resident_mebibytes()
    if resident <= run.max_memory_per_worker:
        return None
    return Leave(f"recycled at {resident} MiB of memory; at most {run.max_memory_per_worker} are allowed", REPLACED)


def unfit(what: str | None) -> Leave | None:
    """Return why the worker leaves where a task has left *what* behind that cannot be restored, or None."""
    return None if what is None else Leave(f"stopped, to be replaced: {what}", REPLACED)


def resident_mebibytes() -> int:
    """Return the resident memory of this process, in MiB."""
    return int(psutil.Process().memory_info().rss // MEBIBYTE)


def check_memory(run: RunOptions) -> None:
    """Refuse a bound of memory that a process exceeds before its first task: each would leave after one.

    Raises:
        InvalidOption: It does.
    """
    most, resident = run.max_memory_per_worker, resident_mebibytes()
    if most is not None and resident >= most:
        raise InvalidOption(
            f"max_memory_per_worker is {most} MiB; a process of this app takes {resident} MiB before any task"
        )
