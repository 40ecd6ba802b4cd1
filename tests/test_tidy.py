"""The shape of the code itself: which way imports run, how long things are, who may read the time or name a driver."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ledger", "projections", "runner")
"""From the inside out: a package imports itself and those before it."""
MODULES = sorted(path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 40
OUTSIDE_THE_FLOW = {"ledger/testing.py": "helps tests of the ledger's users: it drives all packages, none imports it"}
MAY_USE_TIME = {
    "ledger/clock.py": "is the clock",
    "runner/worker.py": "waits and beats on the host's monotonic clock",
    "runner/supervisor.py": "watches its children on the host's monotonic clock",
    "runner/wake.py": "waits for a commit or a deadline",
    "runner/threads.py": "measures attempts for their timeouts",
    "runner/isolation.py": "watches the processes of isolated attempts on the host's monotonic clock",
    "runner/usage.py": "reads the CPU time of a thread",
    "runner/demo.py": "watches its workers from outside and says how long they took",
}
PURE = (
    "ledger/task.py",
    "ledger/keys.py",
    "ledger/retry.py",
    "ledger/schedule.py",
    "ledger/schedule_rules.py",
    "ledger/schedule_history.py",
    "ledger/slots.py",
    "ledger/cron.py",
    "ledger/cron_fields.py",
    "ledger/cron_forecast.py",
    "ledger/cron_walls.py",
    "ledger/cron_words.py",
    "ledger/zones.py",
    "projections/tasks.py",
    "projections/attempts.py",
    "projections/happenings.py",
    "projections/hourly.py",
    "projections/schedule_reports.py",
    "projections/views.py",
    "ledger/limits.py",
    "ledger/control_rules.py",
    "runner/plan.py",
)
MAY_NAME_DRIVER = {
    "sqlite3": ("ledger/sqlite", "projections/report_file.py"),
    "psycopg": ("ledger/postgres", "projections/report_schema.py"),
    "psycopg_pool": ("ledger/postgres",),
}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in *tree*, also inside functions and type checking blocks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines the function has from its `def` on, its docstring not counted."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_there_are_modules_to_look_at() -> None:
    """Each package has modules, so that the rules below are rules about something."""
    assert {module.split("/")[0] for module in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_inwards(module: str) -> None:
    """Imports run runner → projections → ledger, never back, and no package imports tests or bench."""
    if module in OUTSIDE_THE_FLOW:
        return
    own = PACKAGES.index(module.split("/", maxsplit=1)[0])
    forbidden = {*PACKAGES[own + 1 :], "tests", "bench"}
    found = {name for name in imported(tree_of(module)) if name.split(".")[0] in forbidden}
    assert not found


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_what_stands_outside_the_flow(module: str) -> None:
    """`ledger.testing`, which may import every package, is imported by none."""
    outside = {path.removesuffix(".py").replace("/", ".") for path in OUTSIDE_THE_FLOW}
    assert not outside & set(imported(tree_of(module)))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is(module: str) -> None:
    """Every module begins with a docstring."""
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_short(module: str) -> None:
    """A file has at most 400 lines, a function at most 40 without its docstring."""
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= MOST_FILE_LINES
    long = {f.name: count_lines(f) for f in functions(tree_of(module)) if count_lines(f) > MOST_FUNCTION_LINES}
    assert not long


@pytest.mark.parametrize("module", MODULES)
def test_few_modules_use_the_time(module: str) -> None:
    """Only the clock and the runner's waiting modules import `time`, and only the clock asks for the present."""
    if module not in MAY_USE_TIME:
        assert not {name for name in imported(tree_of(module)) if name.split(".")[0] == "time"}
    if module != "ledger/clock.py":
        asked = {node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)}
        assert not asked & {"utcnow", "today", "perf_counter", "time_ns"}
        presents = [
            node
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Attribute)
            and node.attr == "now"
            and isinstance(node.value, ast.Name)
            and node.value.id in ("datetime", "date")
        ]
        assert not presents


@pytest.mark.parametrize("module", MODULES)
def test_few_modules_name_the_driver(module: str) -> None:
    """Only the modules of each store and of the report file import the driver of their database."""
    for driver, places in MAY_NAME_DRIVER.items():
        if not module.startswith(places):
            assert not {name for name in imported(tree_of(module)) if name.split(".")[0] == driver}


@pytest.mark.parametrize("module", PURE)
def test_the_core_is_pure(module: str) -> None:
    """The modules that decide import no clock, database, randomness or configuration."""
    impure = {"time", "os", "random", "secrets", "uuid", "sqlite3", "psycopg", "socket", "threading"}
    names = set(imported(tree_of(module)))
    assert not {name for name in names if name.split(".")[0] in impure}
    assert not {name for name in names if name.startswith(("ledger.sqlite", "ledger.clock.SystemClock"))}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_its_chapter_and_its_types(package: str) -> None:
    """Each package has a README, its chapter, and is marked as typed."""
    assert (ROOT / package / "README.md").is_file()
    assert (ROOT / package / "py.typed").is_file()
