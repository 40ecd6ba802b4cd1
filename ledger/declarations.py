"""Turn what ``@ledger.schedule`` is given into a checked definition, and register definitions with the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from random import SystemRandom
from typing import Any

from ledger import schedule_acts
from ledger import schedule_commands as sc
from ledger.commands import Act
from ledger.cron import Fields, Rule, parse_expression, resolve
from ledger.errors import InvalidOption, InvalidSchedule
from ledger.options import Options
from ledger.renames import carry_over
from ledger.retry import Retry
from ledger.schedule import DECLARED, NONE, ScheduleState, digest, in_force, loads
from ledger.schedule_commands import Definition
from ledger.store import Unit
from ledger.values import check_name, copy_json, is_number, matches, shown

MISFIRES = ("one", "skip", "all")
MAX_JITTER_SECONDS = 86_400
MAX_DESCRIPTION = 1_000
NO_RETRY = Retry(first=0, factor=1, cap=0).stored()
_random = SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A schedule as code declares it; *definition* has an empty time zone where the installation's is meant."""

    name: str
    definition: Definition
    aliases: tuple[str, ...] = ()
    """Older names of its task, and so of the schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What a registration changed, by name, and what it left alone although the code says otherwise."""

    declared: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    """Those whose override by the configuration file is new or gone."""
    left_alone: Mapping[str, str] | None = None


def fields_of(expression: str | None, given: Mapping[str, str | None], base: Fields | None = None) -> Fields:
    """Return the fields of an expression, or those *given* by name over *base* (by default each ``*``).

    Raises:
        InvalidSchedule: Both are given, or the expression has not five fields.
    """
    named = {name: value for name, value in given.items() if value is not None}
    if expression is not None:
        if named:
            raise InvalidSchedule(f"an expression and the field {next(iter(named))} exclude each other")
        return parse_expression(expression)
    for name, value in named.items():
        if not isinstance(value, str):
            raise InvalidSchedule(f"{name} is of type {type(value).__qualname__}; it must be text, such as '*/5'")
    return (base or Fields())._replace(**named)


def settle(fields: Fields, name: str, timezone: str) -> Fields:
    """Return *fields* with R and H settled, R anew, checked as a whole.

    Raises:
        InvalidSchedule: A field or the time zone is not allowed, or no day has all the fields.
    """
    resolved = resolve(fields, name, _random.randint)
    Rule(resolved, timezone)
    return resolved


def definition(
    *,
    name: str,
    task: str,
    fields: Fields,
    timezone: str | None,
    options: Options,
    enabled: bool = True,
    args: Mapping[str, Any] | None = None,
    jitter: float = 0.0,
    misfire: str = "one",
    component: str | None = None,
    always: bool = False,
    description: str | None = None,
    hidden: Sequence[str] = (),
) -> Definition:
    """Return a checked definition; *options* are those of its runs, *hidden* names arguments to hide.

    Raises:
        InvalidSchedule: A field or the time zone is not allowed, or it would never fire.

        InvalidOption: Another value is outside what is allowed.
    """
    check_name(name, "schedule name")
    settle(fields, name, "UTC" if timezone is None else timezone)
    _check_options(enabled=enabled, always=always, jitter=jitter, misfire=misfire, component=component)
    copy_json(dict(args or {}), f"the arguments of schedule {name}")
    return Definition(
        task=task,
        fields=tuple(fields),
        timezone=timezone or "",
        enabled=enabled,
        args=dict(args or {}),
        hidden=list(hidden) or None,
        jitter=float(jitter),
        misfire=misfire,
        component=component,
        always=always,
        description=description[:MAX_DESCRIPTION] if description else None,
        **_of_runs(options),
    )


def _of_runs(options: Options) -> dict[str, Any]:
    return {
        "retry": NO_RETRY if options.retry is False else options.retry.stored(),
        "queue": options.queue,
        "priority": options.priority,
        "run_as": options.run_as,
        "max_attempts": options.attempts,
        "timeout": options.timeout,
        "kill_after": options.kill_after,
        "labels": options.labels,
        "expires_us": _after_us(options.expires),
        "concurrency_key": options.concurrency_key,
    }


def _after_us(expires: datetime | timedelta | None) -> int | None:
    if isinstance(expires, datetime):
        raise InvalidOption(
            f"expires is {expires}; for the runs of a schedule it is a timedelta from when they are due"
        )
    return None if expires is None else expires // timedelta(microseconds=1)


def _check_options(*, enabled: object, always: object, jitter: object, misfire: object, component: object) -> None:
    for flag, value in (("enabled", enabled), ("always", always)):
        if not isinstance(value, bool):
            raise InvalidOption(f"{flag} is {shown(value)}; allowed is True or False")
    if not is_number(jitter) or not 0 <= jitter <= MAX_JITTER_SECONDS:
        raise InvalidOption(f"jitter is {shown(jitter)}; allowed is a number of seconds, 0 to {MAX_JITTER_SECONDS}")
    if misfire not in MISFIRES:
        raise InvalidOption(f"misfire is {shown(misfire)}; allowed is {' or '.join(map(repr, MISFIRES))}")
    if component is not None:
        check_name(component, "component")


def register(
    unit: Unit,
    declarations: Iterable[Declaration],
    act: Act,
    *,
    app: str,
    timezone: str = "UTC",
    is_sync: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Registered:
    """Bring the log to what the code of *app* declares: new, changed, and with *is_sync* gone and older ones.

    *timezone* is that of declarations without one. *overrides* are those of the configuration file, None where no
    such file is read.

    Raises:
        InvalidSchedule: A time zone is unknown on this machine, or an override cannot be used.
    """
    changed: dict[str, list[str]] = {kind: [] for kind in ("declared", "updated", "retired", "back", "overridden")}
    left_alone: dict[str, str] = {}
    wanted = {one.name: one for one in declarations}
    for name, declaration in wanted.items():
        before = schedule_acts.load_or_new(unit, name)
        after = _declare(unit, before, declaration, act, app=app, timezone=timezone, is_sync=is_sync)
        if after.version != before.version:
            changed[{"none": "declared", "retired": "back"}.get(before.status, "updated")].append(name)
        is_new = before.status == NONE
        changed["retired"] += carry_over(unit, after, declaration.aliases, act, app=app, is_new=is_new, declared=wanted)
        if why := _why_left(after, declaration, app, timezone):
            left_alone[name] = why
    if is_sync:
        for name in schedule_acts.names(unit):
            if name not in wanted and (state := schedule_acts.load(unit, name)).app == app and state.status == DECLARED:
                schedule_acts.carry_out(
                    unit, state, sc.Retire(), replace(act, reason=act.reason or "no longer declared")
                )
                changed["retired"].append(name)
    if overrides is not None:
        changed["overridden"] += apply_overrides(unit, overrides, act)
    return Registered(**{kind: tuple(names) for kind, names in changed.items()}, left_alone=left_alone)


def _declare(
    unit: Unit, before: ScheduleState, declaration: Declaration, act: Act, *, app: str, timezone: str, is_sync: bool
) -> ScheduleState:
    wanted = _in_zone(declaration, timezone)
    resolved = settle(Fields(*wanted.fields), declaration.name, wanted.timezone)
    command = sc.Declare(
        app=app, definition=wanted, resolved=tuple(resolved), croniter=version("croniter"), is_sync=is_sync
    )
    return schedule_acts.carry_out(unit, before, command, act)


def _in_zone(declaration: Declaration, timezone: str) -> Definition:
    return replace(declaration.definition, timezone=declaration.definition.timezone or timezone)


def _why_left(state: ScheduleState, declaration: Declaration, app: str, timezone: str) -> str | None:
    """Return why the schedule in the log is not as the code declares it, or None."""
    wanted = _in_zone(declaration, timezone)
    if state.app != app:
        return f"it was declared last by {state.app or 'an app without a name'}; `schedule sync` takes it over"
    values = {name: getattr(wanted, name) for name in Definition.__dataclass_fields__}
    values |= {name: list(values[name]) for name in ("fields", "labels")}
    if digest(loads(state.declared)) != digest(values):
        return "a newer declaration replaced this one; `schedule sync` goes back to it"
    force = in_force(state)
    if (force.fields, force.timezone, force.enabled) != (wanted.fields, wanted.timezone, wanted.enabled):
        return "it is overridden" if state.override else "it is customised; `schedule reset` returns to the code"
    return None


def apply_overrides(unit: Unit, overrides: Mapping[str, Any], act: Act) -> list[str]:
    """Record for every schedule what the configuration file says of it now; return the names of those it changed.

    Raises:
        InvalidSchedule: An override cannot be used.
    """
    changed = []
    for name in schedule_acts.names(unit):
        state = schedule_acts.load(unit, name)
        command = override_of(name, overrides, state) if state.status == DECLARED else None
        if command is None and state.override is None:
            continue
        reason = act.reason or "schedule_overrides of the configuration file"
        after = schedule_acts.carry_out(unit, state, command or sc.Reset(override=True), replace(act, reason=reason))
        if after.version != state.version:
            changed.append(name)
    return changed


def override_of(name: str, overrides: Mapping[str, Any], state: ScheduleState) -> sc.Customise | None:
    """Return what the configuration file says of the schedule: by its exact name, else by the first wildcard.

    In a wildcard ``*`` stands for anything, also for nothing.

    Raises:
        InvalidSchedule: It cannot be used.
    """
    pattern = name if name in overrides else next((one for one in overrides if matches(one, name)), None)
    if pattern is None:
        return None
    given = overrides[pattern]
    if not isinstance(given, Mapping):
        given = {"schedule": given}
    unknown = given.keys() - {"schedule", "timezone", "enabled"}
    if unknown:
        raise InvalidSchedule(
            f"schedule_overrides {pattern!r} has {sorted(unknown)}; allowed: schedule, timezone, enabled"
        )
    return _override(name, pattern, given, state)


def _override(name: str, pattern: str, given: Mapping[str, Any], state: ScheduleState) -> sc.Customise:
    enabled = given.get("enabled")
    if enabled is not None and not isinstance(enabled, bool):
        raise InvalidSchedule(f"schedule_overrides {pattern!r}: enabled is {shown(enabled)}; allowed is true or false")
    timezone, expression = given.get("timezone"), given.get("schedule")
    before = loads(state.override) if state.override else {}
    fields = resolved = None
    try:
        if expression is not None:
            fields = parse_expression(expression)
            resolved = keep_drawn(fields, settle(fields, name, timezone or state.timezone), before)
        elif timezone is not None:
            Rule(Fields(*loads(state.resolved)), timezone)
    except InvalidSchedule as error:
        raise InvalidSchedule(f"schedule_overrides {pattern!r}: {error}") from error
    return sc.Customise(fields=fields, resolved=resolved, timezone=timezone, enabled=enabled, override=pattern)


def keep_drawn(fields: Fields, resolved: Fields, before: Mapping[str, Any]) -> Fields:
    """Return *resolved* with what was drawn *before* (a layer of the schedule) for the same R as it was."""
    was, old = before.get("fields"), before.get("resolved")
    if not was or not old:
        return resolved
    rows = zip(fields, resolved, was, old, strict=True)
    return Fields(*(kept if text == earlier and "R" in text else drawn for text, drawn, earlier, kept in rows))
