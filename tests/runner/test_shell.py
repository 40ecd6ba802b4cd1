"""The shell's task: what a command gets, what becomes of it, and that it ends with its attempt."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.current import Current, reset_current, set_current
from ledger.errors import InvalidOption
from ledger.signals import OutputLimit
from ledger.testing import memory_ledger, run_queue
from runner.output import TaskStream
from runner.shell import SHELL_TASK, CommandCancelled, CommandFailed, allow_shell, shell

ROOT = Path(__file__).parents[2]


class Switch:
    """Whether the task is cancelled: told from outside, or once a file is there."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def __call__(self) -> bool:
        return self.path is not None and self.path.exists()


def run(command: str, *, stdin: str | None = None, cancelled: Switch | None = None, **options: str) -> None:
    current = Current(
        task_id="task-1", name=SHELL_TASK, attempt=2, run_as="root", worker="w", is_cancelled=cancelled or Switch()
    )
    token = set_current(current)
    try:
        shell(command, stdin, environment=options)
    finally:
        reset_current(token)


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def have_ended(pids: str) -> bool:
    """Whether these processes end within seconds: one that was killed is gone a moment later."""
    deadline = time.monotonic() + 5
    while any(is_alive(int(pid)) for pid in pids.split()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_command_gets_what_cron_gives_it(capfd: pytest.CaptureFixture[str]) -> None:
    """It runs in the home directory with cron's variables, those of the entry, its task and its fencing token."""
    run('pwd; env | sort; test -t 0 || echo "no terminal"', A="1 2", PATH="/bin:/usr/bin")

    lines = capfd.readouterr().out.splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    assert os.path.realpath(lines[0]) == os.path.realpath(os.path.expanduser("~"))
    assert variables["A"] == "1 2"
    assert variables["PATH"] == "/bin:/usr/bin"
    assert (variables["WORKLEDGER_TASK"], variables["WORKLEDGER_TOKEN"]) == ("task-1", "task-1:2")
    assert variables["SHELL"] == "/bin/sh"
    expected = {"HOME", "LOGNAME", "USER", "SHELL", "PATH", "LANG", "A", "WORKLEDGER_TASK", "WORKLEDGER_TOKEN"}
    assert variables.keys() - {"PWD", "SHLVL", "_", "OLDPWD"} == expected
    assert lines[-1] == "no terminal"


def test_both_streams_are_printed_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output and error arrive as the command wrote them, UTF-8 over the borders of chunks included."""
    run("echo one; echo two >&2; echo three; printf '\\303'; sleep 0.05; printf '\\244\\377\\n'")
    assert capfd.readouterr().out == "one\ntwo\nthree\nä\ufffd\n"


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_standard_input_is_given(size: int, capfd: pytest.CaptureFixture[str]) -> None:
    """The input arrives whole, more than a pipe holds too; without one there is an empty one."""
    run("wc -c", stdin="x" * size)
    run("wc -c")
    assert capfd.readouterr().out.split() == [str(size), "0"]
    run("exit 0", stdin="x" * size)  # a command that does not read it is none the worse


@pytest.mark.parametrize(
    ("command", "said"), [("exit 3", "exit code 3"), ("kill -9 $$", "signal 9"), ("fly", "code 127")]
)
def test_a_failure_is_an_error(command: str, said: str) -> None:
    """An exit code other than 0 and a signal fail the attempt, and are named."""
    with pytest.raises(CommandFailed, match=said):
        run(command)


def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    """A cancelled command and its children are ended, also one that ignores SIGTERM."""
    started, pids = tmp_path / "started", tmp_path / "pids"
    deaf = f"(trap '' TERM; echo $$ >> {pids}; sh -c 'echo $$ >> {pids}; touch {started}; sleep 600' & sleep 600)"
    with pytest.raises(CommandCancelled):
        run(deaf, cancelled=Switch(started))
    assert len(pids.read_text().split()) == 2
    assert have_ended(pids.read_text())


def test_printing_without_end_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of what an attempt may print holds for commands; the command is ended when it is met."""
    pid = tmp_path / "pid"
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(
            sys, "stdout", TaskStream("stdout", out, 100_000, lambda _, text: print(text, end="", file=out))
        )
        with pytest.raises(OutputLimit):
            run(f"echo $$ > {pid}; yes")
    assert have_ended(pid.read_text())


def test_commands_run_beside_each_other(tmp_path: Path) -> None:
    """Threads run commands at the same time: four that wait for each other all end."""
    meet = f"touch {tmp_path}/$N; while [ $(ls {tmp_path} | wc -l) -lt 4 ]; do sleep 0.02; done"
    threads = [threading.Thread(target=run, args=(meet,), kwargs={"N": str(n)}, daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def test_it_is_a_task_only_where_it_was_allowed() -> None:
    """Without `allow_shell` a queued command waits; with it, it runs, with one attempt unless it was given more."""
    ledger = memory_ledger()
    allow_shell(ledger)
    task = ledger.function(SHELL_TASK).enqueue(command="true")
    failed = ledger.function(SHELL_TASK).enqueue(command="false")
    allowed = ledger.functions.pop(SHELL_TASK)
    assert run_queue(ledger, through_delays=True) == 0
    assert task.state == "waiting"

    ledger.functions[SHELL_TASK] = allowed
    run_queue(ledger, through_delays=True)

    assert (task.state, failed.state, len(failed.attempts)) == ("succeeded", "failed", 1)
    with pytest.raises(InvalidOption, match="registered already"):
        allow_shell(ledger)


def test_workers_run_commands_when_they_are_told_to(tmp_path: Path) -> None:
    """`run --allow-shell` needs no app and runs commands; a timeout ends the command that is over it."""
    url = f"sqlite:///{tmp_path}/work.db"
    ledger = Ledger(url)
    allow_shell(ledger)
    function = ledger.function(SHELL_TASK)
    good = function.enqueue(command="echo done > result", environment={"HOME": str(tmp_path)})
    slow = function.using(timeout=0.3).enqueue(command=f"echo $$ > {tmp_path}/pid; sleep 600")
    command = [sys.executable, "-m", "runner.cli", "--url", url, "run", "--drain", "--allow-shell"]

    ran = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60, check=False
    )

    assert ran.returncode == 1, ran.stderr
    assert (tmp_path / "result").read_text() == "done\n"
    assert good.state == "succeeded"
    assert slow.state == "failed"
    assert (slow.attempts[-1].error or {})["type"] == "TimeLimit"
    assert have_ended((tmp_path / "pid").read_text())
