"""`workledger import`: files become declared schedules, a second time nothing changes, and each line has its report."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from ledger import Ledger
from ledger.schedule import loads
from ledger.schedule_events import ScheduleDeclared
from ledger.testing import ManualClock, memory_ledger, run_queue
from runner.imports import crontab
from runner.imports.declare import carry_out
from runner.shell import SHELL_TASK, allow_shell
from tests.invoking import invoke

MOODLE = Path(__file__).parent / "data" / "moodle_core_schedules.json"
CRONTAB = """\
CRON_TZ=Europe/Berlin
# Nightly backup
30 2 * * * /usr/local/bin/backup.sh
@reboot /opt/start
0 * * * * root cd / && run-parts /etc/cron.hourly
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "APP", "TIMEZONE"):
        monkeypatch.delenv(f"WORKLEDGER_{name}", raising=False)
    shutil.copy(MOODLE, tmp_path / "tasks.json")
    (tmp_path / "jobs.tab").write_text(CRONTAB)
    return tmp_path


def call(*words: str, code: int = 0, stdin: str | None = None) -> Result:
    result = invoke(["import", *words], stdin=stdin)
    assert result.exit_code == code, result.output
    return result


def report(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(*words, "-o", "json").stdout)
    return found


def ledger() -> Ledger:
    return Ledger("sqlite:///workledger.db")


def count_events() -> int:
    with ledger().store.read() as snapshot:
        return snapshot.head()


@pytest.mark.usefixtures("here")
def test_a_moodle_installation_is_declared_once() -> None:
    """All thirty are declared with their zone and component; again nothing is stored, and R is not drawn anew."""
    first = report("moodle", "tasks.json", "--timezone", "Australia/Perth")
    assert first["app"] == "moodle:tasks.json"
    assert [(line["taken"], line["change"]) for line in first["lines"]] == [(True, "declared")] * 30
    schedules = ledger().schedules
    drawn = {name: schedules.get(name) for name in schedules.names()}
    assert len(drawn) == 30
    daily = drawn["core.completion_daily"]
    assert (daily.timezone, daily.component, daily.task) == ("Australia/Perth", "core", "core.completion_daily")
    assert loads(daily.fields)[:2] == ["R", "R"]
    assert 0 <= int(loads(daily.resolved)[0]) <= 59

    before = count_events()
    second = report("moodle", "tasks.json", "--timezone", "Australia/Perth")

    assert [line["change"] for line in second["lines"]] == ["unchanged"] * 30
    assert count_events() == before
    assert {name: schedules.get(name) for name in schedules.names()} == drawn


@pytest.mark.usefixtures("here")
def test_the_zone_is_the_settings_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --timezone the setting counts; the file's own zone wins over both."""
    monkeypatch.setenv("WORKLEDGER_TIMEZONE", "Africa/Cairo")
    Path("two.json").write_text('[{"name": "a.b"}, {"name": "c", "timezone": "Asia/Tokyo"}]')
    report("moodle", "two.json")
    assert [ledger().schedules.get(name).timezone for name in ("a.b", "c")] == ["Africa/Cairo", "Asia/Tokyo"]


@pytest.mark.usefixtures("here")
def test_one_task_may_serve_all() -> None:
    """With --task every schedule runs that task with its own name as argument."""
    report("moodle", "tasks.json", "--task", "run_moodle_task")
    state = ledger().schedules.get("core.cache_cron")
    assert state.task == "run_moodle_task"
    assert loads(state.declared)["args"] == {"name": "core.cache_cron"}


@pytest.mark.usefixtures("here")
def test_a_changed_file_changes_its_schedules() -> None:
    """A changed entry is updated, a new one declared, one that is gone stays; with --sync it is retired and comes back."""
    full = json.loads(Path("tasks.json").read_text())["tasks"]
    report("moodle", "tasks.json")
    full[0]["minute"] = "*/2"
    Path("tasks.json").write_text(json.dumps([*full[:10], {"name": "local.new"}]))

    changed = report("moodle", "tasks.json")
    assert [line["change"] for line in changed["lines"]] == ["updated", *["unchanged"] * 9, "declared"]
    assert changed["retired"] == []
    synced = report("moodle", "tasks.json", "--sync")
    assert len(synced["retired"]) == 20
    assert ledger().schedules.get(full[20]["name"]).status == "retired"

    full[0]["minute"] = "*"
    Path("tasks.json").write_text(json.dumps(full))
    older = report("moodle", "tasks.json")
    assert older["lines"][0]["change"] == "unchanged"
    assert older["lines"][0]["why"] == "a newer import replaced this one; --sync goes back to it"
    back = report("moodle", "tasks.json", "--sync")
    assert [line["change"] for line in back["lines"]][:2] == ["updated", "unchanged"]
    assert {line["change"] for line in older["lines"][10:]} == {"back"}


@pytest.mark.usefixtures("here")
def test_a_schedule_of_somebody_else_is_left_alone() -> None:
    """A name that another file or app has declared is not taken, and said."""
    report("moodle", "tasks.json")
    Path("other.json").write_text('[{"name": "core.cache_cron", "minute": "1"}, {"name": "mine"}]')
    found = report("moodle", "other.json", "--sync")
    assert [line["taken"] for line in found["lines"]] == [False, True]
    assert found["lines"][0]["why"] == "a schedule of this name was declared by moodle:tasks.json"
    assert loads(ledger().schedules.get("core.cache_cron").fields)[0] == "50"
    assert ledger().schedules.get("core.tag_cron").status == "declared"


@pytest.mark.usefixtures("here")
def test_a_crontab_needs_its_opt_in() -> None:
    """Without --allow-shell nothing is taken and nothing made; --dry-run tells what would be."""
    assert "--allow-shell" in call("crontab", "jobs.tab", code=2).stderr
    lines = call("crontab", "jobs.tab", "--dry-run").stdout.splitlines()
    assert lines[0] == "line 1: taken: CRON_TZ"
    assert lines[1].startswith("line 3: taken: cron.backup.sh-")
    assert lines[2] == "line 4: not taken: @reboot /opt/start (it names no time: cron runs it when the machine starts)"
    assert lines[-1] == "crontab:jobs.tab: 2 schedules"
    assert not Path("workledger.db").exists()


@pytest.mark.usefixtures("here")
def test_a_crontab_becomes_schedules_of_the_shell() -> None:
    """Command, zone, description and user are kept; again nothing changes; a system's crontab is another reading."""
    first = report("crontab", "jobs.tab", "--allow-shell")
    [name] = [line["what"] for line in first["lines"] if line["line"] == 3]
    declared = loads(ledger().schedules.get(name).declared)
    assert declared["task"] == SHELL_TASK
    assert declared["args"]["command"] == "/usr/local/bin/backup.sh"
    assert declared["timezone"] == "Europe/Berlin"
    assert declared["description"] == "Nightly backup"
    assert declared["max_attempts"] == 1
    before = count_events()
    assert {line["change"] for line in report("crontab", "jobs.tab", "--allow-shell")["lines"]} == {"unchanged", ""}
    assert count_events() == before

    system = report("crontab", "jobs.tab", "--allow-shell", "--system", "--source", "web1", "--prefix", "web1")
    assert system["app"] == "crontab:web1"
    [root] = [line["what"] for line in system["lines"] if line["line"] == 5]
    assert loads(ledger().schedules.get(root).declared)["run_as"] == "root"


@pytest.mark.usefixtures("here")
def test_imports_have_an_actor_and_a_reason() -> None:
    """The events say who imported and why."""
    report("moodle", "tasks.json", "--reason", "we move from Moodle")
    report("crontab", "jobs.tab", "--allow-shell")
    with ledger().store.read() as snapshot:
        streams = [snapshot.stream(f"schedule:{name}") for name in ledger().schedules.names()]
    declared = [one.event for stream in streams for one in stream if isinstance(one.event, ScheduleDeclared)]
    assert len(declared) == 32
    assert {event.reason for event in declared} == {"we move from Moodle", "import of jobs.tab"}
    assert all(event.actor.startswith("user:") for event in declared)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("moodle", "nowhere.json"), "nowhere.json cannot be read: No such file"),
        (("moodle", "jobs.tab"), "the file is not JSON"),
        (("moodle", "bad.bin"), "bad.bin is not UTF-8 text"),
        (("moodle", "none.json"), "nothing of none.json can be taken"),
        (("moodle", "tasks.json", "--timezone", "Mars/Olympus"), "the time zone is 'Mars/Olympus'"),
        (("moodle", "tasks.json", "--source", " x "), "--source is"),
        (("crontab", "tasks.json", "--allow-shell"), "nothing of tasks.json can be taken"),
    ],
)
def test_files_that_cannot_be_taken(here: Path, words: tuple[str, ...], said: str) -> None:
    """A file of another kind, one with nothing in it and a bad option end with exit code 2 and store nothing."""
    (here / "bad.bin").write_bytes(b"\xff\xfe\x00")
    (here / "none.json").write_text('[{"name": "a", "hour": "25"}]')
    assert said in call(*words, code=2).stderr
    assert not Path("workledger.db").exists()


@pytest.mark.usefixtures("here")
def test_a_file_comes_from_the_standard_input_too() -> None:
    """- reads the standard input, and the source is named so."""
    assert json.loads(call("moodle", "-", "-o", "json", stdin='[{"name": "a"}]').stdout)["app"] == "moodle:stdin"


def test_an_imported_crontab_runs_its_commands(tmp_path: Path) -> None:
    """At its times the command runs by the shell, with its input; one that fails is not retried but runs next time."""
    clock = ManualClock(datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC))
    ledger = memory_ledger(clock)
    allow_shell(ledger)
    text = f"DIR={tmp_path}\n*/10 * * * * cat >> $DIR/out%some%text\n*/30 * * * * exit 1\n"
    carry_out(ledger, crontab.read(text), app="crontab:test", timezone="UTC", reason="test")

    ran = run_queue(ledger, until=clock.now() + timedelta(hours=1))

    assert ran == 8
    assert (tmp_path / "out").read_text() == "some\ntext\n" * 6
    [failing] = [
        state for name in ledger.schedules.names() if (state := ledger.schedules.get(name)).outcome == "failed"
    ]
    assert failing.failures == 2
