"""What is well, what warns and what alarms: every check against its bounds, and what it tells to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.health import EXIT_CODES, Check, Named, Thresholds, Vitals, judge, size, span, summary, unusable, worst

LIMITS = Thresholds(
    beat_warning=120,
    beat_critical=86_400,
    due_warning=600,
    due_critical=14_400,
    delay_warning=300,
    delay_critical=14_400,
    running_warning=43_200,
    running_critical=86_400,
    lag_warning=10_000,
    lag_critical=100_000,
    disk_warning=1_000,
    disk_critical=100,
    wal_warning=2_000,
    wal_critical=20_000,
)
WELL: dict[str, Any] = {"alive": 2, "last_sign": 1.0, "disk_free": 5_000, "disk_total": 9_000, "wal": 10}


def checked(name: str, **changes: Any) -> Check:
    [found] = [one for one in judge(Vitals(**(WELL | changes)), LIMITS) if one.check == name]
    return found


def aged(seconds: float) -> Named:
    return Named(seconds, "01a2", "send")


def test_an_installation_that_is_well() -> None:
    """Every check is there once and ok, with nothing to do; the exit code is 0."""
    checks = judge(Vitals(**WELL), LIMITS)

    assert [one.check for one in checks] == [
        "runners",
        "heartbeat",
        "oldest due",
        "retry delay",
        "long running",
        "schedules",
        "notices",
        "inbox",
        "views",
        "report",
        "disk",
        "write-ahead log",
    ]
    assert {one.state for one in checks} == {"ok"} and {one.advice for one in checks} == {""}
    assert summary(checks)["exit_code"] == 0


@pytest.mark.parametrize(
    ("name", "vitals", "state"),
    [
        # Nothing queued, something queued, due 30 minutes ago, due a day ago; what is out of attempts is in no queue.
        ("oldest due", {}, "ok"),
        ("oldest due", {"waiting": 1}, "info"),
        ("oldest due", {"waiting": 1, "due": 1, "oldest_due": aged(5)}, "info"),
        ("oldest due", {"waiting": 9, "held": 9, "paused": ["mail"]}, "info"),
        ("oldest due", {"waiting": 1, "due": 1, "oldest_due": aged(1_800)}, "warning"),
        ("oldest due", {"waiting": 1, "due": 1, "oldest_due": aged(86_400)}, "critical"),
        ("oldest due", {"due": 1, "oldest_due": aged(600)}, "info"),
        ("oldest due", {"due": 1, "oldest_due": aged(600.1)}, "warning"),
        ("oldest due", {"due": 1, "oldest_due": aged(14_400)}, "warning"),
        ("oldest due", {"due": 1, "oldest_due": aged(14_400.1)}, "critical"),
        ("oldest due", {"waiting": 10**6, "due": 10**6, "oldest_due": aged(1)}, "info"),
        ("retry delay", {"longest_delay": aged(60)}, "info"),
        ("retry delay", {"longest_delay": aged(300)}, "info"),
        ("retry delay", {"longest_delay": aged(301)}, "warning"),
        ("retry delay", {"longest_delay": aged(14_401)}, "critical"),
        ("long running", {"running": 1, "longest_running": [aged(60)]}, "ok"),
        ("long running", {"running": 1, "longest_running": [aged(43_200)]}, "ok"),
        ("long running", {"running": 1, "longest_running": [aged(43_201)]}, "warning"),
        ("long running", {"running": 2, "longest_running": [aged(86_401), aged(1)]}, "critical"),
        ("runners", {"alive": 0}, "warning"),
        ("runners", {"alive": 0, "silent": 3}, "warning"),
        ("runners", {"alive": 0, "due": 1}, "critical"),
        ("runners", {"alive": 1, "silent": 3, "due": 1}, "ok"),
        ("heartbeat", {"last_sign": None}, "warning"),
        ("heartbeat", {"last_sign": 120}, "ok"),
        ("heartbeat", {"last_sign": 121}, "warning"),
        ("heartbeat", {"last_sign": 86_401}, "critical"),
        ("schedules", {"overdue_schedules": ["nightly"]}, "warning"),
        ("notices", {"failing_hooks": {"smtp": "refused"}}, "warning"),
        ("inbox", {"arriving": 3}, "info"),
        ("inbox", {"set_aside": 1}, "warning"),
        ("views", {"lag": 10_000}, "ok"),
        ("views", {"lag": 10_001}, "warning"),
        ("views", {"lag": 100_001}, "critical"),
        ("report", {"report_lag": 10**9}, "info"),
        ("disk", {"disk_free": 1_000}, "ok"),
        ("disk", {"disk_free": 999}, "warning"),
        ("disk", {"disk_free": 99}, "critical"),
        ("write-ahead log", {"wal": 2_001}, "warning"),
        ("write-ahead log", {"wal": 20_001}, "critical"),
    ],
)
def test_each_check_has_its_bounds(name: str, vitals: dict[str, Any], state: str) -> None:
    """A bound is exceeded, not met (of the disk: undercut); whatever is wrong says what to do."""
    found = checked(name, **vitals)

    assert found.state == state
    assert bool(found.advice) is (state in ("warning", "critical") and vitals != {"last_sign": None})


@pytest.mark.parametrize(
    ("name", "vitals", "text", "advice"),
    [
        (
            "runners",
            {"alive": 0, "silent": 1, "due": 2},
            "no worker has a fresh heartbeat; 1 worker is silent, and 2 tasks are due",
            "workledger --app MODULE:LEDGER run",
        ),
        ("runners", {"alive": 1, "silent": 2}, "1 worker with a fresh heartbeat; 2 others are silent", ""),
        ("heartbeat", {"last_sign": None}, "no worker has ever run on this ledger", ""),
        ("heartbeat", {"last_sign": 7_200}, "the last sign of a worker is 2 h old", "workledger worker list"),
        (
            "oldest due",
            {"waiting": 7, "due": 3, "held": 4, "paused": ["mail"], "oldest_due": aged(1_800)},
            "send (01a2); 4 tasks due in paused queues (mail)",
            "workledger why 01a2",
        ),
        (
            "oldest due",
            {"due": 3, "oldest_due": aged(1_800)},
            "3 tasks due, the oldest for 30 min: send (01a2)",
            "workledger why 01a2",
        ),
        ("retry delay", {"longest_delay": aged(7_680)}, "the longest is 2.13 h, of send (01a2)", "task show 01a2"),
        (
            "long running",
            {"running": 9, "longest_running": [aged(200_000), aged(90_000), aged(80_000), aged(70_000), aged(1)]},
            "send (01a2) for 2.31 d; send (01a2) for 25 h; send (01a2) for 22.2 h; and 1 more",
            "workledger task log 01a2 --follow",
        ),
        ("schedules", {"overdue_schedules": list("abcde")}, "a, b, c and 2 more", "workledger schedule show a"),
        ("notices", {"failing_hooks": {"smtp": "refused"}}, "smtp fails: refused", "workledger notices"),
        ("inbox", {"set_aside": 2}, "2 tasks could not be taken", "workledger inbox retry"),
        ("disk", {"disk_free": 10, "disk_total": 2**30}, "10 bytes free of 1.0 GiB", "free some space"),
    ],
)
def test_what_is_said(name: str, vitals: dict[str, Any], text: str, advice: str) -> None:
    """A check names what is wrong, which task or schedule it is, and the command to look further."""
    found = checked(name, **vitals)

    assert text in found.text
    assert advice in found.advice if advice else not found.advice


@given(st.lists(st.sampled_from(list(EXIT_CODES)), max_size=8))
def test_the_worst_check_decides(states: list[Any]) -> None:
    """Exit code 2 where anything is critical, else 1 where anything warns, else 0."""
    checks = [Check(check="x", state=state, text="") for state in states]
    expected = 2 if "critical" in states else 1 if "warning" in states else 0

    assert summary(checks)["exit_code"] == EXIT_CODES[worst(checks)] == expected


def test_a_ledger_that_cannot_be_read_is_critical() -> None:
    """Whatever the problem is, it is the one check there is, and critical."""
    assert summary([unusable("no such file")])["exit_code"] == 2


def test_a_memory_ledger_has_no_disk() -> None:
    """Checks of what is not there are left out."""
    names = [one.check for one in judge(Vitals(), LIMITS)]

    assert "disk" not in names and "write-ahead log" not in names


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (119, "119 s"),
        (120, "2 min"),
        (1_850, "30.8 min"),
        (86_400, "24 h"),
        (9e8, "10,417 d"),
    ],
)
def test_spans_are_readable(seconds: float, text: str) -> None:
    """Three digits and the unit that fits."""
    assert span(seconds) == text


def test_sizes_are_readable() -> None:
    """Bytes, then the unit that fits."""
    assert [size(n) for n in (0, 1023, 2048, 3 * 2**20, 5.5 * 2**40)] == [
        "0 bytes",
        "1023 bytes",
        "2.0 KiB",
        "3.0 MiB",
        "5.5 TiB",
    ]
