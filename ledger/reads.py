"""Record who was shown what of tasks: one stream of reads for each task, so that no other stream grows by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ledger.commands import Act, next_envelope
from ledger.ledger_events import ReadRecorded
from ledger.store import Recorded, Snapshot

if TYPE_CHECKING:
    from ledger.api import Ledger

READS_PREFIX = "reads:"
ARGUMENTS, RESULT, OUTPUT = "arguments", "result", "output"
ALL = "*"
"""In the place of a task: an export was shown, whichever tasks it had."""


def recorded(snapshot: Snapshot, tasks: Iterable[str], what: Sequence[str], act: Act) -> list[ReadRecorded]:
    """Return the events by which the actor of *act* is shown *what* of each of *tasks*."""
    events = []
    for task_id in dict.fromkeys(tasks):
        stream = READS_PREFIX + task_id
        said = next_envelope(stream, snapshot.last(stream), act)
        events.append(ReadRecorded(**said, task=task_id, what=list(what)))
    return events


def record(
    ledger: Ledger, tasks: Iterable[str], what: Sequence[str], *, reason: str | None = None, actor: str | None = None
) -> None:
    """Record that *actor* is about to be shown *what* of *tasks*: in one commit, durable when this returns.

    Raises:
        StorageUnavailable: It could not be recorded, so that nothing may be shown.
    """
    with ledger.store.write() as unit:
        unit.append(recorded(unit, tasks, what, ledger.act(unit, actor, reason)))


def reads_of(snapshot: Snapshot, task_id: str) -> list[Recorded]:
    """Return who was shown what of a task, oldest first."""
    return [one for one in snapshot.stream(READS_PREFIX + task_id) if isinstance(one.event, ReadRecorded)]
