"""Call one task's function and turn whatever happens into an outcome; never raises."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from ledger import commands as c
from ledger.api import Ledger
from ledger.current import Current, set_current
from ledger.errors import IdentityNotFound, InvalidArguments, InvalidValue
from ledger.events import ErrorDetail, OutputDigest, Usage
from ledger.functions import TaskFunction
from ledger.output import OutputMode, Printed
from ledger.progress import Tell
from ledger.retry import class_name, is_never_retried
from ledger.signals import Delay, Fail, TimeLimit
from ledger.task import TaskState
from ledger.values import copy_json
from runner.cycle import Claimed, Finished
from runner.progress import Latest
from runner.recorder import Recorder
from runner.surroundings import GoneAtStart, await_within, call_within, close
from runner.usage import Meter

MAX_MESSAGE = 4_000
MAX_TRACEBACK = 16_000

RunAsync = Callable[[Any, float | None], Any]
"""Runs a coroutine to its end within a timeout (seconds or None) and returns its result."""


def run_coroutine(coroutine: Any, timeout: float | None) -> Any:
    """Run *coroutine* in an event loop of its own."""
    return asyncio.run(within(coroutine, timeout))


async def within(coroutine: Any, timeout: float | None) -> Any:
    """Await *coroutine*, with `TimeLimit` raised in it after *timeout* seconds."""
    try:
        async with asyncio.timeout(timeout) as scope:
            return await coroutine
    except TimeoutError:
        if scope.expired():
            raise TimeLimit(f"the task ran longer than its timeout of {timeout} s") from None
        raise
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Left(error) from error


class _Left(Exception):
    """Carries out of an event loop what would end the loop itself, and every other task on it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Run(Protocol):
    """Runs one attempt's function somewhere else; *current* is the attempt as it is seen here."""

    def __call__(self, ledger: Ledger, claimed: Claimed, current: Current) -> Finished:
        """Return how it finished. What it prints is printed here."""


def execute(
    ledger: Ledger,
    claimed: Claimed,
    is_cancelled: Callable[[], bool],
    run_async: RunAsync = run_coroutine,
    *,
    open_recorder: Callable[[], Recorder] | None = None,
    mode: OutputMode = "all",
    tell: Tell | None = None,
    run: Run | None = None,
    is_lost: Callable[[], bool] = lambda: False,
) -> Finished:
    """Run one attempt, here or by *run*, and return how it finished, with what it printed where *open_recorder* is given.

    It is called at the first print; *mode* says which attempts' output is kept, the task's own mode before it. *tell*
    gets what the task says of its progress; without it the last word comes with the outcome.
    """
    latest = Latest()
    state = claimed.state
    function = ledger.functions[state.name]
    mode = function.traits.output or mode
    current = Current(
        **identity(state),
        ledger=ledger,
        is_cancelled=is_cancelled,
        is_lost=is_lost,
        open_sink=None if mode == "none" else open_recorder,
        tell=tell or latest.tell,
        principals=ledger.principals,
    )
    if run is None:
        finished = run_here(ledger, claimed, current, run_async, mode)
    else:
        finished = _with_output(run(ledger, claimed, current), current, mode)
    return finished if tell is not None else latest.last_word(claimed, finished)


def _with_output(finished: Finished, current: Current, mode: OutputMode) -> Finished:
    """Return how an attempt finished elsewhere with what it printed here."""
    printed = end(current, is_kept=mode == "all" or not isinstance(finished.command, c.Succeed))
    if printed is None or isinstance(finished.command, c.Lose | c.Interrupt):  # which say nothing of it
        return finished._replace(printed=printed)
    return finished._replace(command=c.reported(finished.command, output=printed.digest), printed=printed)


def run_here(
    ledger: Ledger, claimed: Claimed, current: Current, run_async: RunAsync = run_coroutine, mode: OutputMode = "all"
) -> Finished:
    """Run the attempt *current* in this thread, in a context of its own, and return how it finished."""
    function = ledger.functions[claimed.state.name]
    meter, started_at = Meter(is_async=function.is_async), ledger.clock.now()
    result, error = call_function(ledger, function, claimed, current, run_async)
    finished_at, usage = ledger.clock.now(), meter.read()
    printed = end(current, is_kept=mode == "all" or error is not None)
    output = None if printed is None else printed.digest
    acted_as = list(current.acted_as) if current.acted_as else None
    report = _Report(claimed, started_at, finished_at, usage, output, acted_as)
    if error is not None:
        return Finished(claimed, _raised(error, report), (), printed)
    return Finished(claimed, _succeeded(result, report), tuple(current.children), printed)


def end(current: Current, *, is_kept: bool) -> Printed | None:
    """Return what is left to store of what the attempt has printed."""
    current.end()
    recorder = current.opened
    if recorder is None:
        return None
    return recorder.close(is_kept=is_kept) if isinstance(recorder, Recorder) else None


def identity(state: TaskState) -> dict[str, Any]:
    """Return what an attempt knows of itself."""
    return {
        "task_id": state.task_id,
        "name": state.name,
        "attempt": state.attempt,
        "run_as": state.run_as,
        "worker": state.worker or "",
        "attempts_left": state.attempts_left,
        "claimed_us": state.claimed_us,
    }


class _Report(NamedTuple):
    """What every outcome of an attempt says of it."""

    claimed: Claimed
    started_at: datetime
    finished_at: datetime
    usage: Usage
    output: OutputDigest | None
    acted_as: list[str] | None


def call_function(
    ledger: Ledger, function: TaskFunction[Any, Any], claimed: Claimed, current: Current, run_async: RunAsync
) -> tuple[Any, BaseException | None]:
    """Return what the function returned, or what it raised, called in a context and in the surroundings of its own."""
    hooks = ledger.hooks + function.traits.around
    context = copy_context()
    context.run(set_current, current)
    try:
        if hooks or not ledger.principals.is_plain:
            call = partial(_call, function, claimed, current, run_async)
            result = context.run(call_within, ledger, current, hooks, call)
        else:
            result = context.run(_call, function, claimed, current, run_async)
        if current.open_units:
            close(current, None)
    except BaseException as error:
        close(current, error)
        return None, error
    return result, None


def _succeeded(result: Any, report: _Report) -> c.Succeed:
    state = report.claimed.state
    return c.Succeed(
        attempt=state.attempt,
        worker=state.worker or "",
        started_at=report.started_at,
        finished_at=report.finished_at,
        result=result,
        output=report.output,
        usage=report.usage,
        acted_as=report.acted_as,
    )


class _BadResult(InvalidValue):
    """What the function returned cannot be kept; the traceback would lead into the ledger."""


def _checked(result: Any, name: str) -> Any:
    try:
        return copy_json(result, f"the result of {name}")
    except InvalidValue as error:
        raise _BadResult(str(error)) from None


def _call(function: TaskFunction[Any, Any], claimed: Claimed, current: Current, run_async: RunAsync) -> Any:
    args, kwargs = function.unbind(claimed.args)
    if not function.is_async:
        return _checked(function.function(*args, **kwargs), function.name)
    try:
        coroutine = await_within(current, function.function(*args, **kwargs))
        return _checked(run_async(coroutine, claimed.state.timeout), function.name)
    except _Left as left:
        raise left.error from None


def _raised(error: BaseException, report: _Report) -> c.Fail | c.Delay:
    state = report.claimed.state
    told: dict[str, Any] = {
        "attempt": state.attempt,
        "worker": state.worker or "",
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "output": report.output,
        "usage": report.usage,
        "acted_as": report.acted_as,
    }
    if isinstance(error, Delay):
        return c.Delay(seconds=error.seconds, **told)
    is_forever = isinstance(error, Fail | GoneAtStart) or is_never_retried(report.claimed.retry, error)
    return c.Fail(error=describe(error), forever=is_forever, **told)


def _is_ours(error: BaseException) -> bool:
    """Return whether the ledger itself refused the stored arguments, before the task's code began."""
    return traceback.extract_tb(error.__traceback__)[-1].name == "unbind"


def describe(error: BaseException) -> ErrorDetail:
    """Return what is kept of *error*: text that any database can hold, cut to a bounded length."""
    kinds: dict[type, type] = {_BadResult: InvalidValue, GoneAtStart: IdentityNotFound}
    kind = kinds.get(type(error), type(error))
    name = kind.__qualname__ if kind.__module__ in ("builtins", "ledger.signals") else class_name(kind)
    try:
        message = str(error)
    except Exception as broken:
        message = f"<its text cannot be had: {type(broken).__name__}>"
    is_call = isinstance(error, InvalidArguments) and error.__traceback__ is not None and _is_ours(error)
    frames = "" if type(error) in kinds or is_call else "".join(traceback.format_exception(error))
    return ErrorDetail(type=name, message=_storable(message, MAX_MESSAGE), traceback=_storable(frames, MAX_TRACEBACK))


def _storable(text: str, limit: int) -> str:
    text = text.encode("utf-8", "replace").decode().replace("\x00", "\\x00")
    return text if len(text) <= limit else text[: limit // 4] + "\n… cut …\n" + text[-limit * 3 // 4 :]
