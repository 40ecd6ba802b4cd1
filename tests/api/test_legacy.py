"""Legacy cron functions: each a schedule of its own, deprecated, changeable; none holds up or breaks the others."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from ledger import InvalidOption, Ledger
from ledger.clock import SystemClock
from ledger.cron import Fields, Rule, parse_expression, resolve
from ledger.errors import InvalidSchedule
from ledger.legacy import schedule_of
from ledger.schedule import loads
from ledger.testing import ManualClock, run_queue
from tests.api.setup import open_ledger

pytestmark = pytest.mark.usefixtures("each_database")

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MODULES = {
    "__init__": "",
    "__main__": "raise AssertionError('a program was run')",
    "forum": "calls = []\ndef forum_cron():\n    '''Send what was posted.'''\n    calls.append(1)\ndef helper_cron(): 1 / 0",
    "often": "cron_interval = 300\ndef often_cron(): return 'done'",
    "nightly": "cron_interval = '30 2 * * *'\ndef nightly_cron(): return object()",
    "classy": "runs = []\nclass ClassyCron:\n    def __init__(self): self.own = []\n"
    "    def run(self):\n        self.own.append(1); runs.append(len(self.own))",
    "later": "import asyncio\nasync def later_cron():\n    await asyncio.sleep(0)",
    "says_no": "def says_no_cron(): return False",
    "raises": "def raises_cron(): raise RuntimeError('always')",
    "borrowed": "from old.forum import forum_cron as borrowed_cron",
    "broken": "1 / 0",
    "leaves": "import sys; sys.exit(3)",
    "needy": "def needy_cron(course): pass",
    "odd": "cron_interval = -5\ndef odd_cron(): pass",
    "block/__init__": "def block_cron(): pass",
    "block/forum": "def forum_cron(): pass",
}
TAKEN = {
    "old.block.block_cron": "* * * * *",
    "old.block.forum.forum_cron": "* * * * *",
    "old.classy.ClassyCron": "* * * * *",
    "old.forum.forum_cron": "* * * * *",
    "old.later.later_cron": "* * * * *",
    "old.nightly.nightly_cron": "30 2 * * *",
    "old.often.often_cron": "H/5 * * * *",
    "old.raises.raises_cron": "* * * * *",
    "old.says_no.says_no_cron": "* * * * *",
}


def write(directory: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        path = directory / "old" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package of old modules, imported."""
    write(tmp_path, MODULES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("old")
    for name in [name for name in sys.modules if name.partition(".")[0] == "old"]:
        del sys.modules[name]


def registered(old: ModuleType, clock: ManualClock | None = None) -> Ledger:
    ledger = open_ledger(clock or ManualClock(NOON))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ledger.legacy.register(old)
    return ledger


def test_each_function_becomes_a_schedule_of_its_own(old: ModuleType) -> None:
    """Functions, classes and async functions of all modules, by the interval that their module asks for."""
    ledger = registered(old)
    assert {one.name: one.schedule for one in ledger.legacy.registered} == TAKEN
    ledger.schedules.register()
    assert ledger.schedules.names() == sorted(TAKEN)
    assert {" ".join(loads(ledger.schedules.get(name).fields)) for name in TAKEN} == set(TAKEN.values())


def test_each_is_deprecated_and_shown_as_legacy(old: ModuleType) -> None:
    """One DeprecationWarning each at its registration, which says what to write; the schedule has component and label."""
    ledger = open_ledger(ManualClock(NOON))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ledger.legacy.register(old)
    deprecated = [str(one.message) for one in caught if one.category is DeprecationWarning]
    assert len(deprecated) == len(TAKEN)
    assert any('@ledger.schedule("H/5 * * * *", name="old.often.often_cron")' in text for text in deprecated)
    assert all(one.filename == __file__ for one in caught)
    ledger.schedules.register()
    state = ledger.schedules.get("old.forum.forum_cron")
    assert state.component == "legacy" and loads(state.declared)["labels"] == ["legacy"]
    assert loads(state.declared)["description"] == "Send what was posted."


def test_what_cannot_be_taken_over_is_reported_and_holds_up_nothing(old: ModuleType) -> None:
    """A module that raises or leaves at import, arguments that cron does not give, an interval that is none."""
    ledger = open_ledger(ManualClock(NOON))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ledger.legacy.register(old)
    why = {problem.name: problem.why for problem in ledger.legacy.problems}
    assert why.keys() == {"old.broken", "old.leaves", "old.needy.needy_cron", "old.odd.odd_cron"}
    assert "ZeroDivisionError" in why["old.broken"] and "line 1 of" in why["old.broken"]
    assert "SystemExit: 3" in why["old.leaves"] and "course" in why["old.needy.needy_cron"]
    assert "cron_interval is -5" in why["old.odd.odd_cron"]
    told = [str(one.message) for one in caught if one.category is RuntimeWarning]
    assert len(told) == 4 and all("is not taken over" in text for text in told)


def test_one_that_fails_does_not_stop_the_others(old: ModuleType) -> None:
    """In ten minutes those that succeed have ten runs each; those that raise or say False have failed, and wait."""
    clock = ManualClock(NOON)
    ledger = registered(old, clock)
    run_queue(ledger, until=NOON)
    run_queue(ledger, until=NOON + timedelta(minutes=10))
    fired = {name: sum(one.what == "SlotFired" for one in ledger.schedules.history(name)) for name in TAKEN}
    assert {name: fired[name] for name in ("old.forum.forum_cron", "old.classy.ClassyCron", "old.later.later_cron")} == {
        "old.forum.forum_cron": 10, "old.classy.ClassyCron": 10, "old.later.later_cron": 10
    }  # fmt: skip
    assert fired["old.often.often_cron"] == 2 and fired["old.nightly.nightly_cron"] == 0
    for name in ("old.raises.raises_cron", "old.says_no.says_no_cron"):
        state = ledger.schedules.get(name)
        assert fired[name] == 1 and state.failures > 1 and state.is_live
    assert sys.modules["old.forum"].calls == [1] * 10
    assert sys.modules["old.classy"].runs == [1] * 10, "each run has an instance of its own"


def test_an_administrator_changes_them_like_others(old: ModuleType) -> None:
    """`schedule set` gives one its own time, which stays at the next registration; the component can be disabled."""
    ledger = registered(old)
    ledger.schedules.register()
    ledger.schedules.set("old.forum.forum_cron", "15 * * * *", reason="too often")
    ledger.schedules.register()
    assert loads(ledger.schedules.get("old.forum.forum_cron").fields)[0] == "15"
    ledger.schedules.disable_component("legacy", reason="moving")
    assert not ledger.schedules.next("old.often.often_cron", 1)


def test_a_function_declared_by_hand_is_left_to_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving off: the decorator with the same name keeps history and changes, and the legacy registration steps back."""
    by_hand = (
        "from here import ledger\n@ledger.schedule('5 * * * *', name='old.forum.forum_cron')\ndef forum_cron(): pass\n"
    )
    write(tmp_path, {"__init__": "", "forum": MODULES["forum"], "often": MODULES["often"]})
    monkeypatch.syspath_prepend(str(tmp_path))
    clock = ManualClock(NOON)
    url = f"sqlite:///{tmp_path}/work.db"
    for is_moved in (False, True):
        (tmp_path / "old" / "forum.py").write_text(by_hand if is_moved else MODULES["forum"])
        here = ModuleType("here")
        here.ledger = ledger = Ledger(url, clock=clock)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "here", here)
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.partition(".")[0] == "old"]:
            del sys.modules[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            taken = [one.name for one in ledger.legacy.register("old")]
        assert taken == ["old.often.often_cron"] if is_moved else ["old.forum.forum_cron", "old.often.often_cron"]
        ledger.schedules.sync()
        state = ledger.schedules.get("old.forum.forum_cron")
        assert state.component == (None if is_moved else "legacy") and state.status == "declared"
        ledger.close()
        clock.advance(timedelta(hours=1))
    assert [one.what for one in ledger.schedules.history("old.forum.forum_cron")].count("ScheduleDeclared") == 2
    ledger.close()
    del sys.modules["old"], sys.modules["old.forum"], sys.modules["old.often"]


def test_wrong_registrations_are_refused(old: ModuleType) -> None:
    """No module, one that cannot be imported, an option that is none; a module without cron functions is reported."""
    ledger = open_ledger(ManualClock(NOON))
    for wrong in (5, "old.broken", "no_such_package"):
        with pytest.raises(InvalidOption):
            ledger.legacy.register(wrong)  # type: ignore[arg-type]
    for options in ({"priority": 1_000}, {"flavour": 1}, {"component": ""}):
        with pytest.raises(InvalidOption):
            ledger.legacy.register(old, **options)  # type: ignore[arg-type]
    assert ledger.functions == {} and ledger.legacy.problems == []
    with pytest.warns(RuntimeWarning, match="no module in it has a cron function"):
        ledger.legacy.register("old.broken.nothing".partition(".")[0] + ".borrowed")


EVEN = (60, 240, 300, 1_800, 3_600, 43_200, 86_400, 604_800)


@pytest.mark.parametrize("seconds", [1, 59.5, 90, 420, 3_599, 5_000, 100_000.5 / 2, *EVEN])
def test_an_interval_is_never_run_more_often_than_asked(seconds: float) -> None:
    """The gap between two runs is always the same, and the interval, or longer; where it is longer, a note says so."""
    schedule, note = schedule_of(seconds)
    rule = Rule(Fields(*resolve(parse_expression(schedule), "old.any", lambda low, _: low)), "UTC")
    firings = rule.between(NOON, NOON + timedelta(days=3 if seconds < 80_000 else 100))
    [gap] = {(after - before).total_seconds() for before, after in pairwise(firings)}
    assert gap >= seconds
    assert (note is None) == (gap == max(seconds, 60) or seconds < 60)


@pytest.mark.parametrize("interval", [0, -1, float("nan"), True, [], b"x"])
def test_an_interval_that_is_none_is_refused(interval: object) -> None:
    """Neither seconds above 0 nor text."""
    with pytest.raises(InvalidSchedule, match="cron_interval"):
        schedule_of(interval)


SLOW = {
    "__init__": "",
    "slow": "cron_interval = '0 0 1 1 *'\nimport os, time\ndef slow_cron():\n    while not os.path.exists('flag'): time.sleep(0.01)",
    "quick": "cron_interval = '0 0 1 1 *'\ndef quick_cron(): print('quick')",
}
APP = "import old\nfrom ledger import Ledger\nledger = Ledger('sqlite:///work.db')\nledger.legacy.register(old)\n"


def test_a_slow_one_holds_up_nothing(tmp_path: Path) -> None:
    """In a real worker: while one function does not end, another runs, and runs again."""
    write(tmp_path, SLOW)
    (tmp_path / "app.py").write_text(APP)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "WORKLEDGER_APP": "app:ledger"}
    command = [sys.executable, "-W", "ignore", "-m", "runner.cli"]
    subprocess.run([*command, "schedule", "sync"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    slow, quick = "old.slow.slow_cron", "old.quick.quick_cron"
    ledger.schedules.run_now(slow, reason="a test")
    deadline = time.monotonic() + 60

    def until(name: str, state: str) -> None:
        while ledger.get(str(ledger.schedules.get(name).run_id)).state != state:
            assert time.monotonic() < deadline
            SystemClock().sleep(0.02)

    with subprocess.Popen([*command, "run"], cwd=tmp_path, env=environment,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        try:
            until(slow, "running")
            for _ in range(2):
                ledger.schedules.run_now(quick, reason="a test")
                until(quick, "succeeded")
            assert ledger.schedules.get(slow).is_live
            (tmp_path / "flag").touch()
            until(slow, "succeeded")
        finally:
            process.send_signal(signal.SIGTERM)
    ledger.close()
