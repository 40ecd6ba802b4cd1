"""The READMEs tell the truth: their code runs, prints what they show, and nothing they list is missing or made up."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger import Ledger, errors
from ledger.control_rules import LimitState
from ledger.cron import Fields
from ledger.events import EVENT_CLASSES
from ledger.options import Options, Traits
from ledger.schedule import ScheduleState
from ledger.settings import Settings
from ledger.task import STATES, TaskState
from projections.control_fold import Mark
from projections.following import Kept
from projections.queue import SQL as QUEUE_SQL
from projections.report_views import VIEWS, meanings
from projections.schedule_fold import SQL as SCHEDULES_SQL
from runner import cli
from runner.cli import app
from runner.man import manual, put_into

ROOT = Path(__file__).parents[1]
CHAPTERS = ("README.md", "ledger/README.md", "projections/README.md", "runner/README.md")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DRIVER = """
import contextlib, io, json, sys
namespace, printed = {"__name__": "readme"}, []
for number, source in enumerate(json.load(sys.stdin)):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(source, f"block {number + 1}", "exec"), namespace)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


class Block(NamedTuple):
    """A fenced block: what it is, its text, and where it ends in the file."""

    kind: str
    text: str
    start: int
    end: int


def read(chapter: str) -> str:
    return (ROOT / chapter).read_text(encoding="utf-8")


def blocks(chapter: str) -> list[Block]:
    return [Block(found[1], found[2], found.start(), found.end()) for found in FENCE.finditer(read(chapter))]


def section(chapter: str, title: str) -> str:
    """The text under the heading ``## title``."""
    _, _, rest = read(chapter).partition(f"\n## {title}\n")
    assert rest, f"{chapter} has no section {title}"
    return rest.partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """The names in the first column of every table in *text*."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return [name for cell in rows for name in re.findall(r"[\w-]+", cell) if not set(name) <= {"-"}]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_code_runs_and_prints_what_is_shown(chapter: str, tmp_path: Path) -> None:
    """The python blocks of a chapter run in order in one namespace, and each prints the output block right after it."""
    found = blocks(chapter)
    sources = [block.text for block in found if block.kind == "python"]
    assert sources
    environment = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    printed = iter(json.loads(ran.stdout))
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.kind != "python":
            continue
        is_shown = following is not None and following.kind == "output"
        between = read(chapter)[block.end : following.start] if following else ""
        assert next(printed) == (following.text if following and is_shown and not between.strip() else "")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_output_is_only_shown_after_code(chapter: str) -> None:
    """Every output block stands right after a python block, so that none goes unchecked."""
    found = blocks(chapter)
    for before, block in zip([None, *found], found, strict=False):
        assert block.kind in ("python", "output", "sh", "mermaid", "toml", "text")
        if block.kind == "output":
            assert before is not None
            assert before.kind == "python"
            assert not read(chapter)[before.end : block.start].strip()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_shown_settings_are_ones(chapter: str) -> None:
    """A settings file that a chapter shows is one: every key and value is allowed."""
    for block in blocks(chapter):
        if block.kind == "toml":
            assert Settings(**tomllib.loads(block.text))


def test_the_first_screen_has_what_a_stranger_needs() -> None:
    """README begins with the two commands and an example with its output, within one screen."""
    kinds = [block.kind for block in blocks("README.md")[:3]]
    assert kinds == ["sh", "python", "output"]
    commands, example, output = blocks("README.md")[:3]
    assert "make demo" in commands.text
    assert "make test" in commands.text
    assert len([line for line in example.text.splitlines() if line.strip()]) <= 15
    assert read("README.md")[: output.end].count("\n") <= 50


# Commands


def command_lines() -> Iterator[tuple[str, str]]:
    for chapter in CHAPTERS:
        for block in blocks(chapter):
            if block.kind == "sh":
                for line in block.text.splitlines():
                    if line.startswith("workledger "):
                        yield chapter, line
        for line in re.findall(r"`(workledger [^`]+)`", FENCE.sub("", read(chapter))):
            if "COMMAND" not in line:
                yield chapter, line


def parse(line: str) -> Any:
    """Parse a shown command as the command line does, without running it; return the command found."""
    command: Any = cli.command()
    words = shlex.split(line, comments=True)[1:]
    words = words[: words.index("|")] if "|" in words else words  # what reads its output is no business of this test
    context = command.make_context("workledger", words)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, f"{line}: there is no such command"
        context = command.make_context(name, words, parent=context)
    return command


@pytest.mark.parametrize(("chapter", "line"), list(command_lines()))
def test_every_shown_command_exists_with_its_options(chapter: str, line: str) -> None:
    """A command that a README shows is one, with these options and arguments."""
    assert parse(line).callback is not None


def test_a_command_that_is_made_up_would_be_found() -> None:
    """The check itself rejects unknown commands, unknown options and missing arguments."""
    for line in (
        "workledger fly",
        "workledger task fly",
        "workledger run --fly",
        "workledger task show",
        "workledger --fly run",
    ):
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            parse(line)


def test_the_options_of_run_are_all_listed() -> None:
    """The table of options in runner/README.md has every option of `run` and no other, with its default."""
    shown = {name for name in first_cells(section("runner/README.md", "Run")) if name.startswith("--")}
    command = parse("workledger --app tasks:ledger run")
    assert shown == {option for parameter in command.params for option in parameter.opts} - {"--help"}


def test_every_setting_is_listed_with_its_default() -> None:
    """The table of settings has every setting with its default as JSON, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", section("runner/README.md", "Settings"), re.MULTILINE)
    assert {name: json.loads(default) for name, default in rows} == Settings().model_dump(mode="json")


def test_the_manual_is_that_of_the_commands() -> None:
    """runner/README.md has a page for each command as it is now; `make docs` writes them."""
    text = read("runner/README.md")
    assert put_into(text, manual(app)) == text, "run `make docs`"


def test_the_manual_has_every_command_option_and_example() -> None:
    """Found in another way: each command that help lists has its page, with every option and every line to copy."""
    text = section("runner/README.md", "Commands")
    pages = {
        found[1]: found[2] for found in re.finditer(r"^### workledger ([^\n]*)\n(.*?)(?=^### |\Z)", text, re.M | re.S)
    }

    def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, f"{path} {name}".strip())
        if not hasattr(command, "commands"):
            yield path, command

    found = dict(leaves(cli.command()))
    assert pages.keys() == found.keys() and len(found) > 30
    for path, command in found.items():
        assert f"](#workledger-{path.replace(' ', '-')})" in text
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for name in {name for name in options if name.startswith("-")} - {"--help"}:
            assert f"`{name}`" in pages[path], (path, name)
        [example] = re.findall(r"Example: (workledger .*)", command.callback.__doc__)
        assert example in pages[path]


# Lists


def test_every_event_is_in_the_catalogue() -> None:
    """The event table has every event class and its topic, and no other."""
    text = section("ledger/README.md", "Events")
    rows = re.findall(r"^\| (\w+) \| `([\w.]+)` \| (\w+) \|", text, re.MULTILINE)
    assert [(name, topic) for name, topic, _ in rows] == [(kind.__name__, kind.TOPIC) for kind in EVENT_CLASSES]


def test_the_diagram_has_every_state_and_every_event_that_changes_it() -> None:
    """The state diagram names the five states and each event that moves a task; the text below it, each state."""
    [diagram] = [block.text for block in blocks("ledger/README.md") if block.kind == "mermaid"]
    states = set(re.findall(r"\b[a-z]+\b(?= -->|:)", diagram))
    assert states == set(STATES)
    kinds = {kind.__name__ for kind in EVENT_CLASSES if kind.__name__.startswith(("Task", "Attempt", "Cancel"))}
    assert set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", diagram)) - {"stateDiagram"} == kinds


def test_every_option_is_in_the_table_with_its_default() -> None:
    """The options table has every option of a task and no other; numbers and texts that are defaults are right."""
    text = section("ledger/README.md", "Options")
    assert first_cells(text) == ["option", *(field.name for field in dataclasses.fields(Options))]
    for name, default in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE):
        if default != "Retry()":
            value = getattr(Options(), name)
            assert default in (json.dumps(value), str(value), f"{value:g}" if isinstance(value, float) else "")


def test_every_trait_is_in_the_table() -> None:
    """The traits table has every trait of a task's function and no other."""
    names = first_cells(section("ledger/README.md", "Traits"))
    assert names == ["trait", *(field.name for field in dataclasses.fields(Traits))]


def test_every_option_of_a_schedule_is_in_the_table_with_its_default() -> None:
    """Options that only schedules have are all listed; numbers, texts and flags that are defaults are right."""
    text = section("ledger/README.md", "Schedules").partition("**What runs when.**")[0]
    given = inspect.signature(Ledger.schedule).parameters
    of_tasks = {
        "self",
        "options",
        "expression",
        *Fields._fields,
        *(field.name for field in dataclasses.fields(Options)),
    }
    assert set(first_cells(text)) - {"option"} == given.keys() - of_tasks | {"max_attempts"}
    for name, default in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE):
        assert ast.literal_eval(default) == given[name].default


def test_every_error_is_in_the_table_with_its_exit_code() -> None:
    """The error table has every error of the ledger and its exit code, and no other."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LedgerError)}
    rows = re.findall(r"^\| (\w+) \| (\d) \|", section("ledger/README.md", "Errors"), re.MULTILINE)
    assert dict(rows) == {kind.__name__: str(kind.exit_code) for kind in kinds}


def test_every_column_of_the_queue_view_is_listed() -> None:
    """The queue table in projections/README.md has the view's columns in their order."""
    connection = sqlite3.connect(":memory:")
    connection.execute(QUEUE_SQL["create_queue"])
    columns = [row[1] for row in connection.execute("PRAGMA table_info(queue)")]
    connection.close()
    assert first_cells(section("projections/README.md", "The queue view")) == ["column", *columns]
    assert columns == ["position", *TaskState._fields]


def test_every_column_of_the_schedules_view_is_listed() -> None:
    """The schedules table in projections/README.md has the view's columns in their order."""
    connection = sqlite3.connect(":memory:")
    connection.execute(SCHEDULES_SQL["create_schedules"])
    columns = [row[1] for row in connection.execute("PRAGMA table_info(schedules)")]
    connection.close()
    assert first_cells(section("projections/README.md", "The schedules view")) == ["column", *columns]
    assert columns == ["next_us", *ScheduleState._fields]


def test_every_column_of_the_controls_view_is_listed() -> None:
    """The two tables of the controls in projections/README.md have the view's columns in their order."""
    shown = first_cells(section("projections/README.md", "The controls view"))
    assert shown == ["column", *Mark._fields, "column", *LimitState._fields]


@pytest.mark.parametrize("table", [*(table.name for view in VIEWS for table in view.tables), "meta"])
def test_every_column_of_the_reports_is_listed(table: str) -> None:
    """The table of each report in projections/README.md says of each column what its SQL file says, and of no other."""
    if table == "schedule_runs":  # what the fold remembers, not for readers
        return
    text = section("projections/README.md", "The reports").partition(f"\n### {table}\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert rows == list(meanings(table).items())
    known = {one.name: list(one.columns) for view in VIEWS for one in view.tables} | {"meta": list(Kept._fields)}
    assert [name for name, _ in rows] == known[table]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_links_lead_somewhere(chapter: str) -> None:
    """Every relative link of a chapter names a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)\)", read(chapter)):
        assert (ROOT / chapter).parent.joinpath(target).is_file(), target


def test_every_row_of_the_comparison_names_tests_that_exist() -> None:
    """Each row of the tables in tests/README.md has five cells, and names at least one test, all of which there are."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")]
    known = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for row in re.findall(r"^\| \d+ \|.*$", read("tests/README.md"), re.MULTILINE):
        cells = row.strip("|").split("|")
        assert len(cells) == 5 and all(cell.strip() for cell in cells), row
        named = set(re.findall(r"`(test_\w+)`", cells[-1]))
        assert named and named <= known, row
    numbers = {int(number) for number in re.findall(r"^\| (\d+) \|", read("tests/README.md"), re.MULTILINE)}
    assert numbers >= {*range(68, 165), *range(177, 215)}, "groups F to N and Q to X, row by row"
