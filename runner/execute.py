"""Call one task's function and turn whatever happens into an outcome; never raises."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ledger import commands as c
from ledger.api import Ledger
from ledger.clock import Clock
from ledger.current import Current, reset_current, set_current
from ledger.errors import InvalidArguments, InvalidValue
from ledger.events import ErrorDetail, Usage
from ledger.functions import TaskFunction
from ledger.output import OutputMode
from ledger.retry import class_name, is_never_retried
from ledger.signals import Delay, Fail, TimeLimit
from ledger.values import copy_json
from runner.cycle import Claimed, Finished
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
) -> Finished:
    """Run one attempt here and return how it finished, with what it printed where *open_recorder* is given.

    It is called at the first print; *mode* says which attempts' output is kept, the task's own mode before it.
    """
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
    )
    finished = _run(ledger.clock, function, claimed, current, run_async)
    current.end()
    recorder = current.opened
    if not isinstance(recorder, Recorder):
        return finished
    printed = recorder.close(is_kept=mode == "all" or not isinstance(finished.command, c.Succeed))
    if printed is None or isinstance(finished.command, c.Lose | c.Interrupt):
        return finished
    return replace(finished, command=replace(finished.command, output=printed.digest), printed=printed)


def _run(
    clock: Clock, function: TaskFunction[Any, Any], claimed: Claimed, current: Current, run_async: RunAsync
) -> Finished:
    state = claimed.state
    meter = Meter(is_async=function.is_async)
    started_at = clock.now()
    token = set_current(current)
    try:
        result = _checked(_call(function, claimed, run_async), state.name)
    except BaseException as error:
        return Finished(claimed, _raised(error, claimed, started_at, clock.now(), meter.read()))
    finally:
        reset_current(token)
    succeeded = c.Succeed(
        attempt=state.attempt,
        worker=current.worker,
        started_at=started_at,
        finished_at=clock.now(),
        result=result,
        usage=meter.read(),
    )
    return Finished(claimed, succeeded, tuple(current.children))


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


def _raised(
    error: BaseException, claimed: Claimed, started_at: Any, finished_at: Any, usage: Usage
) -> c.Fail | c.Delay:
    state = claimed.state
    times = {"started_at": started_at, "finished_at": finished_at, "usage": usage}
    if isinstance(error, Delay):
        return c.Delay(attempt=state.attempt, worker=state.worker or "", seconds=error.seconds, **times)
    return c.Fail(
        attempt=state.attempt,
        worker=state.worker or "",
        error=describe(error),
        forever=isinstance(error, Fail) or is_never_retried(claimed.retry, error),
        **times,
    )


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
