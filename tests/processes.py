"""Start the command as a process of its own that need not import anything: forked from one that has imported it once.

An interpreter that starts and imports the command takes half a second, and the tests call it some hundred times. What is
started here is a real process: a fork, with its own directory, environment, streams, signals and end.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).parents[1]
LARGEST_REQUEST = 128 * 1024
FILES = ("stdin", "stdout", "stderr")


class Command:
    """The command ``workledger WORDS`` as a process; to be used like a `subprocess.Popen`."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path | str = ".",
        env: Mapping[str, str] | None = None,
        stdin: IO[Any] | int | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.args = ["workledger", *words]
        self.returncode: int | None = None
        request = {
            "words": list(words),
            "cwd": str(Path(cwd).absolute()),
            "env": dict(os.environ if env is None else env),
            "session": start_new_session,
        }
        with ExitStack() as opened:
            nothing = opened.enter_context(open(os.devnull, "r+b"))
            files = [number if one is None else one for number, one in enumerate((stdin or nothing, stdout, stderr))]
            files = [nothing if one == subprocess.DEVNULL else one for one in files]
            numbers = [one if isinstance(one, int) else one.fileno() for one in files]
            self._line = _started(json.dumps(request).encode(), numbers)
        self.pid = int(self._line.recv(20))

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs; negative for a signal."""
        return self._ask(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended; `subprocess.TimeoutExpired` after *timeout* seconds."""
        code = self._ask(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait()

    def _ask(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = int(self._line.recv(20))
            except (BlockingIOError, TimeoutError):
                return None
            self._line.close()
        return self.returncode

    def __del__(self) -> None:
        if line := getattr(self, "_line", None):
            line.close()


def call(
    *words: str,
    cwd: Path | str = ".",
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run ``workledger WORDS`` to its end and return its exit code and what it printed."""
    with TemporaryFile() as given, TemporaryFile() as stdout, TemporaryFile() as stderr:
        given.write((stdin or "").encode())
        given.seek(0)
        command = Command(words, cwd=cwd, env=env, stdin=given, stdout=stdout, stderr=stderr)
        try:
            code = command.wait(timeout)
        except BaseException:
            command.kill()
            raise
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(command.args, code, stdout.read().decode(), stderr.read().decode())


_SERVER: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
_LOCK = threading.Lock()


def _started(request: bytes, files: list[int]) -> socket.socket:
    """Ask the server for a process; return the line on which it tells its id, and its exit code when it has ended."""
    assert len(request) < LARGEST_REQUEST
    with _LOCK:
        if not _SERVER:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, "-m", "tests.processes", str(theirs.fileno())]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            server = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
            theirs.close()
            _SERVER.append((server, ours))
        line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            socket.send_fds(_SERVER[0][1], [request], [far.fileno(), *files])
        return line


# In the server


def serve(control: socket.socket) -> list[str] | None:
    """Fork a process for each request until the tests are gone; return in each such process, with its words."""
    lines: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the tests do, which hear of it too
    ready = selectors.DefaultSelector()
    ready.register(control, selectors.EVENT_READ)
    ready.register(woken, selectors.EVENT_READ)
    while True:
        found = [key.fileobj for key, _ in ready.select()]
        if woken in found:
            woken.recv(4096)
            for pid in list(lines):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with lines.pop(pid) as line:
                        _tell(line, os.waitstatus_to_exitcode(status))
        if control in found:
            request, files, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 1 + len(FILES))
            if not request:
                return None
            line = socket.socket(fileno=files[0])
            pid = os.fork()
            if pid == 0:
                for one in (ready, control, woken, wake, line, *lines.values()):
                    one.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                return _become(json.loads(request), files[1:])
            lines[pid] = line
            _tell(line, pid)
            for file in files[1:]:
                os.close(file)


def _tell(line: socket.socket, number: int) -> None:
    try:
        line.send(str(number).encode())
    except OSError:  # nobody waits for it any more
        pass


def _become(request: dict[str, Any], files: list[int]) -> list[str]:
    """Take over directory, environment and streams, as a new interpreter would."""
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, (name, file) in enumerate(zip(FILES, files, strict=True)):
        os.dup2(file, number)
        os.close(file)
        how = {"encoding": encoding, "closefd": False}
        how |= {"errors": "backslashreplace" if name == "stderr" else errors or "strict"}
        stream = open(number, "r" if name == "stdin" else "w", buffering=1 if name == "stderr" else -1, **how)  # noqa: SIM115  # as long as the process
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [request["cwd"], *filter(None, given), *(one for one in sys.path if one not in ("", str(ROOT)))]
    return request["words"]


def _load(group: Any) -> None:
    """Have the commands of *group* imported, which is done for each when it is first asked for."""
    for command in getattr(group, "commands", {}).values():
        _load(command)


def _main() -> None:
    import psycopg_pool  # noqa: F401  # what commands import when they need it
    import rich.table  # noqa: F401

    import runner.supervisor
    import runner.upkeep
    import runner.worker  # noqa: F401
    from runner.cli import command, main

    _load(command())
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        words = serve(control)
    if words is not None:
        sys.argv = ["workledger", *words]
        main()


if __name__ == "__main__":
    _main()
