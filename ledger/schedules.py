"""Offer the schedules of a ledger to Python code: `Ledger.schedules`, to look at them and to change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger import schedule_acts
from ledger import schedule_commands as sc
from ledger.clock import from_us, to_us
from ledger.cron import Fields, Rule
from ledger.declarations import Declaration, Registered, fields_of, keep_drawn, register, settle
from ledger.errors import Conflict, InvalidOption
from ledger.hidden import shown_state
from ledger.schedule import ScheduleState, default_of, definition_of, in_force, loads, schedule_stream
from ledger.schedule_history import Change, history_of
from ledger.slots import next_slot_us
from ledger.store import Unit
from ledger.values import check_name, check_reason, shown

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.commands import Act

MOST_FIRINGS = 10_000


class Schedules:
    """The schedules of one ledger. Every change has an actor and a reason, and is an event of the schedule's stream."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.declarations: dict[str, Declaration] = {}
        """What this process's code declares, by name; `sync` and the start of a worker bring it into the log."""
        self.is_locked: bool | None = None
        """Whether changes are refused; None: as the setting ``schedules_locked`` says."""

    def declare(self, declaration: Declaration) -> None:
        """Add a schedule to those that the code declares.

        Raises:
            InvalidOption: There is one of this name.
        """
        if declaration.name in self.declarations:
            raise InvalidOption(f"a schedule named {declaration.name!r} is declared already; give one of them name='…'")
        self.declarations[declaration.name] = declaration

    def names(self) -> list[str]:
        """Return the name of every schedule that ever was."""
        with self._ledger.store.read() as snapshot:
            return schedule_acts.names(snapshot)

    def get(self, name: str) -> ScheduleState:
        """Return the schedule as the log has it now; hidden arguments are shown as hidden.

        Raises:
            NotFound: There is none of this name.
        """
        with self._ledger.store.read() as snapshot:
            return shown_state(schedule_acts.load(snapshot, name))

    def history(self, name: str) -> list[Change]:
        """Return who changed what of the schedule, when, why, from what to what, and what was fired and missed.

        Raises:
            NotFound: There is none of this name.
        """
        with self._ledger.store.read() as snapshot:
            schedule_acts.load(snapshot, name)
            return history_of(name, snapshot.stream(schedule_stream(name)))

    def next(self, name: str, n: int = 10) -> list[datetime]:
        """Return the next *n* slots that will be fired as things stand, in UTC; none while it is disabled.

        Raises:
            NotFound: There is none of this name.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_FIRINGS:
            raise InvalidOption(f"n is {shown(n)}; allowed is a whole number from 1 to {MOST_FIRINGS:,}")
        state = self.get(name)
        return coming(state, n, self._ledger.clock.now())

    def sync(
        self,
        *,
        app: str | None = None,
        timezone: str = "UTC",
        overrides: Mapping[str, Any] | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Registered:
        """Bring the log to what the code declares: new, changed, gone and older ones.

        *app* names the code; by default it is the ledger's name.
        """
        return self._register(True, app, timezone, overrides, actor, reason)

    def register(
        self,
        *,
        app: str | None = None,
        timezone: str = "UTC",
        overrides: Mapping[str, Any] | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Registered:
        """Bring the log to what the code declares as a worker does: nothing is retired, nothing goes back."""
        return self._register(False, app, timezone, overrides, actor, reason)

    def _register(
        self,
        is_sync: bool,
        app: str | None,
        timezone: str,
        overrides: Mapping[str, Any] | None,
        actor: str | None,
        reason: str | None,
    ) -> Registered:
        with self._ledger.store.write() as unit:
            return register(
                unit,
                self.declarations.values(),
                self._ledger.act(unit, actor, reason),
                app=self._ledger.name if app is None else app,
                timezone=timezone,
                is_sync=is_sync,
                overrides=overrides,
            )

    def set(
        self,
        name: str,
        expression: str | None = None,
        /,
        *,
        minute: str | None = None,
        hour: str | None = None,
        day: str | None = None,
        month: str | None = None,
        dayofweek: str | None = None,
        timezone: str | None = None,
        enabled: bool | None = None,
        reason: str,
        actor: str | None = None,
    ) -> ScheduleState:
        """Customise the schedule: all fields by an expression or some by name, its time zone, whether it is enabled.

        Raises:
            NotFound: There is none of this name.

            InvalidSchedule: A field or the time zone is not allowed, or it would never fire.

            Conflict: It is retired or overridden, or changes are locked.
        """
        given = {"minute": minute, "hour": hour, "day": day, "month": month, "dayofweek": dayofweek}
        if enabled is not None and not isinstance(enabled, bool):
            raise InvalidOption(f"enabled is {shown(enabled)}; allowed is True or False")
        if all(value is None for value in (expression, timezone, enabled, *given.values())):
            raise InvalidOption("set needs something to set: an expression, fields, timezone or enabled")

        def command(state: ScheduleState) -> sc.Customise:
            return customise(state, expression, given, timezone, enabled)

        return self._change(name, "set", command, reason, actor)

    def reset(self, name: str, *, reason: str, actor: str | None = None) -> ScheduleState:
        """Return the schedule to the default of its code.

        Raises:
            NotFound: There is none of this name.

            Conflict: It is retired or overridden, or changes are locked.
        """
        return self._change(name, "reset", lambda _: sc.Reset(), reason, actor)

    def enable(self, name: str, *, reason: str, actor: str | None = None) -> ScheduleState:
        """Fire the slots of the schedule from now on; see `reset` for the errors."""
        return self._change(name, "enable", lambda _: sc.Enable(), reason, actor)

    def disable(self, name: str, *, reason: str, actor: str | None = None) -> ScheduleState:
        """Fire no slot until it is enabled, and give up a run that waits; a running one may finish. See `reset`."""
        return self._change(name, "disable", lambda _: sc.Disable(), reason, actor)

    def clear_delay(self, name: str, *, reason: str, actor: str | None = None) -> ScheduleState:
        """Give up the run that waits for its retry: the schedule goes on with its next slot.

        Raises:
            NotFound: There is none of this name.

            Conflict: No run of it waits.
        """
        return self._ask(name, "clear-delay", lambda state, run, _: sc.ClearDelay(run=run), reason, actor)

    def run_now(self, name: str, *, reason: str, actor: str | None = None) -> ScheduleState:
        """Queue a run at once, also of a disabled schedule, or make the run that waits due now.

        Raises:
            NotFound: There is none of this name.

            Conflict: A run is running, it is retired, or its component is disabled.

            IdentityNotFound: It runs as somebody who does not exist or is not active.
        """
        self._ledger.principals.check(definition_of(self.get(name)).run_as)
        return self._ask(name, "run-now", _run_now, reason, actor)

    def run_asap(self, name: str, *, reason: str, actor: str | None = None) -> ScheduleState:
        """Let the next worker that looks fire the schedule.

        Raises:
            NotFound: There is none of this name.

            Conflict: It is disabled or due already, or a run of it is live.
        """
        return self._ask(name, "run-asap", lambda state, run, _: sc.RunSoon(run=run), reason, actor)

    def disable_component(self, component: str, *, reason: str, actor: str | None = None) -> bool:
        """Fire no schedule of the component but those declared ``always=True``; False if it was disabled.

        Raises:
            NotFound: No schedule has this component.
        """
        return self._component(component, reason, actor, enabled=False)

    def enable_component(self, component: str, *, reason: str, actor: str | None = None) -> bool:
        """Fire the schedules of the component from now on; False if it was enabled. See `disable_component`."""
        return self._component(component, reason, actor, enabled=True)

    def disabled_components(self) -> frozenset[str]:
        """Return the components that are disabled."""
        with self._ledger.store.read() as snapshot:
            return frozenset(schedule_acts.disabled_components(snapshot))

    def _component(self, component: str, reason: str, actor: str | None, *, enabled: bool) -> bool:
        verb = f"component {'enable' if enabled else 'disable'}"
        _require_reason(reason, verb)
        self._refuse_if_locked(verb)
        check_name(component, "component")
        with self._ledger.store.write() as unit:
            act = self._ledger.act(unit, actor, reason)
            return schedule_acts.set_component(unit, component, enabled=enabled, act=act)

    def _change(
        self,
        name: str,
        verb: str,
        command: Callable[[ScheduleState], sc.ScheduleCommand],
        reason: str,
        actor: str | None,
    ) -> ScheduleState:
        self._refuse_if_locked(verb)
        return self._ask(name, verb, lambda state, _run, _act: command(state), reason, actor)

    def _ask(
        self,
        name: str,
        verb: str,
        command: Callable[[ScheduleState, str | None, Act], sc.ScheduleCommand],
        reason: str,
        actor: str | None,
    ) -> ScheduleState:
        _require_reason(reason, verb)
        with self._ledger.store.write() as unit:
            act = self._ledger.act(unit, actor, reason)
            return _carry_out(unit, name, command, act)

    def _refuse_if_locked(self, verb: str) -> None:
        locked = self.is_locked
        if locked is None:
            from ledger.settings import load  # its libraries take longer to import than all of the ledger

            locked = load().schedules_locked
        if locked:
            raise Conflict(f"the schedules of this installation are locked (setting schedules_locked); no {verb}")


def _carry_out(
    unit: Unit, name: str, command: Callable[[ScheduleState, str | None, Act], sc.ScheduleCommand], act: Act
) -> ScheduleState:
    state = schedule_acts.load(unit, name)
    run = schedule_acts.run_status(unit, state)
    return schedule_acts.carry_out(unit, state, command(state, run, act), act)


def _run_now(state: ScheduleState, run: str | None, act: Act) -> sc.RunNow:
    return sc.RunNow(task=schedule_acts.new_run_id(state, act), run=run)


def customise(
    state: ScheduleState,
    expression: str | None,
    given: Mapping[str, str | None],
    timezone: str | None,
    enabled: bool | None,
) -> sc.Customise:
    """Return the command that sets what is given over what is in force.

    Raises:
        InvalidSchedule: A field or the time zone is not allowed, or it would never fire.
    """
    force = in_force(state)
    if expression is None and all(value is None for value in given.values()):
        if timezone is not None:
            Rule(Fields(*force.resolved), timezone)
        return sc.Customise(timezone=timezone, enabled=enabled)
    fields = fields_of(expression, given, Fields(*force.fields))
    resolved = settle(fields, state.name, timezone or force.timezone)
    for before in (default_of(state)._asdict(), loads(state.custom) if state.custom else {}):
        resolved = keep_drawn(fields, resolved, before)
    return sc.Customise(fields=fields, resolved=resolved, timezone=timezone or force.timezone, enabled=enabled)


def coming(state: ScheduleState, n: int, now: datetime) -> list[datetime]:
    """Return the next *n* slots of a schedule as things stand, in UTC. A live run ends now, as far as can be known."""
    if not state.is_active:
        return []
    if state.is_live:
        state = state._replace(run_ended_us=to_us(now))
    first_us = next_slot_us(state)
    if first_us is None:
        return []
    slots = [from_us(first_us)]
    if n > 1:
        rule = Rule(Fields(*in_force(state).resolved), state.timezone)
        for slot in rule.firings(max(slots[0], now)):
            slots.append(slot)
            if len(slots) >= n:
                break
    return slots


def _require_reason(reason: str, verb: str) -> None:
    if check_reason(reason) is None:
        raise InvalidOption(f"{verb} needs a reason, which is kept in the log")
