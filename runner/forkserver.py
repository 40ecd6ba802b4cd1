"""Be a worker's fork server: one warm process with a single thread that makes a fresh process for each isolated attempt."""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import orjson

from ledger.api import Ledger
from runner import isolated
from runner.frames import socket_pair
from runner.output import catch_streams

RUN = b"run"
DESCRIPTORS = 4
"""Of one attempt: its talk with the worker, the pipes of its two streams, and the line on which its life is told."""
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def start(ledger: Ledger, output_limit: int) -> tuple[int, socket.socket]:
    """Fork the server; return its process id and the line on which attempts are asked for. Before any thread is made."""
    ours, theirs = socket_pair()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _Server(ledger, theirs, parent, output_limit).serve()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    theirs.close()
    return pid, ours


def end_with(parent: int) -> None:
    """Let the kernel end this process when the process *parent*, which has made it, is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class _Server:
    def __init__(self, ledger: Ledger, control: socket.socket, parent: int, output_limit: int) -> None:
        self._ledger = ledger
        self._control = control
        self._parent = parent
        self._output_limit = output_limit
        self._pid = os.getpid()
        self._lives: dict[int, socket.socket] = {}
        """The line of each attempt's process that has not ended."""

    def serve(self) -> NoReturn:
        end_with(self._parent)
        catch_streams(self._output_limit)
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # Its worker says when it is over, and lets attempts finish at a first SIGTERM: they inherit this. They would
        # inherit SIG_IGN as well, and so would the commands that they run, which nobody could end then.
        for number in (*_STOPPING, signal.SIGCHLD):
            signal.signal(number, _take_note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        self._selector = selectors.DefaultSelector()
        self._watch(self._control, self._accept)
        self._watch(self._reader, lambda: os.read(self._reader, 4096))
        gc.collect()
        gc.freeze()  # what the application brought is shared with all attempts: collecting there would copy it
        while True:
            for key, _ in self._selector.select():
                key.data()
            self._reap()

    def _watch(self, what: Any, call: Callable[[], object]) -> None:
        self._selector.register(what, selectors.EVENT_READ, call)

    def _accept(self) -> None:
        word, descriptors, _, _ = socket.recv_fds(self._control, len(RUN), DESCRIPTORS)
        if word != RUN or len(descriptors) != DESCRIPTORS:  # the worker is gone, or has closed the line
            for pid in self._lives:
                _end(pid, signal.SIGKILL)
            os._exit(0)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # what comes over a socket would reach commands that are run
        talk, out, error = descriptors[:3]
        life = socket.socket(fileno=descriptors[3])
        try:
            pid = os.fork()
        except OSError as failure:
            _tell(life, error=f"its process could not be made: {failure.strerror}")
            life.close()
        else:
            if pid == 0:
                self._be_attempt(talk, out, error, life)
            _tell(life, pid=pid)
            self._lives[pid] = life
            self._watch(life, lambda: self._obey(pid, life))
        for descriptor in (talk, out, error):
            os.close(descriptor)

    def _be_attempt(self, talk: int, out: int, error: int, life: socket.socket) -> NoReturn:
        end_with(self._pid)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for end in (self._control, life, *self._lives.values()):  # who holds them could speak for others
            end.close()
        os.close(self._reader)
        os.close(self._writer)
        isolated.run(self._ledger, socket.socket(fileno=talk), out, error)

    def _obey(self, pid: int, life: socket.socket) -> None:
        """Send the process the signal that the worker asks for; a worker that is no longer there wants it ended."""
        with suppress(ConnectionError):
            if (word := life.recv(16)) and pid in self._lives:
                _end(pid, int(word))
                return
        self._selector.unregister(life)
        _end(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while self._lives:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            life = self._lives.pop(pid)
            code, cpu = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
            _tell(life, code=code, cpu_seconds=cpu, max_rss=usage.ru_maxrss)
            with suppress(KeyError, ValueError):
                self._selector.unregister(life)
            life.close()


def _take_note(_: int, __: object) -> None:
    """Let the signal end a wait; what there is to do is found there."""


def _tell(life: socket.socket, **what: Any) -> None:
    with suppress(OSError):  # the worker has given this attempt up
        life.send(orjson.dumps(what))


def _end(pid: int, number: int) -> None:
    """Send a signal; one that ends the process, to all that it has started as well."""
    for send in (os.kill, os.killpg) if number == signal.SIGKILL else (os.kill,):
        with suppress(ProcessLookupError, PermissionError):
            send(pid, number)
