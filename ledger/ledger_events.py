"""State what happened to the ledger beside its tasks: notices, reads on record, what was pruned; facts like the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ledger.event import Event


@dataclass(frozen=True, kw_only=True)
class NoticeRaised(Event):
    """Something needs a person: *kind* says what, *about* which stream (``task:…``, ``schedule:…``)."""

    TOPIC: ClassVar[str] = "NoticeRaised.v1"

    kind: str
    about: str
    name: str
    """The name of the task or schedule."""
    text: str
    details: dict[str, Any] | None = None
    """What the notice was decided from, as far as the stream it is about does not tell."""


@dataclass(frozen=True, kw_only=True)
class OutputPruned(Event):
    """What attempts of the task *name* had printed was deleted; their outcomes keep its digest. Stream ``output:<name>``.

    Not of the stream ``ledger``, which every look at a schedule reads whole.
    """

    TOPIC: ClassVar[str] = "OutputPruned.v1"

    name: str
    attempts: list[list[str | int]]
    """Pairs of task id and attempt number."""
    bytes: int
    """Size of the deleted rows."""
    cause: str
    """The rule that it fell under."""


@dataclass(frozen=True, kw_only=True)
class ReadRecorded(Event):
    """The actor was shown what is hidden or watched of a task: *what* lists ``arguments``, ``result``, ``output``."""

    TOPIC: ClassVar[str] = "ReadRecorded.v1"

    task: str
    what: list[str]


@dataclass(frozen=True, kw_only=True)
class ForkQueued(Event):
    """*task* was queued as a changed copy of the task whose stream of forks this is: ``forks:<task id>``."""

    TOPIC: ClassVar[str] = "ForkQueued.v1"

    task: str


@dataclass(frozen=True, kw_only=True)
class InboxDiscarded(Event):
    """What was queued as *task* in a caller's transaction, and could not be taken in, was deleted: ``inbox:<task id>``."""

    TOPIC: ClassVar[str] = "InboxDiscarded.v1"

    task: str
    error: str
    """Why it could not be taken in."""
    sha256: str
    """Of what was deleted: its topic, a line's end, and its state as it stood in the inbox."""


LEDGER_EVENT_CLASSES: tuple[type[Event], ...] = (
    NoticeRaised,
    OutputPruned,
    ReadRecorded,
    ForkQueued,
    InboxDiscarded,
)
