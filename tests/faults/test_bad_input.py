"""Any input at all, through the API and the command line: it is stored as given, or refused by a typed error and no row."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import Result

from ledger.errors import LedgerError
from ledger.options import Options
from ledger.testing import memory_ledger
from tests.invoking import invoke

ROOT = Path(__file__).parents[2]
ANY_TEXT = st.text(
    st.characters(exclude_categories=()), max_size=300
)  # with surrogates, NUL and all control characters
EDGES = (math.nan, math.inf, -math.inf, -0.0, 10**400, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1)
SCALARS = (
    st.sampled_from([*EDGES, "\ud800", "\udfff", "\x00", "\ufffe", "", " "])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**63 - 2, max_value=2**64 + 2)
    | st.floats()
    | ANY_TEXT
    | st.binary(max_size=20)
    | st.complex_numbers()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones())
    | st.timedeltas()
    | st.sampled_from([object(), len, Options, ..., range(3)])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(ANY_TEXT | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner)
        | st.frozensets(st.integers())
        | inner.map(lambda value: [[[[[[[[value]]]]]]]] * 2)
    ),
)
MANY = settings(max_examples=200, deadline=None)


def is_json(value: Any) -> bool:
    """Whether *value* is JSON that any database can keep, by rules of this test's own."""
    match value:
        case None | bool():
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case str():
            return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        case list():
            return all(map(is_json, value))
        case dict():
            return all(isinstance(key, str) and is_json(key) and is_json(item) for key, item in value.items())
    return False


def rows_of(ledger: Any) -> list[Any]:
    with ledger.store.read() as snapshot:
        return list(snapshot.events_after(0, 100))


@MANY
@given(ANYTHING, ANYTHING)
def test_any_argument_is_kept_as_it_is_or_refused(first: Any, second: Any) -> None:
    """A value that is JSON comes back equal; any other is refused and leaves no row, also beside good ones."""
    ledger = memory_ledger()

    @ledger.task
    def take(value: Any, *rest: Any, **more: Any) -> None: ...

    is_good = is_json(first) and is_json(second)
    more = {"other": [first, {"deep": second}]}
    for call, args in (
        (lambda: take.call(first, second), {"value": first, "rest": [second], "more": {}}),
        (lambda: take.call(1, **more), {"value": 1, "rest": [], "more": more}),
    ):
        before = rows_of(ledger)
        try:
            [_, task] = ledger.enqueue_many([take.call(1), call()])
        except LedgerError:
            assert rows_of(ledger) == before
            assert not is_good
        else:
            assert is_good
            assert ledger.get(task.id).record.queued.args == args


@MANY
@given(st.sampled_from([field.name for field in fields(Options)]), ANYTHING)
def test_any_option_is_taken_or_refused(name: str, value: Any) -> None:
    """An option of any value is stored in an event that can be read, or is a typed error and leaves no row."""
    ledger = memory_ledger()

    @ledger.task
    def job() -> None: ...

    try:
        task = job.using(**{name: value}).enqueue()
    except LedgerError:
        assert rows_of(ledger) == []
    else:
        assert ledger.get(task.id).state == "waiting"


@MANY
@given(ANYTHING, ANYTHING, ANYTHING)
def test_any_act_is_carried_out_or_refused(task_id: Any, reason: Any, when: Any) -> None:
    """Acts on any id, for any reason, at any time, are typed errors or done; what is refused leaves no row."""
    ledger = memory_ledger()

    @ledger.task
    def job() -> None: ...

    good = job.enqueue().id
    acts = (
        lambda: ledger.get(task_id).state,
        lambda: ledger.cancel(task_id, reason="because"),
        lambda: ledger.retry(task_id, reason="because"),
        lambda: ledger.reschedule(task_id, timedelta(1), reason="because"),
        lambda: ledger.reschedule(good, when, reason="because"),
        lambda: ledger.reschedule(good, timedelta(1), reason=reason),
        lambda: ledger.reschedule(good, timedelta(1), reason="because", actor=reason),
    )
    for act in acts:
        before = rows_of(ledger)
        try:
            act()
        except LedgerError:
            assert rows_of(ledger) == before
    assert ledger.get(good).state == "waiting"


# The command line

JOBS = """
from ledger import Ledger
ledger = Ledger("sqlite:///work.db")

@ledger.task
def job(value: object = None) -> None: ...
"""


@contextmanager
def empty_directory(path: Path) -> Iterator[Path]:
    """The working directory, without a ledger."""
    for file in path.glob("work.db*"):
        file.unlink()
    yield path / "work.db"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "jobs_for_bad_input.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in os.environ if name.startswith("WORKLEDGER_")]:
        monkeypatch.delenv(name)
    yield tmp_path
    sys.modules.pop("jobs_for_bad_input", None)


def call(*words: str, stdin: bytes | None = None) -> Result:
    """Call the command; it never ends in a traceback, and what it refuses is told in words."""
    sys.modules.pop("jobs_for_bad_input", None)
    result = invoke(["--app", "jobs_for_bad_input:ledger", *words], stdin=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
    assert result.exit_code in (0, 2, 3, 4), result.output
    assert result.exit_code == 0 or result.output
    return result


def count_rows(database: Path) -> int:
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        return int(
            connection.execute("SELECT count(*) FROM stored_events WHERE topic <> 'KeyReserved.v1'").fetchone()[0]
        )


JSON_TEXT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
).map(json.dumps)  # NaN and Infinity included, which are no JSON
ARGUMENTS = ANY_TEXT | JSON_TEXT | JSON_TEXT.map(lambda text: f'{{"value": {text}}}')
CLI = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@CLI
@given(ARGUMENTS)
def test_any_text_of_arguments_is_one_task_or_a_usage_error(here: Path, text: str) -> None:
    """--args of any text, inline and on the standard input, is queued as JSON reads it, or ends with 2 and no row."""
    for words, stdin in ((("--args", text), None), (("--args", "-"), text.encode(errors="surrogatepass"))):
        with empty_directory(here) as database:
            result = call("enqueue", "job", *words, "-o", "json", stdin=stdin)
            assert count_rows(database) == (result.exit_code == 0)
            if result.exit_code == 0:
                shown = call("task", "show", json.loads(result.output)["id"], "-o", "json")
                args = json.loads(shown.output)["args"]
                assert args == {"value": None} | json.loads(text)


@CLI
@given(
    st.sampled_from(
        ["--queue", "--priority", "--run-after", "--max-attempts", "--unique", "--run-as", "--label", "--reason"]
    ),
    ANY_TEXT | st.integers().map(str) | st.floats().map(str) | st.datetimes(timezones=st.timezones()).map(str),
)
def test_any_text_of_an_option_is_taken_or_a_usage_error(here: Path, option: str, text: str) -> None:
    """An option of any text queues one task, or ends with 2, words that say why, and no row."""
    with empty_directory(here) as database:
        result = call("enqueue", "job", f"{option}={text}")
        assert result.exit_code in (0, 2)
        assert count_rows(database) == (result.exit_code == 0)


@CLI
@given(ANY_TEXT, st.sampled_from(["show", "events", "cancel", "retry", "reschedule", "why"]))
def test_any_text_of_an_id_is_not_found(here: Path, text: str, verb: str) -> None:
    """A task's id of any text is a task, or ends with 3 (2 where it reads as an option) and changes nothing."""
    with empty_directory(here) as database:
        call("enqueue", "job")
        words = ("why",) if verb == "why" else ("task", verb)
        more = ("--reason", "r") if verb in ("cancel", "retry", "reschedule") else ()
        more += ("--run-after", "1") if verb == "reschedule" else ()
        result = call(*words, *more, "--", text)
        assert result.exit_code in (2, 3)
        assert count_rows(database) == 1


@pytest.mark.parametrize(
    "words",
    [
        (b"enqueue", b"job", b"--args", b'{"value": "\xff"}'),
        (b"enqueue", b"job\xff"),
        (b"enqueue", b"job", b"--reason", b"\xfe\xff"),
        (b"enqueue", b"job", b"--queue", b"\xff"),
        (b"task", b"show", b"\xff"),
        (b"--actor", b"\xff", b"enqueue", b"job"),
        (b"--config", b"\xff", b"enqueue", b"job"),
    ],
)
def test_bytes_that_are_no_text_are_refused(here: Path, words: tuple[bytes, ...]) -> None:
    """What a shell passes in no valid encoding is refused in words, by a process of its own, and leaves no row."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    with empty_directory(here) as database:
        command = [sys.executable, "-m", "runner.cli", "--app", "jobs_for_bad_input:ledger", *words]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode in (2, 3, 5), done
        assert done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1
        assert count_rows(database) == 0
