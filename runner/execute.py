"""Call one task's function and turn whatever happens into an outcome; never raises."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from ledger import commands as c
from ledger.api import Ledger
from ledger.current import Current, reset_current, set_current
from ledger.errors import InvalidArguments, InvalidValue
from ledger.events import ErrorDetail, OutputDigest, Usage
from ledger.functions import TaskFunction
from ledger.output import OutputMode
from ledger.progress import Tell
from ledger.retry import class_name, is_never_retried
from ledger.signals import Delay, Fail, TimeLimit
from ledger.values import copy_json
from runner.cycle import Claimed, Finished
from runner.progress import Latest
from runner.recorder import Recorder
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


def execute(
    ledger: Ledger,
    claimed: Claimed,
    is_cancelled: Callable[[], bool],
    run_async: RunAsync = run_coroutine,
    *,
    open_recorder: Callable[[], Recorder] | None = None,
    mode: OutputMode = "all",
    tell: Tell | None = None,
) -> Finished:
    """Run one attempt here and return how it finished, with what it printed where *open_recorder* is given.

    It is called at the first print; *mode* says which attempts' output is kept, the task's own mode before it. *tell*
    gets what the task says of its progress; without it the last word comes with the outcome.
    """
    if tell is None:
        latest = Latest()
        finished = execute(
            ledger, claimed, is_cancelled, run_async, open_recorder=open_recorder, mode=mode, tell=latest.tell
        )
        return latest.last_word(claimed, finished)
    state = claimed.state
    function = ledger.functions[state.name]
    mode = function.traits.output or mode
    current = Current(
        task_id=state.task_id,
        name=state.name,
        attempt=state.attempt,
        run_as=state.run_as,
        worker=state.worker or "",
        ledger=ledger,
        is_cancelled=is_cancelled,
        open_sink=None if mode == "none" else open_recorder,
        tell=tell,
    )
    meter, started_at = Meter(is_async=function.is_async), ledger.clock.now()
    result, error = _run(function, claimed, current, run_async)
    finished_at, usage = ledger.clock.now(), meter.read()
    current.end()
    recorder = current.opened
    printed = recorder.close(is_kept=mode == "all" or error is not None) if isinstance(recorder, Recorder) else None
    report = _Report(claimed, started_at, finished_at, usage, None if printed is None else printed.digest)
    if error is not None:
        return Finished(claimed, _raised(error, report), (), printed)
    return Finished(claimed, _succeeded(result, report), tuple(current.children), printed)


class _Report(NamedTuple):
    """What every outcome of an attempt says of it."""

    claimed: Claimed
    started_at: datetime
    finished_at: datetime
    usage: Usage
    output: OutputDigest | None


def _run(
    function: TaskFunction[Any, Any], claimed: Claimed, current: Current, run_async: RunAsync
) -> tuple[Any, BaseException | None]:
    """Return what the function returned, or what it raised."""
    token = set_current(current)
    try:
        return _checked(_call(function, claimed, run_async), function.name), None
    except BaseException as error:
        return None, error
    finally:
        reset_current(token)


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
    )


class _BadResult(InvalidValue):
    """What the function returned cannot be kept; the traceback would lead into the ledger."""


def _checked(result: Any, name: str) -> Any:
    try:
        return copy_json(result, f"the result of {name}")
    except InvalidValue as error:
        raise _BadResult(str(error)) from None


def _call(function: TaskFunction[Any, Any], claimed: Claimed, run_async: RunAsync) -> Any:
    args, kwargs = function.unbind(claimed.args)
    if function.is_async:
        try:
            return run_async(function.function(*args, **kwargs), claimed.state.timeout)
        except _Left as left:
            raise left.error from None
    return function.function(*args, **kwargs)


def _raised(error: BaseException, report: _Report) -> c.Fail | c.Delay:
    state = report.claimed.state
    told: dict[str, Any] = {
        "attempt": state.attempt,
        "worker": state.worker or "",
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "output": report.output,
        "usage": report.usage,
    }
    if isinstance(error, Delay):
        return c.Delay(seconds=error.seconds, **told)
    is_forever = isinstance(error, Fail) or is_never_retried(report.claimed.retry, error)
    return c.Fail(error=describe(error), forever=is_forever, **told)


def _is_ours(error: BaseException) -> bool:
    """Return whether the ledger itself refused the stored arguments, before the task's code began."""
    return traceback.extract_tb(error.__traceback__)[-1].name == "unbind"


def describe(error: BaseException) -> ErrorDetail:
    """Return what is kept of *error*: text that any database can hold, cut to a bounded length."""
    kind = InvalidValue if isinstance(error, _BadResult) else type(error)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "ledger.signals") else class_name(kind)
    try:
        message = str(error)
    except Exception as broken:
        message = f"<its text cannot be had: {type(broken).__name__}>"
    is_call = isinstance(error, InvalidArguments) and error.__traceback__ is not None and _is_ours(error)
    frames = "" if isinstance(error, _BadResult) or is_call else "".join(traceback.format_exception(error))
    return ErrorDetail(type=name, message=_storable(message, MAX_MESSAGE), traceback=_storable(frames, MAX_TRACEBACK))


def _storable(text: str, limit: int) -> str:
    text = text.encode("utf-8", "replace").decode().replace("\x00", "\\x00")
    return text if len(text) <= limit else text[: limit // 4] + "\n… cut …\n" + text[-limit * 3 // 4 :]
