"""Tell what changed between two positions of the log: tasks, schedules, limits, pauses, and who did what."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger import events as e
from ledger import schedule_events as s
from ledger.api import Ledger
from ledger.control_rules import QUEUE_PREFIX, RUNNERS
from ledger.errors import InvalidOption
from ledger.ids import TASK_PREFIX
from ledger.past import BATCH, Past
from ledger.schedule import SCHEDULE_PREFIX, ScheduleState, in_force
from ledger.store import Snapshot
from ledger.task import CANCELLED, FAILED, SUCCEEDED, ends

_ORDINARY = ("TaskQueued", "KeyReserved", "KeyReleased", "ForkQueued")
"""What asking for tasks leaves behind: no act of an operator."""
_PREFIX_LENGTH = len(TASK_PREFIX)


@dataclass(slots=True)
class _Task:
    """What became of one task between the two; *before* None: it was queued meanwhile."""

    name: str = ""
    is_new: bool = False
    ended: str | None = None
    attempts: int = 0
    position: int = 0


@dataclass(slots=True)
class _Act:
    """What one act of a person changed."""

    at: datetime
    actor: str
    reason: str | None
    what: dict[str, int] = field(default_factory=dict)
    about: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs; every row is one JSON object."""

    since: Past
    upto: Past
    tasks: list[dict[str, Any]]
    schedules: list[dict[str, Any]]
    controls: list[dict[str, Any]]
    acts: list[dict[str, Any]]


def changes(ledger: Ledger, since: datetime | int, upto: datetime | int) -> Changes:
    """Return what changed from one position or time to another (see `Ledger.as_of`).

    Raises:
        InvalidOption: One is no past, or the second lies before the first.
    """
    before, after = ledger.as_of(since), ledger.as_of(upto)
    if after.position < before.position:
        raise InvalidOption(f"the end (position {after.position}) lies before the beginning ({before.position})")
    tasks: dict[str, _Task] = {}
    slots: dict[str, dict[str, int]] = {}
    acts: dict[str, _Act] = {}
    with ledger.store.read() as snapshot:
        snapshot.head()
        for position, event in _between(snapshot, before.position, after.position):
            if event.originator_id.startswith(TASK_PREFIX):
                _of_task(tasks.setdefault(event.originator_id[_PREFIX_LENGTH:], _Task()), position, event)
            elif isinstance(event, s.SlotFired | s.SlotsMissed):
                counts = slots.setdefault(event.originator_id.removeprefix(SCHEDULE_PREFIX), {"fired": 0, "missed": 0})
                counts["fired" if isinstance(event, s.SlotFired) else "missed"] += getattr(event, "count", 1)
            if event.actor.startswith("user:") and type(event).__name__ not in _ORDINARY:
                act = acts.setdefault(event.command, _Act(event.at, event.actor, event.reason))
                act.what[type(event).__name__] = act.what.get(type(event).__name__, 0) + 1
                act.about[event.originator_id] = None
    return Changes(
        since=before,
        upto=after,
        tasks=_task_rows(before, after, tasks),
        schedules=_schedule_rows(before, after, slots),
        controls=_control_rows(before, after),
        acts=[_act_row(act) for act in acts.values()],
    )


def _between(snapshot: Snapshot, after: int, upto: int) -> Any:
    while after < upto and (raws := snapshot.events_after(after, BATCH)):
        for raw in raws:
            if raw[0] > upto:
                return
            yield raw[0], snapshot.decode(raw)
        after = raws[-1][0]


def _of_task(task: _Task, position: int, event: e.Event) -> None:
    task.position = position
    match event:
        case e.TaskQueued():
            task.is_new, task.name = True, event.name
        case e.TaskRetried():
            task.ended, task.name = None, event.name
        case e.TaskClaimed():
            task.attempts += 1
        case _ if ends(event):
            kinds = {e.TaskSucceeded: SUCCEEDED, e.TaskCancelled: CANCELLED}
            task.ended = kinds.get(type(event), FAILED)


def _task_rows(before: Past, after: Past, tasks: dict[str, _Task]) -> list[dict[str, Any]]:
    rows = []
    for task_id, task in tasks.items():
        was, then = before.world.tasks.get(task_id), after.world.tasks.get(task_id)
        status = was.state.status if was else None if task.is_new else before.get(task_id).state.status
        now = then.state.status if then else task.ended or status
        if status != now or task.attempts:
            live = then or was
            name = task.name or (live.state.name if live else before.get(task_id).queued.name)
            row = {"task": task_id, "name": name, "from": status, "to": now, "attempts": task.attempts}
            rows.append({**row, "position": task.position})
    return rows


def _schedule_rows(before: Past, after: Past, slots: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    rows = []
    for name, state in after.world.schedules.items():
        was, now = _told(before.world.schedules.get(name)), _told(state)
        changed = {key: {"from": was.get(key), "to": now[key]} for key in now if was.get(key) != now[key]}
        counts = slots.get(name, {"fired": 0, "missed": 0})
        if changed or any(counts.values()):
            rows.append({"schedule": name, **counts, "changes": changed})
    return rows


def _told(state: ScheduleState | None) -> dict[str, Any]:
    if state is None:
        return {}
    told = {"status": state.status, "fields": " ".join(in_force(state).fields), "timezone": state.timezone}
    return {**told, "enabled": bool(state.enabled), "component_off": state.is_component_off, "misfire": state.misfire}


def _control_rows(before: Past, after: Past) -> list[dict[str, Any]]:
    """Return the limits in force that differ, and the queues and runners that were stopped or let go."""

    def of(past: Past) -> dict[str, Any]:
        limits = {f"limit {one.scope}": one.in_force.most for one in past.limit_states() if one.in_force}
        stopped = [mark for mark in past.marks if mark == RUNNERS or mark.startswith(QUEUE_PREFIX)]
        names = ["runners" if mark == RUNNERS else f"queue {mark.removeprefix(QUEUE_PREFIX)}" for mark in stopped]
        return limits | dict.fromkeys(names, "stopped")

    was, now = of(before), of(after)
    names = sorted(was.keys() | now.keys())
    return [{"what": n, "from": was.get(n), "to": now.get(n)} for n in names if was.get(n) != now.get(n)]


def _act_row(act: _Act) -> dict[str, Any]:
    return {"at": act.at, "actor": act.actor, "what": act.what, "about": list(act.about), "reason": act.reason}
