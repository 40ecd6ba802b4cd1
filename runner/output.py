"""Catch what tasks print, wherever in the worker's process: streams, logging, threads and child processes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial, wraps
from typing import Any, TextIO, cast

from ledger.current import Current, current_or_none
from ledger.output import Stream
from ledger.signals import OutputLimit
from runner.children import Forks, Pipe, to_stream

MOST_OUTPUT = 256 * 1024 * 1024


Echo = Callable[[Stream, str], None]
"""Passes on to the worker's own streams what an attempt has printed."""


class TaskStream:
    """A text stream that gives what an attempt writes to the attempt; where that keeps nothing, to *echo*.

    Outside of attempts it is the stream it stands for.
    """

    def __init__(self, name: Stream, stream: TextIO, limit: int, echo: Echo | None) -> None:
        self.name: Stream = name
        self._stream = stream
        self._limit = limit
        self._echo = echo

    def write(self, text: str) -> int:
        """Write *text*.

        Raises:
            OutputLimit: The attempt has written more than the limit; this text is dropped.
        """
        running = current_or_none()
        if running is None:
            return self._stream.write(text)
        if running.feeds:  # what a command has printed comes before what is printed after it
            for feed in tuple(running.feeds):
                feed()
        self._give(running, text)
        return len(text)

    def write_of_child(self, text: str) -> None:
        """Write *text* that comes from a child process of the attempt.

        Raises:
            OutputLimit: The attempt has written more than the limit; this text is dropped.
        """
        running = current_or_none()
        if running is None:
            self._stream.write(text)
        else:
            self._give(running, text)

    def _give(self, running: Current, text: str) -> int:
        printed = running.printed = running.printed + len(text)
        if printed > self._limit:
            raise OutputLimit(f"the attempt printed more than {self._limit:,} characters")
        sink = running.opened or running.sink()
        if sink is not None:
            sink.write(self.name, text)
        elif self._echo is not None:
            self._echo(self.name, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of *lines*."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def catch_output(limit: int, echo: Echo | None = None) -> None:
    """Catch what the attempts of this process print, at most *limit* characters each. Once, in a worker's process.

    Attempts whose output is kept give it to *echo* themselves.
    """
    _catch_children(catch_streams(limit, echo))


def catch_streams(limit: int, echo: Echo | None = None) -> dict[Stream, Any]:
    """Catch what attempts print through Python's streams and loggers, also from threads; return the new streams."""
    out, error = sys.stdout, sys.stderr
    streams: dict[Stream, TaskStream] = {
        "stdout": TaskStream("stdout", out, limit, echo),
        "stderr": TaskStream("stderr", error, limit, echo),
    }
    sys.stdout, sys.stderr = streams["stdout"], streams["stderr"]
    _catch_logging({id(out): sys.stdout, id(error): sys.stderr})
    _catch_threads()
    return streams


def _catch_logging(streams: dict[int, Any]) -> None:
    """Let handlers that were made before, with the process's streams, write to the caught ones."""
    loggers = [
        logging.root,
        *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)),
    ]
    for handler in (handler for logger in loggers for handler in logger.handlers):
        if isinstance(handler, logging.StreamHandler) and (caught := streams.get(id(handler.stream))):
            handler.setStream(caught)
    if not logging.root.handlers:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def _catch_threads() -> None:
    """Let threads and pool jobs begun inside an attempt belong to it: Python gives them an empty context."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    @wraps(start)
    def start_within(thread: threading.Thread) -> None:
        if current_or_none() is not None:
            thread.run = partial(copy_context().run, thread.run)  # type: ignore[method-assign]
        start(thread)

    @wraps(cast(Any, submit))
    def submit_within(pool: ThreadPoolExecutor, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        if current_or_none() is not None:
            function = partial(copy_context().run, function)
        return submit(pool, function, *args, **kwargs)

    threading.Thread.start = start_within  # type: ignore[method-assign,assignment]
    ThreadPoolExecutor.submit = submit_within  # type: ignore[method-assign,assignment]


def _catch_children(streams: dict[Stream, Any]) -> None:
    """Let commands that an attempt runs, and processes that it forks, print to the attempt."""
    make = subprocess.Popen.__init__

    @wraps(make)
    def make_within(process: Any, *args: Any, **kwargs: Any) -> None:
        running = current_or_none()
        # Positional stdout and stderr are the fifth and sixth; who passes any has said where they go.
        if running is None or running.sink() is None or len(args) > 4:
            make(process, *args, **kwargs)
            return
        pipes = {
            name: Pipe(to_stream(stream.write_of_child)) for name, stream in streams.items() if kwargs.get(name) is None
        }
        try:
            make(process, *args, **kwargs | {name: pipe.writer for name, pipe in pipes.items()})
        finally:
            for pipe in pipes.values():
                pipe.read_on(running)

    subprocess.Popen.__init__ = make_within  # type: ignore[method-assign,assignment]
    forks = Forks(streams)
    os.register_at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)
