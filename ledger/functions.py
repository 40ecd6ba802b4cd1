"""Turn a plain function into a task: registered by name, typed, its arguments bound where it is enqueued."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from ledger import keys
from ledger.acts import NewTask
from ledger.commands import Queue
from ledger.errors import InvalidArguments, InvalidValue
from ledger.hidden import check_hide, shown_signature
from ledger.options import CallOptions, Options, Traits
from ledger.retry import Retry
from ledger.values import copy_json

if TYPE_CHECKING:
    from ledger.api import Ledger
    from ledger.handle import Task

P = ParamSpec("P")
R = TypeVar("R")

_MICROSECOND = timedelta(microseconds=1)
_NO_RETRY = Retry(first=0, factor=1, cap=0).stored()


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call of a task, bound and checked but not yet queued: what `Ledger.enqueue_many` takes."""

    function: TaskFunction[Any, R]
    args: dict[str, Any] = field(repr=False)  # some may be hidden
    options: Options

    def new_task(self, task_id: str, parent: str | None) -> NewTask:
        """Return the request to queue this call under *task_id*."""
        options, function = self.options, self.function
        after, expires = options.run_after, options.expires
        key = self._key(function.name)
        fields = function.said_by(options).copy()
        fields["args"] = self.args
        fields["labels"] = list(options.labels)
        fields["parent"] = parent
        if after is not None:
            fields["due_at"] = after.astimezone(UTC) if isinstance(after, datetime) else None
            fields["delay_us"] = after // _MICROSECOND if isinstance(after, timedelta) else 0
        if expires is not None:
            fields["expires_at"] = expires.astimezone(UTC) if isinstance(expires, datetime) else None
            fields["expires_after_us"] = expires // _MICROSECOND if isinstance(expires, timedelta) else None
        if key is not None:
            fields["unique_key"], fields["key_stream"] = key, keys.key_stream(function.name, key)
        command = Queue.of(fields)
        return NewTask(
            task_id=task_id,
            command=command,
            on_duplicate=options.on_duplicate,
            is_due_given=after is not None,
            former_streams=tuple(keys.key_stream(old, self._key(old) or "") for old in function.traits.aliases)
            if key is not None
            else (),
        )

    def _key(self, name: str) -> str | None:
        """Return the text of the unique key, under this *name* of the task."""
        unique = self.options.unique
        if unique is None or unique is False:
            return None
        if unique is True:
            return keys.key_of_call(name, self.args, self.options.run_as, self.function.traits.hide)
        return unique


class Using(Generic[P, R]):
    """A task's function with other options for the calls made through it."""

    def __init__(self, function: TaskFunction[P, R], options: Options) -> None:
        self._function = function
        self._options = options

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Bind the arguments without queueing; see `TaskFunction.call`."""
        return Call(self._function, self._function.bind(args, kwargs), self._options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Queue one call; see `TaskFunction.enqueue`."""
        return self._function.ledger.enqueue(self.call(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Queue one call from async code; see `TaskFunction.aenqueue`."""
        return await self._function.ledger.aenqueue(self.call(*args, **kwargs))

    def reschedule_or_queue(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Move the waiting task that is equal to this call to its due time, or queue it; see `TaskFunction`'s."""
        options = replace(self._options, unique=self._options.unique or True, on_duplicate="reschedule")
        return Using(self._function, options).enqueue(*args, **kwargs)


class TaskFunction(Generic[P, R]):
    """A registered function: call it as before, or queue it. Made by ``@ledger.task``."""

    def __init__(self, ledger: Ledger, function: Callable[P, Any], name: str, options: Options, traits: Traits) -> None:
        self.ledger = ledger
        self.function = function
        self.name = name
        self.options = options
        self.traits = traits
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = inspect.signature(function)
        check_hide(traits.hide, self.signature, name)
        self._names = tuple(self.signature.parameters)
        self._plain = _plain_parameters(self.signature)
        self._rest = next((p.name for p in self.signature.parameters.values() if p.kind is p.VAR_POSITIONAL), None)
        self._by_position = _positional(self.signature)
        self._stored_retries: dict[Retry, Any] = {}
        self._said: tuple[Options, dict[str, Any]] | None = None
        self.__name__ = getattr(function, "__name__", name)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function here and now, past the ledger."""
        return self.function(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Bind the arguments to the function's signature, defaults included, without queueing.

        Raises:
            InvalidArguments: They do not fit the signature.

            InvalidValue: One of them is not JSON within the limits.
        """
        return Call(self, self.bind(args, kwargs), self.options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Queue one call; durable when it returns, or with the caller's commit if `using` was given a connection.

        Raises:
            InvalidArguments: They do not fit the signature.

            InvalidValue: One of them is not JSON within the limits.

            IdentityNotFound: It shall run as somebody who does not exist or is not active.

            StorageUnavailable: The database, or the given connection, cannot be used now.
        """
        return self.ledger.enqueue(self.call(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Queue one call from async code: as `enqueue` does, but the commit runs in a thread.

        Raises:
            asyncio.CancelledError: The await was cancelled; see `ledger.asynchronous.in_thread`.
        """
        return await self.ledger.aenqueue(self.call(*args, **kwargs))

    def reschedule_or_queue(self, *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Move the waiting task that is equal to this call to its due time, or queue it where there is none.

        Equal is what has the same unique key, by default name, arguments and run_as. The due time is that of
        ``.using(run_after=…)``; without one nothing is moved. A running task is left alone. `Task.answer` tells which.

        Raises:
            Conflict: The waiting task expires before then, and the call says no other expiry.
        """
        return self.using().reschedule_or_queue(*args, **kwargs)

    def using(self, **options: Unpack[CallOptions]) -> Using[P, R]:
        """Return this task with other options (see `Options`) for the calls made through it.

        Raises:
            InvalidOption: There is no such option, or a value is outside what is allowed.
        """
        return Using(self, self.options.merged(options))

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by parameter name, defaults included, checked as JSON."""
        given = kwargs if not args else {**dict(zip(self._by_position, args, strict=False)), **kwargs}
        if given.keys() == self._plain and len(given) == len(args) + len(kwargs):
            bound = {name: given[name] for name in self._names}
        else:
            try:
                binding = self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidArguments(f"{self.name}{self._shown} cannot be called so: {error}") from None
            binding.apply_defaults()
            bound = dict(binding.arguments)
            if self._rest is not None:
                bound[self._rest] = list(bound[self._rest])  # how Python hands over *args; any other tuple is no JSON
        try:
            copy: dict[str, Any] = copy_json(bound, f"the arguments of {self.name}")
        except InvalidValue:
            for name, value in bound.items():  # one of them has the fault, and is named
                self._check(name, value)
            raise
        return copy

    def _check(self, name: str, value: Any) -> None:
        try:
            copy_json(value, f"argument {name!r} of {self.name}")
        except InvalidValue:
            if name not in self.traits.hide:
                raise
            said = f"argument {name!r} of {self.name} is not JSON within the limits; it is hidden, so no more is said"
            raise InvalidValue(said) from None

    @property
    def _shown(self) -> str:
        return shown_signature(self.signature, self.traits.hide)

    def unbind(self, stored: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return (positional, by keyword) to call the function with arguments as `bind` stored them.

        Raises:
            InvalidArguments: The function has changed and does not take them any more.
        """
        if stored.keys() == self._plain:
            return [], stored
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        left = dict(stored)
        by_position: set[Any] = {inspect.Parameter.POSITIONAL_ONLY}
        if self._rest is not None and stored.get(self._rest):
            by_position.add(inspect.Parameter.POSITIONAL_OR_KEYWORD)
        is_gap = False
        for name, parameter in self.signature.parameters.items():
            if name not in left:
                is_gap = is_gap or parameter.kind in by_position
                continue
            value = left.pop(name)
            if parameter.kind is parameter.VAR_POSITIONAL and not (is_gap and value):
                args.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind in by_position and not is_gap:
                args.append(value)
            else:  # by name: what is new before it must not take its value
                kwargs[name] = value
        try:
            self.signature.bind(*args, **kwargs, **left)
        except TypeError as error:
            raise InvalidArguments(f"{self.name}{self._shown} no longer takes these arguments: {error}") from None
        return args, kwargs

    def said_by(self, options: Options) -> dict[str, Any]:
        """Return the fields of `Queue` that *options* say for every call alike, made once for those used last."""
        said = self._said
        if said is None or said[0] is not options:
            command = Queue(
                name=self.name,
                args={},
                queue=options.queue,
                priority=options.priority,
                run_as=options.run_as,
                retry=_NO_RETRY if options.retry is False else self.stored_retry(options.retry),
                max_attempts=options.attempts,
                timeout=options.timeout,
                kill_after=options.kill_after,
                unique_until=options.unique_until,
                concurrency_key=options.concurrency_key,
                hidden=list(self.traits.hide) or None,
            )
            said = self._said = options, vars(command)
        return said[1]

    def stored_retry(self, retry: Retry) -> Any:
        """Return the stored form of *retry*, made once."""
        stored = self._stored_retries.get(retry)
        if stored is None:
            stored = self._stored_retries[retry] = retry.stored()
        return stored


class AsyncTaskFunction(TaskFunction[P, R]):
    """A registered async function; calling it gives a coroutine as before."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the function's coroutine, past the ledger."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class SyncTaskFunction(TaskFunction[P, R]):
    """A registered plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, past the ledger."""
        result: R = self.function(*args, **kwargs)
        return result


def _positional(signature: inspect.Signature) -> tuple[str, ...]:
    """Return the names of the parameters that can be passed by position and by keyword, in their order."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return tuple(parameter.name for parameter in signature.parameters.values() if parameter.kind is kind)


def _plain_parameters(signature: inspect.Signature) -> frozenset[str] | None:
    """Return the parameters' names if each can be passed by keyword, else None."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if all(parameter.kind in kinds for parameter in signature.parameters.values()):
        return frozenset(signature.parameters)
    return None
