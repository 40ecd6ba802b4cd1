"""Copy a ledger to another database, follow it while it is worked on, and prove that both are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ledger import copying, inbox
from ledger.api import Ledger
from ledger.copying import Copied
from ledger.errors import InvalidOption, StorageUnavailable
from ledger.task import RUNNING, TaskState
from projections import controls, queue, schedules
from projections.queue import catch_up_all, fold_log

FOLLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A copy that was proved: what both logs have, and what could not be copied."""

    copied: Copied
    left_behind: int
    """Rows of the source's inbox that were set aside there."""


def copy(source: Ledger, destination: Ledger, pause: Callable[[float], bool] | None = None) -> Done:
    """Copy *source* to *destination*, which is empty or was begun by an earlier copy.

    *pause* waits so many seconds and tells whether to go on following; without it what is there now is copied.

    Raises:
        InvalidOption: Both are the same ledger, or one is in memory.

        Conflict: The destination has events that the source does not have, or somebody else writes to it.

        StorageUnavailable: One cannot be used, or the copy is not equal to the source.
    """
    for ledger in (source, destination):
        if ledger.url == "memory:":
            raise InvalidOption("a ledger in memory: cannot be copied, nor copied to")
    if source.store.path == destination.store.path:
        raise InvalidOption("source and destination are the same ledger")
    with source.store.read() as snapshot:
        snapshot.head()
    destination.store.prepare()
    position = copying.compare(source.store, destination.store).position
    while True:
        position = copying.copy_events(source.store, destination.store, position)
        copying.copy_beside(source.store, destination.store, _running(destination))
        if pause is None or not pause(FOLLOW_SECONDS):
            break
    return _proved(source, destination)


def _running(ledger: Ledger) -> set[str]:
    with ledger.store.read() as snapshot:
        states = [TaskState._make(row[1:]) for row in fold_log(snapshot).values()]
    return {state.task_id for state in states if state.status == RUNNING}


def _proved(source: Ledger, destination: Ledger) -> Done:
    """Read both again from the beginning, fold both, and compare the destination's own views with its log."""
    copied = copying.compare(source.store, destination.store)
    with source.store.read() as ours:
        aside = inbox.counts(ours)[1] if ours.head() >= 0 else 0
        folded = fold_log(ours, copied.position)
    with destination.store.read() as theirs:
        if fold_log(theirs) != folded:
            raise StorageUnavailable("the copy's log folds to other tasks than the source's: one of both is damaged")
    catch_up_all(destination)
    problems = [*queue.verify(destination), *schedules.verify(destination), *controls.verify(destination)]
    if problems:
        raise StorageUnavailable(f"the copy's views differ from its log: {problems[0]}")
    return Done(copied=copied, left_behind=aside)
