"""Carry out acts on schedules inside one transaction: load, decide, append, with the run and the key that go along."""

from __future__ import annotations

from collections.abc import Iterable

from ledger import acts, keys
from ledger import commands as c
from ledger import schedule_commands as sc
from ledger import schedule_events as s
from ledger.clock import from_us, to_us
from ledger.commands import Act, next_envelope
from ledger.errors import NotFound
from ledger.events import Event
from ledger.ids import TASK_PREFIX
from ledger.schedule import (
    LEDGER_STREAM,
    NONE,
    SCHEDULE_PREFIX,
    ScheduleState,
    advance,
    definition_of,
    evolve,
    run_id,
    schedule_stream,
)
from ledger.schedule_rules import decide
from ledger.slots import jitter_us
from ledger.statements import statements
from ledger.store import HOT_VIEWS, Recorded, Snapshot, Unit
from ledger.task import RUNNING, WAITING, TaskState
from ledger.task import decide as decide_task
from ledger.values import shown

SQL = statements("ledger", "sql/sqlite/schedules.sql")


def names(snapshot: Snapshot) -> list[str]:
    """Return the name of every schedule that ever was, in order."""
    return streams_named(snapshot, SCHEDULE_PREFIX)


def streams_named(snapshot: Snapshot, prefix: str) -> list[str]:
    """Return what follows *prefix* in the names of the streams that begin with it, in order."""
    beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = snapshot.rows(SQL["schedule_streams"], (prefix, beyond))
    return [row[0].removeprefix(prefix) for row in found]


def load(snapshot: Snapshot, name: str) -> ScheduleState:
    """Return the schedule: its row in the view, where there is one, and what the log has since.

    Raises:
        NotFound: The ledger has no such schedule.
    """
    state = load_or_new(snapshot, name)
    if state.status == NONE:
        raise NotFound(f"there is no schedule {shown(name)} in this ledger; `schedule list` shows those there are")
    return state


def load_or_new(snapshot: Snapshot, name: str) -> ScheduleState:
    """Return the schedule as `load` does, or a new one that nobody has declared."""
    rows = snapshot.rows(SQL["row"], (name,)) if _has_view(snapshot) else []
    state = ScheduleState._make(rows[0][1:]) if rows else ScheduleState(name)
    known = snapshot.checkpoint(HOT_VIEWS) if rows else 0
    own = snapshot.stream(schedule_stream(name), after=state.version)
    disabled = {row[0] for row in snapshot.rows(SQL["components_off"])} if rows else set()
    recorded = [*own, *_of_runs(snapshot, state, own), *_of_ledger(snapshot, known)]
    for position, event in sorted(recorded, key=lambda one: one.position):
        note_component(disabled, event)
        if position > known:
            state = advance(state, event, disabled)
    return state


def _has_view(snapshot: Snapshot) -> bool:
    return tuple(row[0] for row in snapshot.rows(SQL["view_columns"])) == ("next_us", *ScheduleState._fields)


def _of_ledger(snapshot: Snapshot, after: int) -> list[Recorded]:
    return [Recorded(raw[0], snapshot.decode(raw)) for raw in snapshot.rows(SQL["ledger_events"], (after,))]


def _of_runs(snapshot: Snapshot, state: ScheduleState, own: Iterable[Recorded]) -> list[Recorded]:
    after = {state.run_id: state.run_version} if state.run_id is not None else {}
    for _, event in own:
        if isinstance(event, s.SlotFired | s.RunRequested) and event.task is not None:
            after.setdefault(event.task, 0)
    return [one for task, version in after.items() for one in snapshot.stream(TASK_PREFIX + task, after=version)]


def note_component(disabled: set[str], event: Event) -> None:
    """Bring the set of disabled components to where it is after *event*."""
    if isinstance(event, s.ComponentDisabled):
        disabled.add(event.component)
    elif isinstance(event, s.ComponentEnabled):
        disabled.discard(event.component)


def disabled_components(snapshot: Snapshot) -> set[str]:
    """Return the components that are disabled."""
    has_view = _has_view(snapshot)
    disabled = {row[0] for row in snapshot.rows(SQL["components_off"])} if has_view else set()
    for _, event in _of_ledger(snapshot, snapshot.checkpoint(HOT_VIEWS) if has_view else 0):
        note_component(disabled, event)
    return disabled


def run_status(snapshot: Snapshot, state: ScheduleState) -> str | None:
    """Return ``waiting`` or ``running`` for a schedule with a live run, else None."""
    if not state.is_live or state.run_id is None:
        return None
    status = acts.load(snapshot, state.run_id).status
    return status if status in (WAITING, RUNNING) else None


def carry_out(unit: Unit, state: ScheduleState, command: sc.ScheduleCommand, act: Act) -> ScheduleState:
    """Decide *command*, append its events, and what they bring about: a run queued, moved or given up.

    Raises:
        Conflict: The state does not allow the command.
    """
    events = decide(state, command, act)
    after = state
    for event in events:
        after = evolve(after, event)
    unit.append([*events, *_new_run(unit, state, after, act)])
    match command:
        case sc.ClearDelay():
            _cancel_waiting(unit, state, act)
        case sc.RunNow(run=run) if run == WAITING and state.run_id is not None:
            _make_due(unit, state.run_id, act)
        case _ if state.is_active and not after.is_active:
            _cancel_waiting(unit, state, act)
    return after


def _cancel_waiting(unit: Unit, state: ScheduleState, act: Act) -> None:
    """Give up the waiting run of a schedule; a running one may finish."""
    if run_status(unit, state) == WAITING and state.run_id is not None:
        acts.act_on(unit, state.run_id, c.Cancel(), act)


def _make_due(unit: Unit, task_id: str, act: Act) -> None:
    if acts.load(unit, task_id).due_us > to_us(act.at):
        acts.act_on(unit, task_id, c.Reschedule(due_at=act.at), act)


def _new_run(unit: Unit, before: ScheduleState, after: ScheduleState, act: Act) -> list[Event]:
    """Return the events that queue the run *after* has and *before* has not, under the key of the schedule."""
    if after.run_id is None or after.run_id == before.run_id:
        return []
    stream = keys.key_stream(SCHEDULE_PREFIX + after.name, "run")
    reserved = keys.reserve(stream, unit.last(stream), after.run_id, after.name, act)
    [queued] = decide_task(TaskState(after.run_id), _request(before, after, stream, act), act)
    return [reserved, queued]


def _request(before: ScheduleState, after: ScheduleState, key_stream: str, act: Act) -> c.Queue:
    definition = definition_of(after)
    is_slot = after.run_slot_us is not None and after.run_slot_us != before.asked_us
    due_us = to_us(act.at)
    if is_slot and after.run_slot_us is not None:
        due_us = after.run_slot_us + jitter_us(after.name, after.run_slot_us, definition.jitter)
    return c.Queue(
        name=definition.task,
        args=definition.args,
        queue=definition.queue,
        priority=definition.priority,
        due_at=from_us(due_us),
        run_as=definition.run_as,
        retry=definition.retry,
        max_attempts=definition.max_attempts,
        timeout=definition.timeout,
        kill_after=definition.kill_after,
        unique_key=after.name,
        key_stream=key_stream,
        labels=list(definition.labels),
        expires_after_us=definition.expires_us,
        hidden=definition.hidden,
        concurrency_key=definition.concurrency_key,
        schedule=after.name,
        slot=from_us(after.run_slot_us) if is_slot and after.run_slot_us is not None else None,
    )


def set_component(unit: Unit, component: str, *, enabled: bool, act: Act) -> bool:
    """Enable or disable a component, and give up the waiting runs of one that is disabled; False if it was so before.

    What passed of its schedules until then is recorded. Components are known by the schedules that name them.

    Raises:
        NotFound: No schedule has this component.
    """
    members = [state for name in names(unit) if (state := load(unit, name)).component == component]
    if not members:
        raise NotFound(f"no schedule has the component {shown(component)}")
    if (component in disabled_components(unit)) is not enabled:
        return False
    if not enabled:
        for state in members:
            if not state.always:
                carry_out(unit, state, sc.Pass(cause="the component was disabled before a worker fired them"), act)
                _cancel_waiting(unit, state, act)
    cls = s.ComponentEnabled if enabled else s.ComponentDisabled
    unit.append([cls(**next_envelope(LEDGER_STREAM, unit.last(LEDGER_STREAM), act), component=component)])
    return True


def new_run_id(state: ScheduleState, act: Act) -> str:
    """Return the id of the run that *act* asks for: of its command, so that the same act makes no second one."""
    return run_id(state.name, to_us(act.at), act.id)
