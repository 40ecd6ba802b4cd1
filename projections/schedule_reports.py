"""Fold the events of schedules, components and runs into the report views `schedules` and `firings`. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from ledger import schedule_events as s
from ledger.clock import from_us, to_us
from ledger.event import Event
from ledger.schedule import SCHEDULE_PREFIX, ScheduleState, advance, dumps, is_run_id, loads
from ledger.slots import RUN_BEFORE
from projections.tasks import stamp
from projections.views import Row, Step, Tables

NO_CHANGES = (s.SlotFired, s.SlotsMissed, s.RunRequested)
"""Events of a schedule's stream that leave the schedule itself as it is."""


class ScheduleRow(NamedTuple):
    """A row of `schedules`; what the columns mean says its SQL file."""

    name: str
    task: str
    app: str
    status: str
    is_enabled: int
    component: str | None
    is_component_off: int
    fields: str
    resolved: str
    timezone: str
    misfire: str
    is_customised: int
    declared_at: str
    changed_at: str
    changed_by: str
    change_reason: str | None
    fired: int
    missed: int
    last_slot: str | None
    last_task: str | None
    last_success_at: str | None
    last_outcome: str | None
    failures: int
    fold: str


class ComponentRow(NamedTuple):
    """A row of `components`."""

    component: str
    is_disabled: int
    changed_at: str
    changed_by: str
    reason: str | None


class FiringRow(NamedTuple):
    """A row of `firings`."""

    position: int
    schedule: str
    decision: str
    slot: str
    last_slot: str
    count: int  # type: ignore[assignment]  # the method of tuples is not wanted here
    is_asked: int
    task_id: str | None
    cause: str | None
    decided_at: str
    actor: str
    late_ms: float | None


class Folded(NamedTuple):
    """A schedule in the midst of folding: the state that decisions rest on, and what its row has beside that."""

    state: ScheduleState
    declared_at: str = ""
    changed_at: str = ""
    changed_by: str = ""
    change_reason: str | None = None
    fired: int = 0
    missed: int = 0
    last_slot: str | None = None


def load(row: Row) -> Folded:
    """Return a stored row ready for its next event."""
    stored = ScheduleRow._make(row)
    state = ScheduleState._make(orjson.loads(stored.fold))
    return Folded(state, *(getattr(stored, name) for name in Folded._fields[1:]))


def store(folded: Folded) -> Row:
    """Return the row as it is to be stored; arguments of runs, which may be hidden, are not in it."""
    state = folded.state
    declared = {name: value for name, value in loads(state.declared).items() if name != "args"}
    return ScheduleRow(
        name=state.name,
        task=state.task,
        app=state.app,
        status=state.status,
        is_enabled=state.enabled,
        component=state.component,
        is_component_off=int(state.is_component_off),
        fields=" ".join(loads(state.fields)),
        resolved=" ".join(loads(state.resolved)),
        timezone=state.timezone,
        misfire=state.misfire,
        is_customised=int(state.custom is not None or state.override is not None),
        last_task=state.run_id,
        last_success_at=_moment(state.success_us),
        last_outcome=state.outcome,
        failures=state.failures,
        fold=orjson.dumps(list(state._replace(declared=dumps(declared)))).decode(),
        **{name: getattr(folded, name) for name in Folded._fields[1:]},
    )


def _moment(microseconds: int | None) -> str | None:
    return None if microseconds is None else stamp(from_us(microseconds))


def take_schedule(step: Step, tables: Tables) -> None:
    """Fold an event of a schedule, of its component, or of its newest run into `schedules`."""
    event, stream = step.event, step.event.originator_id
    if step.task_id is not None:
        if is_run_id(step.task_id) and (run := tables["schedule_runs"].get((step.task_id,))) is not None:
            folded: Folded | None = tables["schedules"].get((run[1],))
            if folded is not None:
                _put(tables, folded, folded._replace(state=advance(folded.state, event, ())))
    elif stream.startswith(SCHEDULE_PREFIX):
        name = stream.removeprefix(SCHEDULE_PREFIX)
        before = tables["schedules"].get((name,)) or Folded(ScheduleState(name))
        _put(tables, before, _own(before, step, _disabled(tables, event)))
    elif isinstance(event, s.ComponentDisabled | s.ComponentEnabled):
        is_disabled = int(isinstance(event, s.ComponentDisabled))
        row = ComponentRow(event.component, is_disabled, step.at, event.actor, event.reason)
        tables["components"].put((event.component,), row)
        for folded in tables["schedules"].all():
            if folded.state.component == event.component:
                _put(tables, folded, folded._replace(state=advance(folded.state, event, ())))


def _disabled(tables: Tables, event: Event) -> dict[str, int]:
    """Return the component of a declaration with the time it was disabled, if it is."""
    component = getattr(event, "component", None)
    row = None if component is None else tables["components"].get((component,))
    return {component: 0} if component is not None and row is not None and row[1] else {}


def _own(before: Folded, step: Step, disabled: dict[str, int]) -> Folded:
    event: Any = step.event
    changes: dict[str, Any] = {"state": advance(before.state, event, disabled)}
    if isinstance(event, s.ScheduleDeclared):
        changes["declared_at"] = step.at
    if not isinstance(event, NO_CHANGES):
        changes.update(changed_at=step.at, changed_by=event.actor, change_reason=event.reason)
    if isinstance(event, s.SlotFired):
        changes.update(fired=before.fired + 1, last_slot=stamp(event.slot))
    elif isinstance(event, s.RunRequested) and event.task is not None:
        changes.update(fired=before.fired + 1)
    elif isinstance(event, s.SlotsMissed):
        changes.update(missed=before.missed + event.count)
    return before._replace(**changes)


def _put(tables: Tables, before: Folded, after: Folded) -> None:
    tables["schedules"].put((after.state.name,), after)
    old, new = before.state.run_id, after.state.run_id
    if new is not None and new != old:
        tables["schedule_runs"].put((new,), (new, after.state.name))
        if old is not None:
            tables["schedule_runs"].drop((old,))


def take_firing(step: Step, tables: Tables) -> None:
    """Add what was decided of slots to `firings`."""
    event, position = step.event, step.position
    schedule = event.originator_id.removeprefix(SCHEDULE_PREFIX)
    match event:
        case s.SlotFired():
            late_ms = max(to_us(event.at) - to_us(event.slot), 0) / 1000
            slot = stamp(event.slot)
            row = FiringRow(position, schedule, "queued", slot, slot, 1, int(event.asked), event.task, None,
                            step.at, event.actor, late_ms)  # fmt: skip
        case s.RunRequested(task=str(task)):
            row = FiringRow(position, schedule, "queued", step.at, step.at, 1, 1, task, None,
                            step.at, event.actor, 0.0)  # fmt: skip
        case s.SlotsMissed():
            decision = "skipped" if event.cause.startswith(RUN_BEFORE) else "missed"
            row = FiringRow(position, schedule, decision, stamp(event.first), stamp(event.last), event.count, 0, None,
                            event.cause, step.at, event.actor, None)  # fmt: skip
        case _:
            return
    tables["firings"].put((position,), row)
