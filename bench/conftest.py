"""Describe the machine without naming it, and print each figure beside its raw limit when the run has ended."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.databases import new_server


@pytest.hookimpl
def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)
    machine_info["memory_gib"] = round(psutil.virtual_memory().total / 2**30)
    machine_info["cores"] = psutil.cpu_count()
    machine_info["kernel"] = platform.release()


@pytest.hookimpl
def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    output_json.pop("commit_info", None)
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    if session is None or not session.benchmarks:
        return
    terminalreporter.section("figures")
    for benchmark in session.benchmarks:
        info = dict(benchmark.extra_info)
        wanted = info.pop("wanted", "")
        shown = ", ".join(f"{key} {value:,}" if isinstance(value, int | float) else f"{key} {value}"
                          for key, value in info.items())  # fmt: skip
        terminalreporter.write_line(f"{benchmark.name}: {shown}; wanted {wanted}")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server with its default settings: fsync and synchronous_commit on."""
    server = new_server()
    yield server.url
    server.remove()
