"""Offer the commands on single tasks: queue one, list and show them, change their course."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ledger.api import DEFAULT_URL, Ledger, operating_system_user
from ledger.clock import SystemClock, from_us
from ledger.errors import InvalidOption, InvalidValue
from ledger.events import Event
from ledger.functions import Call
from ledger.ids import task_stream
from ledger.settings import Settings, load
from ledger.sqlite import SqliteStore
from ledger.store import Recorded
from ledger.task import STATES
from ledger.values import check_name
from projections.reports import Reports
from projections.tasks import stamp
from runner.render import Output, print_line, print_list, print_object, to_json

_ENVELOPE = ("originator_id", "originator_version", "command", "at", "actor", "reason")
_LIST_COLUMNS = ("id", "name", "queue", "state", "attempt", "due_at", "actor", "run_as", "error")
_EVENT_COLUMNS = ("position", "version", "type", "at", "actor", "reason", "data")

tasks = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and change tasks.")

TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the log.")]
Form = Annotated[Output, typer.Option("-o", "--output", help="How to print it.")]


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call of the command, over the settings of the installation."""

    settings: Settings
    actor_name: str | None = None
    config: str | None = None

    @property
    def url(self) -> str | None:
        """The ledger that flag, environment or file name; None: the app's own."""
        return self.settings.url

    @property
    def app(self) -> str | None:
        """Where the tasks are declared."""
        return self.settings.app

    def with_flags(self, **flags: Any) -> Settings:
        """Return the settings with these *flags* over them, those that are None left out."""
        return load({"url": self.url, "app": self.app, **flags}, self.config)

    @property
    def actor(self) -> str | None:
        """Who asks, as events keep it: always with the operating system's user; None means only that one."""
        if self.actor_name is None:
            return None
        check_name(self.actor_name, "--actor")
        return f"{operating_system_user()}({self.actor_name})"

    def app_ledger(self) -> Ledger:
        """Return the ledger that --app names, with its functions, on the database of --url if that is given.

        Raises:
            InvalidOption: There is no --app, or it names no ledger.
        """
        if not self.app:
            raise InvalidOption("this command needs --app module:ledger (or WORKLEDGER_APP), which has the tasks")
        ledger = _import_ledger(self.app)
        if self.url is not None:
            ledger.store = SqliteStore(self.url, ledger.clock)
        return ledger

    def ledger(self) -> Ledger:
        """Return the ledger of --url, else that of --app, else the default one; it need not exist yet."""
        if self.url is None and self.app:
            return self.app_ledger()
        return Ledger(self.url or DEFAULT_URL)

    def existing(self) -> Ledger:
        """Return the ledger as `ledger` does.

        Raises:
            StorageUnavailable: It does not exist; nothing was made.
        """
        ledger = self.ledger()
        with ledger.store.read():
            return ledger


def _import_ledger(app: str) -> Ledger:
    module_name, _, attribute = app.partition(":")
    if not module_name or not attribute:
        raise InvalidOption(f"--app is {app!r}; it has the form module:ledger")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the module is the user's: whatever it raises, it cannot be used
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f" (line {frame.lineno} of {frame.filename})"
        said = f"importing {module_name} raised {type(error).__name__}: {error}{where}"
        raise InvalidOption(f"--app {app}: {said}") from error
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Ledger):
        raise InvalidOption(f"--app {app}: {attribute} in {module_name} is no Ledger")
    return found


def parse_args(text: str) -> dict[str, Any]:
    """Return the arguments that --args gives: JSON, ``@file`` or ``-`` for the standard input.

    Raises:
        InvalidValue: It cannot be read or is no JSON object.
    """
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_no_constant)
    except OSError as error:
        raise InvalidValue(f"--args: cannot read {text[1:]}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"--args is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidValue("--args is no JSON object; give the arguments by name, as in '{\"user_id\": 7}'")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not in JSON")


def parse_moment(text: str) -> datetime | timedelta:
    """Return the moment that *text* gives: seconds from now, or an ISO 8601 time with its zone.

    Raises:
        InvalidOption: It is neither.
    """
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOption(
            f"--run-after is {text!r}; allowed are seconds and ISO 8601 times such as 2031-05-01T12:00:00+00:00"
        ) from None


def enqueue(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered name of the task.")],
    args: Annotated[str, typer.Option(metavar="JSON|@FILE|-", help="Arguments by name, as a JSON object.")] = "{}",
    queue: Annotated[str | None, typer.Option(help="Queue to put it in.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100, higher first.")] = None,
    run_after: Annotated[str | None, typer.Option(metavar="SECONDS|ISO", help="Not before then.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts, the first included.")] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Attempts without end.")] = False,
    no_retry: Annotated[bool, typer.Option("--no-retry", help="One attempt only.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Raise TimeLimit in it then.")] = None,
    kill_after: Annotated[float | None, typer.Option(metavar="SECONDS", help="End its process so much later.")] = None,
    unique: Annotated[str | None, typer.Option(metavar="KEY", help="At most one live task has this key.")] = None,
    unique_args: Annotated[bool, typer.Option("--unique-args", help="The arguments are the key.")] = False,
    unique_until: Annotated[str | None, typer.Option(metavar="end|start", help="When its key frees.")] = None,
    on_duplicate: Annotated[str | None, typer.Option(metavar="return|reschedule", help="If its key is held.")] = None,
    run_as: Annotated[str | None, typer.Option(help="Identity the task runs under.")] = None,
    concurrency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="A limit may bound how many of one key run at once.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label; may be given several times.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the log.")] = None,
    output: Form = Output.table,
) -> None:
    """Queue one task; it is on disk when this returns.

    Example: workledger --app tasks:ledger enqueue send_digest --args '{"user_id": 7}'
    """
    flags = {key: value for key, value in locals().items() if key not in ("context", "name", "args", "output")}
    session: Session = context.obj
    ledger = session.app_ledger()
    function = ledger.function(name)
    options = function.options.merged(_options_of(flags, session.actor))
    task = ledger.enqueue(Call(function, function.bind((), parse_args(args)), options))
    if output is Output.table:
        print_line(f"{task.id}{' (a live task has this key already)' if task.duplicate else ''}")
    else:
        print_object({"id": task.id, "duplicate": task.duplicate}, output)


def _options_of(flags: dict[str, Any], actor: str | None) -> dict[str, Any]:
    """Return the options of the call that the flags of `enqueue` set."""
    if flags["unique_args"] and flags["unique"] is not None:
        raise InvalidOption("--unique and --unique-args exclude each other")
    if flags["unlimited"] and (flags["no_retry"] or flags["max_attempts"] is not None):
        raise InvalidOption("--unlimited excludes --no-retry and --max-attempts")
    same = ("queue", "priority", "max_attempts", "timeout", "kill_after", "unique_until", "on_duplicate", "run_as")
    given = {name: flags[name] for name in (*same, "unique", "reason", "concurrency_key")} | {
        "run_after": None if flags["run_after"] is None else parse_moment(flags["run_after"]),
        "labels": tuple(flags["label"]) if flags["label"] else None,
        "retry": False if flags["no_retry"] else None,
        "actor": actor,
    }
    if flags["unique_args"]:
        given["unique"] = True
    given = {name: value for name, value in given.items() if value is not None}
    return given | {"max_attempts": None} if flags["unlimited"] else given


@tasks.command("list")
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATES)}.")] = None,
    name: Annotated[str | None, typer.Option(help="Only tasks of this name.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only tasks of this queue.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this task of the last page.")] = None,
    output: Form = Output.table,
) -> None:
    """List tasks, newest first.

    Example: workledger task list --state failed --limit 20
    """
    if state is not None and state not in STATES:
        raise InvalidOption(f"--state is {state!r}; allowed are {', '.join(STATES)}")
    ledger = context.obj.existing()
    position = None if after is None else ledger.get(after).record.queued_position
    reports = Reports(ledger)
    reports.catch_up()
    rows = [row.summary() for row in reports.list_tasks(state, name, queue, limit, position)]
    if output is Output.table:
        for row in rows:
            row["error"] = row["error"] and f"{row['error']['type']}: {row['error']['message']}"
    print_list(rows, _LIST_COLUMNS, output, "no tasks")


@tasks.command("show")
def show(context: typer.Context, task_id: TaskId, output: Form = Output.table) -> None:
    """Show one task: its request, its state and its attempts.

    Example: workledger task show 01890a5d-ac96-774b-bcce-b302099a8057 -o json
    """
    record = context.obj.existing().get(task_id).record
    summary = record.summary()
    if output is not Output.table:
        print_object(summary, output)
        return
    if record.progress is not None:
        summary["progress"] = " ".join(filter(None, (record.progress.text, record.progress.message)))
    if summary["error"]:
        summary["error"] = f"{summary['error'].get('type')}: {summary['error'].get('message')}"
    print_object(summary, output)
    if record.attempts:
        print_line("")
        attempts = [
            {
                "attempt": attempt.number,
                "outcome": attempt.outcome,
                "worker": attempt.worker,
                "claimed_at": attempt.claimed_at,
                "ended_at": attempt.ended_at,
                "acted_as": ", ".join(attempt.acted_as) or None,
                "cause": attempt.cause or (attempt.error or {}).get("message"),
            }
            for attempt in record.attempts
        ]
        print_list(attempts, list(attempts[0]), output, "")


@tasks.command("events")
def events(context: typer.Context, task_id: TaskId, output: Form = Output.table) -> None:
    """Show every event of one task, oldest first.

    Example: workledger task events 01890a5d-ac96-774b-bcce-b302099a8057 -o jsonl
    """
    ledger = context.obj.existing()
    ledger.get(task_id)
    with ledger.store.read() as snapshot:
        rows = [event_row(recorded) for recorded in snapshot.stream(task_stream(task_id))]
    if output is Output.table:
        rows = [{**row, "data": to_json(row["data"])} for row in rows]
    print_list(rows, _EVENT_COLUMNS, output, "no events")


def event_row(recorded: Recorded) -> dict[str, Any]:
    """Return one event as ``task events`` shows it; *data* is what the envelope does not have."""
    event: Event = recorded.event
    return {
        "position": recorded.position,
        "version": event.originator_version,
        "type": type(event).__name__,
        "at": stamp(event.at),
        "actor": event.actor,
        "reason": event.reason,
        "data": {name: getattr(event, name) for name in event.__dataclass_fields__ if name not in _ENVELOPE},
    }


@tasks.command("retry")
def retry(context: typer.Context, task_id: TaskId, reason: Reason, output: Form = Output.table) -> None:
    """Let a failed or cancelled task wait again, due at once, with all its attempts.

    Example: workledger task retry 01890a5d-ac96-774b-bcce-b302099a8057 --reason "mail server is back"
    """
    session: Session = context.obj
    ledger = session.existing()
    ledger.retry(task_id, reason=reason, actor=session.actor)
    _print_outcome(ledger, task_id, output)


@tasks.command("cancel")
def cancel(context: typer.Context, task_id: TaskId, reason: Reason, output: Form = Output.table) -> None:
    """End a waiting task, or ask a running one to end.

    Example: workledger task cancel 01890a5d-ac96-774b-bcce-b302099a8057 --reason "sent by hand"
    """
    session: Session = context.obj
    ledger = session.existing()
    ledger.cancel(task_id, reason=reason, actor=session.actor)
    _print_outcome(ledger, task_id, output)


@tasks.command("reschedule")
def reschedule(
    context: typer.Context,
    task_id: TaskId,
    run_after: Annotated[str, typer.Option(metavar="SECONDS|ISO", help="Not before then.")],
    reason: Reason,
    output: Form = Output.table,
) -> None:
    """Make a waiting task due at another time.

    Example: workledger task reschedule 01890a5d-ac96-774b-bcce-b302099a8057 --run-after 0 --reason "needed now"
    """
    session: Session = context.obj
    moment = parse_moment(run_after)
    ledger = session.existing()
    ledger.reschedule(task_id, moment, reason=reason, actor=session.actor)
    _print_outcome(ledger, task_id, output)


def _print_outcome(ledger: Ledger, task_id: str, output: Output) -> None:
    record = ledger.get(task_id).record
    if output is not Output.table:
        print_object(record.summary(), output)
        return
    state = record.state
    due_at = from_us(state.due_us)
    when = f", due {stamp(due_at)}" if state.status == "waiting" and due_at > SystemClock().now() else ""
    asked = " and was asked to end" if state.cancel_us is not None else ""
    print_line(f"task {state.task_id} is {state.status}{asked}{when}")
