"""Carry out acts on the running of tasks inside one transaction: load, decide, append."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson

from ledger import control_events as ce
from ledger.commands import Act, next_envelope
from ledger.control_rules import (
    LimitState,
    ResetLimit,
    SetLimit,
    SwitchState,
    TurnOff,
    TurnOn,
    change,
    evolve_limit,
    evolve_switch,
    queue_stream,
    turn,
)
from ledger.limits import LIMIT_PREFIX, limit_stream
from ledger.schedule import LEDGER_STREAM
from ledger.schedule_acts import streams_named
from ledger.statements import statements
from ledger.store import Snapshot, Unit

SQL = statements("ledger", "sql/sqlite/controls.sql")


def queue_of(snapshot: Snapshot, queue: str) -> SwitchState:
    """Return whether the queue of this name is paused; any name may be that of a queue."""
    state, last = SwitchState(queue_stream(queue)), snapshot.last(queue_stream(queue))
    return state if last is None else evolve_switch(state, last)


def runners(snapshot: Snapshot) -> SwitchState:
    """Return whether the runners are disabled; the version is that of the ledger's stream."""
    topics = orjson.dumps([ce.RunnersDisabled.TOPIC, ce.RunnersEnabled.TOPIC]).decode()
    found = snapshot.rows(SQL["last_of_topics"], (LEDGER_STREAM, topics))
    state = SwitchState(LEDGER_STREAM)
    if found:
        state = evolve_switch(state, snapshot.decode(found[0]))
    last = snapshot.last(LEDGER_STREAM)
    return state._replace(version=last.originator_version if last else 0)


def switch(unit: Unit, state: SwitchState, command: TurnOff | TurnOn, act: Act) -> bool:
    """Turn a queue or the runners on or off; return False if they were so."""
    events = turn(state, command, act)
    unit.append(events)
    return bool(events)


def announce(unit: Unit, kind: type[ce.StopRequested | ce.CachesCleared], act: Act) -> int:
    """Append one of the calls that workers hear, and return its position."""
    [position] = unit.append([kind(**next_envelope(LEDGER_STREAM, unit.last(LEDGER_STREAM), act))])
    return position


def limit_of(snapshot: Snapshot, scope: str) -> LimitState:
    """Return what is said of one scope, folded from its stream."""
    state = LimitState(scope)
    for _, event in snapshot.stream(limit_stream(scope)):
        state = evolve_limit(state, event)
    return state


def limits(snapshot: Snapshot) -> list[LimitState]:
    """Return every scope of which something is said, in order."""
    states = (limit_of(snapshot, scope) for scope in streams_named(snapshot, LIMIT_PREFIX))
    return [state for state in states if state.in_force is not None]


def change_limit(unit: Unit, scope: str, command: SetLimit | ResetLimit, act: Act) -> tuple[LimitState, bool]:
    """Change what a source says of a scope; return the limit as it is then, and whether that is news.

    Raises:
        Conflict: It is said by hand while the configuration says something else.
    """
    state = limit_of(unit, scope)
    events = change(state, command, act)
    unit.append(events)
    for event in events:
        state = evolve_limit(state, event)
    return state, bool(events)


def register(
    unit: Unit,
    act: Act,
    *,
    app: str,
    code: Mapping[str, int | None],
    configuration: Mapping[str, int | None] | None = None,
) -> list[str]:
    """Bring the log to the limits of the code of *app* and of the configuration; return the scopes that changed.

    What either said before and says no more is reset. *configuration* is None where none is read.
    """
    of_code = replace(act, reason=act.reason or f"limits in the code of {app or 'an app without a name'}")
    of_file = replace(act, reason=act.reason or "limits of the configuration")
    changed = []
    for scope, most in code.items():
        if change_limit(unit, scope, SetLimit(source="code", most=most, app=app), of_code)[1]:
            changed.append(scope)
    for scope, most in (configuration or {}).items():
        if change_limit(unit, scope, SetLimit(source="configuration", most=most), of_file)[1]:
            changed.append(scope)
    for state in limits(unit):
        if state.code is not None and state.app == app and state.scope not in code:
            change_limit(unit, state.scope, ResetLimit(source="code"), of_code)
            changed.append(state.scope)
        if configuration is not None and state.configuration is not None and state.scope not in configuration:
            change_limit(unit, state.scope, ResetLimit(source="configuration"), of_file)
            changed.append(state.scope)
    return list(dict.fromkeys(changed))
