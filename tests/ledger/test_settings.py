"""Settings: defaults < file < environment < flags, each wrong one refused by name and origin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledger import InvalidOption, Ledger
from ledger.settings import Settings, load


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
        ("[table]\nx = 1", r"table"),
    ],
)
def test_a_wrong_setting_is_refused(here: Path, text: str, said: str) -> None:
    """The error names the setting, where it came from, its value and what is allowed."""
    (here / "workledger.toml").write_text(text)
    with pytest.raises(InvalidOption, match=said):
        load()


def test_a_wrong_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable outside what is allowed is said to come from the environment; variables of others are ignored."""
    monkeypatch.setenv("WORKLEDGER_SOMETHING_ELSE", "1")
    assert load() == Settings()
    monkeypatch.setenv("WORKLEDGER_WORKERS", "many")
    with pytest.raises(InvalidOption, match=r"workers \(environment\) is 'many'"):
        load()


def test_from_env_reads_file_and_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Ledger.from_env` follows the same order."""
    assert Ledger.from_env().url == "sqlite:///workledger.db"
    (here / "workledger.toml").write_text('url = "sqlite:///file.db"\n')
    assert Ledger.from_env().url == "sqlite:///file.db"
    monkeypatch.setenv("WORKLEDGER_URL", "sqlite:///environment.db")
    assert Ledger.from_env().url == "sqlite:///environment.db"
