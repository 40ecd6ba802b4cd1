"""Keep hidden arguments from sight: what stands in their place wherever arguments are shown. Pure.

The values themselves are in the log, where the worker reads them; whoever can read the database file can read them.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from ledger.errors import InvalidOption
from ledger.event import Event
from ledger.events import TaskQueued
from ledger.schedule import ScheduleState, dumps, loads
from ledger.schedule_events import ScheduleDeclared

HIDDEN = "[hidden]"


class _Hidden:
    """Stands for a default that is not shown."""

    def __repr__(self) -> str:
        return HIDDEN


def masked(args: Mapping[str, Any], names: Iterable[str] | None) -> dict[str, Any]:
    """Return *args* as they are shown: those of these *names* as hidden."""
    hidden = frozenset(names or ())
    return {name: HIDDEN if name in hidden else value for name, value in args.items()}


def shown_event(event: Event) -> Event:
    """Return *event* as it is shown: its hidden arguments masked."""
    if isinstance(event, TaskQueued | ScheduleDeclared) and event.hidden:
        return replace(event, args=masked(event.args, event.hidden))
    return event


def shown_state(state: ScheduleState) -> ScheduleState:
    """Return a schedule as it is shown: the hidden arguments of its default masked."""
    declared = loads(state.declared)
    if not declared.get("hidden"):
        return state
    return state._replace(declared=dumps({**declared, "args": masked(declared["args"], declared["hidden"])}))


def digested(args: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return *args* as they stand in the text of a unique key: a digest for each of these *names*.

    Equal values have equal digests, so who can guess the value can confirm it.
    """
    hidden = frozenset(names)
    return {name: {"sha256": _digest(value)} if name in hidden else value for name, value in args.items()}


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_hide(hide: Iterable[str], signature: inspect.Signature, name: str) -> None:
    """Refuse names to *hide* that are no parameters of the task's function.

    Raises:
        InvalidOption: One is none; the message lists those there are.
    """
    for one in hide:
        if one not in signature.parameters:
            there = ", ".join(signature.parameters) or "none"
            raise InvalidOption(f"hide names {one!r}, which is no parameter of task {name!r}; there are: {there}")


def shown_signature(signature: inspect.Signature, hide: Iterable[str]) -> str:
    """Return the signature as errors show it: without the defaults of hidden parameters."""
    hidden = frozenset(hide)
    parameters = [
        one.replace(default=_Hidden()) if one.name in hidden and one.default is not one.empty else one
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))
