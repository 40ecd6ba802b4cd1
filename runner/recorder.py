"""Collect what one attempt prints, in bounded memory: the beginning and the end are kept, the middle is counted."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ledger.clock import Clock
from ledger.events import OutputDigest
from ledger.output import Chunk, Entry, Printed, Stream

_thread = threading.get_ident

CHUNK_BYTES = 64 * 1024
MOST_PARTS = 256
"""Parts of a line that wait for its end one by one."""
PIECE_LENGTH = 16 * 1024
"""Longest text of one entry, in characters; longer ones are cut, so that the middle can be dropped in small pieces."""
_SHA256 = hashlib.sha256()
"""Of nothing yet: a copy costs half of a new one."""


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
    dropped as more comes. Times are the clock's when a line is complete; only then it is also given to *echo*.
    """

    # Most attempts print a line, and there is a recorder for each: what does not change for one of them is the class's.
    _head_bytes = _tail_bytes = 0
    _kept_bytes = _kept_lines = 0
    _dropped_bytes = _dropped_lines = 0
    _digest: Any = None
    _is_closed = False

    def __init__(self, keep: int, clock: Clock, echo: Callable[[Stream, str], None] | None = None) -> None:
        self._half, self._chunk_bytes, self._piece_length = _sizes(keep)
        self._now_us = clock.now_us
        self._echo = echo
        self._lock = threading.Lock()
        self._partial: dict[tuple[Stream, int], list[str]] = {}
        self._head: list[_Growing] = [_Growing(1)]
        self._tail: deque[_Growing] = deque()
        self._to_drop: list[int] = []

    def write(self, stream: Stream, text: str) -> None:
        """Take *text*; it is kept, and echoed, once its line is complete."""
        # One print is several writes, most of them a part of a line: those are only noted, without the lock.
        key = stream, _thread()
        parts = self._partial.get(key)
        if "\n" not in text and len(text) < self._piece_length and (parts is None or len(parts) < MOST_PARTS):
            if parts is None:
                self._partial[key] = [text]
            else:
                parts.append(text)
            return
        whole = text if parts is None else "".join([*parts, text])
        end = whole.rfind("\n") + 1
        if len(whole) - end >= self._piece_length:
            end = len(whole)  # so long a line is not waited for
        if end < len(whole):
            self._partial[key] = [whole[end:]]
        elif parts is not None:
            del self._partial[key]
        if end:
            self._take(stream, whole[:end])

    def _take(self, stream: Stream, text: str) -> None:
        with self._lock:
            if self._is_closed:
                return
            size = len(text)
            if size < self._piece_length and text.isascii():
                self._put((self._now_us(), stream, text), size, text.count("\n"))
            else:
                self._put_pieces(stream, text)
        if self._echo is not None:  # outside the lock: whoever reads it may be slow
            self._echo(stream, text)

    def _put_pieces(self, stream: Stream, text: str) -> None:
        at_us = self._now_us()
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
        self._digest = self._digest or _SHA256.copy()
        for _, _, text in chunk.entries:
            self._digest.update(text.encode())
        self._kept_bytes += chunk.bytes
        self._kept_lines += chunk.lines

    def close(self, *, is_kept: bool) -> Printed | None:
        """End the recording and return what is left to store; None if nothing was ever printed.

        What is not to be kept is dropped, also what was stored while the attempt ran.
        """
        if self._partial:
            for (stream, _), parts in list(self._partial.items()):
                if text := "".join(parts):  # print(…, end="") writes an empty end
                    self._take(stream, text)
        with self._lock:
            self._is_closed = True
        if not is_kept:
            return Printed(None, is_dropped=True)
        if self._is_small():
            return _small(self._head[0])
        with self.changes() as printed:
            pass
        for chunk in (*self._head, *self._tail):
            self._count(chunk)
        if not self._kept_bytes and not self._dropped_bytes:
            return None
        digest = OutputDigest(sha256=self._digest.hexdigest(), bytes=self._kept_bytes, lines=self._kept_lines)
        if self._dropped_bytes:
            digest |= OutputDigest(dropped_bytes=self._dropped_bytes, dropped_lines=self._dropped_lines)
        return printed._replace(digest=digest)

    def _is_small(self) -> bool:
        """Return whether all is in one chunk, none of it stored yet: what most attempts print."""
        chunk = self._head[0]
        return chunk.number == 1 and not (chunk.is_given or self._tail or len(self._head) > 1)


@cache
def _sizes(keep: int) -> tuple[int, int, int]:
    """Return half of what is kept, and the most of a chunk and of an entry, so that the middle goes in small pieces."""
    half = keep // 2
    chunk_bytes = min(CHUNK_BYTES, max(half // 4, 1))
    return half, chunk_bytes, min(PIECE_LENGTH, chunk_bytes)


def _small(chunk: _Growing) -> Printed | None:
    entries = chunk.entries
    if not entries:
        return None
    text = entries[0][2] if len(entries) == 1 else "".join([entry[2] for entry in entries])
    sha256 = _SHA256.copy()
    sha256.update(text.encode())
    digest: OutputDigest = {"sha256": sha256.hexdigest(), "bytes": chunk.bytes, "lines": chunk.lines}
    return Printed(digest, (Chunk(chunk.number, entries),))


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
