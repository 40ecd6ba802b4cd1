"""Bring what child processes of an attempt print back to it, through pipes read by threads of their own."""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import struct
import termios
import threading
from collections.abc import Callable
from typing import Any

import orjson

from ledger.current import Current, current_or_none
from ledger.output import Stream
from ledger.signals import OutputLimit

READ_BYTES = 64 * 1024
DRAIN_SECONDS = 0.2
"""How long an attempt's end waits for the rest of what its children print: a daemon may hold the pipe for ever."""
LOOK_SECONDS = 0.05


class Pipe:
    """A pipe whose writing end a child gets; what comes out of it goes to *take* in the attempt's context."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._reader, self.writer = os.pipe()
        self._take = take
        self._moved = threading.Condition()
        self._read_bytes = self._taken_bytes = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._read, args=(current_or_none(),), daemon=True)

    def read_on(self, running: Current) -> None:
        """Close the writing end here and read until every child has closed it too; call it in the attempt's context."""
        os.close(self.writer)
        running.at_end(lambda: self._thread.join(DRAIN_SECONDS))
        running.__dict__.setdefault("feeds", []).append(self.feed)
        self._thread.start()

    def feed(self) -> None:
        """Return when all has been taken that is in the pipe now; a child may go on and on."""
        with self._moved:
            if self._is_over:
                return
            [left] = struct.unpack("i", fcntl.ioctl(self._reader, termios.FIONREAD, b"\0\0\0\0"))
            there = self._read_bytes + left
            while self._taken_bytes < there and not self._is_over:
                self._moved.wait(LOOK_SECONDS)  # a time limit is raised only between waits

    def _read(self, running: Current) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        try:
            while poll.poll():
                with self._moved:  # what is read and what is left is one state
                    data = os.read(self._reader, READ_BYTES)
                    self._read_bytes += len(data)
                if not data:
                    return
                self._take(data)
                with self._moved:
                    self._taken_bytes = self._read_bytes
                    self._moved.notify_all()
        finally:
            with self._moved:
                os.close(self._reader)
                self._is_over = True
                self._moved.notify_all()
            running.__dict__["feeds"].remove(self.feed)


def to_stream(write: Callable[[str], object]) -> Callable[[bytes], None]:
    """Return a function that gives bytes as text to *write*, for as long as the attempt may print."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def take(data: bytes) -> None:
        try:
            write(decoder.decode(data))
        except OutputLimit:
            pass  # the child goes on, what it prints is dropped

    return take


class ChildSink:
    """Where a forked process writes what it prints: frames of stream and text to its parent's pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, stream: Stream, text: str) -> None:
        """Send *text* to the parent."""
        frame = orjson.dumps([stream, text.encode("utf-8", "backslashreplace").decode()]) + b"\n"
        while frame:
            frame = frame[os.write(self._descriptor, frame) :]


class Forks:
    """What `os.register_at_fork` calls: a process forked inside an attempt prints to the attempt."""

    def __init__(self, streams: dict[Stream, Any]) -> None:
        self._streams = streams
        self._local = threading.local()

    def before(self) -> None:
        """Make the pipe, in the parent."""
        running = current_or_none()
        has_sink = running is not None and running.sink() is not None
        self._local.pipe = Pipe(self._frames()) if has_sink else None

    def in_parent(self) -> None:
        """Begin to read."""
        running = current_or_none()
        if self._local.pipe is not None and running is not None:
            self._local.pipe.read_on(running)

    def in_child(self) -> None:
        """Write to the parent from now on."""
        running = current_or_none()
        if running is not None:
            running.__dict__.pop("feeds", None)  # the parent's, whose threads are not here
        if self._local.pipe is not None and running is not None:
            running.use_sink(ChildSink(self._local.pipe.writer))

    def _frames(self) -> Callable[[bytes], None]:
        rest = b""
        takes = {name: to_stream(stream.write_of_child) for name, stream in self._streams.items()}

        def take(data: bytes) -> None:
            nonlocal rest
            *frames, rest = (rest + data).split(b"\n")
            for name, text in map(orjson.loads, frames):
                takes[name](text.encode())

        return take
