"""Offer what governs the running of tasks to Python code: `Ledger.controls`, for limits, pauses, stops, recycling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ledger import control_acts
from ledger.control_events import CachesCleared, StopRequested
from ledger.control_rules import LimitState, ResetLimit, SetLimit, SwitchState, TurnOff, TurnOn
from ledger.errors import InvalidOption
from ledger.limits import TASK, check_most, check_scope
from ledger.store import Snapshot
from ledger.values import check_name, check_reason, is_number, shown

if TYPE_CHECKING:
    from ledger.api import Ledger

WAIT_SECONDS = 600.0
"""How long `disable_runners` waits by default for what runs, where it is asked to wait."""
LOOK_SECONDS = 0.1
MOST_WAIT_SECONDS = 31_536_000


class Controls:
    """What governs the running of one ledger's tasks. Every change has an actor and a reason, and is an event."""

    def __init__(self, ledger: Ledger, limits: Mapping[str, int | None] | None = None) -> None:
        if limits is not None and not isinstance(limits, Mapping):
            raise InvalidOption(f"limits is {shown(limits)}; allowed is a mapping of scopes to numbers")
        self._ledger = ledger
        self._limits = {check_scope(scope): check_most(most) for scope, most in (limits or {}).items()}

    def declared(self) -> dict[str, int | None]:
        """Return the limits that this process's code declares, by scope; a worker's start brings them into the log.

        Raises:
            InvalidOption: The limit of a task is declared twice, with the task and with the ledger.
        """
        found = dict(self._limits)
        for name, function in self._ledger.functions.items():
            if function.traits.limit is None or name != function.name:
                continue  # what was queued under an alias counts with the task
            scope = f"{TASK}:{name}"
            if scope in found:
                raise InvalidOption(f"the limit of {scope} is declared twice: with the task, and in Ledger(limits=…)")
            found[scope] = function.traits.limit
        return found

    def register(
        self,
        *,
        app: str | None = None,
        configuration: Mapping[str, int | None] | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> list[str]:
        """Bring the log to the limits of this code and of the *configuration*; return the scopes that changed.

        *app* names the code; by default it is the ledger's name. What it declared before and does no more is reset.

        Raises:
            InvalidOption: A limit is outside what is allowed.
        """
        code = self.declared()
        said = configuration
        if said is not None:
            said = {check_scope(scope): check_most(most) for scope, most in said.items()}
        with self._ledger.store.write() as unit:
            act = self._ledger.act(unit, actor, reason)
            name = self._ledger.name if app is None else app
            return control_acts.register(unit, act, app=name, code=code, configuration=said)

    def limits(self) -> list[LimitState]:
        """Return what is said of every scope that has a limit."""
        with self._ledger.store.read() as snapshot:
            return control_acts.limits(snapshot)

    def set_limit(self, scope: str, most: int | None, *, reason: str, actor: str | None = None) -> LimitState:
        """Let at most *most* tasks of *scope* run at once; None: any number, whatever the code or a pattern says.

        *scope* is ``ledger``, ``queue:NAME``, ``task:NAME`` or ``key:KEY``; with ``*`` in the name each that fits is
        counted by itself. What runs is never stopped for it.

        Raises:
            InvalidOption: The scope or the number is outside what is allowed.

            Conflict: The configuration says the limit of this scope.
        """
        return self._change(scope, SetLimit(source="hand", most=check_most(most)), reason, actor, "limit set")

    def reset_limit(self, scope: str, *, reason: str, actor: str | None = None) -> LimitState:
        """Take back what was set by hand: the code's limit counts again, where there is one. See `set_limit`."""
        return self._change(scope, ResetLimit(source="hand"), reason, actor, "limit reset")

    def _change(
        self, scope: str, command: SetLimit | ResetLimit, reason: str, actor: str | None, verb: str
    ) -> LimitState:
        _require_reason(reason, verb)
        scope = check_scope(scope)
        with self._ledger.store.write() as unit:
            return control_acts.change_limit(unit, scope, command, self._ledger.act(unit, actor, reason))[0]

    def pause(self, queue: str, *, reason: str, actor: str | None = None) -> bool:
        """Claim nothing of the queue until it is resumed; what runs may finish. False if it was paused."""
        return self._switch(lambda unit: control_acts.queue_of(unit, queue), TurnOff(), reason, actor, "pause", queue)

    def resume(self, queue: str, *, reason: str, actor: str | None = None) -> bool:
        """Claim tasks of the queue again; False if it was not paused."""
        return self._switch(lambda unit: control_acts.queue_of(unit, queue), TurnOn(), reason, actor, "resume", queue)

    def is_paused(self, queue: str) -> bool:
        """Return whether the queue is paused."""
        with self._ledger.store.read() as snapshot:
            return control_acts.queue_of(snapshot, queue).is_off

    def disable_runners(self, *, reason: str, actor: str | None = None) -> bool:
        """Claim nothing and fire no schedule until they are enabled; what runs may finish. False if they were."""
        return self._switch(control_acts.runners, TurnOff(), reason, actor, "disable")

    def enable_runners(self, *, reason: str, actor: str | None = None) -> bool:
        """Claim tasks and fire schedules again; False if they were enabled."""
        return self._switch(control_acts.runners, TurnOn(), reason, actor, "enable")

    def are_disabled(self) -> bool:
        """Return whether the runners are disabled."""
        with self._ledger.store.read() as snapshot:
            return control_acts.runners(snapshot).is_off

    def wait_until_idle(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait until no task runs, at most so many seconds; return how many do then.

        Raises:
            InvalidOption: *seconds* is outside what is allowed.
        """
        if not is_number(seconds) or not 0 <= seconds <= MOST_WAIT_SECONDS:
            raise InvalidOption(f"wait is {shown(seconds)}; allowed is a number of seconds, 0 to {MOST_WAIT_SECONDS}")
        clock = self._ledger.clock
        deadline = clock.monotonic() + seconds
        while (count := self._count_running()) and clock.monotonic() < deadline:
            clock.sleep(LOOK_SECONDS)
        return count

    def _count_running(self) -> int:
        with self._ledger.store.read() as snapshot:
            if not snapshot.rows(control_acts.SQL["has_view"]):
                return 0  # no worker has ever been here
            return int(snapshot.rows(control_acts.SQL["count_running"])[0][0])

    def stop(self, *, reason: str, actor: str | None = None) -> int:
        """Let every run that has begun by now, on every host, finish what it runs and end; return the position.

        What begins later is not concerned.
        """
        return self._announce(StopRequested, reason, actor, "stop")

    def clear_caches(self, *, reason: str, actor: str | None = None) -> int:
        """Have every worker that has started by now, on every host, replaced by a new process; return the position.

        Each finishes what it runs and begins nothing more.
        """
        return self._announce(CachesCleared, reason, actor, "recycle")

    def _announce(self, kind: type[StopRequested | CachesCleared], reason: str, actor: str | None, verb: str) -> int:
        _require_reason(reason, verb)
        with self._ledger.store.write() as unit:
            return control_acts.announce(unit, kind, self._ledger.act(unit, actor, reason))

    def _switch(
        self,
        load: Callable[[Snapshot], SwitchState],
        command: TurnOff | TurnOn,
        reason: str,
        actor: str | None,
        verb: str,
        queue: str | None = None,
    ) -> bool:
        _require_reason(reason, verb)
        if queue is not None:
            check_name(queue, "queue")
        with self._ledger.store.write() as unit:
            return control_acts.switch(unit, load(unit), command, self._ledger.act(unit, actor, reason))


def _require_reason(reason: str, verb: str) -> None:
    if check_reason(reason) is None:
        raise InvalidOption(f"{verb} needs a reason, which is kept in the log")
