"""Offer the commands that take over the schedules of other programs, and say of every line what became of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.declarations import Registered
from ledger.errors import InvalidInput, InvalidOption
from ledger.values import check_name, counted
from ledger.zones import zone_named
from runner.imports import crontab as crontab_file
from runner.imports import moodle as moodle_file
from runner.imports.declare import Plan, carry_out, change_of, dry_run
from runner.imports.found import Found
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_list, to_json
from runner.session import Session

LARGEST_FILE = 16 * 1024 * 1024

imports = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Take over the schedules of other programs.")

File = Annotated[str, typer.Argument(metavar="FILE", help="The file, - for the standard input.")]
Source = Annotated[
    str | None, typer.Option(help="The name under which its schedules are declared; by default the file's own.")
]
Zone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="AREA/CITY", help="Where the file names none; by default the setting."),
]
Sync = Annotated[
    bool,
    typer.Option("--sync", help="Also retire what the file no longer has, and go back to what a newer one changed."),
]
Dry = Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why; kept in the log.")]


@imports.command("moodle")
def moodle(
    context: typer.Context,
    file: File,
    source: Source = None,
    timezone: Zone = None,
    task: Annotated[
        str | None, typer.Option(help="Run this task with the argument name, not one task for each schedule.")
    ] = None,
    sync: Sync = False,
    dry: Dry = False,
    reason: Why = None,
    output: Form = Output.table,
) -> None:
    """Declare the scheduled tasks of a Moodle installation, given as JSON; a second time nothing changes.

    Example: workledger import moodle tasks.json --task run_moodle_task --timezone Australia/Perth
    """
    found = moodle_file.read(_read(file))
    if task is not None:
        check_name(task, "--task")
    _Import(
        session=context.obj,
        kind="moodle",
        file=file,
        source=source,
        timezone=timezone,
        task=task,
        is_sync=sync,
        is_dry_run=dry,
        reason=reason,
        output=output,
    ).run(found)


@imports.command("crontab")
def crontab(
    context: typer.Context,
    file: File,
    system: Annotated[bool, typer.Option("--system", help="Each entry has a user before its command.")] = False,
    allow_shell: Annotated[
        bool, typer.Option("--allow-shell", help="Let its commands be run, by workers that have this option too.")
    ] = False,
    prefix: Annotated[str, typer.Option(help="Begins the schedules' names.")] = "cron",
    source: Source = None,
    timezone: Zone = None,
    sync: Sync = False,
    dry: Dry = False,
    reason: Why = None,
    output: Form = Output.table,
) -> None:
    """Declare the entries of a crontab, whose commands a shell runs; a second time nothing changes.

    Example: workledger import crontab /etc/crontab --system --allow-shell --timezone Europe/Berlin
    """
    if not allow_shell and not dry:
        raise InvalidOption(
            "the entries of a crontab are commands for a shell: give --allow-shell to take them, and again to `run` "
            "on the workers that shall run them, or --dry-run to see what would be taken"
        )
    found = crontab_file.read(_read(file), system=system, prefix=check_name(prefix, "--prefix", 40))
    _Import(
        session=context.obj,
        kind="crontab",
        file=file,
        source=source,
        timezone=timezone,
        is_sync=sync,
        is_dry_run=dry,
        reason=reason,
        output=output,
    ).run(found)


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read(LARGEST_FILE + 1) if file == "-" else _bytes(Path(file))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise InvalidInput(f"{file} is larger than {LARGEST_FILE // 1024 // 1024} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 text: {error}") from error


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(LARGEST_FILE + 1)


@dataclass(frozen=True, kw_only=True)
class _Import:
    """What both commands have in common."""

    session: Session
    kind: str
    file: str
    source: str | None
    timezone: str | None
    task: str | None = None
    is_sync: bool
    is_dry_run: bool
    reason: str | None
    output: Output

    def run(self, found: Found) -> None:
        """Declare what was *found* unless it is only to be shown, and print what became of each line.

        Raises:
            InvalidInput: Nothing of the file can be taken; nothing was stored.
        """
        name = self.source or ("stdin" if self.file == "-" else Path(self.file).name)
        app = check_name(f"{self.kind}:{name}", "--source")
        timezone = zone_named(self.timezone or self.session.settings.timezone).key
        ledger = self.session.ledger()
        if self.is_dry_run or not found.entries:
            planned, done = dry_run(ledger, found, app=app, timezone=timezone, task=self.task), Registered()
        else:
            planned, done = carry_out(
                ledger,
                found,
                app=app,
                timezone=timezone,
                task=self.task,
                is_sync=self.is_sync,
                actor=self.session.actor,
                reason=self.reason or f"import of {name}",
            )
        self._print(planned, done)
        if not planned.declarations:
            raise InvalidInput(f"nothing of {clean(self.file)} can be taken")

    def _print(self, planned: Plan, done: Registered) -> None:
        left = done.left_alone or {}
        rows: list[dict[str, Any]] = []
        for line in planned.lines:
            name = line.what if line.schedule and line.taken else None
            change = "" if name is None or self.is_dry_run else change_of(name, done)
            why = "; ".join(filter(None, (line.why, left.get(name, "") if name else "")))
            rows.append({"line": line.line, "taken": line.taken, "what": line.what, "change": change, "why": why})
        if self.output is Output.json:
            print_line(to_json({"app": planned.app, "lines": rows, "retired": list(done.retired)}, indent=True))
            return
        if self.output is Output.jsonl:
            print_list(rows, (), self.output, "")
            return
        for row in rows:
            became = (row["change"] or "taken") if row["taken"] else "not taken"
            why = f" ({row['why']})" if row["why"] else ""
            print_line(clean(f"line {row['line']}: {became}: {row['what']}{why}"))
        retired = f", retired: {', '.join(done.retired)}" if done.retired else ""
        print_line(clean(f"{planned.app}: {counted(len(planned.declarations), 'schedule')}{retired}"))
