"""Offer the command that queues a task, and read what commands are given: arguments as JSON, moments."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from ledger.errors import InvalidOption, InvalidValue
from ledger.functions import Call
from runner import completion
from runner.parameters import Form
from runner.render import Output, print_line, print_object
from runner.session import Session

_ANSWERS = {
    "queued": "",
    "unchanged": " (a live task has this key already)",
    "rescheduled": " (a waiting task has this key already; it was rescheduled)",
    "running": " (a running task has this key already; it was left alone)",
}


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


def parse_moment(text: str, flag: str = "--run-after") -> datetime | timedelta:
    """Return the moment that *text* gives: so many seconds later, or an ISO 8601 time with its zone.

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
            f"{flag} is {text!r}; allowed are seconds and ISO 8601 times such as 2031-05-01T12:00:00+00:00"
        ) from None


ConcurrencyKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="A limit may bound how many of one key run at once.")
]


def enqueue(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The registered name of the task.", autocompletion=completion.task_names),
    ],
    args: Annotated[str, typer.Option(metavar="JSON|@FILE|-", help="Arguments by name, as a JSON object.")] = "{}",
    queue: Annotated[str | None, typer.Option(help="Queue to put it in.", autocompletion=completion.queues)] = None,
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
    expires: Annotated[
        str | None,
        typer.Option(metavar="SECONDS|ISO", help="Cancel it if it has not begun then, or so long after it is due."),
    ] = None,
    run_as: Annotated[str | None, typer.Option(help="Identity the task runs under.")] = None,
    concurrency_key: ConcurrencyKey = None,
    label: Annotated[list[str] | None, typer.Option(metavar="LABEL", help="Label; may be given several times.")] = None,
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
        print_line(task.id + _ANSWERS[task.answer])
    else:
        print_object({"id": task.id, "duplicate": task.duplicate, "answer": task.answer}, output)


def _options_of(flags: dict[str, Any], actor: str | None) -> dict[str, Any]:
    """Return the options of the call that the flags of `enqueue` set."""
    if flags["unique_args"] and flags["unique"] is not None:
        raise InvalidOption("--unique and --unique-args exclude each other")
    if flags["unlimited"] and (flags["no_retry"] or flags["max_attempts"] is not None):
        raise InvalidOption("--unlimited excludes --no-retry and --max-attempts")
    same = ("queue", "priority", "max_attempts", "timeout", "kill_after", "unique_until", "on_duplicate", "run_as")
    given = {name: flags[name] for name in (*same, "unique", "reason", "concurrency_key")} | {
        "run_after": None if flags["run_after"] is None else parse_moment(flags["run_after"]),
        "expires": None if flags["expires"] is None else parse_moment(flags["expires"], "--expires"),
        "labels": tuple(flags["label"]) if flags["label"] else None,
        "retry": False if flags["no_retry"] else None,
        "actor": actor,
    }
    if flags["unique_args"]:
        given["unique"] = True
    given = {name: value for name, value in given.items() if value is not None}
    return given | {"max_attempts": None} if flags["unlimited"] else given
