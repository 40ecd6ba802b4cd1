"""Completion in a real bash: commands, options, choices, and the names that the ledger has; nothing hostile, nothing made."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger import Ledger
from runner.inline import run_inline
from tests.invoking import invoke

ROOT = Path(__file__).parents[2]
COMPLETE = """
eval "$(workledger completion bash)"
for line in "$@"; do
    COMP_LINE="$line" COMP_POINT=${#line} COMPREPLY=()
    _workledger_completion workledger
    (IFS='|'; echo "${COMPREPLY[*]}")
done
"""
TASKS = """
print("noise at import")
from ledger import Ledger
ledger = Ledger("sqlite:///work.db")

@ledger.task(queue="mail")
def send_digest(): pass

@ledger.task
def send_letter(): pass

@ledger.schedule("0 3 * * *", component="reports")
def nightly(): pass

@ledger.schedule("0 3 * * *", name="$(touch pwned)`touch pwned`;'x", component="reports")
def hostile(): pass
"""


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A directory with a ledger, an app, and the command on a path of its own."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "workledger"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m runner.cli "$@"\n')
    command.chmod(0o755)
    (tmp_path / "tasks.py").write_text(TASKS)
    namespace: dict[str, Ledger] = {}
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        exec(compile(TASKS.replace('print("noise at import")', ""), "tasks", "exec"), namespace)
        ledger = namespace["ledger"]
        ledger.functions["send_digest"].enqueue()
        run_inline(ledger, max_tasks=0)
        ledger.close()
    finally:
        os.chdir(before)
    return tmp_path


def environment(directory: Path, **more: str) -> dict[str, str]:
    path = f"{directory / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": f"{ROOT}:{directory}", **more}


def complete(directory: Path, *lines: str, **more: str) -> list[list[str]]:
    """What a real bash completes at the end of each line."""
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", *lines],
        cwd=directory, env=environment(directory, **more), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [[word for word in line.split("|") if word] for line in done.stdout.splitlines()]


def test_commands_options_and_choices_are_completed(shell: Path) -> None:
    """Groups, commands in them, options of each, and the values that an option may have."""
    found = complete(
        shell, "workledger sche", "workledger schedule run-", "workledger task list --s", "workledger task list -o js",
        "workledger task list --state fa", 'workledger enqueue x --args \'{"a b": 1}\' --pri', "workledger completion ",
    )  # fmt: skip
    assert found == [
        ["schedule"], ["run-asap", "run-now"], ["--state"], ["json", "jsonl"], ["failed"], ["--priority"],
        ["bash", "zsh", "fish"],
    ]  # fmt: skip


def test_names_of_the_ledger_are_completed(shell: Path) -> None:
    """Schedules, components, queues, task names and ids; of a URL and an app with colons in them."""
    url = "workledger --url sqlite:///work.db"
    ledger = Ledger(f"sqlite:///{shell}/work.db")
    with ledger.store.read() as snapshot:
        [task_id] = [raw[1].partition(":")[2] for raw in snapshot.events_after(0, 100) if raw[3] == "TaskQueued.v1"]
    ledger.close()
    assert complete(
        shell, f"{url} schedule show ni", f"{url} component disable ", f"{url} run --queue ma", f"{url} task show 0",
        f"{url} task list --name send", "workledger --app tasks:ledger enqueue send",
    ) == [
        ["nightly"], ["reports"], ["mail"], [task_id], ["send_digest"], ["send_digest", "send_letter"],
    ]  # fmt: skip
    assert complete(shell, "workledger why ", WORKLEDGER_URL="sqlite:///work.db") == [[task_id]]


def test_names_that_a_shell_would_run_are_left_out(shell: Path) -> None:
    """A schedule whose name is a command is never offered, in no shell."""
    [found] = complete(shell, "workledger --url sqlite:///work.db schedule show ")
    assert found == ["nightly"] and not (shell / "pwned").exists()


def test_where_nothing_can_be_told_nothing_is_offered_or_made(shell: Path) -> None:
    """No ledger, an app that cannot be imported, a damaged settings file: no word, no file, no error."""
    none = [[]]
    assert complete(shell, "workledger --url sqlite:///none.db schedule show ") == none
    assert complete(shell, "workledger --app no_such:thing enqueue ") == none
    (shell / "workledger.toml").write_text("url = \n")
    assert complete(shell, "workledger schedule show ") == none
    assert not list(shell.glob("none*"))


def test_a_file_in_the_directory_has_no_code_run(shell: Path) -> None:
    """An app that only workledger.toml names is not imported at a TAB; one that the variable names is."""
    (shell / "trap.py").write_text("open('sprung', 'w')\nfrom tasks import ledger\n")
    (shell / "workledger.toml").write_text("app = 'trap:ledger'\nurl = 'sqlite:///work.db'\n")
    assert complete(shell, "workledger enqueue send") == [["send_digest"]]
    assert not (shell / "sprung").exists()
    assert complete(shell, "workledger enqueue send", WORKLEDGER_APP="trap:ledger") == [["send_digest", "send_letter"]]
    assert (shell / "sprung").exists()


def test_a_tab_in_an_interactive_bash(shell: Path) -> None:
    """On a terminal, TAB finishes the word, and the part after a colon alone."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shell)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment(shell, PS1="$ ", TERM="dumb"))
    try:
        os.write(
            terminal, b'bind "set enable-bracketed-paste off"; eval "$(workledger completion bash)"; echo re""ady\n'
        )
        _read_until(terminal, b"ready")
        os.write(terminal, b"workledger --url sqlite:///work.db schedu\t")
        _read_until(terminal, b"schedule ")
        os.write(terminal, b"show night\t")
        _read_until(terminal, b"nightly ")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read_until(terminal: int, wanted: bytes) -> None:
    seen, deadline = b"", time.monotonic() + 60
    ready = select.poll()
    ready.register(terminal, select.POLLIN)
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if ready.poll(200):
            seen += os.read(terminal, 4096)


def test_the_other_shells_have_their_scripts() -> None:
    """zsh and fish get a script that asks the command; another shell is refused with those there are."""
    for shell, word in (
        ("zsh", "compdef _workledger_completion workledger"),
        ("fish", "complete --command workledger"),
    ):
        said = invoke(["completion", shell]).output
        assert word in said and f"_WORKLEDGER_COMPLETE=complete_{shell}" in said
    refused = invoke(["completion", "tcsh"])
    assert refused.exit_code == 2 and "bash" in refused.output


def test_the_version_is_told_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--version and completion work in a directory whose settings cannot be read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workledger.toml").write_text("nonsense")
    assert invoke(["--version"]).output.startswith("workledger 0.")
    assert invoke(["completion", "bash"]).exit_code == 0
    assert invoke(["now"]).exit_code == 2
