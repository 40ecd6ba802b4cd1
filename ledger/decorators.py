"""Be what ``@ledger.task(…)`` and ``@ledger.schedule(…)`` are before they meet their function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ledger.cron import Fields
from ledger.declarations import Declaration, definition
from ledger.errors import InvalidOption
from ledger.functions import AsyncTaskFunction, SyncTaskFunction, TaskFunction
from ledger.options import Options, Traits
from ledger.values import shown

if TYPE_CHECKING:
    from ledger.api import Ledger

P = ParamSpec("P")
R = TypeVar("R")


class Decorator:
    """What ``@ledger.task(…)`` is before it meets its function."""

    def __init__(self, ledger: Ledger, name: str | None, options: Options, traits: Traits) -> None:
        self._ledger = ledger
        self._name = name
        self._options = options
        self._traits = traits

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> SyncTaskFunction[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> Any:
        """Make the function a task and register it.

        Raises:
            InvalidOption: It is no function, has no name, or the name is taken.
        """
        kind = AsyncTaskFunction if inspect.iscoroutinefunction(function) else SyncTaskFunction
        name = self._name_of(function)
        task: TaskFunction[Any, Any] = kind(self._ledger, function, name, self._options, self._traits)
        self._register(task)
        return task

    def _register(self, task: TaskFunction[Any, Any]) -> None:
        self._ledger.register(task)

    def _name_of(self, function: object) -> str:
        if not callable(function):
            raise InvalidOption(f"a task is made of a function; {shown(function)} is none")
        name = self._name if self._name is not None else getattr(function, "__name__", None)
        if name is None:
            raise InvalidOption(f"{shown(function)} has no name of its own; give it one with name='…'")
        return name


class ScheduleDecorator(Decorator):
    """What ``@ledger.schedule(…)`` is before it meets its function."""

    def __init__(
        self,
        ledger: Ledger,
        name: str | None,
        options: Options,
        traits: Traits,
        fields: Fields,
        own: Mapping[str, Any],
    ) -> None:
        super().__init__(ledger, name, options, traits)
        self._fields = fields
        self._own = own

    def _register(self, task: TaskFunction[Any, Any]) -> None:
        bound = task.bind((), dict(self._own["args"] or {}))
        described = (inspect.getdoc(task.function) or "").partition("\n")[0] or None
        defined = definition(
            name=task.name,
            task=task.name,
            fields=self._fields,
            options=self._options,
            description=described,
            hidden=self._traits.hide,
            **{**self._own, "args": bound},
        )
        super()._register(task)
        self._ledger.schedules.declare(Declaration(name=task.name, definition=defined, aliases=task.traits.aliases))
