"""Bring what an import found into the log: declared like the schedules of an application that has the file's name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ledger.api import Ledger
from ledger.declarations import Declaration, Registered, definition, register
from ledger.errors import InvalidInput, StorageUnavailable
from ledger.options import Options
from ledger.schedule import NONE
from ledger.schedule_acts import load_or_new
from ledger.store import Snapshot
from runner.imports.found import Entry, Found, Line
from runner.shell import SHELL_HIDES, SHELL_TASK

_NEWER = "a newer import replaced this one; --sync goes back to it"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an import would declare under the name *app*, and what is said of every line."""

    app: str
    declarations: tuple[Declaration, ...]
    lines: tuple[Line, ...]


def plan(snapshot: Snapshot | None, found: Found, *, app: str, timezone: str, task: str | None = None) -> Plan:
    """Return what of *found* can be declared; a schedule of the same name that is another app's stays as it is.

    Nothing is stored; *snapshot* is None where there is no ledger yet. See `declaration_of` for *timezone* and *task*.
    """
    declarations = []
    refused: dict[int, str] = {}
    for entry in found.entries:
        before = None if snapshot is None else load_or_new(snapshot, entry.name)
        if before is not None and before.status != NONE and before.app != app:
            refused[entry.line] = f"a schedule of this name was declared by {before.app or 'an app without a name'}"
            continue
        try:
            declarations.append(declaration_of(entry, timezone, task))
        except InvalidInput as error:
            refused[entry.line] = str(error)
    lines = (
        replace(line, taken=False, why=refused[line.line]) if line.taken and line.line in refused else line
        for line in found.lines
    )
    return Plan(app=app, declarations=tuple(declarations), lines=tuple(lines))


def dry_run(ledger: Ledger, found: Found, *, app: str, timezone: str, task: str | None = None) -> Plan:
    """Return the plan and store nothing; a ledger that does not exist is not made."""
    try:
        with ledger.store.read() as snapshot:
            return plan(snapshot, found, app=app, timezone=timezone, task=task)
    except StorageUnavailable:
        return plan(None, found, app=app, timezone=timezone, task=task)


def carry_out(
    ledger: Ledger,
    found: Found,
    *,
    app: str,
    timezone: str,
    task: str | None = None,
    is_sync: bool = False,
    actor: str | None = None,
    reason: str,
) -> tuple[Plan, Registered]:
    """Declare what can be declared, in one commit. What is as it was is left as it was: no event.

    With *is_sync*, schedules of the same app that are planned no longer are retired, and older defaults come back;
    not if nothing at all is planned, for such a file is more likely a wrong one.
    """
    with ledger.store.write() as unit:
        planned = plan(unit, found, app=app, timezone=timezone, task=task)
        act = ledger.act(unit, actor, reason)
        is_sync = is_sync and bool(planned.declarations)
        done = register(unit, planned.declarations, act, app=app, is_sync=is_sync)
    left = {name: _NEWER if "newer declaration" in why else why for name, why in (done.left_alone or {}).items()}
    return planned, replace(done, left_alone=left)


def change_of(name: str, done: Registered) -> str:
    """Return what became of one schedule that was taken: declared, updated, back, or unchanged."""
    kinds: Iterable[tuple[str, tuple[str, ...]]] = (
        ("declared", done.declared),
        ("updated", done.updated),
        ("back", done.back),
    )
    return next((kind for kind, names in kinds if name in names), "unchanged")


def declaration_of(entry: Entry, timezone: str, task: str | None = None) -> Declaration:
    """Return the declaration of one entry, checked; *timezone* is for one without.

    An entry with a command runs it by the shell's task, once, as cron does. Another runs the registered task of the
    schedule's own name, or *task* with that name as its argument ``name``.
    """
    options = Options(max_attempts=None)
    args: dict[str, Any] = {}
    if entry.command is not None:
        options = replace(options, retry=False)
        task, args = SHELL_TASK, {"command": entry.command.text}
        if entry.command.stdin is not None:
            args["stdin"] = entry.command.stdin
        args |= {"shell": entry.command.shell, "environment": entry.command.environment}
    elif task is not None:
        args = {"name": entry.name}
    if entry.run_as is not None:
        options = replace(options, run_as=entry.run_as)
    return Declaration(
        name=entry.name,
        definition=definition(
            name=entry.name,
            task=task or entry.name,
            fields=entry.fields,
            timezone=entry.timezone or timezone,
            options=options,
            enabled=entry.enabled,
            args=args,
            hidden=SHELL_HIDES if task == SHELL_TASK else (),
            component=entry.component,
            description=entry.description,
        ),
    )
