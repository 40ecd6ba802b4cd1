"""`config show`: every setting with its value and origin, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.settings import Settings, gather
from runner.cli_config import rows_of
from tests.invoking import invoke
from tests.ledger.test_settings import WithSecret


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and no settings from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKLEDGER_PRUNE")
    return tmp_path


def test_every_setting_is_shown_with_its_origin(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, value by value; the table has the same lines."""
    (here / "workledger.toml").write_text("workers = 3\n")
    monkeypatch.setenv("WORKLEDGER_THREADS", "7")
    shown = invoke(["--url", "sqlite:///x.db", "config", "show", "-o", "json"])
    rows = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(shown.stdout)}
    assert list(rows) == list(Settings.model_fields)
    assert rows["url"] == ("sqlite:///x.db", "flag --url")
    assert rows["workers"] == (3, "workledger.toml")
    assert rows["threads"] == (7, "WORKLEDGER_THREADS")
    assert rows["prune_days"] == (28.0, "default")
    table = invoke(["config", "show"]).stdout
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(rows)


def test_no_secret_is_shown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the password in a URL nor a setting that is one."""
    monkeypatch.setenv("WORKLEDGER_URL", "postgresql://joe:pa55@host/work")
    monkeypatch.setenv("WORKLEDGER_PASSWORD", "pa55")
    shown = invoke(["config", "show", "-o", "json"]).stdout
    assert "postgresql://joe:**********@host/work" in shown and "pa55" not in shown
    loaded = gather(kind=WithSecret)
    assert "pa55" not in repr(rows_of(loaded.settings, loaded.origins))
    assert [row["value"] for row in rows_of(loaded.settings, loaded.origins) if row["setting"] == "password"] == [
        "**********"
    ]


def test_a_variable_that_is_no_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen in a variable would else go unseen; those that commands get as tasks are no slips."""
    monkeypatch.setenv("WORKLEDGER_WROKERS", "2")
    monkeypatch.setenv("WORKLEDGER_TASK", "x")
    shown = invoke(["config", "show"])
    assert "WORKLEDGER_WROKERS" in shown.stderr and "WORKLEDGER_TASK" not in shown.stderr
