"""Hold the state of one schedule and what an event changes of it. Pure and total.

A `ScheduleState` is also, field by field, its row in the schedules view. It is folded from the schedule's own stream,
from the stream of its newest run, and from the events of its component. What a command causes says
`ledger.schedule_rules`; which slots are due, `ledger.slots`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from ledger import events as e
from ledger import schedule_events as s
from ledger.clock import to_us
from ledger.ids import TASK_PREFIX
from ledger.ledger_events import NoticeRaised
from ledger.schedule_commands import Definition

NONE, DECLARED, RETIRED = "none", "declared", "retired"
SCHEDULE_PREFIX = "schedule:"
LEDGER_STREAM = "ledger"
MOST_PENDING = 1_000
"""Missed slots that are run one after the other with ``misfire="all"``: the last so many."""
_DEFINED = tuple(Definition.__dataclass_fields__)


class ScheduleState(NamedTuple):
    """What decisions about a schedule rest on. Times are microseconds since 1970 (UTC); compound values are JSON."""

    name: str
    version: int = 0
    status: str = NONE
    app: str = ""
    """The application that declared it last."""
    task: str = ""
    component: str | None = None
    component_off: int = 0
    always: int = 0
    """1: it runs although its component is disabled."""
    declared: str = "{}"
    """The default: the `ScheduleDeclared` but for its envelope."""
    past: str = "[]"
    """Digests of the defaults that newer ones replaced."""
    custom: str | None = None
    """What was set by hand: fields, resolved, timezone, enabled, those that were."""
    override: str | None = None
    """What the configuration file says, and the pattern it stands under there."""
    fields: str = "[]"
    """The five fields in force, as written: override before custom before default."""
    resolved: str = "[]"
    timezone: str = "UTC"
    enabled: int = 1
    misfire: str = "one"
    decided_us: int = 0
    """Every slot up to here has been fired, recorded as missed, or is pending."""
    pending: str = "[]"
    """Missed slots that are still to be run one after the other."""
    asked_us: int | None = None
    """When a run as soon as possible was asked for that no worker has queued yet."""
    run_id: str | None = None
    """Task of the newest run."""
    run_version: int = 0
    run_slot_us: int | None = None
    run_queued_us: int | None = None
    run_ended_us: int | None = None
    """When the newest run ended; None while it is live."""
    success_us: int | None = None
    outcome: str | None = None
    """Of the newest attempt that has ended: succeeded, failed, lost, delayed or cancelled."""
    outcome_us: int | None = None
    failures: int = 0
    """Attempts in a row that failed or were lost."""
    counted_us: int = 0
    """Since when its slots count as they stand: it was declared, enabled or changed then."""
    noticed_us: int | None = None
    """When a notice said that it is overdue; None again after a success."""

    @property
    def is_live(self) -> bool:
        """Whether a run of it is waiting or running."""
        return self.run_id is not None and self.run_ended_us is None

    @property
    def is_active(self) -> bool:
        """Whether its slots are fired."""
        return self.status == DECLARED and bool(self.enabled) and not self.is_component_off

    @property
    def is_component_off(self) -> bool:
        """Whether it stands still because its component is disabled."""
        return bool(self.component_off and not self.always)


class Layer(NamedTuple):
    """The part of a schedule that can be changed beside the code."""

    fields: tuple[str, ...]
    resolved: tuple[str, ...]
    timezone: str
    enabled: bool


def schedule_stream(name: str) -> str:
    """Return the stream of the schedule with this name."""
    return SCHEDULE_PREFIX + name


def run_id(name: str, moment_us: int, salt: str = "") -> str:
    """Return the id of a run: a version 8 UUID of its time and a hash of schedule and slot (or of *salt*).

    Two workers that fire one slot give its run the same id.
    """
    digest = int.from_bytes(hashlib.sha256(f"{moment_us}:{name}:{salt}".encode()).digest()[:10], "big")
    high = ((moment_us // 1000) << 16) | 0x8000 | (digest >> 68)
    low = (0b10 << 62) | (digest & (2**62 - 1))
    digits = f"{high & (2**64 - 1):016x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_run_id(task_id: str) -> bool:
    """Return whether a task's id is one that only runs of schedules have: a version 8 UUID."""
    return len(task_id) == 36 and task_id[14] == "8"


def digest(declared: dict[str, Any]) -> str:
    """Return what tells one default from another: all of it but what was drawn or noted at its declaration.

    As in storage what is None is left out, so that a field of a newer version changes no older default.
    """
    compared = {key: value for key, value in declared.items() if key in _DEFINED and value is not None}
    return hashlib.sha256(orjson.dumps(compared, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@lru_cache(maxsize=16_384)
def loads(text: str) -> Any:
    """Return the value of one of the state's JSON fields; shared, so never to be changed."""
    return orjson.loads(text)


def dumps(value: Any) -> str:
    """Return a value as one of the state's JSON fields."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def default_of(state: ScheduleState) -> Layer:
    """Return the schedule as its code declares it."""
    declared = loads(state.declared)
    return Layer(
        tuple(declared.get("fields", ())),
        tuple(declared.get("resolved", ())),
        declared.get("timezone", "UTC"),
        bool(declared.get("enabled", True)),
    )


def in_force(state: ScheduleState) -> Layer:
    """Return the schedule as it is evaluated."""
    return Layer(tuple(loads(state.fields)), tuple(loads(state.resolved)), state.timezone, bool(state.enabled))


def definition_of(state: ScheduleState) -> Definition:
    """Return the default with all that a run needs."""
    declared = loads(state.declared)
    given = {key: declared[key] for key in _DEFINED if key in declared}
    return Definition(**{**given, "fields": tuple(given["fields"]), "labels": tuple(given.get("labels", ()))})


def evolve(state: ScheduleState, event: e.Event) -> ScheduleState:
    """Return the schedule as it is after *event*, of whatever stream. Never fails, whatever the order of events."""
    stream = event.originator_id
    if stream == SCHEDULE_PREFIX + state.name:
        return _own(state, event)._replace(version=event.originator_version)
    if state.run_id is not None and stream == TASK_PREFIX + state.run_id:
        return _run(state, event)
    if isinstance(event, s.ComponentDisabled | s.ComponentEnabled) and event.component == state.component:
        return _component(state, event)
    if isinstance(event, NoticeRaised) and event.about == SCHEDULE_PREFIX + state.name:
        return state._replace(noticed_us=to_us(event.at))
    return state


def advance(state: ScheduleState, event: e.Event, disabled: Collection[str]) -> ScheduleState:
    """Return the schedule after *event*, unless it has taken it in already; *disabled* are the components that are."""
    stream, version = event.originator_id, event.originator_version
    if stream == SCHEDULE_PREFIX + state.name:
        if version <= state.version:
            return state
    elif state.run_id is not None and stream == TASK_PREFIX + state.run_id and version <= state.run_version:
        return state
    after = evolve(state, event)
    if isinstance(event, s.ScheduleDeclared):
        after = after._replace(component_off=int(after.component in disabled))
    return after


def _component(state: ScheduleState, event: s.ComponentDisabled | s.ComponentEnabled) -> ScheduleState:
    if isinstance(event, s.ComponentDisabled):
        return state._replace(component_off=1, pending=state.pending if state.always else "[]")
    if not state.component_off:
        return state
    return state._replace(component_off=0, **({} if state.always else _from_now_on(state, event)))


def _from_now_on(state: ScheduleState, event: e.Event) -> dict[str, Any]:
    """Return the changes by which no slot up to the event is looked at any more. A clock set back moves nothing back."""
    at_us = to_us(event.at)
    return {"decided_us": max(state.decided_us, at_us), "pending": "[]", "counted_us": max(state.counted_us, at_us)}


def _own(state: ScheduleState, event: e.Event) -> ScheduleState:
    match event:
        case s.ScheduleDeclared():
            return _declared(state, event)
        case s.ScheduleCustomised() | s.ScheduleReset() | s.ScheduleEnabled() | s.ScheduleDisabled():
            return _settled(_layered(state, event), state, event)
        case s.ScheduleRetired():
            return state._replace(status=RETIRED, asked_us=None, **_from_now_on(state, event))
        case s.FailDelayCleared():
            return state._replace(failures=0)
        case s.RunRequested(task=str(task)):
            return state if task == state.run_id else _queued(state, task, None, event)
        case s.RunRequested():
            return state._replace(asked_us=to_us(event.at))
        case s.SlotFired():
            return _fired(state, event)
        case s.SlotsMissed():
            return _missed(state, event)
        case _:
            return state


def _declared(before: ScheduleState, event: s.ScheduleDeclared) -> ScheduleState:
    declared = {name: getattr(event, name) for name in (*_DEFINED, "resolved", "croniter")}
    past = loads(before.past)
    if before.status != NONE and (old := digest(loads(before.declared))) != digest(declared):
        past = [*(one for one in past if one != old), old]
    state = before._replace(
        status=DECLARED,
        app=event.app,
        task=event.task,
        component=event.component,
        component_off=before.component_off if before.component == event.component else 0,
        always=int(event.always),
        declared=dumps(declared),
        past=dumps(past),
        misfire=event.misfire,
    )
    if before.status != DECLARED:
        state = state._replace(**_from_now_on(before, event))
    return _settled(state, before, event)


def _layered(state: ScheduleState, event: e.Event) -> ScheduleState:
    custom = loads(state.custom) if state.custom else {}
    match event:
        case s.ScheduleCustomised(override=str()):
            return state._replace(override=dumps(_given(event)))
        case s.ScheduleCustomised():
            return state._replace(custom=dumps({**custom, **_given(event)}))
        case s.ScheduleReset(override=True):
            return state._replace(override=None)
        case s.ScheduleReset():
            return state._replace(custom=None)
        case _:
            # Enabled as the code has it and otherwise untouched is not customised.
            is_enabled = isinstance(event, s.ScheduleEnabled)
            custom = {key: value for key, value in custom.items() if key != "enabled"}
            if is_enabled != default_of(state).enabled:
                custom["enabled"] = is_enabled
            return state._replace(custom=dumps(custom) if custom else None)


def _given(event: s.ScheduleCustomised) -> dict[str, Any]:
    names = ("fields", "resolved", "timezone", "enabled", "override")
    return {name: value for name in names if (value := getattr(event, name)) is not None}


def _settled(state: ScheduleState, before: ScheduleState, event: e.Event) -> ScheduleState:
    """Return *state* with the values in force; where they change, slots count from now on."""
    force = default_of(state)._asdict()
    for layer in (state.custom, state.override):
        force.update({key: value for key, value in (loads(layer) if layer else {}).items() if key in Layer._fields})
    after = state._replace(
        fields=dumps(list(force["fields"])),
        resolved=dumps(list(force["resolved"])),
        timezone=force["timezone"],
        enabled=int(force["enabled"]),
    )
    if timing(after) != timing(before):
        after = after._replace(**_from_now_on(after, event))
    return after if after.enabled else after._replace(asked_us=None)


def timing(state: ScheduleState) -> tuple[Any, ...]:
    """Return what decides when it fires; where it changes, slots count from the change on."""
    return (state.resolved, state.timezone, state.enabled, state.status)


def _queued(state: ScheduleState, task: str, slot: datetime | None, event: e.Event) -> ScheduleState:
    return state._replace(
        run_id=task,
        run_version=0,
        run_slot_us=None if slot is None else to_us(slot),
        run_queued_us=to_us(event.at),
        run_ended_us=None,
        decided_us=max(state.decided_us, to_us(event.at)),
    )


def _fired(state: ScheduleState, event: s.SlotFired) -> ScheduleState:
    state = _queued(state, event.task, event.slot, event)
    if event.asked:
        return state._replace(asked_us=None)
    slot_us = to_us(event.slot)
    pending = loads(state.pending)
    return state._replace(pending=dumps([one for one in pending if one != slot_us])) if pending else state


def _missed(state: ScheduleState, event: s.SlotsMissed) -> ScheduleState:
    state = state._replace(decided_us=max(state.decided_us, to_us(event.at)))
    if not event.run_later:
        return state
    pending = [*loads(state.pending), *(to_us(datetime.fromisoformat(slot)) for slot in event.run_later)]
    return state._replace(pending=dumps(pending[-MOST_PENDING:]))


def _run(state: ScheduleState, event: e.Event) -> ScheduleState:
    """Return the schedule after an event of its newest run; an event that says nothing about it changes nothing."""
    at_us, version = to_us(event.at), event.originator_version
    changes: dict[str, Any]
    match event:
        case e.TaskSucceeded():
            changes = {"run_ended_us": at_us, "success_us": at_us, "outcome": "succeeded", "failures": 0}
            changes["noticed_us"] = None
        case e.TaskFailed() | e.AttemptLost():
            outcome = "failed" if isinstance(event, e.TaskFailed) else "lost"
            changes = {"outcome": outcome, "failures": state.failures + 1, **_ended(event)}
        case e.TaskDelayed():
            changes = {"outcome": "delayed", **_ended(event)}
        case e.TaskCancelled():
            changes = {"run_ended_us": at_us, "outcome": "cancelled"}
        case e.TaskRetried():
            return state._replace(run_version=version, run_ended_us=None)
        case _:
            return state
    return state._replace(run_version=version, outcome_us=at_us, **changes)


def _ended(event: e.TaskFailed | e.AttemptLost | e.TaskDelayed) -> dict[str, Any]:
    return {"run_ended_us": to_us(event.at)} if event.final else {}
