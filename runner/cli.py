"""Be the command `workledger`: global options, exit codes, and the commands that run work."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ledger.errors import InvalidOption, LedgerError
from ledger.settings import Settings, gather
from runner import (
    cli_changes,
    cli_compare,
    cli_config,
    cli_controls,
    cli_copy,
    cli_database,
    cli_enqueue,
    cli_export,
    cli_health,
    cli_history,
    cli_imports,
    cli_inbox,
    cli_log,
    cli_notices,
    cli_past,
    cli_postgres,
    cli_projections,
    cli_prune,
    cli_replay,
    cli_report,
    cli_runs,
    cli_schedule_changes,
    cli_schedules,
    cli_tasks,
    cli_views,
    completion,
)
from runner.cli_tasks import Session
from runner.render import clean


class LogFormat(StrEnum):
    """The forms of the workers' own logs."""

    console = "console"
    json = "json"


class Commands(TyperGroup):
    """The commands, with the ledger's errors turned into a line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a `LedgerError` ends it with that error's exit code."""
        try:
            return super().invoke(ctx)
        except LedgerError as error:
            print(f"error: {clean(error)}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=Commands,
    name="workledger",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_tasks.tasks, name="task")
app.add_typer(cli_views.queues, name="queue")
app.add_typer(cli_views.workers, name="worker")
app.add_typer(cli_controls.limits, name="limit")
app.add_typer(cli_controls.runners, name="runners")
app.add_typer(cli_imports.imports, name="import")
app.add_typer(cli_inbox.inboxes, name="inbox")
app.add_typer(cli_schedules.schedules, name="schedule")
app.add_typer(cli_schedule_changes.components, name="component")
app.add_typer(cli_projections.projection, name="projection")
app.add_typer(cli_report.report, name="report")
app.add_typer(cli_database.database, name="db")
cli_database.database.command("grants")(cli_postgres.grants)
cli_database.database.command("copy")(cli_copy.copy)
app.add_typer(cli_config.configuration, name="config")
app.command("enqueue")(cli_enqueue.enqueue)
app.command("export")(cli_export.export)
cli_imports.imports.command("events")(cli_export.import_events)
cli_database.database.command("digest")(cli_export.digest)
cli_tasks.tasks.command("log")(cli_log.log)
cli_changes.add_to(cli_tasks.tasks)
cli_runs.add_to(cli_tasks.tasks)
cli_replay.add_to(cli_tasks.tasks)
cli_compare.add_to(app)
cli_past.add_to(app)
app.command("health")(cli_health.health)
cli_history.add_to(app, cli_tasks.tasks)
app.command("notices")(cli_notices.notices)
app.command("prune")(cli_prune.prune_output)
app.command("now")(cli_views.now)
app.command("why")(cli_views.explain)
app.command("stop")(cli_controls.stop)
app.command("recycle")(cli_controls.recycle)
cli_views.queues.command("pause")(cli_controls.queue_pause)
cli_views.queues.command("resume")(cli_controls.queue_resume)
app.command("completion")(completion.completion)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"workledger {version('workledger')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="The ledger, sqlite:///workledger.db where nothing says else [env: WORKLEDGER_URL]."),
    ] = None,
    app_: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:LEDGER", help="Where the tasks are declared [env: WORKLEDGER_APP]."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Settings; by default workledger.toml or [tool.workledger] of pyproject.toml in this directory.",
        ),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Who asks, beside the operating system's user.")] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep, work and explain a ledger of background tasks.

    Example: workledger --app tasks:ledger run --workers 2
    """
    flags = {"url": url or None, "app": app_ or None}
    if context.invoked_subcommand == "completion":  # a shell that starts has no use for settings
        return
    loaded = gather(flags, config)
    context.obj = Session(loaded.settings, actor_name=actor, config=config, origins=loaded.origins)
    context.call_on_close(context.obj.close)


@app.command("run")
def run(
    context: typer.Context,
    workers: Annotated[int | None, typer.Option(help="Worker processes; 1 by default.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; 4 by default.")] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="Only this queue; may be given several times.", autocompletion=completion.queues),
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


@app.command("demo")
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


def main() -> None:
    """Run the command with this process's arguments and exit: 0 ok, 1 failed, 2 usage, 3 not found, 4, 5."""
    completion.answer_if_asked()
    app(prog_name="workledger")


if __name__ == "__main__":
    main()
