"""The commands on schedules: what they print and change, what they refuse, and with which exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from tests.invoking import invoke

APP = """
from ledger import Ledger, Retry
ledger = Ledger("sqlite:///work.db")

@ledger.schedule("R 17 * * 1-5", timezone="Europe/Paris", component="mail")
def nightly() -> None:
    '''Tidy up.'''

@ledger.schedule("0 0 1 1 *")
def yearly() -> None:
    raise OSError("disk full")

@ledger.schedule("30 2 * * *", component="mail", always=True, enabled=False)
def off() -> None: ...
"""
WHY = ("--reason", "because the test says so")


@pytest.fixture
def here(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an app in crons.py whose schedules are in the ledger, on each kind of database."""
    (tmp_path / "crons.py").write_text(APP.replace("sqlite:///work.db", url))
    (tmp_path / "url.txt").write_text(url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("URL", "APP", "SCHEDULES_LOCKED", "TIMEZONE"):
        monkeypatch.delenv(f"WORKLEDGER_{name}", raising=False)
    sys.modules.pop("crons", None)
    call("schedule", "sync")
    yield tmp_path
    sys.modules.pop("crons", None)


def call(*words: str, code: int = 0) -> str:
    """Call the command in this process, expect *code*, and return what it printed."""
    sys.modules.pop("crons", None)
    result = invoke(["--app", "crons:ledger", *words])
    assert result.exit_code == code, result.output
    return result.output


def lines(*words: str) -> list[dict[str, Any]]:
    """Call the command with -o jsonl and return its objects."""
    return [json.loads(line) for line in call(*words, "-o", "jsonl").splitlines()]


def row(name: str) -> dict[str, Any]:
    """Return what `schedule list` tells of one schedule."""
    [found] = [one for one in lines("schedule", "list") if one["name"] == name]
    return found


def test_sync_says_what_it_did(here: Path) -> None:
    """A second sync changes nothing; a schedule gone from the code is retired, and one taken back is back."""
    done = json.loads(call("schedule", "sync", "-o", "json"))
    assert done == {"declared": [], "updated": [], "back": [], "retired": [], "overridden": [], "left_alone": {}}
    before = (here / "crons.py").read_text()
    (here / "crons.py").write_text(before.replace('@ledger.schedule("0 0 1 1 *")', "@ledger.task"))
    assert "retired: yearly" in call("schedule", "sync", "--reason", "not needed")
    assert [one["name"] for one in lines("schedule", "list")] == ["nightly", "off"]
    retired = lines("schedule", "list", "--retired")[0]
    assert (retired["name"], retired["next_run"], retired["next_at"]) == ("yearly", "retired", None)
    assert lines("schedule", "history", "yearly")[-1]["reason"] == "not needed"
    (here / "crons.py").write_text(before)
    assert "back: yearly" in call("schedule", "sync")


def test_list_tells_of_each_schedule(here: Path) -> None:
    """Name, component, last success and outcome, next run, fields and delay; disabled ones say why."""
    columns = call("schedule", "list").splitlines()[0]
    wanted = "name component last success last outcome next run minute hour day month dayofweek timezone delay"
    assert columns.split() == wanted.split()
    assert [one["name"] for one in lines("schedule", "list")] == ["yearly", "nightly", "off"]
    assert row("off")["next_run"] == "disabled"
    nightly = row("nightly")
    at, local = (datetime.fromisoformat(nightly[key]) for key in ("next_at", "next_local"))
    assert at == local
    assert (local.hour, local.weekday() < 5, str(local.minute)) == (17, True, nightly["resolved"].split()[0])
    assert nightly["next_run"] == f"{local:%Y-%m-%dT%H:%M:%S%z} ({at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ})"
    assert [one["name"] for one in lines("schedule", "list", "--component", "mail")] == ["nightly", "off"]


def test_set_marks_what_differs_and_reset_takes_it_back(here: Path) -> None:
    """Fields that differ from the default are marked with it, in the table and by name."""
    call("schedule", "set", "nightly", "--hour", "4", "--timezone", "Asia/Tokyo", *WHY)
    changed = row("nightly")
    assert (changed["hour"], changed["differs"], changed["customised"]) == ("4", ["hour", "timezone"], True)
    table = call("schedule", "list")
    assert "4 (default 17)" in table
    assert "Asia/Tokyo (default Europe/Paris)" in table
    assert "nightly (customised)" in table
    call("schedule", "set", "nightly", "1 2 * * *", *WHY)
    assert row("nightly")["minute"] == "1"
    call("schedule", "reset", "nightly", *WHY)
    assert row("nightly")["differs"] == []


def test_enable_and_disable(here: Path) -> None:
    """Both say what is next; a disabled schedule has no coming firings."""
    assert "next run: 20" in call("schedule", "enable", "off", *WHY)
    assert len(lines("schedule", "next", "off", "-n", "20")) == 20
    assert "next run: disabled" in call("schedule", "disable", "off", *WHY)
    assert lines("schedule", "next", "off") == []
    assert "it is disabled" in call("schedule", "next", "off")


def test_next_lists_firings_in_both_times_and_words(here: Path) -> None:
    """Each has `at` in UTC and `local` with its offset; the heading has the schedule in words."""
    found = lines("schedule", "next", "nightly", "-n", "300")
    assert len(found) == 300
    for one in found:
        at, local = datetime.fromisoformat(one["at"]), datetime.fromisoformat(one["local"])
        assert at == local
        assert (local.hour, local.weekday() < 5) == (17, True)
    assert "Monday through Friday, on the clock of Europe/Paris" in call("schedule", "next", "nightly")


def test_next_warns_of_changes_of_the_clock(here: Path) -> None:
    """A year of 02:30 in Paris meets two changes of the clock."""
    call("schedule", "set", "nightly", "30 2 * * *", *WHY)
    said = call("schedule", "next", "nightly", "-n", "366")
    assert len([line for line in said.splitlines() if line.startswith("warning: ")]) == 2


def test_show_tells_all(here: Path) -> None:
    """The whole of a schedule as JSON: how its runs are made, and what the code says beside what is in force."""
    shown = json.loads(call("schedule", "show", "nightly", "-o", "json"))
    assert (shown["description"], shown["misfire"], shown["state"]) == ("Tidy up.", "one", "idle")
    assert shown["default"]["minute"] == "R"
    assert shown["retry"]["cap"] == 86_400
    assert "in words" in call("schedule", "show", "nightly")


def test_run_now_queues_and_refuses_beside_a_running_one(here: Path) -> None:
    """run-now prints the task and ends with 4 beside a running run; run-asap waits for a worker."""
    said = call("schedule", "run-now", "nightly", *WHY)
    run = row("nightly")["run"]
    assert run["task"] in said
    assert row("nightly")["next_run"] == "as soon as possible"
    hold(run["task"])
    assert "is running" in call("schedule", "run-now", "nightly", *WHY, code=4)
    assert json.loads(call("schedule", "show", "nightly", "-o", "json"))["state"] == "running"
    call("schedule", "run-asap", "nightly", *WHY, code=4)
    call("schedule", "run-asap", "yearly", *WHY)
    assert row("yearly")["next_run"] == "as soon as possible"


def hold(task: str) -> None:
    """Claim the task as a worker would."""
    from ledger import commands as c
    from ledger.acts import act_on

    ledger = Ledger(Path("url.txt").read_text())
    with ledger.store.write() as unit:
        act_on(unit, task, c.Claim(worker="w1", seen=0), c.Act(id="a", at=unit.now, actor="worker:w1"))
    ledger.close()


def test_a_failing_run_shows_its_delay_until_it_is_cleared(here: Path) -> None:
    """The delay after failures is listed, with when the retry is due; clear-delay returns to the schedule."""
    call("schedule", "run-now", "yearly", *WHY)
    call("run", "--drain", code=1)
    failed = row("yearly")
    assert (failed["delay_seconds"], failed["failures"], failed["last_outcome"]) == (60, 1, "failed")
    assert failed["run"]["state"] == "waiting"
    assert failed["last_success"] is None
    assert "60 s" in call("schedule", "list")
    cleared = json.loads(call("schedule", "clear-delay", "yearly", *WHY, "-o", "json"))
    assert (cleared["delay_seconds"], cleared["failures"], cleared["run"]) == (None, 0, None)
    assert cleared["next_run"].endswith("-01-01T00:00:00Z")
    assert "no run that waits" in call("schedule", "clear-delay", "yearly", *WHY, code=4)


def test_components(here: Path) -> None:
    """A disabled component is said of its schedules, but for those that run always."""
    assert lines("component", "list") == [{"component": "mail", "state": "enabled", "schedules": 2, "run_always": 1}]
    call("schedule", "enable", "off", *WHY)
    call("component", "disable", "mail", *WHY)
    assert row("nightly")["next_run"] == "component disabled"
    assert row("off")["next_at"] is not None
    assert lines("component", "list")[0]["state"] == "disabled"
    assert "was disabled" in call("component", "disable", "mail", *WHY)
    call("component", "enable", "mail", *WHY)
    assert row("nightly")["next_at"] is not None
    call("component", "disable", "disk", *WHY, code=3)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("set", "nightly", "61 * * * *"), 2),
        (("set", "nightly", "--hour", "25"), 2),
        (("set", "nightly", "--timezone", "Mars/Olympus"), 2),
        (("set", "nightly", "0 0 30 2 *"), 2),
        (("set", "nightly"), 2),
        (("set", "nothing", "--hour", "3"), 3),
        (("reset", "nothing"), 3),
        (("run-asap", "off"), 4),
    ],
)
def test_refusals_have_their_exit_codes(here: Path, words: tuple[str, ...], code: int) -> None:
    """Bad input is 2, unknown is 3, a state that does not allow it is 4; nothing is changed."""
    before = lines("schedule", "list")
    call("schedule", *words, *WHY, code=code)
    assert lines("schedule", "list") == before


@pytest.mark.parametrize("verb", ["set", "reset", "enable", "disable", "run-now", "run-asap", "clear-delay"])
def test_every_change_needs_a_reason(here: Path, verb: str) -> None:
    """Without --reason the command is not carried out."""
    call("schedule", verb, "nightly", *(("--hour", "3") if verb == "set" else ()), code=2)


def test_a_locked_installation(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting refuses changes with exit code 4, whether it is in the environment or the file."""
    monkeypatch.setenv("WORKLEDGER_SCHEDULES_LOCKED", "true")
    assert "locked" in call("schedule", "disable", "nightly", *WHY, code=4)
    monkeypatch.delenv("WORKLEDGER_SCHEDULES_LOCKED")
    (here / "workledger.toml").write_text("schedules_locked = true\n")
    assert "locked" in call("schedule", "set", "nightly", "--hour", "3", *WHY, code=4)
    assert "locked" in call("component", "disable", "mail", *WHY, code=4)
    assert row("nightly")["enabled"]


def test_overrides_are_listed_and_win(here: Path) -> None:
    """What the file says is listed before it is in force, and marked in the list once it is."""
    (here / "workledger.toml").write_text('[schedule_overrides]\n"night*" = "5 6 * * *"\nnothing = {enabled = false}\n')
    before = {one["pattern"]: one for one in lines("schedule", "override")}
    assert before["night*"]["schedule"] == "nightly"
    assert before["night*"]["in_force"].startswith("from the next sync")
    assert before["nothing"]["in_force"] == "fits no schedule"
    assert "overridden: nightly" in call("schedule", "sync")
    assert (row("nightly")["overridden"], row("nightly")["hour"]) == ("night*", "6")
    assert "nightly (overridden)" in call("schedule", "list")
    assert lines("schedule", "override")[0]["in_force"] == "yes"
    assert "schedule_overrides" in call("schedule", "set", "nightly", "--hour", "3", *WHY, code=4)
    (here / "workledger.toml").write_text("")
    call("schedule", "sync")
    assert row("nightly")["overridden"] is None


def test_the_history_tells_who_what_when_and_why(here: Path) -> None:
    """Changes come with both values, requests with their task."""
    call("--actor", "ann", "schedule", "set", "nightly", "--hour", "4", *WHY)
    call("schedule", "run-now", "nightly", *WHY)
    declared, customised, requested = lines("schedule", "history", "nightly")
    assert (declared["what"], requested["what"]) == ("ScheduleDeclared", "RunRequested")
    assert customised["actor"].endswith("(ann)")
    assert customised["reason"] == WHY[1]
    assert customised["changes"]["schedule"] == {"from": "R 17 * * 1-5", "to": "R 4 * * 1-5"}
    table = call("schedule", "history", "nightly")
    assert "schedule R 17 * * 1-5 → R 4 * * 1-5" in table
    assert f"RunRequested: task {requested['details']['task']}" in table


def test_a_worker_registers_what_its_app_declares(here: Path) -> None:
    """`run` brings new schedules into the ledger before it works."""
    (here / "crons.py").write_text(APP + '\n@ledger.schedule("@daily")\ndef newest() -> None: ...\n')
    call("run", "--drain")
    assert row("newest")["resolved"] == "0 0 * * *"
    assert row("newest")["app"] == "crons:ledger"


def test_forecast_counts_runs_per_hour(here: Path) -> None:
    """Runs per hour of a day under the schedules in force, and beside them under a proposed change."""
    call("schedule", "set", "nightly", "*/10 * * * *", "--timezone", "UTC", *WHY)
    span = ("--from", "2026-03-02T00:00", "--to", "2026-03-03T00:00")
    assert [one["runs"] for one in lines("schedule", "forecast", *span)] == [6] * 24
    changed = lines("schedule", "forecast", *span, "--change", "nightly=0 3 * * *")
    assert [one["proposed"] for one in changed] == [0, 0, 0, 1] + [0] * 20
    assert sum(one["proposed"] for one in lines("schedule", "forecast", *span, "--change", "nightly=off")) == 0
    call("schedule", "forecast", "--change", "nightly", code=2)
    call("schedule", "forecast", "--change", "nothing=* * * * *", code=3)


def test_views_of_schedules_are_rebuilt_and_verified(here: Path) -> None:
    """The view has its place in the commands on views."""
    assert "schedules: rebuilt from 3 events" in call("projection", "rebuild", "--view", "schedules")
    assert "schedules: equal to the fold of the log" in call("projection", "verify", "--view", "schedules")


def test_the_time_zone_of_the_installation(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules declared without a zone go by the setting; an unknown zone is refused with its name."""
    monkeypatch.setenv("WORKLEDGER_TIMEZONE", "Asia/Tokyo")
    assert "updated: yearly" in call("schedule", "sync")
    assert row("yearly")["timezone"] == "Asia/Tokyo"
    assert row("nightly")["timezone"] == "Europe/Paris"
    monkeypatch.setenv("WORKLEDGER_TIMEZONE", "Mars/Olympus")
    assert "Mars/Olympus" in call("schedule", "sync", code=2)
