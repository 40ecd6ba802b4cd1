"""Decide which events a command on the running of tasks causes: limits, pauses, stops, recycling. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger import control_events as ce
from ledger.clock import to_us
from ledger.commands import Act, envelope
from ledger.errors import Conflict
from ledger.events import Event
from ledger.limits import SOURCES, UNLIMITED, Limit, limit_stream

QUEUE_PREFIX = "queue:"
RUNNERS, ENABLED, STOP, CACHES = "runners", "enabled", "stop", "caches"
"""Marks: the runners are disabled; when they were last enabled, told to stop, told to be made anew."""
LIMITS = "limits"
"""The mark of the newest change of any limit."""


def queue_stream(queue: str) -> str:
    """Return the stream of the queue of this name."""
    return QUEUE_PREFIX + queue


class Mark(NamedTuple):
    """What governs the claims from a position on, who said it, when and why.

    *mark* is ``runners`` (they are disabled), ``enabled``, ``stop``, ``caches``, ``limits`` (the newest of each kind) or
    ``queue:<name>`` (it is paused).
    """

    mark: str
    position: int
    at_us: int
    actor: str
    reason: str | None


class SwitchState(NamedTuple):
    """A queue, or the runners: whether they are on. *version* is that of the stream."""

    stream: str
    version: int = 0
    is_off: bool = False


class LimitState(NamedTuple):
    """What each source says of one scope: at most so many, −1 for any number, None for nothing.

    *at_us*, *actor* and *reason* are those of the newest change.
    """

    scope: str
    version: int = 0
    code: int | None = None
    hand: int | None = None
    configuration: int | None = None
    app: str | None = None
    """The application whose code says it."""
    at_us: int = 0
    actor: str = ""
    reason: str | None = None

    @property
    def in_force(self) -> Limit | None:
        """The limit that counts, or None where no source says anything."""
        for source in reversed(SOURCES):
            if (most := getattr(self, source)) is not None:
                return Limit(self.scope, None if most == UNLIMITED else most, source)
        return None


@dataclass(frozen=True, slots=True)
class TurnOff:
    """Pause the queue, or disable the runners."""


@dataclass(frozen=True, slots=True)
class TurnOn:
    """Resume the queue, or enable the runners."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimit:
    """Let at most *most* run at once, None: any number."""

    source: str
    most: int | None
    app: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetLimit:
    """Take back what the source says."""

    source: str


def turn(state: SwitchState, command: TurnOff | TurnOn, act: Act) -> list[Event]:
    """Return the event that turns a queue or the runners on or off; none where they are so already."""
    is_off = isinstance(command, TurnOff)
    if state.is_off is is_off:
        return []
    if state.stream.startswith(QUEUE_PREFIX):
        cls: type[Event] = ce.QueuePaused if is_off else ce.QueueResumed
    else:
        cls = ce.RunnersDisabled if is_off else ce.RunnersEnabled
    return [cls(originator_id=state.stream, originator_version=state.version + 1, **envelope(act))]


def change(state: LimitState, command: SetLimit | ResetLimit, act: Act) -> list[Event]:
    """Return the event that changes what a source says of a limit; none where it says so already.

    Raises:
        Conflict: It is said by hand while the configuration says something else, which would count all the same.
    """
    most = None if isinstance(command, ResetLimit) else _kept(command.most)
    if command.source == "hand" and state.configuration is not None:
        verb = "set" if isinstance(command, SetLimit) else "reset"
        raise Conflict(
            f"the limit of {state.scope} is said by the configuration (limits), which counts before anybody; "
            f"{verb} is possible once it is not"
        )
    if most == getattr(state, command.source):
        return []
    return [
        ce.LimitChanged(
            originator_id=limit_stream(state.scope),
            originator_version=state.version + 1,
            source=command.source,
            most=command.most if isinstance(command, SetLimit) else None,
            app=command.app if isinstance(command, SetLimit) else None,
            reset=isinstance(command, ResetLimit),
            **envelope(act),
        )
    ]


def evolve_switch(state: SwitchState, event: Event) -> SwitchState:
    """Return the queue or the runners as they are after *event*. Never fails."""
    match event:
        case ce.QueuePaused() | ce.RunnersDisabled():
            return state._replace(version=event.originator_version, is_off=True)
        case ce.QueueResumed() | ce.RunnersEnabled():
            return state._replace(version=event.originator_version, is_off=False)
        case _:
            return state._replace(version=event.originator_version)


def evolve_limit(state: LimitState, event: Event) -> LimitState:
    """Return the limit as it is after *event*. Never fails."""
    if not isinstance(event, ce.LimitChanged) or event.source not in SOURCES:
        return state._replace(version=event.originator_version)
    changes: dict[str, Any] = {event.source: None if event.reset else _kept(event.most)}
    if event.source == "code":
        changes["app"] = event.app
    return state._replace(
        version=event.originator_version, at_us=to_us(event.at), actor=event.actor, reason=event.reason, **changes
    )


def _kept(most: int | None) -> int:
    return UNLIMITED if most is None else most
