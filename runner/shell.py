"""Run a command line as a task: only in workers that were told to, since whoever may queue it may run anything.

A worker registers the task with `--allow-shell`; one without leaves such tasks waiting.
"""

from __future__ import annotations

import os
import pwd
import selectors
import signal
import subprocess
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ledger.api import Ledger
from ledger.current import Current, current

SHELL_TASK = "workledger.shell"
SHELL_HIDES = ("environment",)
LOOK_SECONDS = 0.2
"""Between two looks at whether the task was cancelled or is past its timeout."""
TERMINATE_SECONDS = 5.0
_CHUNK = 65_536


class CommandFailed(Exception):
    """The command ended with another exit code than 0, or by a signal."""


class CommandCancelled(Exception):
    """The command was ended because its task was cancelled."""


def allow_shell(ledger: Ledger) -> None:
    """Register the task, by default with one attempt: what cron runs is not run again when it fails.

    Its environment is shown as hidden: crontabs set passwords there.
    """
    ledger.task(name=SHELL_TASK, max_attempts=1, hide=SHELL_HIDES)(shell)


def shell(
    command: str, stdin: str | None = None, shell: str = "/bin/sh", environment: Mapping[str, str] | None = None
) -> None:
    """Run *command* by *shell* in the home directory, with cron's few variables and *environment*; print what it prints.

    `WORKLEDGER_TASK` and `WORKLEDGER_TOKEN` tell the command its task and the fencing token of this attempt. It has a
    process group of its own, which is ended when the task is cancelled or runs over its timeout.

    Raises:
        CommandFailed: It did not end with exit code 0.

        CommandCancelled: The task was cancelled.
    """
    running = current()
    own = {"WORKLEDGER_TASK": running.id, "WORKLEDGER_TOKEN": running.token}
    with _started(command, shell, {**_as_cron(shell), **(environment or {}), **own}) as process:
        _converse(process, running, "" if stdin is None else stdin)
        while (code := _ended(process)) is None:
            _stop_if_cancelled(running)
    if code:
        raise CommandFailed(f"the command ended with {f'exit code {code}' if code > 0 else f'signal {-code}'}")


def _converse(process: subprocess.Popen[bytes], running: Current, stdin: str) -> None:
    """Give the command its input and print its output until it has closed that."""
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    left = memoryview(stdin.encode())
    decode = getincrementaldecoder("utf-8")("replace").decode
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while process.stdout in (key.fileobj for key in selector.get_map().values()):
            for key, _ in selector.select(LOOK_SECONDS):
                if key.fileobj is process.stdin:
                    left = left[_write(process.stdin.fileno(), left) :]
                    if not left:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    selector.unregister(process.stdout)
                sys.stdout.write(decode(chunk, final=not chunk))
                sys.stdout.flush()
            _stop_if_cancelled(running)


def _write(pipe: int, data: memoryview) -> int:
    """Write what the pipe takes, and return how much; all of it where nobody reads it."""
    try:
        return os.write(pipe, data[:_CHUNK])
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(data)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code, None if the command still runs after a short while."""
    try:
        return process.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _stop_if_cancelled(running: Current) -> None:
    if running.cancelled:
        raise CommandCancelled("the command was ended: its task was cancelled")


def _as_cron(shell: str) -> dict[str, str]:
    user = pwd.getpwuid(os.geteuid())
    return {
        "HOME": user.pw_dir,
        "LOGNAME": user.pw_name,
        "USER": user.pw_name,
        "SHELL": shell,
        "PATH": "/usr/bin:/bin",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }


@contextmanager
def _started(command: str, shell: str, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command; whatever happens in the block, its process group has ended after it."""
    home = variables["HOME"]
    process = subprocess.Popen(
        [shell, "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(variables),
        cwd=home if os.path.isdir(home) else "/",
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        _end(process)
        raise
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: what does not end by SIGTERM within seconds, by SIGKILL."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TERMINATE_SECONDS)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
