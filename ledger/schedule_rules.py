"""Decide which events a command on one schedule causes. Pure: state, command and act in, events out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ledger import schedule_commands as sc
from ledger import schedule_events as s
from ledger import slots
from ledger.clock import from_us, to_us
from ledger.commands import Act
from ledger.errors import Conflict
from ledger.events import Event
from ledger.schedule import (
    DECLARED,
    NONE,
    RETIRED,
    ScheduleState,
    default_of,
    digest,
    evolve,
    loads,
    run_id,
    schedule_stream,
    timing,
)
from ledger.task import RUNNING, WAITING

CHANGED = "the schedule was changed before a worker fired them"


def decide(state: ScheduleState, command: sc.ScheduleCommand, act: Act) -> list[Event]:
    """Return the events of the schedule's stream that *command* causes; an empty list when nothing is left to do.

    Raises:
        Conflict: The state does not allow the command; the message says what would.

        InvalidSchedule: Slots must be counted, and this machine does not know the time zone.
    """
    match command:
        case sc.Fire(away=away):
            return _fire(state, away, act)
        case sc.Pass(cause=cause):
            left = (*slots.passed(state, to_us(act.at), cause), *slots.given_up(state, cause))
            return _events(state, _missed_facts(left), act)
        case sc.Declare():
            return _declare(state, command, act)
        case sc.Retire():
            _require_declared(state, "retire")
            return _changed(state, [(s.ScheduleRetired, {})], act)
        case sc.Customise() | sc.Reset() | sc.Enable() | sc.Disable():
            return _change(state, command, act)
        case sc.ClearDelay(run=run):
            return _clear_delay(state, run, act)
        case sc.RunNow():
            return _run_now(state, command, act)
        case sc.RunSoon(run=run):
            return _run_soon(state, run, act)


Fact = tuple[type[Event], dict[str, Any]]


def _events(state: ScheduleState, facts: list[Fact], act: Act) -> list[Event]:
    envelope: dict[str, Any] = {"command": act.id, "at": act.at, "actor": act.actor, "reason": act.reason}
    stream = schedule_stream(state.name)
    return [
        cls(originator_id=stream, originator_version=version, **envelope, **values)
        for version, (cls, values) in enumerate(facts, state.version + 1)
    ]


def _missed_facts(missed: tuple[slots.Missed, ...]) -> list[Fact]:
    return [
        (
            s.SlotsMissed,
            {
                "first": from_us(one.first_us),
                "last": from_us(one.last_us),
                "count": one.number,
                "cause": one.cause,
                "run_later": [f"{from_us(slot):%Y-%m-%dT%H:%M:%SZ}" for slot in one.run_later_us],
            },
        )
        for one in missed
    ]


def _changed(state: ScheduleState, facts: list[Fact], act: Act) -> list[Event]:
    """Return *facts* as events, after those of the slots that a change of timing leaves behind."""
    after = state
    for event in _events(state, facts, act):
        after = evolve(after, event)
    if timing(after) != timing(state) and state.status == DECLARED:
        left = (*slots.passed(state, to_us(act.at), CHANGED), *slots.given_up(state, CHANGED))
        facts = [*_missed_facts(left), *facts]
    return _events(state, facts, act)


def _require_declared(state: ScheduleState, verb: str) -> None:
    if state.status == RETIRED:
        raise Conflict(f"schedule {state.name} is retired: its code is gone; {verb} is possible once it is declared")
    if state.status == NONE:
        raise Conflict(f"schedule {state.name} is not declared; {verb} is possible once it is")


def _fire(state: ScheduleState, away: str, act: Act) -> list[Event]:
    if not state.is_active or state.is_live:
        return []
    verdict = slots.judge(state, to_us(act.at), away)
    facts = _missed_facts(verdict.missed)
    if verdict.fire_us is not None:
        # A moment can be asked for twice, a slot is fired once.
        task = run_id(state.name, verdict.fire_us, f"asked {state.version}" if verdict.is_asked else "")
        facts.append((s.SlotFired, {"slot": from_us(verdict.fire_us), "task": task, "asked": verdict.is_asked}))
    return _events(state, facts, act)


def _declare(state: ScheduleState, command: sc.Declare, act: Act) -> list[Event]:
    definition = {item.name: getattr(command.definition, item.name) for item in fields(sc.Definition)}
    lists = {name: list(definition[name]) for name in ("fields", "labels")}
    values = {**definition, **lists, "app": command.app, "croniter": command.croniter}
    new, old = digest(values), digest(loads(state.declared))
    if state.status != NONE and not command.is_sync:
        if state.app != command.app:
            return []  # another application's: only somebody who asks for it takes it over
        if new != old and new in loads(state.past):
            return []  # an older worker in the midst of a deploy: it never goes back by itself
    if state.status == DECLARED and new == old and state.app == command.app:
        return []
    values["resolved"] = list(_kept(state, command))
    return _changed(state, [(s.ScheduleDeclared, values)], act)


def _kept(state: ScheduleState, command: sc.Declare) -> tuple[str, ...]:
    """Return the settled fields, those drawn before as they were: no deploy draws anew."""
    before = default_of(state)
    if state.status == NONE:
        return command.resolved
    pairs = zip(command.definition.fields, command.resolved, before.fields, before.resolved, strict=True)
    return tuple(old if text == was and "R" in text else drawn for text, drawn, was, old in pairs)


def _change(state: ScheduleState, command: sc.Customise | sc.Reset | sc.Enable | sc.Disable, act: Act) -> list[Event]:
    verb = {sc.Customise: "set", sc.Reset: "reset", sc.Enable: "enable", sc.Disable: "disable"}[type(command)]
    _require_declared(state, verb)
    is_from_file = isinstance(command, sc.Customise | sc.Reset) and bool(command.override)
    if state.override is not None and not is_from_file:
        pattern = loads(state.override).get("override")
        raise Conflict(
            f"schedule {state.name} is overridden by the configuration file (schedule_overrides, {pattern!r}); "
            f"{verb} is possible once it is not"
        )
    fact: Fact
    match command:
        case sc.Customise():
            fact = (s.ScheduleCustomised, {item.name: _listed(getattr(command, item.name)) for item in fields(command)})
        case sc.Reset():
            fact = (s.ScheduleReset, {"override": command.override})
        case sc.Enable():
            fact = (s.ScheduleEnabled, {})
        case sc.Disable():
            fact = (s.ScheduleDisabled, {})
    [event] = _events(state, [fact], act)
    after = evolve(state, event)
    if after._replace(version=state.version) == state:
        return []
    return _changed(state, [fact], act)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _clear_delay(state: ScheduleState, run: str | None, act: Act) -> list[Event]:
    if run == RUNNING:
        raise Conflict(f"schedule {state.name} is running (task {state.run_id}); clear-delay is for a waiting retry")
    if run != WAITING or not state.run_id:
        raise Conflict(f"schedule {state.name} has no run that waits for a retry")
    return _events(state, [(s.FailDelayCleared, {"task": state.run_id})], act)


def _run_now(state: ScheduleState, command: sc.RunNow, act: Act) -> list[Event]:
    _require_declared(state, "run-now")
    _require_component(state, "run-now")
    if command.run == RUNNING:
        raise Conflict(f"schedule {state.name} is running (task {state.run_id}); run-now is possible when it has ended")
    if command.run == WAITING:
        return _events(state, [(s.RunRequested, {"task": state.run_id})], act)
    left = slots.passed(state, to_us(act.at), "a run that was asked for took their place")
    return _events(state, [*_missed_facts(left), (s.RunRequested, {"task": command.task})], act)


def _run_soon(state: ScheduleState, run: str | None, act: Act) -> list[Event]:
    _require_declared(state, "run-asap")
    _require_component(state, "run-asap")
    if not state.enabled:
        raise Conflict(
            f"schedule {state.name} is disabled; run-asap is possible once it is enabled, run-now at any time"
        )
    if run is not None:
        raise Conflict(
            f"schedule {state.name} has a run that is {run} (task {state.run_id}); run-asap is for when it has none"
        )
    due_us = slots.next_us(state)
    if due_us is not None and due_us <= to_us(act.at):
        raise Conflict(f"schedule {state.name} is due already: the next worker that looks fires it")
    return _events(state, [(s.RunRequested, {})], act)


def _require_component(state: ScheduleState, verb: str) -> None:
    if state.is_component_off:
        raise Conflict(
            f"the component {state.component} of schedule {state.name} is disabled; "
            f"{verb} is possible once it is enabled, or if the schedule is declared always=True"
        )
