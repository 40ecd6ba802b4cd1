"""The schedules that the demo shows are those of the real installation, and it shows each with its coming day."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ledger import Ledger
from ledger.testing import memory_ledger
from runner import demo_schedules

REAL = Path(__file__).parent / "data" / "moodle_core_schedules.json"


def test_the_demo_has_the_real_schedules() -> None:
    """Names and fields are those of the installation's own list."""
    ledger = memory_ledger()
    demo_schedules.declare(ledger)
    declared = {name: one.definition.fields for name, one in ledger.schedules.declarations.items()}
    assert declared == {
        task["name"]: tuple(task[field] for field in ("minute", "hour", "day", "month", "dayofweek"))
        for task in json.loads(REAL.read_text())["tasks"]
    }


@pytest.mark.parametrize("width", [80, 140])
def test_the_demo_shows_a_day(tmp_path: Path, width: int) -> None:
    """Each task has a line with its runs of the coming 24 hours, on a narrow terminal too, and the ledger can be seen."""
    console = Console(file=io.StringIO(), width=width)
    demo_schedules.show(console, tmp_path / "demo.db")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("core.")}
    assert len(lines) == 30
    assert "1,440" in lines["core.grade_cron"]
    assert "288" in lines["core.badges_cron"]
    assert "*/5 * * * *" in lines["core.badges_cron"] and all(len(line) <= width for line in lines.values())
    assert width == 80 or "Every 2 hours" in lines["core.check_for_updates"]
    assert f"  export WORKLEDGER_URL=sqlite:///{tmp_path / 'demo-schedules.db'}\n" in text
    ledger = Ledger(f"sqlite:///{tmp_path / 'demo-schedules.db'}")
    assert len(ledger.schedules.names()) == 30
    ledger.close()
