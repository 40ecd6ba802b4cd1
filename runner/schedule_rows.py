"""Put schedules into the words of the command line: what is listed of each, and when it runs next. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.clock import from_us, to_us
from ledger.cron import Fields
from ledger.cron_words import describe
from ledger.errors import InvalidSchedule
from ledger.hidden import masked
from ledger.schedule import RETIRED, ScheduleState, default_of, definition_of, in_force, loads
from ledger.schedules import coming
from ledger.task import RUNNING, WAITING
from ledger.zones import zone_named
from projections.schedules import LiveRun

LIST_COLUMNS = (
    "name",
    "component",
    "last_success",
    "last_outcome",
    "next_run",
    *Fields._fields,
    "timezone",
    "delay",
)


def row_of(state: ScheduleState, run: LiveRun | None, now: datetime) -> dict[str, Any]:
    """Return what `schedule list` tells of one schedule, as one JSON object."""
    force, default = in_force(state), default_of(state)
    at = next_at(state, run, now)
    fields = Fields(*force.fields)
    return {
        "name": state.name,
        "status": state.status,
        "app": state.app,
        "task": state.task,
        "component": state.component,
        "component_disabled": state.is_component_off,
        "enabled": force.enabled,
        "last_success": _moment(state.success_us),
        "last_outcome": state.outcome,
        "last_outcome_at": _moment(state.outcome_us),
        "next_run": next_run(state, run, now),
        "next_at": at,
        "next_local": None if at is None else _local(at, state.timezone),
        **fields._asdict(),
        "resolved": " ".join(force.resolved),
        "timezone": force.timezone,
        "default": {**Fields(*default.fields)._asdict(), "timezone": default.timezone, "enabled": default.enabled},
        "differs": _differs(state),
        "customised": state.custom is not None,
        "overridden": loads(state.override).get("override") if state.override else None,
        "failures": state.failures,
        "delay_seconds": delay_seconds(state, run),
        "run": None if run is None else {"task": run.task_id, "state": run.status, "due_at": from_us(run.due_us)},
    }


def details_of(state: ScheduleState, run: LiveRun | None, now: datetime) -> dict[str, Any]:
    """Return what `schedule show` tells: the row, the schedule in words, and how its runs are made."""
    definition = definition_of(state)
    options = {
        name: getattr(definition, name)
        for name in ("args", "queue", "priority", "run_as", "max_attempts", "timeout", "kill_after", "retry", "jitter")
    }
    options["args"] = masked(definition.args, definition.hidden)
    declared = loads(state.declared)
    return {
        **row_of(state, run, now),
        "in_words": in_words(state),
        "description": definition.description,
        "misfire": state.misfire,
        "always": bool(state.always),
        "pending": len(loads(state.pending)),
        "labels": list(definition.labels),
        "expires_seconds": None if definition.expires_us is None else definition.expires_us / 1e6,
        "concurrency_key": definition.concurrency_key,
        **options,
        "croniter": declared.get("croniter"),
        "version": state.version,
    }


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a listed row as a table shows it: fields that differ from the default with it, failures with their delay."""
    shown = dict(row)
    resolved = row["resolved"].split(" ")
    for index, field in enumerate(Fields._fields):
        text, default = row[field], row["default"][field]
        if len(resolved) == len(Fields._fields) and resolved[index] != text and text[:1] in ("R", "H"):
            text = f"{text}={resolved[index]}"
        shown[field] = f"{text} (default {default})" if field in row["differs"] else text
    if "timezone" in row["differs"]:
        shown["timezone"] = f"{row['timezone']} (default {row['default']['timezone']})"
    mark = " (overridden)" if row["overridden"] else " (customised)" if row["customised"] else ""
    shown["name"] = row["name"] + mark
    shown["delay"] = "" if row["delay_seconds"] is None else f"{row['delay_seconds']:g} s"
    return shown


def next_run(state: ScheduleState, run: LiveRun | None, now: datetime) -> str:
    """Return when it runs next, in words or as the time in its zone and in UTC."""
    if state.status == RETIRED:
        return "retired"
    if state.is_component_off:
        return "component disabled"
    if not state.enabled:
        return "disabled"
    at = next_at(state, run, now)
    if at is None:
        return "never" if _is_known(state.timezone) else f"time zone {state.timezone} is unknown here"
    if at <= now:
        return "as soon as possible"
    utc = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    return (
        utc if state.timezone == "UTC" else f"{at.astimezone(zone_named(state.timezone)):%Y-%m-%dT%H:%M:%S%z} ({utc})"
    )


def next_at(state: ScheduleState, run: LiveRun | None, now: datetime) -> datetime | None:
    """Return when the next run is due: that of a waiting run, else the next slot; None while nothing is fired."""
    if run is not None and run.status == WAITING:
        return from_us(run.due_us)
    try:
        return next(iter(coming(state, 1, now)), None)
    except InvalidSchedule:
        return None


def delay_seconds(state: ScheduleState, run: LiveRun | None) -> float | None:
    """Return the delay after the failures of a run that waits for its retry, else None."""
    if run is None or run.status != WAITING or not run.used or state.outcome_us is None:
        return None
    return round((run.due_us - state.outcome_us) / 1e6, 6)


def state_of(run: LiveRun | None, now: datetime) -> str:
    """Return what the live run does, in words."""
    if run is None:
        return "idle"
    if run.status == RUNNING:
        return "running"
    return "due" if run.due_us <= to_us(now) else "waiting for its retry" if run.used else "waiting"


def in_words(state: ScheduleState) -> str:
    """Return in English when it fires."""
    return f"{describe(Fields(*in_force(state).resolved))}, on the clock of {state.timezone}"


def _differs(state: ScheduleState) -> list[str]:
    force, default = in_force(state), default_of(state)
    found = [name for name, has, was in zip(Fields._fields, force.fields, default.fields, strict=True) if has != was]
    found += ["timezone"] if force.timezone != default.timezone else []
    return found + (["enabled"] if force.enabled != default.enabled else [])


def _is_known(timezone: str) -> bool:
    try:
        zone_named(timezone)
    except InvalidSchedule:
        return False
    return True


def _local(moment: datetime, timezone: str) -> str | None:
    return moment.astimezone(zone_named(timezone)).isoformat() if _is_known(timezone) else None


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
