"""Show a supervisor what its worker has begun: a small shared memory, readable after the worker's death."""

from __future__ import annotations

import mmap
import struct
import uuid
from collections.abc import Iterator
from typing import NamedTuple

SLOTS = 4_096
_HEAD = struct.Struct("=dqq")  # last beat (monotonic seconds), attempts that raised, attempts ended
_SLOT = struct.Struct("=16sIBd")  # task uuid, attempt, state, hard deadline (monotonic seconds, 0: none)
_STATE = struct.Struct("=Bd")
FREE, CLAIMED, BEGUN = 0, 1, 2


class Shown(NamedTuple):
    """One attempt as the board shows it; *deadline* is on the host's monotonic clock, 0 for none."""

    task_id: str
    attempt: int
    is_begun: bool
    deadline: float


class Board:
    """Shared between one supervisor and one worker, made before the fork. Only the worker writes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size + SLOTS * _SLOT.size)
        self._free = list(range(SLOTS - 1, -1, -1))
        self.raised = 0
        self.ended = 0

    def beat(self, monotonic: float) -> None:
        """Show that the worker's process runs."""
        _HEAD.pack_into(self._memory, 0, monotonic, self.raised, self.ended)

    def head(self) -> tuple[float, int, int]:
        """Return (last beat, attempts that raised, attempts ended)."""
        return _HEAD.unpack_from(self._memory, 0)

    def claim(self, task_id: str, attempt: int) -> int:
        """Show an attempt as claimed and return its slot."""
        slot = self._free.pop()
        _SLOT.pack_into(self._memory, _offset(slot), uuid.UUID(task_id).bytes, attempt, CLAIMED, 0.0)
        return slot

    def begin(self, slot: int, deadline: float) -> None:
        """Show that the attempt in *slot* has begun, and when its process shall be ended (0: never)."""
        _STATE.pack_into(self._memory, _offset(slot) + 20, BEGUN, deadline)

    def release(self, slot: int) -> None:
        """Free the slot of an attempt whose outcome is recorded."""
        _STATE.pack_into(self._memory, _offset(slot) + 20, FREE, 0.0)
        self._free.append(slot)

    def shown(self) -> Iterator[Shown]:
        """Return the attempts that the worker holds."""
        for slot in range(SLOTS):
            task, attempt, state, deadline = _SLOT.unpack_from(self._memory, _offset(slot))
            if state != FREE:
                yield Shown(str(uuid.UUID(bytes=task)), attempt, state == BEGUN, deadline)

    @property
    def room(self) -> int:
        """How many more attempts can be shown."""
        return len(self._free)


def _offset(slot: int) -> int:
    return _HEAD.size + slot * _SLOT.size
