"""Be the command `workledger`: its words, global options and exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from ledger.errors import LedgerError
from ledger.settings import gather
from runner import completion
from runner.render import clean
from runner.session import Session

# Word → where its command or group of commands is. A call imports what it runs and no more: all of them take half a
# second.
COMMANDS = {
    "compare": "cli_compare:compare_runs",
    "completion": "completion:completion",
    "component": "cli_schedule_changes:components",
    "config": "cli_config:configuration",
    "db": "cli_database:database",
    "demo": "cli_run:demo",
    "diff": "cli_past:diff",
    "enqueue": "cli_enqueue:enqueue",
    "export": "cli_export:export",
    "fork": "cli_compare:fork",
    "health": "cli_health:health",
    "history": "cli_history:history",
    "import": "cli_imports:imports",
    "inbox": "cli_inbox:inboxes",
    "limit": "cli_controls:limits",
    "notices": "cli_notices:notices",
    "now": "cli_views:now",
    "projection": "cli_projections:projection",
    "prune": "cli_prune:prune_output",
    "queue": "cli_views:queues",
    "recycle": "cli_controls:recycle",
    "replay": "cli_past:replays",
    "report": "cli_report:report",
    "run": "cli_run:run",
    "runners": "cli_controls:runners",
    "schedule": "cli_schedules:schedules",
    "stats": "cli_history:stats",
    "stop": "cli_controls:stop",
    "task": "cli_tasks:tasks",
    "why": "cli_views:explain",
    "worker": "cli_views:workers",
}
# Group → commands of other modules in it.
ELSEWHERE = {
    "db": {
        "copy": "cli_copy:copy",
        "digest": "cli_export:digest",
        "grants": "cli_postgres:grants",
    },
    "import": {"events": "cli_export:import_events"},
    "queue": {"pause": "cli_controls:queue_pause", "resume": "cli_controls:queue_resume"},
    "task": {
        "cancel": "cli_changes:cancel",
        "log": "cli_log:log",
        "replay": "cli_replay:replay_task",
        "reschedule": "cli_changes:reschedule",
        "retry": "cli_changes:retry",
        "reveal": "cli_runs:reveal",
        "run": "cli_runs:run",
        "run-failed": "cli_runs:run_failed",
        "timeline": "cli_history:timeline",
    },
}


class Lazy(dict[str, Any]):
    """Commands by their words; those of *elsewhere* are imported when they are asked for."""

    def __init__(self, known: Mapping[str, Any], elsewhere: Mapping[str, str]) -> None:
        super().__init__({name: known.get(name) for name in sorted({*known, *elsewhere})})
        self._elsewhere = elsewhere

    def __getitem__(self, name: str) -> Any:
        """Return the command of this word."""
        if (found := super().__getitem__(name)) is None:
            module, _, attribute = self._elsewhere[name].partition(":")
            found = self[name] = _command(name, getattr(importlib.import_module(f"runner.{module}"), attribute))
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Return the command of this word, if there is one."""
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        """Return all commands."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Return all commands with their words."""
        return [(name, self[name]) for name in self]


def _command(name: str, found: Any) -> Any:
    """Return what Typer makes of a function, or of a group, under the word *name*."""
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(name)(found)
        return get_command(alone)
    group = get_group(found)
    group.name = name
    group.commands = Lazy(group.commands, ELSEWHERE.get(name, {}))
    return group


class Commands(TyperGroup):
    """The commands, with the ledger's errors turned into a line on stderr and an exit code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Lazy({}, COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a `LedgerError` ends it with that error's exit code."""
        try:
            return super().invoke(ctx)
        except LedgerError as error:
            print(f"error: {clean(error)}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            name = getattr(error, "option_name", None)  # typer does not export the error of an option that is none
            if any(name in parameter.opts for parameter in self.params):
                vars(error).update(
                    message=f"{name} stands before the command: workledger {name} ...", possibilities=None
                )
            raise


app = typer.Typer(
    cls=Commands,
    name="workledger",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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


@cache
def command() -> Any:
    """Return the command with all its subcommands, of which there are so many that they are put together once."""
    return get_command(app)


def main() -> None:
    """Run the command with this process's arguments and exit: 0 ok, 1 failed, 2 usage, 3 not found, 4, 5."""
    completion.answer_if_asked()
    command()(prog_name="workledger")


if __name__ == "__main__":
    main()
