"""Exports: what they hold is what the views hold, in forms that real tools read; a log can be carried elsewhere whole."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from ledger import Ledger
from ledger.transfer import digest_of
from projections.exporting import POSITIONS, Wanted, columns_of, pages
from projections.reports import Reports
from tests.databases import copied
from tests.invoking import invoke
from tests.projections.everything import SECRET, fill, ledger_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def original(module_url: str) -> str:
    """The URL of a ledger to which everything has happened, its reports at the head, on each kind of database."""
    ledger = ledger_of(module_url)
    fill(ledger)
    Reports(ledger).catch_up()
    ledger.close()
    return module_url


@pytest.fixture
def ledger(original: str, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of that ledger for one test."""
    with copied(original, tmp_path) as url:
        ledger = Ledger(url)
        yield ledger
        ledger.close()


class Done(NamedTuple):
    """What a command left."""

    stdout: bytes
    stderr: bytes


def run(ledger: Ledger, *words: str, exit_code: int = 0, stdin: bytes = b"") -> Done:
    """Run a command in this process; the ledger is opened by it anew."""
    result = invoke(["--url", ledger.url, *words], stdin=stdin)
    assert result.exit_code == exit_code, result.output
    return Done(result.stdout_bytes, result.stderr_bytes)


def rows(ledger: Ledger, sql: str) -> list[tuple[Any, ...]]:
    with Reports(ledger).read() as unit:
        return unit.rows(sql)


@pytest.mark.parametrize("view", ["tasks", "attempts", "events"])
def test_csv_and_json_hold_the_view(ledger: Ledger, view: str) -> None:
    """Read back by other code, a CSV and a JSONL export have every row and column of the view."""
    columns = columns_of(view)
    wanted = rows(ledger, f"SELECT {', '.join(columns)} FROM report_v1.{view} ORDER BY {POSITIONS[view]}")
    table = list(csv.reader(io.StringIO(run(ledger, "export", view, "--format", "csv").stdout.decode(), newline="")))
    assert tuple(table[0]) == columns
    for read, row in zip(table[1:], wanted, strict=True):
        for cell, value in zip(read, row, strict=True):
            text = "" if value is None else str(value)
            assert cell == (
                ("'" + text) if text[:1] in ("=", "+", "-", "@", "\t", "\r") and isinstance(value, str) else text
            )
    if view != "events":
        lines = [json.loads(line) for line in run(ledger, "export", view).stdout.splitlines()]
        for line, row in zip(lines, wanted, strict=True):
            for name, value in zip(columns, row, strict=True):
                is_json = name in ("args", "labels", "result") and value is not None
                assert line[name] == (json.loads(value) if is_json else value)


def test_no_cell_of_a_csv_is_a_formula(ledger: Ledger) -> None:
    """Text that a spreadsheet would run is quoted; numbers are not touched."""
    text = run(ledger, "export", "tasks", "--format", "csv", "--filter", "name:doomed").stdout.decode()
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert any("calc" in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
    evil = ledger_of(ledger.url)
    for name in ("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain"):
        evil.enqueue(evil.functions["flaky"].using(run_as=f"{name}" if name.isprintable() else "x").call(n=1))
    evil.close()
    text = run(ledger, "export", "tasks", "--format", "csv", "--filter", "priority:0").stdout.decode()
    run_as = {row["run_as"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert {"'=1+1", "'+1", "'-1", "'@SUM(A1)"} <= run_as


def test_duckdb_reads_the_parquet(ledger: Ledger, tmp_path: Path) -> None:
    """DuckDB finds in the Parquet files what the database finds in the views, with times as times."""
    for view in ("tasks", "attempts", "events"):
        run(ledger, "export", view, "--format", "parquet", "--to", f"{tmp_path}/{view}.parquet")
    with closing(duckdb.connect()) as connection:
        for sql in (
            "SELECT state, count(*), sum(run_ms) FROM {tasks} GROUP BY state ORDER BY state",
            "SELECT outcome, count(*), max(attempt) FROM {attempts} GROUP BY outcome ORDER BY outcome",
            "SELECT type, count(*), min(position) FROM {events} GROUP BY type ORDER BY type",
        ):
            ours = rows(ledger, sql.format(**{v: f"report_v1.{v}" for v in ("tasks", "attempts", "events")}))
            theirs = connection.execute(
                sql.format(**{v: f"'{tmp_path}/{v}.parquet'" for v in ("tasks", "attempts", "events")})
            ).fetchall()
            assert theirs == [pytest.approx(row) for row in ours]
        sql = f"SELECT epoch_us(queued_at), typeof(queued_at) FROM '{tmp_path}/tasks.parquet' ORDER BY first_position"
        moments = connection.execute(sql).fetchall()
    texts = [row[0] for row in rows(ledger, "SELECT queued_at FROM report_v1.tasks ORDER BY first_position")]
    assert {kind for _, kind in moments} == {"TIMESTAMP WITH TIME ZONE"}
    assert [us for us, _ in moments] == [round(datetime.fromisoformat(text).timestamp() * 1_000_000) for text in texts]


def test_cloudevents_are_ones(ledger: Ledger) -> None:
    """The library of the specification reads each line as an event of version 1.0 with what the log says."""
    lines = run(ledger, "export", "events", "--format", "cloudevents").stdout.splitlines()
    stored = rows(ledger, "SELECT position, type, stream, data FROM report_v1.events ORDER BY position")
    sources = set()
    for line, (position, kind, stream, data) in zip(lines, stored, strict=True):
        event = JSONFormat().read(CloudEvent, line)
        assert (event.get_id(), event.get_type()) == (str(position), f"workledger.{kind}")
        assert (event.get_subject(), event.get_specversion()) == (stream, "1.0")
        found = event.get_data()
        assert isinstance(found, dict)
        assert json.loads(data).items() <= found.items()
        sources.add(event.get_source())
    assert len(sources) == 1


@pytest.mark.parametrize(
    "words", [["tasks"], ["attempts", "--format", "csv"], ["events"], ["events", "--format", "csv"]]
)
def test_an_export_goes_on_after_a_position(ledger: Ledger, words: list[str]) -> None:
    """Cut anywhere and gone on with at the position said, the parts are the whole."""
    whole = run(ledger, "export", *words).stdout.splitlines()
    head = whole[:1] if "csv" in words else []
    wanted = Wanted(view=words[0])
    cut = next(pages(Reports(ledger), wanted, 17)).position
    rest = run(ledger, "export", *words, "--after", str(cut))
    assert [*whole[: 17 + len(head)], *rest.stdout.splitlines()[len(head) :]] == whole
    last = int(rest.stderr.split()[-1])
    assert run(ledger, "export", *words, "--after", str(last)).stdout.splitlines() == head


def test_filters_and_bounds_narrow_an_export(ledger: Ledger) -> None:
    """A filter, --since and --until hold together, also for events from the log."""
    words = ("--filter", "type:TaskFailed", "--since", "2026-03-02T12:20:30", "--until", "2026-03-02T12:22")
    lines = [json.loads(line) for line in run(ledger, "export", "events", *words).stdout.splitlines()]
    assert lines
    assert {line["topic"] for line in lines} == {"TaskFailed.v1"}
    moments = [json.loads(line["state"])["at"] for line in lines]
    assert all("2026-03-02T12:20:30" <= at < "2026-03-02T12:22" for at in moments)
    sql = "SELECT count(*) FROM report_v1.events WHERE type = 'TaskFailed' AND at >= '2026-03-02T12:20:30' AND at < '2026-03-02T12:22'"
    assert rows(ledger, sql) == [(len(lines),)]


def test_a_log_is_carried_to_another_ledger_whole(ledger: Ledger, tmp_path: Path) -> None:
    """Exported with what is hidden, on record, and imported into an empty ledger, it has the same digest and views."""
    done = run(
        ledger, "export", "events", "--with-hidden", "--reason", "to the new host", "--to", f"{tmp_path}/log.jsonl"
    )
    count = len((tmp_path / "log.jsonl").read_bytes().splitlines())
    assert done.stderr.split()[0] == str(count).encode()
    with ledger.store.read() as snapshot:
        read = snapshot.decode(snapshot.events_after(count - 1, 1)[0])
    assert (type(read).__name__, read.reason) == ("ReadRecorded", "to the new host")
    copy = Ledger(f"sqlite:///{tmp_path}/copy.db")
    said = run(copy, "import", "events", f"{tmp_path}/log.jsonl").stdout.decode()
    wanted = digest_of(ledger.store)
    assert f"{count} events into" in said and wanted.hexdigest() in said
    assert digest_of(copy.store).hexdigest() == wanted.hexdigest()
    assert wanted.hexdigest() in run(copy, "db", "digest").stdout.decode()
    assert Reports(copy).verify() == []
    Reports(ledger).catch_up()
    for view in ("tasks", "attempts", "hourly"):
        sql = f"SELECT * FROM report_v1.{view} ORDER BY 1, 2"
        assert rows(copy, sql) == rows(ledger, sql) != []
    assert (
        b"a log is imported into an empty one"
        in run(copy, "import", "events", f"{tmp_path}/log.jsonl", exit_code=4).stderr
    )
    copy.close()


def test_what_is_hidden_is_in_no_export_that_does_not_ask(ledger: Ledger, tmp_path: Path) -> None:
    """Without --with-hidden no form has the value; such an export cannot be imported, and says why."""
    for words in (["tasks"], ["events"], ["events", "--format", "csv"], ["events", "--format", "cloudevents"]):
        out = run(ledger, "export", *words).stdout
        assert SECRET.encode() not in out
        assert b"[hidden]" in out
    log = run(ledger, "export", "events").stdout
    copy = Ledger(f"sqlite:///{tmp_path}/copy.db")
    assert b"has hidden arguments (password)" in run(copy, "import", "events", "-", stdin=log, exit_code=2).stderr
    assert digest_of(copy.store).count == 0
    with ledger.store.read() as snapshot:
        before = snapshot.head()
    assert b"needs a --reason" in run(ledger, "export", "events", "--with-hidden", exit_code=2).stderr
    with ledger.store.read() as snapshot:
        assert snapshot.head() == before
    copy.close()


def test_a_log_that_is_not_whole_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    """A line left out, twice, changed or broken, is named, and nothing at all is stored."""
    export = run(ledger, "export", "events", "--with-hidden", "--reason", "test").stdout.splitlines(keepends=True)
    unknown = export[9].replace(b".v1", b".v9", 1)
    version = export[9].replace(b'"version":', b'"version":7', 1)
    for number, lines, code, said in (
        (5, [*export[:4], *export[5:]], 2, "line 5 has position 6; 5 is next"),
        (6, [*export[:5], *export[4:]], 2, "line 6 has position 5; 6 is next"),
        (1, export[1:], 2, "line 1 has position 2; 1 is next"),
        (10, [*export[:9], unknown, *export[10:]], 1, "line 10: topic"),
        (10, [*export[:9], version, *export[10:]], 2, "line 10 is version"),
        (3, [*export[:2], b"{nonsense\n", *export[3:]], 2, "line 3 is no JSON"),
        (3, [*export[:2], b"[1]\n", *export[3:]], 2, "line 3 is no event"),
    ):
        copy = Ledger(f"sqlite:///{tmp_path}/copy-{number}-{code}-{len(lines)}.db")
        assert said in run(copy, "import", "events", "-", stdin=b"".join(lines), exit_code=code).stderr.decode()
        assert digest_of(copy.store).count == 0
        copy.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tasks", "--filter", "state:failed stat:x"], "filter, column 14: there is no field 'stat'"),
        (["tasks", "--format", "cloudevents"], "--format cloudevents is for events"),
        (["tasks", "--format", "parquet"], "needs --to FILE"),
        (["tasks", "--with-hidden", "--reason", "x"], "--with-hidden is for events as jsonl"),
        (["events", "--since", "soon"], "'soon' is no moment"),
        (["tasks", "--to", "/nowhere/x.csv", "--format", "csv"], "No such file or directory"),
    ],
)
def test_what_cannot_be_exported_is_said(ledger: Ledger, words: list[str], said: str) -> None:
    """Each refusal says what is allowed, and comes before anything is written."""
    done = run(ledger, "export", *words, exit_code=2)
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_an_export_needs_constant_memory(url: str) -> None:
    """Of 20,000 tasks, an export of all takes hardly more memory than one of the first few."""
    ledger = Ledger(url)
    noop = ledger.task(name="noop")(lambda number, text: None)
    for first in range(0, 20_000, 10_000):
        ledger.enqueue_many(noop.call(number=n, text="x" * 500) for n in range(first, first + 10_000))
    Reports(ledger).catch_up()
    code = (
        "import resource, sys\nfrom runner.cli import app\n"
        "try: app(['--url', sys.argv[1], 'export', *sys.argv[2:], '--to', '/dev/null'], prog_name='workledger')\n"
        "except SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak(*words: str) -> int:
        command = [sys.executable, "-c", code, ledger.url, *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return int(subprocess.run(command, capture_output=True, env=environment, check=True).stdout)

    for words in (["tasks", "--format", "csv"], ["events"]):
        few = peak(*words, "--after", "19000")
        assert peak(*words) < few + 8_000  # KiB; all the rows are 20,000
    ledger.close()
