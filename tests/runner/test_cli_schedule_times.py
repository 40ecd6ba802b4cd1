"""`workledger schedule preview`: what it prints for people and programs, and what it refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import Result

from tests.invoking import invoke


def preview(*words: str, code: int = 0) -> Result:
    result = invoke(["schedule", "preview", *words])
    assert result.exit_code == code, result.output
    return result


def test_preview_for_people() -> None:
    """The schedule in words, its firings in UTC and local time, and a warning where the clock is changed."""
    out = preview("30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-03-28", "-n", "2").stdout
    assert out.splitlines() == [
        "30 2 * * * in Europe/Berlin: At 02:30",
        "at                           local",
        "2026-03-28T01:30:00.000000Z  2026-03-28T02:30:00+01:00",
        "2026-03-29T01:00:00.000000Z  2026-03-29T03:00:00+02:00",
        "warning: on 2026-03-29 the clock of Europe/Berlin goes from 02:00 to 03:00;"
        " 02:30 is skipped and made up for once, at 03:00",
    ]


def test_preview_for_programs() -> None:
    """As JSON it is nothing but the list of firings; the warnings go to stderr."""
    words = ("30 2 * * *", "--timezone", "Europe/Berlin", "--from", "2026-10-25T00:00:00+02:00", "-n", "2")
    result = preview(*words, "-o", "json")
    assert json.loads(result.stdout) == [
        {"at": "2026-10-25T00:30:00.000000Z", "local": "2026-10-25T02:30:00+02:00"},
        {"at": "2026-10-26T01:30:00.000000Z", "local": "2026-10-26T02:30:00+01:00"},
    ]
    assert result.stderr.startswith("warning: on 2026-10-25 ")
    assert [json.loads(line) for line in preview(*words, "-o", "jsonl").stdout.splitlines()] == json.loads(
        result.stdout
    )


def test_preview_by_fields() -> None:
    """Fields may be given one by one, where a blank separates like a comma; the others are `*`."""
    words = ("--minute", "0 30", "--hour", "1, 3", "--timezone", "Europe/London", "--from", "2026-06-01", "-n", "3")
    found = json.loads(preview(*words, "-o", "json").stdout)
    assert [firing["local"][11:16] for firing in found] == ["01:00", "01:30", "03:00"]


def test_the_time_to_start_from() -> None:
    """It is left out of the firings; without an offset it is a time on the schedule's clock; by default it is now."""
    for since in ("2026-06-01T12:00", "2026-06-01T12:00:59+02:00", "2026-06-01T10:00Z"):
        found = preview("0 * * * *", "--timezone", "Europe/Berlin", "--from", since, "-n", "1", "-o", "json").stdout
        assert json.loads(found) == [{"at": "2026-06-01T11:00:00.000000Z", "local": "2026-06-01T13:00:00+02:00"}]
    assert len(json.loads(preview("* * * * *", "-o", "json").stdout)) == 10


def test_the_zone_is_the_setting_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --timezone the installation's zone counts, which without a setting is UTC."""
    words = ("0 12 * * *", "--from", "2026-01-01", "-n", "1", "-o", "json")
    monkeypatch.setenv("WORKLEDGER_TIMEZONE", "Asia/Tokyo")
    assert json.loads(preview(*words).stdout)[0]["local"] == "2026-01-01T12:00:00+09:00"
    assert json.loads(preview(*words, "--timezone", "UTC").stdout)[0]["local"] == "2026-01-01T12:00:00+00:00"
    monkeypatch.delenv("WORKLEDGER_TIMEZONE")
    assert json.loads(preview(*words).stdout)[0]["local"] == "2026-01-01T12:00:00+00:00"


def test_a_schedule_that_never_fires_has_no_firings() -> None:
    """The 30th of February is an empty list for programs and a sentence for people, not a failure."""
    assert json.loads(preview("0 0 30 2 *", "-o", "json").stdout) == []
    assert preview("0 0 30 2 *", "-o", "jsonl").stdout == ""
    assert "never fires" in preview("0 0 30 2 *").stdout


def test_random_and_named_values_are_shown_as_they_were_chosen() -> None:
    """R and H are settled first and shown; H follows from the name."""
    first = preview("R H * * *", "--name", "core.backup", "--from", "2026-01-01", "-n", "1").stdout.splitlines()[0]
    minute, rest = first.split(" ", 1)
    assert 0 <= int(minute) <= 59
    assert rest.startswith("3 * * * in UTC: At 03:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0 24 * * *",), "error: hour is '24': 24 is outside its range; allowed are 0 to 23"),
        (("0 0 * *",), "has 4 fields; it needs 5: minute hour day month dayofweek"),
        (("@reboot",), "allowed after @ are @hourly"),
        (("--day", "0"), "error: day is '0'"),
        (("* * * * *", "--timezone", "Mars/Olympus"), "error: the time zone is 'Mars/Olympus', which is unknown"),
        (("* * * * *", "--from", "soon"), "error: --from is 'soon'; allowed are ISO 8601 times"),
        (("* * * * *", "--from", "0001-01-01", "--timezone", "Asia/Tokyo"), "allowed are the years 1901 to 8999"),
        (("* * * * *", "--from", "1800-01-01"), "allowed are the years 1901 to 8999"),
        (("* * * * *", "--hour", "1"), "one of the two"),
        ((), "one of the two"),
        (("* * * * *", "-n", "0"), "Invalid value for '-n'"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], said: str) -> None:
    """A bad field, zone, time or number ends with exit code 2, says why, and prints nothing else."""
    result = preview(*words, "-o", "json", code=2)
    assert said in result.stderr
    assert result.stdout == ""
