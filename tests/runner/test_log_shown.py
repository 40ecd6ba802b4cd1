"""How `task log` shows what was printed: colours where they are wanted, nothing that steers, first and last line complete."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from ledger import Ledger
from ledger.clock import to_us
from runner.cli_log import _shown
from tests.invoking import invoke
from tests.processes import call
from tests.runner.keeping import begin, end

ROOT = Path(__file__).parents[2]
SGR = re.compile(r"\x1b\[[0-9;:]*m")
HOSTILE = "\x1b]0;title\x07up\x1b[3Aclear\x1b[2J\x9b1mc1 \u202ebidi\u202c \x1b[31mred\x1b[0m tab\tend\rover"


def rich_text() -> str:
    """What Rich prints for a terminal: a table with colours."""
    out = io.StringIO()
    table = Table("name", "[bold]state[/bold]", title="[red]tasks[/red]")
    table.add_row("[link=http://example.org]send_digest[/link]", "[green]succeeded[/green]")
    Console(file=out, force_terminal=True, width=60, color_system="truecolor").print(table)
    return out.getvalue()


def logged(directory: Path, text: str) -> tuple[str, str]:
    """A ledger with one attempt that printed *text*; its URL and the task."""
    ledger = Ledger(f"sqlite:///{directory}/work.db")
    state, printed = begin(ledger, "prints", text, run_as="alice", actor="ann")
    end(ledger, state, printed)
    ledger.close()
    return ledger.url, state.task_id


def log(url: str, task_id: str, *options: str) -> list[str]:
    shown = invoke(["--url", url, "task", "log", task_id, *options])
    assert shown.exit_code == 0, shown.output
    return shown.output.splitlines()


def test_rich_output_survives_where_colours_are_wanted(tmp_path: Path) -> None:
    """With --color always every style that Rich wrote is there; in a pipe the same text is plain."""
    url, task_id = logged(tmp_path, text := rich_text())
    coloured, plain = log(url, task_id, "--color", "always")[1:-1], log(url, task_id)[1:-1]
    assert plain == log(url, task_id, "--color", "never")[1:-1]
    styles = set(SGR.findall(text))
    assert len(styles) > 4 and styles <= set(SGR.findall("\n".join(coloured)))
    assert [SGR.sub("", line) for line in coloured] == plain and not SGR.search("".join(plain))
    assert any("send_digest" in line and "succeeded" in line for line in plain)
    assert all(line.endswith("\x1b[0m") for line in coloured if "\x1b" in line), "no colour runs on"


@pytest.mark.parametrize("colour", ["always", "never", "auto"])
def test_nothing_that_steers_a_terminal_is_shown(tmp_path: Path, colour: str) -> None:
    """Titles, cursor moves, clearing, C1 codes, text direction: gone in every mode; JSON has all of it, escaped."""
    url, task_id = logged(tmp_path, HOSTILE + "\n")
    [line] = log(url, task_id, "--color", colour)[1:-1]
    assert not re.search("[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e]", line)
    assert SGR.sub("", line).endswith(" out over"), "what a carriage return has overwritten is not seen on a terminal"
    shown = invoke(["--url", url, "task", "log", task_id, "-o", "json"]).output
    assert json.loads(shown)["lines"][0]["text"] == HOSTILE and "\x1b" not in shown and "\x9b" not in shown


def test_on_a_terminal_colours_are_shown_unasked(tmp_path: Path) -> None:
    """auto means: where the standard output is a terminal."""
    url, task_id = logged(tmp_path, "\x1b[31mred\x1b[0m \x1b[2Jnot cleared\n")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "runner.cli", "--url", url, "task", "log", task_id]
    with subprocess.Popen(command, stdout=slave, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                found = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            seen += found
        assert process.wait(timeout=30) == 0
    os.close(master)
    assert b"\x1b[31mred\x1b[0m" in seen and b"\x1b[2J" not in seen and b"not cleared" in seen


def test_the_first_and_the_last_line_name_the_attempt(tmp_path: Path) -> None:
    """Name, id, number, both principals, worker and times; how it ended, what it took, how much it printed."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORKLEDGER_URL": ledger.url}
    for words in (("enqueue", "plain", "--args", '{"word": "you"}', "--run-as", "alice"), ("run", "--drain")):
        assert call("--app", "tests.runner.printing:ledger", *words, env=environment).returncode == 0
    rows = json.loads(invoke(["--url", ledger.url, "task", "list", "-o", "json"]).output)
    first, *_, last = log(ledger.url, rows[0]["id"])
    assert re.fullmatch(
        rf"attempt 1 of plain \({rows[0]['id']}\), asked for by user:\S+, run as alice, worker \S+, "
        r"claimed 2\d{3}-\d\d-\d\dT\S+Z", first
    ), first  # fmt: skip
    assert re.fullmatch(
        rf"attempt 1 of plain \({rows[0]['id']}\), run as alice: succeeded, after \d+\.\d{{3}} s, CPU \d+\.\d{{3}} s, "
        r"peak memory of its process [1-9]\d* MiB, 5 lines, \d+ bytes kept", last
    ), last  # fmt: skip
    shown = json.loads(invoke(["--url", ledger.url, "task", "log", rows[0]["id"], "-o", "json"]).output)
    assert shown["run_as"] == "alice" and 0 < shown["seconds"] < 60 and shown["usage"]["peak_rss_bytes"] > 0
    ledger.close()


NOW = datetime(2026, 3, 2, 23, 59, 58, 7_000, tzinfo=UTC)


@given(st.text(alphabet="aé \t\n\r\x1b[31m\x07\x9b\u202e", max_size=60), st.booleans())
@settings(deadline=None)
def test_each_printed_line_is_one_line_and_harmless(text: str, is_coloured: bool) -> None:
    """Whatever is printed: as many lines as it has, each after its time and stream, and no control but colours."""
    shown = _shown((to_us(NOW + timedelta(seconds=3)), "stderr", text), is_coloured=is_coloured)
    lines = shown.removesuffix("\n").split("\n")
    assert shown.endswith("\n") and len(lines) == text.removesuffix("\n").count("\n") + 1
    assert all(line.startswith("00:00:01.007 err ") for line in lines)
    left = SGR.sub("", shown) if is_coloured else shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", left)
    if text.replace("\n", "").isprintable():
        assert [line[17:] for line in lines] == text.removesuffix("\n").split("\n")
