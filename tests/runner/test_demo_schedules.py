"""The schedules that the demo shows are those of the real installation, and it shows each with its coming day."""

from __future__ import annotations

import io
import json
from pathlib import Path

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


def test_the_demo_shows_a_day(tmp_path: Path) -> None:
    """Each task has a line with its runs of the coming 24 hours, and the ledger it names can be looked at."""
    console = Console(file=io.StringIO(), width=140)
    demo_schedules.show(console, tmp_path / "demo.db")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("core.")}
    assert len(lines) == 30
    assert "1,440" in lines["core.grade_cron"]
    assert "288" in lines["core.badges_cron"]
    assert "Every 2 hours" in lines["core.check_for_updates"]
    ledger = Ledger(f"sqlite:///{tmp_path / 'demo-schedules.db'}")
    assert len(ledger.schedules.names()) == 30
    ledger.close()
