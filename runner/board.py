"""Show a supervisor what its worker has begun: a small shared memory, readable after the worker's death."""

from __future__ import annotations

import mmap
import struct
import uuid
from collections.abc import Iterator
from itertools import compress
from typing import NamedTuple

SLOTS = 4_096
_HEAD = struct.Struct("=dqqqB?")  # last beat (monotonic seconds), counts of raised and taken, exit code, left, asks
_BEAT = struct.Struct("=d")
_COUNTS = struct.Struct("=qq")
_CODE = struct.Struct("=q")
_FLAG = struct.Struct("=?")
_LEFT = struct.Struct("=B")
_SLOT = struct.Struct("=16sIBd")  # task uuid, attempt, state, hard deadline (monotonic seconds, 0: none)
_STATE = struct.Struct("=Bd")
_STATE_AT = 20
"""Where the state stands in a slot."""
FREE, CLAIMED, BEGUN = 0, 1, 2
DONE, REPLACED, STOPPED = 1, 2, 3
"""How a worker left: at its own end; for another to take its place; because all runs were told to stop."""


class Head(NamedTuple):
    """What a worker shows of itself; *exit_code* is not 0 where it gave up."""

    beat: float
    raised: int
    taken: int
    """Attempts claimed and not given back."""
    exit_code: int
    left: int
    """How it left (`DONE`, `REPLACED`, `STOPPED`), 0 if it did not. An exit code of 0 alone may be a task's."""
    asks_for_loner: bool
    """Whether tasks wait whose last attempt was lost: they run one at a time in a process of their own."""


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

    def beat(self, monotonic: float) -> None:
        """Show that the worker's process runs."""
        _BEAT.pack_into(self._memory, 0, monotonic)

    def count(self, *, raised: int = 0, taken: int = 0) -> None:
        """Add to the counts of attempts that raised, and of those taken and not given back. One thread calls this."""
        before = self.head()
        _COUNTS.pack_into(self._memory, _BEAT.size, before.raised + raised, before.taken + taken)

    def give_up(self, exit_code: int) -> None:
        """Show that the worker itself cannot go on, and that another in its place could not either."""
        _CODE.pack_into(self._memory, _BEAT.size + _COUNTS.size, exit_code)

    def leave(self, left: int = DONE) -> None:
        """Show that the worker has left, how (`DONE`, `REPLACED`, `STOPPED`), and holds nothing."""
        _LEFT.pack_into(self._memory, _HEAD.size - _FLAG.size - _LEFT.size, left)

    def ask_for_loner(self, does_ask: bool) -> None:
        """Show whether tasks wait that must run alone."""
        _FLAG.pack_into(self._memory, _HEAD.size - _FLAG.size, does_ask)

    def head(self) -> Head:
        """Return what the worker shows of itself."""
        return Head(*_HEAD.unpack_from(self._memory, 0))

    def claim(self, task_id: str, attempt: int) -> int:
        """Show an attempt as claimed and return its slot."""
        slot = self._free.pop()
        _SLOT.pack_into(self._memory, _offset(slot), bytes.fromhex(task_id.replace("-", "")), attempt, CLAIMED, 0.0)
        return slot

    def begin(self, slot: int, deadline: float) -> None:
        """Show that the attempt in *slot* has begun, and when its process shall be ended (0: never)."""
        _STATE.pack_into(self._memory, _offset(slot) + _STATE_AT, BEGUN, deadline)

    def release(self, slot: int) -> None:
        """Free the slot of an attempt whose outcome is recorded."""
        _STATE.pack_into(self._memory, _offset(slot) + _STATE_AT, FREE, 0.0)
        self._free.append(slot)

    def shown(self) -> Iterator[Shown]:
        """Return the attempts that the worker holds."""
        states = self._memory[_offset(0) + _STATE_AT :: _SLOT.size]  # a look at each slot would take a supervisor 1 %
        for slot in compress(range(SLOTS), states):
            task, attempt, state, deadline = _SLOT.unpack_from(self._memory, _offset(slot))
            yield Shown(str(uuid.UUID(bytes=task)), attempt, state == BEGUN, deadline)

    @property
    def room(self) -> int:
        """How many more attempts can be shown."""
        return len(self._free)


def _offset(slot: int) -> int:
    return _HEAD.size + slot * _SLOT.size
