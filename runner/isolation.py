"""Run attempts in processes of their own: the worker's side of its fork server, and of each attempt while it runs."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from ledger import commands as c
from ledger.api import Ledger
from ledger.current import Current, reset_current, set_current
from ledger.events import ErrorDetail, Usage
from ledger.options import Traits
from ledger.signals import CpuLimit, OutputLimit
from runner import forkserver, frames
from runner.children import to_stream
from runner.cycle import Claimed, Finished
from runner.isolated import CPU_GRACE_SECONDS, OUT_OF_MEMORY, TIME_LIMIT_SIGNAL
from runner.losses import timed_out
from runner.usage import RSS_UNIT

LOOK_SECONDS = 0.1
REPORT_SECONDS = 5.0
"""How long a process may go on after its report."""
PATIENCE_SECONDS = 30.0
"""How long the server may take to make a process, or to tell of its end; then it is frozen, and counts as gone."""
READ_BYTES = 64 * 1024
MOST_LEFT_BYTES = 1024 * 1024
"""Read at the end of what is left in a pipe: something that the attempt has started may write into it for ever."""
MARK = b"\xff\xfe"
"""How a mark begins: not as any end of a text, which would be held back for a mark that may come."""
MARK_BYTES = 10
SERVER_GONE = "the fork server of its worker is gone"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ends an attempt; times are on the host's monotonic clock, 0 for never. Both calls may change their answer."""

    is_cancelled: Callable[[], bool]
    deadline: Callable[[], float]
    soft_deadline: float = 0.0
    is_lost: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Exit:
    """How the process of an attempt ended."""

    code: int
    cpu_seconds: float
    max_rss: int

    @property
    def how(self) -> str:
        if self.code >= 0:
            return f"exited with {self.code}"
        with suppress(ValueError):
            return f"was ended by signal {-self.code} ({signal.Signals(-self.code).name})"
        return f"was ended by signal {-self.code}"

    @property
    def usage(self) -> Usage:
        return Usage(cpu_seconds=round(self.cpu_seconds, 6), peak_rss_bytes=self.max_rss * RSS_UNIT)


class Isolation:
    """The fork server of this process, for any of its threads. Made before the first of them."""

    def __init__(self, ledger: Ledger, output_limit: int) -> None:
        self._pid, self._control = forkserver.start(ledger, output_limit)
        self.is_broken = False
        """Whether the server is gone: this process can run no more isolated attempts."""

    @classmethod
    def if_needed(cls, ledger: Ledger, output_limit: int) -> Isolation | None:
        """Return one if any task of the ledger is to run in processes of its own."""
        is_needed = any(function.traits.isolation == "process" for function in ledger.functions.values())
        return cls(ledger, output_limit) if is_needed else None

    def run(self, ledger: Ledger, claimed: Claimed, current: Current, bounds: Bounds) -> Finished:
        """Run one attempt to its end in a process of its own and return how it finished. What it prints is printed here."""
        token = set_current(current)
        try:
            with _Attempt(ledger, claimed, current, bounds) as attempt:
                if attempt.begin(self._control):
                    attempt.watch()
                finished = attempt.finished()
                self.is_broken = self.is_broken or attempt.is_server_gone
                return finished
        finally:
            reset_current(token)

    def close(self) -> None:
        """End the server. No attempt runs any more."""
        self._control.close()
        os.kill(self._pid, signal.SIGKILL)  # it may be frozen
        os.waitpid(self._pid, 0)


class _Attempt:
    """One attempt whose function runs in another process."""

    def __init__(self, ledger: Ledger, claimed: Claimed, current: Current, bounds: Bounds) -> None:
        self._clock = ledger.clock
        self._current = current
        self._claimed = claimed
        self._traits: Traits = ledger.functions[claimed.state.name].traits
        self._bounds = bounds
        self._started_at: datetime | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._report: bytes | None = None
        self._killed: str | None = None
        self._kill_at = self._killed_at = 0.0
        self._is_raised = self.is_server_gone = False
        self._told: set[bytes] = set()
        self._exit: _Exit | None = None
        self._no_process: str | None = None
        self._damage: str | None = None

    def __enter__(self) -> _Attempt:
        self._talk, self._their_talk = frames.socket_pair()
        self._life, self._their_life = frames.socket_pair()
        self._mark = MARK + os.urandom(MARK_BYTES)
        self._pipes: dict[int, frames.Marked] = {}
        self._writers: list[int] = []
        for stream in (sys.stdout, sys.stderr):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            self._pipes[reader] = frames.Marked(self._mark, to_stream(stream.write))
            self._writers.append(writer)
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._talk, self._their_talk, self._life, self._their_life):
            end.close()
        for descriptor in (*self._pipes, *self._writers):
            os.close(descriptor)

    def begin(self, control: socket.socket) -> bool:
        """Have the process made and give it its request; False if there is none."""
        given = [self._their_talk.fileno(), *self._writers, self._their_life.fileno()]
        try:
            socket.send_fds(control, [forkserver.RUN], given)
        except OSError:
            self.is_server_gone = True
            return False
        self._their_talk.close()
        self._their_life.close()
        while self._writers:
            os.close(self._writers.pop())
        self._life.settimeout(PATIENCE_SECONDS)
        word = self._hear()
        self._no_process = word.get("error")
        if "pid" not in word:
            return False
        self._started_at = self._clock.now()
        with suppress(ConnectionError):  # it has died already
            frames.send_document(self._talk, frames.request(self._claimed, self._mark))
        self._talk.setblocking(False)
        return True

    def _hear(self) -> dict[str, Any]:
        """Return what the server says of the process; nothing more is to come when it is gone."""
        try:
            word = self._life.recv(READ_BYTES)
        except (ConnectionError, TimeoutError):
            word = b""
        self.is_server_gone = not word
        return orjson.loads(word) if word else {}

    def watch(self) -> None:
        """Take what comes from the process until it has ended, and end it when it must be."""
        poll = select.poll()
        for end in (self._life.fileno(), self._talk.fileno(), *self._pipes):
            poll.register(end, select.POLLIN)
        while self._exit is None and not self.is_server_gone:
            ready = {end for end, _ in poll.poll(LOOK_SECONDS * 1000)}
            if self._talk.fileno() in ready:  # before the pipes: marks tell what in them came before a packet
                if not self._read_talk():
                    poll.unregister(self._talk.fileno())
            else:
                for pipe in ready & self._pipes.keys():
                    if not self._read_pipe(pipe):
                        poll.unregister(pipe)
            if self._life.fileno() in ready and (word := self._hear()):
                self._exit = _Exit(word["code"], word["cpu_seconds"], word["max_rss"])
            self._enforce(time.monotonic())
        self._read_rest()

    def _enforce(self, now: float) -> None:
        """Pass on what has come due: the request to cancel, the timeout, the end."""
        bounds = self._bounds
        for word, is_so in ((frames.CANCEL, bounds.is_cancelled), (frames.LOST, bounds.is_lost)):
            if word not in self._told and is_so():
                self._told.add(word)
                with suppress(OSError):
                    self._talk.send(word)
        if self._report is None and bounds.soft_deadline and now >= bounds.soft_deadline and not self._is_raised:
            self._signal(TIME_LIMIT_SIGNAL)  # again and again: it is put off inside a transaction
        if self._report is not None:
            self._kill_at = self._kill_at or now + REPORT_SECONDS
            if now >= self._kill_at:
                self._kill("it went on after its report")
        elif (deadline := bounds.deadline()) and now >= deadline:
            self._kill("deadline")
        if self._killed is not None:
            self._killed_at = self._killed_at or now
            self.is_server_gone = now >= self._killed_at + PATIENCE_SECONDS

    def _kill(self, why: str) -> None:
        if self._killed is None:
            self._killed = why
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(OSError):  # it has ended, and the server has said so
            self._life.send(b"%d" % number)

    def _read_talk(self) -> bool:
        """Take one packet; False at the end of all."""
        try:
            packet = self._talk.recv(frames.MOST_BYTES + 1024)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        try:
            self._take(packet)
        except frames.Damaged as damage:
            self._damage = str(damage)
            self._kill("damage")
        return bool(packet)

    def _take(self, packet: bytes) -> None:
        match packet[:1]:
            case frames.OUTPUT:
                stream, has_marks, text = frames.read_output(packet)
                pipes = self._pipes if has_marks else {}
                for pipe, found in pipes.items():
                    self._read_to_mark(pipe, found)
                with suppress(OutputLimit):  # it is raised in the process too
                    (sys.stdout if stream == "stdout" else sys.stderr).write(text)
                for found in pipes.values():
                    found.feed(b"")  # what has been read from behind the mark, up to the next one
            case frames.PROGRESS:
                self._current.progress(*frames.read_progress(packet))
            case frames.RAISED:
                self._is_raised = True
            case frames.MORE | frames.LAST if self._report is None:
                self._parts.append(packet[1:])
                self._size += len(packet)
                if self._size > frames.MOST_OUTCOME_BYTES:
                    raise frames.Damaged("its report has no end")
                if packet[:1] == frames.LAST:
                    self._report = b"".join(self._parts)

    def _read_pipe(self, pipe: int) -> bool:
        """Take what there is at once; False at the end of all."""
        try:
            data = os.read(pipe, READ_BYTES)
        except BlockingIOError:
            return True
        if data:
            self._pipes[pipe].feed(data)
        return bool(data)

    def _read_to_mark(self, pipe: int, found: frames.Marked) -> None:
        """Take what was written into a pipe before its next mark, which was written before the packet was sent."""
        found.feed(b"")
        while not found.pass_mark():
            try:
                data = os.read(pipe, READ_BYTES)
            except BlockingIOError:
                data = b""
            if not data:
                raise frames.Damaged("a mark is missing in its output")
            found.feed(data)

    def _read_rest(self) -> None:
        """Take what the process has left behind. Whoever else still holds the lines may write to them for ever."""
        with suppress(BlockingIOError, ConnectionError, frames.Damaged):
            for _ in range(MOST_LEFT_BYTES // 1024):
                packet = self._talk.recv(frames.MOST_BYTES + 1024)
                if not packet:
                    break
                self._take(packet)
        for pipe, found in self._pipes.items():
            left = MOST_LEFT_BYTES
            with suppress(BlockingIOError):
                while left > 0 and (data := os.read(pipe, READ_BYTES)):
                    found.feed(data)
                    left -= len(data)
            found.end()

    def finished(self) -> Finished:
        """Return how the attempt finished."""
        if self._report is not None:
            try:
                found = frames.read_outcome(self._report, self._claimed)
            except frames.Damaged as damage:
                return self._lost(f"the report of its process cannot be used: {damage}")
            assert isinstance(found.command, c.Succeed | c.Fail | c.Delay)
            usage = None if self._exit is None else self._exit.usage
            return found._replace(command=c.reported(found.command, usage=usage))
        state = self._claimed.state
        if self._no_process is not None:
            return self._failed("OSError", self._no_process)
        if self._started_at is None:
            back = c.Interrupt(attempt=state.attempt, worker=state.worker or "", cause=SERVER_GONE)
            return Finished(self._claimed, back)
        if self._killed == "deadline":
            is_cancelled = self._bounds.is_cancelled()
            ended = timed_out(state._replace(cancel_us=0 if is_cancelled else None), state.timeout)
            return Finished(self._claimed, self._with_times(ended))
        if self._exit is None:
            return self._lost(SERVER_GONE)
        return self._died(self._exit)

    def _died(self, ended: _Exit) -> Finished:
        """Return what to make of a process that ended without a report."""
        limit = self._traits.cpu_limit
        if limit is not None and ended.code in (-signal.SIGKILL, -signal.SIGXCPU) and ended.cpu_seconds >= limit:
            grace = f"its cpu_limit of {limit} s by {CPU_GRACE_SECONDS} s"
            return self._failed(CpuLimit.__name__, f"the task used more than {grace} and its process was ended")
        if ended.code == OUT_OF_MEMORY:
            return self._failed("MemoryError", "the task left no memory to report how it ended")
        return self._lost(
            f"its process {ended.how} before the task had ended" + (f": {self._damage}" if self._damage else "")
        )

    def _failed(self, kind: str, message: str) -> Finished:
        state = self._claimed.state
        error = ErrorDetail(type=kind, message=message)
        command = c.Fail(
            attempt=state.attempt, worker=state.worker or "", started_at=None, finished_at=None, error=error
        )
        return Finished(self._claimed, self._with_times(command))

    def _with_times(self, command: c.Fail) -> c.Fail:
        usage = None if self._exit is None else self._exit.usage
        return replace(command, started_at=self._started_at, finished_at=self._clock.now(), usage=usage)

    def _lost(self, cause: str) -> Finished:
        state = self._claimed.state
        return Finished(self._claimed, c.Lose(attempt=state.attempt, worker=state.worker or "", cause=cause))
