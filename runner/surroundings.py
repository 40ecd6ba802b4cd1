"""Run one attempt's function in its surroundings: its identity taken on, the hooks around it entered, no transaction left."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from ledger.api import Ledger
from ledger.current import Current
from ledger.errors import IdentityNotFound
from ledger.open_units import roll_back_open
from ledger.options import Around

T = TypeVar("T")


class GoneAtStart(IdentityNotFound):
    """The identity was gone before the function was called: no later attempt can do better."""


def call_within(ledger: Ledger, current: Current, hooks: tuple[Around, ...], call: Callable[[], T]) -> T:
    """Return what *call* returns, called as the attempt's identity and inside of *hooks*, the first one outermost.

    A hook sees what the call raises and may raise something else, but cannot turn a failure into a success.

    Raises:
        GoneAtStart: The identity does not exist or is not active; nothing was called.

        TransactionLeftOpen: The call, or a hook, left a transaction of the ledger open; it was rolled back.
    """
    principals = ledger.principals
    try:
        principals.check(current.task_run_as)
    except IdentityNotFound as gone:
        raise GoneAtStart(str(gone)) from None
    kept: list[BaseException] = []
    with _Closed(current), ExitStack() as stack:
        stack.enter_context(principals.activate(current.task_run_as))
        for hook in hooks:
            stack.enter_context(hook(current))
        try:
            with _Closed(current):
                return call()
        except BaseException as error:
            kept.append(error)
            raise
    raise kept[0]  # a hook has kept it to itself


async def await_within(current: Current, coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what *coroutine* returns; what it leaves open is rolled back in its own thread, which alone can do it."""
    with _Closed(current):
        return await coroutine


def close(current: Current, error: BaseException | None) -> None:
    """Roll back the transactions that the attempt has left open in this thread; note it with *error*, if there is one.

    Raises:
        TransactionLeftOpen: There were any, and there is no *error*.
    """
    if current.open_units and (left := roll_back_open(current)) is not None:
        if error is None:
            raise left
        error.add_note(str(left))


class _Closed:
    """Closes the transactions of an attempt at its end."""

    __slots__ = ("_current",)

    def __init__(self, current: Current) -> None:
        self._current = current

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        close(self._current, error)
