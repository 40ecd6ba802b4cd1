"""State what every event has: the envelope around the facts of `ledger.events` and `ledger.schedule_events`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self, TypedDict


class ErrorDetail(TypedDict, total=False):
    """What is kept of an exception: its type, message and traceback as text."""

    type: str
    message: str
    traceback: str


class OutputDigest(TypedDict, total=False):
    """What an outcome says of what the attempt printed: SHA-256 of the kept text in order as UTF-8, and counts."""

    sha256: str
    bytes: int
    lines: int
    dropped_bytes: int
    dropped_lines: int


class Usage(TypedDict, total=False):
    """What an attempt took: CPU of its thread, and the most memory its process ever had until then."""

    cpu_seconds: float
    peak_rss_bytes: int


# Events have no slots: the library's mapper contract reads and fills their __dict__.
@dataclass(frozen=True, kw_only=True)
class Event:
    """The envelope that every event has."""

    TOPIC: ClassVar[str]

    originator_id: str
    """Stream: ``task:<uuid>``, ``key:<digest>``, ``worker:<id>``, ``schedule:<name>``, ``queue:<name>``, ``limit:<scope>``,
    ``output:<name>``, ``forks:<task id>``, ``reads:<task id>``, ``inbox:<task id>``, ``ledger``."""
    originator_version: int
    """Index in the stream, from 1."""
    command: str
    """Id (uuid7) of the act that caused it; the events of one act share it."""
    at: datetime
    """The decision's present, aware UTC, read once per transaction from the store's clock."""
    actor: str
    """Who asked: ``user:…``, ``worker:…`` or ``system:…``."""
    reason: str | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Return the event of these *fields*, which become its own; those left out have their defaults by the class.

        For the events that come by the thousand: the constructor of a frozen class sets its fields one by one.
        """
        event = object.__new__(cls)
        object.__setattr__(event, "__dict__", fields)
        return event
