"""Queue calls: in a commit of the ledger's own, or as rows of the inbox in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ledger import acts, callers, inbox
from ledger.actors import actor_text
from ledger.acts import NewTask
from ledger.asynchronous import Gate, in_thread
from ledger.callers import Caller, caller_of
from ledger.commands import Act
from ledger.current import current, current_or_none
from ledger.errors import InvalidOption, NotRegistered
from ledger.functions import Call
from ledger.handle import Task
from ledger.ids import mint
from ledger.sqlite import SqliteStore
from ledger.values import check_reason, shown

if TYPE_CHECKING:
    from ledger.api import Ledger

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Tasks to be queued together, checked; *connection* is the caller's, None for a commit of the ledger's own."""

    tasks: Sequence[NewTask]
    actor: str | None
    reason: str | None
    connection: Any = None


class Queueing:
    """What `Ledger.enqueue` and its like do."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def one(self, call: Call[R]) -> Task[R]:
        """Queue one call; see `TaskFunction.enqueue`."""
        request = self._request_of_one(call)
        if call.options.with_outcome:
            return self._child(request)
        [task] = self._queue(request)
        return task

    async def one_async(self, call: Call[R]) -> Task[R]:
        """Queue one call from async code; see `TaskFunction.aenqueue`."""
        request = self._request_of_one(call)
        if call.options.with_outcome:
            return self._child(request)  # nothing is stored yet
        [task] = await self._queue_async(request)
        return task

    def many(
        self, calls: Iterable[Call[Any]], actor: str | None, reason: str | None, connection: Any
    ) -> list[Task[Any]]:
        """Queue many calls together; see `Ledger.enqueue_many`."""
        return self._queue(self._request_of_many(calls, actor, reason, connection))

    async def many_async(
        self, calls: Iterable[Call[Any]], actor: str | None, reason: str | None, connection: Any
    ) -> list[Task[Any]]:
        """Queue many calls together from async code."""
        return await self._queue_async(self._request_of_many(calls, actor, reason, connection))

    def _request_of_one(self, call: Call[Any]) -> Request:
        new = self._checked(call).new_task(mint(self._ledger.clock.now()), self._parent())
        options = call.options
        if options.with_outcome and options.connection is not None:
            raise InvalidOption("with_outcome queues with the running attempt's success; it takes no connection")
        return Request(tasks=[new], actor=options.actor, reason=options.reason, connection=options.connection)

    def _request_of_many(
        self, calls: Iterable[Call[Any]], actor: str | None, reason: str | None, connection: Any
    ) -> Request:
        if not isinstance(calls, Iterable):
            raise InvalidOption(f"{shown(calls)} is no series of calls; make them with .call(…)")
        parent, now = self._parent(), self._ledger.clock.now()
        tasks: list[NewTask] = []
        own: dict[int, Any] = {}
        for call in calls:
            if self._checked(call).options.with_outcome:
                raise InvalidOption("with_outcome is for a single enqueue inside a task, not for enqueue_many")
            tasks.append(call.new_task(mint(now), parent))
            own[id(call.options.connection)] = call.options.connection
        if connection is None and tasks:
            if len(own) > 1:
                raise InvalidOption("the calls have several connections; enqueue_many queues all in one transaction")
            [connection] = own.values()
        return Request(tasks=tasks, actor=actor, reason=reason, connection=connection)

    def _child(self, request: Request) -> Task[Any]:
        [new] = request.tasks
        self._ledger.principals.check(new.command.run_as)
        running = current()
        if running.ledger is not self._ledger:
            raise InvalidOption("with_outcome is for the ledger that the running task is in; this is another one")
        running.children.append(new)
        return Task(self._ledger, new.task_id)

    def _queue(self, request: Request, gate: Gate | None = None) -> list[Task[Any]]:
        """Queue in one commit, through the *gate* that may still give it up, or in the caller's transaction."""
        if not request.tasks:
            return []
        self._check_users(request)
        if request.connection is not None:
            caller = caller_of(request.connection)
            return self._put(request, caller)
        ledger = self._ledger
        if gate is not None:
            gate.enter()
        with acts.transaction_for(ledger.store, request.tasks) as unit:
            answers = acts.enqueue(unit, request.tasks, ledger.act(unit, request.actor, request.reason))
            if gate is not None:
                gate.leave()
        return [Task(ledger, answer.task_id, answer=answer.answer) for answer in answers]

    async def _queue_async(self, request: Request) -> list[Task[Any]]:
        connection = request.connection
        if connection is None or not request.tasks:
            return await in_thread(lambda gate: self._queue(request, gate))
        if not callers.is_asynchronous(connection):
            return self._queue(request)  # in place: another thread might still write when the caller has gone on
        self._check_users(request)
        if hasattr(connection, "run_sync"):
            done: list[Task[Any]] = await connection.run_sync(lambda sync: self._put(request, caller_of(sync)))
            return done
        store = self._ledger.store
        if isinstance(store, SqliteStore):
            raise InvalidOption(f"connection is one to PostgreSQL, this ledger is in {store.path}")
        from ledger import postgres_caller  # its driver is an extra

        await postgres_caller.acheck(store, connection)  # type: ignore[arg-type]
        await postgres_caller.aput(store, connection, self._rows(request))  # type: ignore[arg-type]
        return self._handles(request)

    def _put(self, request: Request, caller: Caller) -> list[Task[Any]]:
        store = self._ledger.store
        place: Any
        if isinstance(store, SqliteStore):
            from ledger import sqlite_caller as place
        else:
            from ledger import postgres_caller as place
        place.check(store, caller)
        place.put(store, caller, self._rows(request))
        return self._handles(request)

    def _rows(self, request: Request) -> str:
        now = self._ledger.clock.now()
        check_reason(request.reason)
        act = Act(id="", at=now, actor=actor_text(request.actor), reason=request.reason)
        return inbox.rows_for(request.tasks, act, [mint(now) for _ in request.tasks])

    def _handles(self, request: Request) -> list[Task[Any]]:
        return [Task(self._ledger, new.task_id) for new in request.tasks]

    def _check_users(self, request: Request) -> None:
        for user in {one.command.run_as for one in request.tasks}:
            self._ledger.principals.check(user)

    def _parent(self) -> str | None:
        """Return the id of the running task, if it runs for this ledger."""
        running = current_or_none()
        return running.id if running is not None and running.ledger is self._ledger else None

    def _checked(self, call: Call[Any]) -> Call[Any]:
        if not isinstance(call, Call):
            raise InvalidOption(f"{shown(call)} is no call of a task; make one with .call(…)")
        if self._ledger.functions.get(call.function.name) is not call.function:
            raise NotRegistered(f"task {call.function.name!r} is another ledger's; queue it there, or register it here")
        return call
