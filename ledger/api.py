"""Offer the ledger to Python code: declare tasks, queue them, look at them, change their course."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, overload

from ledger import acts, inbox, past
from ledger.actors import actor_text
from ledger.clock import Clock
from ledger.commands import Act, Cancel, Reschedule
from ledger.controls import Controls
from ledger.cron import Fields
from ledger.current import Current, current
from ledger.declarations import fields_of
from ledger.decorators import Decorator, ScheduleDecorator
from ledger.errors import InvalidOption, NotRegistered
from ledger.functions import AsyncTaskFunction, Call, SyncTaskFunction, TaskFunction
from ledger.handle import Task
from ledger.identities import Identities, Principals
from ledger.ids import mint
from ledger.legacy import Legacy
from ledger.notices import Hook
from ledger.options import SYSTEM_IDENTITY, Around, LedgerOptions, Options, RunOptions, TaskOptions, hooks, split
from ledger.projection import Projections
from ledger.queueing import Queueing
from ledger.schedules import Schedules
from ledger.store import Appender, Store
from ledger.stores import open_store
from ledger.values import check_name, check_reason, require_reason, shown

P = ParamSpec("P")
R = TypeVar("R")
H = TypeVar("H", bound=Hook)
AroundHook = TypeVar("AroundHook", bound=Around)

DEFAULT_URL = "sqlite:///workledger.db"
_SCHEDULE_OPTIONS = ("timezone", "enabled", "args", "component", "always", "misfire", "jitter")


class Ledger:
    """A log of tasks in one database, and the functions that may run for it. Making one does no I/O.

    *url* is ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``postgresql://…`` or ``memory:``; *name* tells its
    workers apart in events; *limits* say how many tasks may run at once, by scope (see `Controls.set_limit`); *clock*
    is for tests. *identities* say who tasks may run as, by default anybody; *system_identity* is whom they run as where
    nothing else is said. *around* is entered around every attempt: see `around`.

    Raises:
        InvalidOption: One of these is outside what is allowed.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        clock: Clock | None = None,
        name: str = "",
        limits: Mapping[str, int | None] | None = None,
        identities: Identities | None = None,
        system_identity: str = SYSTEM_IDENTITY,
        around: Around | Sequence[Around] = (),
    ) -> None:
        self._given_clock = clock
        self.store: Store
        self.clock: Clock
        self.principals = Principals(identities, system_identity)
        """Who tasks may run as: the identities, and the system's own beside them."""
        self.hooks = hooks(around)
        self.move_to(url)
        self.name = name
        self.functions: dict[str, TaskFunction[Any, Any]] = {}
        """The registered tasks by name; one with aliases stands under each of them too."""
        self.notice_hooks: dict[str, Hook] = {}
        """What is called with each notice, by name; see `on_notice`."""
        self.schedules = Schedules(self)
        """The schedules of this ledger: to look at them and to change them."""
        self.projections = Projections()
        self.projection = self.projections.declare
        """Registers a fold of the log into tables of the application's own; see `Projections.declare`."""
        self.controls = Controls(self, limits)
        """What governs the running of its tasks: limits, pauses, stops, recycling."""
        self._queueing = Queueing(self)
        self.legacy = Legacy(self)
        """The cron functions of old modules."""

    @classmethod
    def from_env(cls, **options: Unpack[LedgerOptions]) -> Ledger:
        """Return the ledger of ``WORKLEDGER_URL``, else of ``url`` in the settings' file, else the default one.

        Raises:
            InvalidOption: A setting there is outside what is allowed.
        """
        from ledger.settings import load  # its libraries take longer to import than all of the ledger

        return cls(load().url or DEFAULT_URL, **options)

    def move_to(self, url: str) -> None:
        """Go on with the same functions on the database of *url*; the events of the other stay there.

        Raises:
            InvalidOption: It is no URL of a ledger, or the driver for it is not installed.
        """
        self.store = open_store(url, self._given_clock)
        self.clock = self.store.clock

    @property
    def url(self) -> str:
        """The URL as it was given."""
        return self.store.url

    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        self.store.close()

    @overload
    def task(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTaskFunction[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTaskFunction[P, R]: ...
    @overload
    def task(self, *, name: str | None = None, **options: Unpack[TaskOptions]) -> Decorator: ...
    def task(  # type: ignore[misc]
        self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> Any:
        """Register a plain or async function as a task, with or without options (see `Options` and `Traits`).

        Raises:
            InvalidOption: The name is taken, there is no such option, or one is outside what is allowed.
        """
        decorator = Decorator(self, name, *split({"run_as": self.principals.system, **options}))
        return decorator if function is None else decorator(function)

    def schedule(
        self,
        expression: str | None = None,
        /,
        *,
        minute: str | None = None,
        hour: str | None = None,
        day: str | None = None,
        month: str | None = None,
        dayofweek: str | None = None,
        timezone: str | None = None,
        name: str | None = None,
        enabled: bool = True,
        args: Mapping[str, Any] | None = None,
        component: str | None = None,
        always: bool = False,
        misfire: Literal["one", "skip", "all"] = "one",
        jitter: float = 0.0,
        **options: Unpack[RunOptions],
    ) -> ScheduleDecorator:
        """Register a function as a task that runs by a schedule: ``"minute hour day month dayofweek"`` or by fields.

        The schedule has the name of the task. Without *timezone* the installation's is meant, by default UTC. *args*
        are the arguments of every run. A run never gives up unless *max_attempts* says so. With *always* it runs
        although its *component* is disabled. Nothing is stored before a worker starts or `schedule sync`.

        Raises:
            InvalidSchedule: A field or the time zone is not allowed, or it would never fire.

            InvalidOption: The name is taken, or an option is outside what is allowed.
        """
        named = {k: v for k, v in locals().items() if k in Fields._fields}
        own = {k: v for k, v in locals().items() if k in _SCHEDULE_OPTIONS}
        settled = split({"max_attempts": None, "run_as": self.principals.system, **options}, RunOptions)
        return ScheduleDecorator(self, name, *settled, fields_of(expression, named), own)

    def register(self, task: TaskFunction[Any, Any]) -> None:
        """Add *task* under its name and its aliases.

        Raises:
            InvalidOption: Another function has one of them as its name or alias.
        """
        check_name(task.name, "task name")
        names = (task.name, *task.traits.aliases)
        for name in names:
            if name in self.functions or names.count(name) > 1:
                what = "a task" if name == task.name else f"task {task.name!r} has the alias {name!r}, but a task"
                raise InvalidOption(f"{what} named {name!r} is registered already; give one of them name='…'")
        self.functions.update(dict.fromkeys(names, task))

    def on_notice(self, hook: H) -> H:
        """Have *hook* called with each `Notice` that is raised from now on, by a worker; a decorator.

        At least once each, in order, beside the queue. What it raises is logged, and it is tried again later.

        Raises:
            InvalidOption: It cannot be called so, or there is a hook of its name.
        """
        if not callable(hook) or inspect.iscoroutinefunction(hook):
            raise InvalidOption(f"a hook for notices is a plain function of one notice; {shown(hook)} is none")
        name = f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"
        if name in self.notice_hooks:
            raise InvalidOption(f"there is a hook {name} for notices already; its name tells what it was given")
        self.notice_hooks[name] = hook
        return hook

    def function(self, name: str) -> TaskFunction[Any, Any]:
        """Return the registered task of this *name*.

        Raises:
            NotRegistered: There is none; the message lists those there are.
        """
        found = self.functions.get(name)
        if found is None:
            known = ", ".join(sorted(self.functions)[:20]) or "none"
            raise NotRegistered(f"no task named {name!r} is registered; registered are: {known}")
        return found

    def around(self, hook: AroundHook) -> AroundHook:
        """Have *hook* called with each attempt (a `Current`), and what it returns entered around it.

        It is entered after the identity was taken on, outside of the task's own; those added first are outermost. It
        sees what the task raises; what it raises itself is the failure of the attempt. A decorator of a function that
        is a ``contextlib.contextmanager``.

        Raises:
            InvalidOption: It is no function.
        """
        self.hooks += hooks(hook)
        return hook

    def require_capability(self, name: str, user: str) -> None:
        """Return if *user* has the capability *name*; inside a task `current().require_capability` knows the user.

        Raises:
            CapabilityMissing: It has not.
        """
        self.principals.require(name, user)

    def enqueue(self, call: Call[R]) -> Task[R]:
        """Queue one call, durable when it returns, or in the caller's transaction; see `TaskFunction.enqueue`."""
        return self._queueing.one(call)

    async def aenqueue(self, call: Call[R]) -> Task[R]:
        """Queue one call from async code; see `TaskFunction.aenqueue`."""
        return await self._queueing.one_async(call)

    def enqueue_many(
        self,
        calls: Iterable[Call[Any]],
        *,
        actor: str | None = None,
        reason: str | None = None,
        connection: Any = None,
    ) -> list[Task[Any]]:
        """Queue many calls in one commit: all of them or none. Their own actor and reason give way to these.

        With a *connection*, given here or by all of the calls, they are queued in its transaction.

        Raises:
            InvalidOption: A call is `with_outcome`, which has no place here; or the connection does not do.

            IdentityNotFound: One shall run as somebody who does not exist or is not active.
        """
        return self._queueing.many(calls, actor, reason, connection)

    async def aenqueue_many(
        self,
        calls: Iterable[Call[Any]],
        *,
        actor: str | None = None,
        reason: str | None = None,
        connection: Any = None,
    ) -> list[Task[Any]]:
        """Queue many calls in one commit from async code; see `enqueue_many` and `TaskFunction.aenqueue`."""
        return await self._queueing.many_async(calls, actor, reason, connection)

    def get(self, task_id: str) -> Task[Any]:
        """Return the task with this id.

        Raises:
            NotFound: The ledger has no such task.
        """
        task: Task[Any] = Task(self, task_id)
        _ = task.record
        return task

    async def aget(self, task_id: str) -> Task[Any]:
        """Return the task with this id from async code; see `get`."""
        return await asyncio.to_thread(self.get, task_id)

    def as_of(self, when: datetime | int) -> past.Past:
        """Return the ledger as it was at a position, or at a time: before the first position whose `at` is later.

        Raises:
            InvalidOption: *when* is neither, or lies in the future.
        """
        return past.as_of(self, when)

    def cancel(self, task_id: str, *, reason: str, actor: str | None = None) -> Task[Any]:
        """End a waiting task, or ask a running one to end (`current().cancelled`; 30 s later it is ended).

        Raises:
            NotFound: The ledger has no such task.

            Conflict: It has ended already.
        """
        require_reason(reason, "cancel")
        with self.store.write() as unit:
            inbox.take_in_one(unit, task_id)
            acts.act_on(unit, task_id, Cancel(), self.act(unit, actor, reason))
        return Task(self, task_id)

    def retry(self, task_id: str, *, reason: str, actor: str | None = None) -> Task[Any]:
        """Let a failed or cancelled task wait again, due at once, with all its attempts.

        Raises:
            NotFound: The ledger has no such task.

            Conflict: It has not failed or been cancelled, or another task holds its unique key.
        """
        require_reason(reason, "retry")
        with self.store.write() as unit:
            inbox.take_in_one(unit, task_id)
            acts.retry(unit, task_id, self.act(unit, actor, reason))
        return Task(self, task_id)

    def reschedule(
        self,
        task_id: str,
        run_after: datetime | timedelta,
        *,
        reason: str,
        actor: str | None = None,
        expires: datetime | timedelta | None = None,
    ) -> Task[Any]:
        """Make a waiting task due at *run_after*: an aware datetime, or a timedelta from now.

        *expires* is its new expiry, as for `Options`; without one the old one stays.

        Raises:
            NotFound: The ledger has no such task.

            Conflict: It is not waiting, or would expire before it is due.
        """
        require_reason(reason, "reschedule")
        if Options(run_after=run_after, expires=expires).run_after is None:
            raise InvalidOption("reschedule needs a time: an aware datetime, or a timedelta from now")
        with self.store.write() as unit:
            inbox.take_in_one(unit, task_id)
            due_at = unit.now + run_after if isinstance(run_after, timedelta) else run_after.astimezone(UTC)
            expires_at = due_at + expires if isinstance(expires, timedelta) else expires and expires.astimezone(UTC)
            move = Reschedule(due_at=due_at, expires_at=expires_at)
            acts.act_on(unit, task_id, move, self.act(unit, actor, reason))
        return Task(self, task_id)

    def current(self) -> Current:
        """Return the attempt that runs here; see `ledger.current.current`."""
        return current()

    def act(self, unit: Appender, actor: str | None = None, reason: str | None = None) -> Act:
        """Return an act of now by *actor*: by default the worker inside a task, else the operating system's user."""
        check_reason(reason)
        return Act(id=mint(unit.now), at=unit.now, actor=actor_text(actor), reason=reason)
