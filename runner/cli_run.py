"""Offer the commands that run work: the workers of an application, and the demonstration."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from ledger.errors import InvalidOption
from ledger.settings import Settings
from runner import completion
from runner.session import Session


class LogFormat(StrEnum):
    """The forms of the workers' own logs."""

    console = "console"
    json = "json"


def run(
    context: typer.Context,
    workers: Annotated[int | None, typer.Option(help="Worker processes; 1 by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; 4 by default.")] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUEUE", help="Only this queue; may be given several times.", autocompletion=completion.queues
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after one claim's worth.")] = False,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is due or running.")] = False,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="End after so many tasks.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.0, help="End after so many seconds.")] = None,
    max_tasks_per_worker: Annotated[int | None, typer.Option(help="Replace a worker after so many tasks.")] = None,
    max_memory_per_worker: Annotated[
        int | None, typer.Option(metavar="MIB", help="Replace one that takes more.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the workers in events.")] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Form of the workers' own logs.")] = None,
    allow_shell: Annotated[
        bool, typer.Option("--allow-shell", help="Also run the commands of imported crontabs.")
    ] = False,
    code_version: Annotated[
        str | None, typer.Option(help="Version of the app's code; by default its git revision or package version.")
    ] = None,
) -> None:
    """Work the queue until a signal stops it; exit 1 if an attempt of its own raised.

    Example: workledger --app tasks:ledger run --workers 2 --drain
    """
    if once and drain:
        raise InvalidOption("--once and --drain exclude each other")
    given = {"workers": workers, "threads": threads, "queues": queue or None, "name": name, "log_format": log_format}
    given |= {"max_tasks_per_worker": max_tasks_per_worker, "max_memory_per_worker": max_memory_per_worker}
    given |= {"code_version": code_version}
    settings = context.obj.with_flags(**given, allow_shell=allow_shell or None)
    raise typer.Exit(_run(context.obj, settings, once=once, drain=drain, max_tasks=max_tasks, max_seconds=max_seconds))


def _run(session: Session, settings: Settings, **bounds: Any) -> int:
    from runner import hygiene, shell, supervisor, upkeep  # the other commands need none of it
    from runner.code_version import code_version
    from runner.options import RunOptions

    shared = {field.name for field in fields(RunOptions)} & Settings.model_fields.keys() - {"app"}
    run_options = RunOptions(app=session.app or "", **bounds, **settings.model_dump(include=shared))
    hygiene.NOTES.take()  # before the application takes the functions that are watched
    ledger = session.ledger() if settings.allow_shell and not session.app else session.app_ledger()
    run_options = replace(run_options, code_version=settings.code_version or code_version(session.app))
    if settings.allow_shell:
        shell.allow_shell(ledger)
    upkeep.bring_up(ledger, settings, actor=session.actor)
    return supervisor.run(ledger, run_options)


def demo(
    path: Annotated[
        str | None, typer.Option(metavar="DIR", help="Tree of files; by default Python's standard library.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    keep: Annotated[str | None, typer.Option(metavar="FILE", help="Keep the ledger in this file.")] = None,
) -> None:
    """Queue a task for every file of a tree, kill a worker halfway, and show what the ledger tells of it.

    Example: workledger demo --workers 2 --keep demo.db
    """
    from runner import demo as demonstration  # it is long and only for this command

    raise typer.Exit(demonstration.main(path, workers, keep))
