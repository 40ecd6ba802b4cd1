"""Queue changed copies of tasks, each linked with the one it is a copy of, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ledger import commands as c
from ledger.errors import NotFound
from ledger.events import TaskQueued
from ledger.handle import Task
from ledger.ids import mint, task_stream
from ledger.ledger_events import ForkQueued
from ledger.store import Snapshot
from ledger.task import TaskState, decide
from ledger.values import check_reason

if TYPE_CHECKING:
    from ledger.api import Ledger

FORKS_PREFIX = "forks:"
_KEPT = ("queue", "priority", "run_as", "retry", "max_attempts", "timeout", "kill_after", "labels", "concurrency_key")
"""What a copy has of the original's request beside its arguments. It has no unique key and never expires."""


def fork(
    ledger: Ledger,
    task_id: str,
    changes: Mapping[str, Any] | None = None,
    *,
    reason: str | None = None,
    actor: str | None = None,
) -> Task[Any]:
    """Queue a copy of a task, due at once, with *changes* over its arguments; durable when it returns.

    Raises:
        NotFound: The ledger has no such task.

        NotRegistered: This process has no function for it.

        InvalidArguments: The arguments do not fit the function's signature.

        InvalidValue: One of them is not JSON within the limits.

        IdentityNotFound: The original runs as somebody who does not exist any more or is not active.
    """
    check_reason(reason)
    with ledger.store.read() as snapshot:
        original = _request(snapshot, task_id)
    function = ledger.function(original.name)
    args, named = function.unbind({**original.args, **(changes or {})})
    bound = function.bind(tuple(args), named)
    ledger.principals.check(original.run_as)
    command = c.Queue(
        name=function.name,
        args=bound,
        hidden=sorted({*function.traits.hide, *(original.hidden or ())}) or None,
        forked_from=task_id,
        **{name: getattr(original, name) for name in _KEPT},
    )
    with ledger.store.write() as unit:
        act = ledger.act(unit, actor, reason)
        new = TaskState(mint(unit.now))
        stream = FORKS_PREFIX + task_id
        link = ForkQueued(**c.next_envelope(stream, unit.last(stream), act), task=new.task_id)
        unit.append([*decide(new, command, act), link])
    return Task(ledger, new.task_id)


def _request(snapshot: Snapshot, task_id: str) -> TaskQueued:
    recorded = snapshot.stream(task_stream(task_id))
    first = recorded[0].event if recorded else None
    if not isinstance(first, TaskQueued):
        raise NotFound(f"there is no task {task_id} in this ledger")
    return first


def forks_of(snapshot: Snapshot, task_id: str) -> list[str]:
    """Return the ids of the copies that were queued of a task, oldest first."""
    found = (one.event for one in snapshot.stream(FORKS_PREFIX + task_id))
    return [event.task for event in found if isinstance(event, ForkQueued)]
