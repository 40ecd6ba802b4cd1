"""What governs claims, as the history checker understands it: limits, pauses, disabled runners, workers told to leave.

Like the checker it shares no code with the ledger: it has its own idea of what a limit is and of what a pattern fits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SOURCES = ("configuration", "hand", "code")
"""Who may say a limit; the first that says anything counts."""


@dataclass(slots=True)
class Rules:
    """What holds at one position of the log, and how many tasks run then."""

    paused: set[str] = field(default_factory=set)
    is_disabled: bool = False
    told: int = 0
    """Position of the newest call to all workers, to stop or to be made anew."""
    limits: dict[str, dict[str, int | None]] = field(default_factory=dict)
    """Scope → source → at most so many, None for any number."""
    started: dict[str, int] = field(default_factory=dict)
    """Worker → position of its start."""
    running: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Task → what it was queued with, while it runs."""
    peaks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The most that ever ran at once, by kind and name."""

    def begin(self, task: str, data: dict[str, Any]) -> None:
        """Count a task as running."""
        self.running[task] = data
        for kind, name in self._counted(data):
            self.peaks[kind, name] = max(self.peaks[kind, name], self._count(kind, name))

    def take(self, position: int, stream: str, kind: str, data: dict[str, Any]) -> bool:
        """Fold one event of a queue, a limit or the ledger; return whether it is known."""
        prefix, _, name = stream.partition(":")
        if prefix == "queue" and kind in ("QueuePaused", "QueueResumed"):
            (self.paused.add if kind == "QueuePaused" else self.paused.discard)(name)
        elif prefix == "limit" and kind == "LimitChanged":
            said = self.limits.setdefault(name, {})
            if data["reset"]:
                said.pop(data["source"], None)
            else:
                said[data["source"]] = data.get("most")
        elif stream == "ledger" and kind in ("RunnersDisabled", "RunnersEnabled"):
            self.is_disabled = kind == "RunnersDisabled"
        elif stream == "ledger" and kind in ("StopRequested", "CachesCleared"):
            self.told = position
        else:
            return False
        return True

    def problems_of_claim(self, worker: str, data: dict[str, Any]) -> Iterator[str]:
        """Say why a task queued with *data* might not be claimed by *worker* now."""
        if self.is_disabled:
            yield "claimed while the runners are disabled"
        if data.get("queue") in self.paused:
            yield f"claimed while its queue {data['queue']} is paused"
        if self.started.get(worker, self.told) < self.told:
            yield f"claimed by worker {worker}, which was told to leave at position {self.told}"
        for kind, name in self._counted(data):
            most, count = self._most(kind, name), self._count(kind, name)
            if most is not None and count >= most:
                yield f"claimed while {count} of {kind} {name} run, of which at most {most} may"

    @staticmethod
    def _counted(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        yield "ledger", ""
        for kind, key in (("queue", "queue"), ("task", "name"), ("key", "concurrency_key")):
            if data.get(key) is not None:
                yield kind, data[key]

    def _count(self, kind: str, name: str) -> int:
        return sum((kind, name) in self._counted(data) for data in self.running.values())

    def _most(self, kind: str, name: str) -> int | None:
        exact = f"{kind}:{name}" if kind != "ledger" else kind
        fitting = [scope for scope in self.limits if self.limits[scope] and _fits(scope, exact)]
        if not fitting:
            return None
        closest = min(fitting, key=lambda scope: (scope != exact, -len(scope.replace("*", "")), scope))
        return next(self.limits[closest][source] for source in SOURCES if source in self.limits[closest])


def _fits(pattern: str, scope: str) -> bool:
    if pattern.partition(":")[0] != scope.partition(":")[0]:
        return False
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), scope, re.DOTALL) is not None
