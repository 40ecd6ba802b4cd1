"""Settings: defaults < file < environment < flags, each wrong one refused by name and origin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from ledger import InvalidOption, Ledger
from ledger.settings import Settings, gather, load


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WORKLEDGER_")]:
        monkeypatch.delenv(name)
    return tmp_path


def test_each_source_wins_over_those_before_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults < file < environment < flags, setting by setting; a flag that is None is not given."""
    assert load() == Settings()
    (here / "workledger.toml").write_text('workers = 2\nthreads = 2\nname = "file"\nqueues = ["a", "b"]\n')
    monkeypatch.setenv("WORKLEDGER_THREADS", "3")
    monkeypatch.setenv("WORKLEDGER_NAME", "environment")
    found = load({"name": "flag", "url": None})
    assert (found.workers, found.threads, found.name, found.queues) == (2, 3, "flag", ("a", "b"))
    assert found.url is None
    monkeypatch.setenv("WORKLEDGER_QUEUES", "mail, slow")
    monkeypatch.setenv("WORKLEDGER_NAME", "")
    assert load().queues == ("mail", "slow")
    assert load().name == "file", "an empty variable is none"


def test_the_file_may_be_named(here: Path) -> None:
    """A file of another name is read where it is given, and must be there then."""
    (here / "other.toml").write_text("workers = 7\n")
    assert load(file="other.toml").workers == 7
    with pytest.raises(InvalidOption, match=r"missing\.toml"):
        load(file="missing.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 0", r"workers \(workledger.toml\) is 0"),
        ("wrokers = 1", r"wrokers \(workledger.toml\) is no setting; there are: .*workers"),
        ("workers = ", r"workledger\.toml"),
        ("log_format = 'xml'", r"log_format .* 'console' or 'json'"),
        ("beat_seconds = 10", r"lease_seconds .* four heartbeats"),
        ("lease_seconds = 10", r"lease_seconds .* four heartbeats"),
        ("threads = 'many'", r"threads"),
        ("smtp_host = 'mail'", r"smtp_host needs smtp_from and smtp_to beside it"),
        ("smtp_to = ['nobody']", r"smtp_to .*'nobody' is no mail address"),
        ('smtp_from = "a@b\\nBcc: c@d"', r"smtp_from .*printable"),
        ("smtp_user = 'me'", r"smtp_user needs smtp_starttls = true: a password is only sent over TLS"),
        ("smtp_port = 0", r"smtp_port"),
        ("smtp_password = 'x'", r"smtp_password .* is no setting"),
        ("[table]\nx = 1", r"table \(workledger.toml\) is no setting"),
        ("[schedule_overrides.'a.*']\nenabeld = false", r"'a\.\*' has enabeld; allowed: enabled, schedule, timezone"),
        ("[schedule_overrides]\na = 5", r"schedule_overrides\.a.* \(workledger.toml\) is 5"),
    ],
)
def test_a_wrong_setting_is_refused(here: Path, text: str, said: str) -> None:
    """The error names the setting, where it came from, its value and what is allowed."""
    (here / "workledger.toml").write_text(text)
    with pytest.raises(InvalidOption, match=said):
        load()


def test_a_wrong_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable outside what is allowed is named; variables of others are ignored."""
    monkeypatch.setenv("WORKLEDGER_SOMETHING_ELSE", "1")
    assert load() == Settings()
    monkeypatch.setenv("WORKLEDGER_WORKERS", "many")
    with pytest.raises(InvalidOption, match=r"workers \(WORKLEDGER_WORKERS\) is 'many'"):
        load()


def test_from_env_reads_file_and_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Ledger.from_env` follows the same order."""
    assert Ledger.from_env().url == "sqlite:///workledger.db"
    (here / "workledger.toml").write_text('url = "sqlite:///file.db"\n')
    assert Ledger.from_env().url == "sqlite:///file.db"
    monkeypatch.setenv("WORKLEDGER_URL", "sqlite:///environment.db")
    assert Ledger.from_env().url == "sqlite:///environment.db"


def test_settings_may_stand_in_pyproject(here: Path) -> None:
    """The table [tool.workledger] is read like a file of its own; other tables are none of ours."""
    (here / "pyproject.toml").write_text("[tool.other]\nworkers = 9\n")
    assert load() == Settings()
    (here / "pyproject.toml").write_text("[tool.other]\nworkers = 9\n[tool.workledger]\nworkers = 2\n")
    assert load().workers == load(file="pyproject.toml").workers == 2
    (here / "pyproject.toml").write_text("[tool.workledger]\nwrokers = 2\n")
    with pytest.raises(InvalidOption, match=r"wrokers \(pyproject.toml \[tool.workledger\]\) is no setting"):
        load()
    (here / "pyproject.toml").write_text("[tool]\nworkledger = 2\n")
    with pytest.raises(InvalidOption, match="must be a table"):
        load()
    (here / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(InvalidOption, match=r"no table \[tool.workledger\]"):
        load(file="pyproject.toml")


def test_two_files_with_settings_are_refused(here: Path) -> None:
    """Neither wins in silence; --config names one. A pyproject.toml without our table stands in nobody's way."""
    (here / "workledger.toml").write_text("workers = 3\n")
    (here / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load().workers == 3
    (here / "pyproject.toml").write_text("[tool.workledger]\nworkers = 2\n")
    with pytest.raises(InvalidOption, match=r"workledger.toml and in \[tool.workledger\] of pyproject.toml"):
        load()
    assert load(file="workledger.toml").workers == 3 and load(file="pyproject.toml").workers == 2


def test_each_setting_knows_where_it_came_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last that set it: flag, variable, file by its name, or the default."""
    (here / "other.toml").write_text("workers = 3\nthreads = 3\nname = 'a'\n")
    monkeypatch.setenv("WORKLEDGER_THREADS", "4")
    monkeypatch.setenv("WORKLEDGER_NAME", "b")
    origins = gather({"name": "c", "queues": ["x"], "url": None}, "other.toml").origins
    assert origins.keys() == Settings.model_fields.keys()
    told = {name: where for name, where in origins.items() if where != "default"}
    assert told == {"workers": "other.toml", "threads": "WORKLEDGER_THREADS", "name": "flag --name",
                    "queues": "flag --queue"}  # fmt: skip


class WithSecret(Settings):
    """Settings with a password, as a mail server has one."""

    password: SecretStr | None = None


def test_a_secret_is_not_in_an_error(here: Path) -> None:
    """What is wrong with it is said, its value is not; nor is it in the text of the settings."""
    (here / "workledger.toml").write_text("password = 123456\n")
    with pytest.raises(InvalidOption, match=r"password \(workledger.toml\) is not allowed") as caught:
        gather(kind=WithSecret)
    assert "123456" not in str(caught.value)
    (here / "workledger.toml").write_text("password = '123456'\n")
    assert "123456" not in repr(gather(kind=WithSecret).settings)
