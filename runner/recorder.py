"""Collect what one attempt prints, in bounded memory: the beginning and the end are kept, the middle is counted."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ledger.clock import Clock, to_us
from ledger.events import OutputDigest
from ledger.output import Chunk, Entry, Printed, Stream

CHUNK_BYTES = 64 * 1024
PIECE_LENGTH = 16 * 1024
"""Longest text of one entry, in characters; longer ones are cut, so that the middle can be dropped in small pieces."""


@dataclass(slots=True)
class _Growing:
    """A chunk in the making."""

    number: int
    entries: list[Entry] = field(default_factory=list)
    bytes: int = 0
    lines: int = 0
    is_given: bool = False
    """Given to be stored at least once, so that dropping it deletes a row."""
    is_stored: bool = False
    """Stored as it is now."""


class Recorder:
    """What one attempt prints, from any of its threads.

    Of at most *keep* bytes the first half is kept as it comes; after it the newest half, whose oldest chunks are
    dropped as more comes. Times are the clock's when a line is complete.
    """

    def __init__(self, keep: int, clock: Clock) -> None:
        self._half = keep // 2
        self._chunk_bytes = min(CHUNK_BYTES, max(self._half // 4, 1))
        self._piece_length = min(PIECE_LENGTH, self._chunk_bytes)
        self._clock = clock
        self._lock = threading.Lock()
        self._partial: dict[tuple[Stream, int], list[str]] = {}
        self._head: list[_Growing] = [_Growing(1)]
        self._head_bytes = 0
        self._tail: deque[_Growing] = deque()
        self._tail_bytes = 0
        self._digest = hashlib.sha256()
        self._kept_bytes = self._kept_lines = 0
        self._dropped_bytes = self._dropped_lines = 0
        self._to_drop: list[int] = []
        self._is_closed = False

    def write(self, stream: Stream, text: str) -> None:
        """Take *text*; it is kept once its line is complete."""
        key = (stream, threading.get_ident())
        with self._lock:
            if self._is_closed:
                return
            parts = self._partial.pop(key, None)
            if parts is not None:
                text = "".join((*parts, text))
            if not text.endswith("\n"):
                cut = text.rfind("\n") + 1
                if len(text) - cut < self._piece_length:
                    self._partial[key] = [text[cut:]]
                    text = text[:cut]
            if text:
                self._add(stream, text)

    def _add(self, stream: Stream, text: str) -> None:
        at_us = to_us(self._clock.now())
        for piece in _pieces(text, self._piece_length):
            data = piece.encode("utf-8", "backslashreplace")  # lone surrogates are no text that a database can keep
            self._put((at_us, stream, data.decode()), len(data), piece.count("\n"))

    def _put(self, entry: Entry, size: int, lines: int) -> None:
        if self._head_bytes + size <= self._half and not self._tail:
            chunk = self._head[-1]
            self._head_bytes += size
        else:
            if not self._tail:
                self._tail.append(_Growing(self._head[-1].number + 1))
            chunk = self._tail[-1]
            self._tail_bytes += size
        chunk.entries.append(entry)
        chunk.bytes += size
        chunk.lines += lines
        chunk.is_stored = False
        if chunk.bytes >= self._chunk_bytes:
            (self._tail if self._tail else self._head).append(_Growing(chunk.number + 1))
        while self._tail_bytes > self._half and len(self._tail) > 1:
            self._drop(self._tail.popleft())

    def _drop(self, chunk: _Growing) -> None:
        self._tail_bytes -= chunk.bytes
        self._dropped_bytes += chunk.bytes
        self._dropped_lines += chunk.lines
        if chunk.is_given:
            self._to_drop.append(chunk.number)

    @contextmanager
    def changes(self) -> Iterator[Printed]:
        """Give what is to be stored and deleted since the last time; if storing raises, it is given again."""
        with self._lock:
            given = [(one, len(one.entries)) for one in (*self._head, *self._tail) if one.entries and not one.is_stored]
            for chunk, _ in given:
                chunk.is_given = True
            dropped, self._to_drop = self._to_drop, []
            printed = Printed(None, [Chunk(one.number, tuple(one.entries)) for one, _ in given], dropped)
        try:
            yield printed
        except BaseException:
            with self._lock:
                self._to_drop += dropped
            raise
        with self._lock:
            for chunk, count in given:
                chunk.is_stored = len(chunk.entries) == count
            while len(self._head) > 1 and self._head[0].is_stored:  # full: only its digest is still needed
                self._count(self._head.pop(0))

    def _count(self, chunk: _Growing) -> None:
        for _, _, text in chunk.entries:
            self._digest.update(text.encode())
        self._kept_bytes += chunk.bytes
        self._kept_lines += chunk.lines

    def close(self, *, is_kept: bool) -> Printed | None:
        """End the recording and return what is left to store; None if nothing was ever printed.

        What is not to be kept is dropped, also what was stored while the attempt ran.
        """
        with self._lock:
            for (stream, _), parts in self._partial.items():
                self._add(stream, "".join(parts))
            self._partial.clear()
            self._is_closed = True
        if not is_kept:
            return Printed(None, is_dropped=True)
        with self.changes() as printed:
            pass
        for chunk in (*self._head, *self._tail):
            self._count(chunk)
        if not self._kept_bytes and not self._dropped_bytes:
            return None
        digest = OutputDigest(sha256=self._digest.hexdigest(), bytes=self._kept_bytes, lines=self._kept_lines)
        if self._dropped_bytes:
            digest |= OutputDigest(dropped_bytes=self._dropped_bytes, dropped_lines=self._dropped_lines)
        return replace(printed, digest=digest)


def _pieces(text: str, length: int) -> Iterator[str]:
    """Yield *text* in pieces of at most *length* characters, cut behind a line's end where there is one."""
    start = 0
    while len(text) - start > length:
        cut = text.rfind("\n", start, start + length) + 1
        cut = cut if cut > start else start + length
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]
