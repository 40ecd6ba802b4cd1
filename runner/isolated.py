"""Be the process of one isolated attempt: run its function, send what it prints and how it ended, and be gone."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ledger import commands as c
from ledger.api import Ledger
from ledger.current import Current
from ledger.options import Traits
from ledger.output import Stream
from ledger.progress import Word
from ledger.shield import SHIELD
from ledger.signals import CpuLimit, TimeLimit
from runner import frames
from runner.cycle import Claimed, Finished
from runner.execute import describe, identity, run_here

TIME_LIMIT_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""What the worker sends when the timeout is over. A task has the other signals for itself, but for SIGXCPU."""
CPU_GRACE_SECONDS = 2
"""CPU that a process may use beyond its `cpu_limit`, to end what it does; then the kernel ends it."""
OUT_OF_MEMORY = 117
"""Exit code of a process whose memory does not even suffice to report that."""
RESERVE_BYTES = 4 * 1024 * 1024


def run(ledger: Ledger, talk: socket.socket, out: int, error: int) -> NoReturn:
    """Run the attempt that is asked for over *talk*; whatever is written to descriptors 1 and 2 goes to *out*, *error*.

    Called in a process of its own with a single thread; never returns.
    """
    code = 1
    try:
        os.setsid()  # so that whatever it starts can be ended with it
        pipes = _take_descriptors(out, error)
        code = _Attempt(ledger, talk, pipes).run()
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        _flush()
    finally:
        os._exit(code)  # nothing here may clean up what belongs to the worker


def _take_descriptors(out: int, error: int) -> tuple[int, int]:
    """Make them the standard ones, and return them as the task cannot redirect them."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (error, 2)):
        os.dup2(source, target)
    os.close(nothing)
    sys.stdin = os.fdopen(0, closefd=False)  # with nothing of what the worker may have read of its own
    return out, error


class _Sink:
    """Sends what the attempt prints, with a mark in each pipe for what was written into it before.

    A pipe that is empty is marked too: what was in it may have been read, and not be taken yet.
    """

    def __init__(self, talk: socket.socket, pipes: tuple[int, int], mark: bytes) -> None:
        self._talk = talk
        self._pipes = pipes
        self._mark = mark

    def write(self, stream: Stream, text: str) -> None:
        if not text:
            return
        for pipe in self._pipes:
            os.write(pipe, self._mark)
        for packet in frames.output_packets(stream, text):
            self._talk.send(packet)


class _Attempt:
    def __init__(self, ledger: Ledger, talk: socket.socket, pipes: tuple[int, int]) -> None:
        self._ledger = ledger
        self._talk = talk
        self._pid = os.getpid()
        self._is_over = False
        self._heard: set[bytes] = set()
        self._word: Word | None = None
        """What was said last of its progress and could not be sent yet."""
        self._claimed, mark = self._receive()
        self._sink = _Sink(talk, pipes, mark)
        self._traits = ledger.functions[self._claimed.state.name].traits
        self._started_at = ledger.clock.now()

    def _receive(self) -> tuple[Claimed, bytes]:
        parts = []
        while packet := self._talk.recv(frames.MOST_BYTES + 1):
            parts.append(packet[1:])
            if packet[:1] == frames.LAST:
                return frames.read_request(b"".join(parts))
        os._exit(1)  # the worker is gone

    def run(self) -> int:
        """Return the exit code of the process."""
        self._set_signals()
        reserve = mmap.mmap(-1, RESERVE_BYTES)
        _set_limits(self._traits)
        try:
            finished = run_here(self._ledger, self._claimed, self._current())
        except (TimeLimit, CpuLimit, MemoryError) as error:  # it met the few instructions around the task
            reserve.close()
            finished = self._failed(error)
        self._is_over = True
        reserve.close()
        _flush()
        if os.getpid() == self._pid:  # else the task has forked, and its copy came back here too
            if self._word is not None:
                self._talk.send(frames.progress_packet(self._word))
            frames.send_document(self._talk, frames.outcome(finished))
        return 0

    def _current(self) -> Current:
        return Current(
            **identity(self._claimed.state),
            ledger=self._ledger,
            is_cancelled=lambda: self._has_heard(frames.CANCEL),
            is_lost=lambda: self._has_heard(frames.LOST),
            open_sink=lambda: self._sink,
            tell=self._tell,
            principals=self._ledger.principals,
            is_isolated=True,
        )

    def _tell(self, done: float, total: float | None, message: str | None) -> None:
        """Send what the task says of its progress. A worker that is behind is not waited for; the newest word counts."""
        word = done, total, message
        try:
            self._talk.send(frames.progress_packet(word), socket.MSG_DONTWAIT)
            self._word = None
        except BlockingIOError:
            self._word = word

    def _has_heard(self, word: bytes) -> bool:
        """Return whether the worker has said *word*."""
        with suppress(BlockingIOError):
            while word not in self._heard and (said := self._talk.recv(1, socket.MSG_DONTWAIT)):
                self._heard.add(said)
        return word in self._heard

    def _failed(self, error: BaseException) -> Finished:
        state = self._claimed.state
        failed = c.Fail(
            attempt=state.attempt,
            worker=state.worker or "",
            started_at=self._started_at,
            finished_at=self._ledger.clock.now(),
            error=describe(error),
        )
        return Finished(self._claimed, failed)

    def _set_signals(self) -> None:
        signal.signal(TIME_LIMIT_SIGNAL, self._on_time_limit)
        signal.signal(signal.SIGXCPU, self._on_cpu_limit)

    def _on_time_limit(self, _: int, __: FrameType | None) -> None:
        if not self._is_over and not SHIELD.is_up():  # else the worker asks again
            self._talk.send(frames.RAISED)
            raise TimeLimit(f"the task ran longer than its timeout of {self._claimed.state.timeout} s")

    def _on_cpu_limit(self, _: int, __: FrameType | None) -> None:
        if not self._is_over and not SHIELD.is_up():  # else the kernel sends it again in a second of CPU
            raise CpuLimit(f"the task used more than its cpu_limit of {self._traits.cpu_limit} s")


def _set_limits(traits: Traits) -> None:
    if traits.memory_limit is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + traits.memory_limit
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if traits.cpu_limit is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (traits.cpu_limit, traits.cpu_limit + CPU_GRACE_SECONDS))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            pass  # the task has closed it
