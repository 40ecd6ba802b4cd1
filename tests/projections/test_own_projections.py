"""Projections of an application: kept, rebuilt, verified and stopped by the same rules as the report views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import InvalidOption, Ledger, Table
from ledger.events import TaskClaimed, TaskQueued, TaskSucceeded
from ledger.projection import Rows, Step
from projections.reports import Reports
from tests.databases import copied
from tests.projections.everything import SECRET, fill, ledger_of

PER_NAME = Table("per_name", key={"name": str}, columns={"succeeded": int, "last_at": str})
LIVE = Table("live_ids", key={"id": str}, columns={"share": float})


def declare(ledger: Ledger, version: int = 1) -> None:
    """Count successes by name, and keep a row for each task between its queueing and its first claim."""

    @ledger.projection(tables=[PER_NAME, LIVE], version=version)
    def counts(step: Step, tables: Mapping[str, Rows]) -> None:
        task = step.task
        if task is None:
            return
        if isinstance(step.event, TaskQueued):
            assert SECRET not in str(step.event.args) and SECRET not in str(task.args)
            tables["live_ids"].put(task.id, share=1)
        elif isinstance(step.event, TaskClaimed):
            tables["live_ids"].drop(task.id)
        elif isinstance(step.event, TaskSucceeded):
            row = tables["per_name"].get(task.name) or {"succeeded": 0}
            tables["per_name"].put(task.name, succeeded=row["succeeded"] + version, last_at=step.at)


@pytest.fixture(scope="module")
def filled(module_url: str) -> str:
    """The URL of a ledger to which everything has happened, on each kind of database."""
    ledger = ledger_of(module_url)
    fill(ledger, 6)
    ledger.close()
    return module_url


@pytest.fixture
def ledger(filled: str, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of that ledger, with a projection."""
    with copied(filled, tmp_path) as url:
        ledger = ledger_of(url)
        declare(ledger)
        yield ledger
        ledger.close()


def rows(reports: Reports, sql: str) -> list[tuple[Any, ...]]:
    with reports.read() as unit:
        return unit.rows(sql)


def successes(reports: Reports) -> list[tuple[Any, ...]]:
    return rows(reports, "SELECT name, succeeded FROM report_v1.per_name ORDER BY name")


def test_a_projection_is_kept_rebuilt_and_verified(ledger: Ledger) -> None:
    """It counts what the report of the tasks counts, in steps or at once, and a changed cell in it is named."""
    reports = Reports(ledger)
    while not reports.step(7):
        pass
    wanted = "SELECT name, count(*) FROM report_v1.tasks WHERE state = 'succeeded' GROUP BY name ORDER BY name"
    assert successes(reports) == rows(reports, wanted) != []
    unclaimed = "SELECT task_id FROM report_v1.tasks WHERE attempt = 0 ORDER BY task_id"
    assert rows(reports, "SELECT id FROM report_v1.live_ids ORDER BY id") == rows(reports, unclaimed) != []
    shares = rows(reports, "SELECT DISTINCT share FROM report_v1.live_ids")
    assert [(share, type(share)) for [share] in shares] == [(1.0, float)]
    assert reports.verify() == []
    with reports.file.write() as unit:
        unit.run("UPDATE per_name SET succeeded = 99 WHERE name = 'flaky'")
    [difference] = reports.verify(["counts"])
    assert difference.startswith("row flaky: succeeded is 99, the fold gives")
    assert reports.rebuild(["counts"]) == reports.checkpoint()
    assert reports.verify() == []


def test_another_version_takes_the_place_of_the_old_one(ledger: Ledger) -> None:
    """A fold of another version is built from the first event; until it has caught up the old rows answer."""
    reports = Reports(ledger)
    reports.catch_up()
    before = successes(reports)
    ledger.projections.clear()
    declare(ledger, version=2)
    reports = Reports(ledger)
    seen = []
    while not reports.keepers[1].step(20, 20):
        seen.append(successes(reports))
    after = [(name, 2 * count) for name, count in before]
    assert seen.count(before) > 3
    assert seen == [before] * seen.count(before) + [after] * seen.count(after)
    assert successes(reports) == after
    assert reports.verify() == []


def test_a_fold_that_raises_holds_up_nothing_else(ledger: Ledger) -> None:
    """It stands still before the event, the table meta says why, and mended code goes on from there."""
    reports = Reports(ledger)
    head = reports.catch_up()
    is_broken = True

    @ledger.projection(tables=[Table("seen", key={"position": int}, columns={"type": str})])
    def fragile(step: Step, tables: Mapping[str, Rows]) -> None:
        if is_broken and step.position == 20:
            raise RuntimeError("mailbox is full")
        tables["seen"].put(step.position, type=type(step.event).__name__)

    reports = Reports(ledger)
    while not reports.step(5):
        pass
    kept = {row.view: row for row in reports.state()}
    assert kept["fragile"].error == "its fold raised RuntimeError: mailbox is full at position 20"
    assert kept["fragile"].checkpoint == 19
    assert kept["tasks"].checkpoint == kept["counts"].checkpoint == head
    assert reports.verify(["fragile"]) == [f"it stands still: {kept['fragile'].error}"]
    is_broken = False
    reports.catch_up()
    assert rows(reports, "SELECT count(*), max(position) FROM report_v1.seen") == [(head, head)]
    assert {row.view: row.error for row in reports.state()}["fragile"] is None
    assert reports.verify() == []


@pytest.mark.parametrize(
    ("key", "columns", "said"),
    [
        ((), {"succeeded": 1}, "the key of table per_name is name"),
        (("a", "b"), {"succeeded": 1}, "the key of table per_name is name"),
        (("a",), {"failed": 1}, "has no column 'failed'"),
        (("a",), {"succeeded": "1"}, "column succeeded of table per_name is int; '1' is none"),
        (("a",), {"succeeded": True}, "True is none"),
        ((7,), {"succeeded": 1}, "column name of table per_name is str; 7 is none"),
    ],
)
def test_what_does_not_fit_a_table_is_refused(ledger: Ledger, key: Any, columns: Any, said: str) -> None:
    """Wrong keys, columns and types stop the projection with a sentence that says what is allowed."""
    ledger.projections.clear()

    @ledger.projection(tables=[PER_NAME])
    def wrong(step: Step, tables: Mapping[str, Rows]) -> None:
        tables["per_name"].put(*key, **columns)

    reports = Reports(ledger)
    reports.catch_up()
    assert said in ({row.view: row.error for row in reports.state()}["wrong"] or "")


def test_what_cannot_be_declared_is_refused(ledger: Ledger) -> None:
    """Names that are taken or none, unknown types and versions are refused when they are declared."""
    table = Table("fine", key={"a": int}, columns={"b": str})
    for name in ("Upper", "a b", "a__2", "1a", "", "meta", "sqlite_x", "pg_x", "x" * 41, "a;b", None):
        with pytest.raises(InvalidOption, match="is no name of a table"):
            Table(name, key={"a": int}, columns={"b": str})  # type: ignore[arg-type]
    for key, columns in (({}, {"b": int}), ({"a": int}, {}), ({"a": bytes}, {"b": int}), ({"a": int}, {"a": int})):
        with pytest.raises(InvalidOption):
            Table("fine", key=key, columns=columns)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="version"):
        ledger.projection(tables=[table], version=0)
    with pytest.raises(InvalidOption, match="needs tables"):
        ledger.projection(tables=[])
    with pytest.raises(InvalidOption, match="another projection has a table 'per_name'"):
        ledger.projection(tables=[PER_NAME], name="other")(lambda step, tables: None)
    with pytest.raises(InvalidOption, match="declared already"):
        ledger.projection(tables=[table], name="counts")(lambda step, tables: None)
    ledger.projection(tables=[Table("hourly", key={"a": int}, columns={"b": str})], name="mine")(
        lambda step, tables: None
    )
    with pytest.raises(InvalidOption, match="is the name of a report view"):
        Reports(ledger)


def test_words_of_sql_may_be_names(ledger: Ledger) -> None:
    """Tables and columns may be called what SQL has other uses for, in either database."""
    ledger.projections.clear()
    orders = Table("order", key={"user": str, "group": int}, columns={"select": int, "end": float})

    @ledger.projection(tables=[orders])
    def words(step: Step, tables: Mapping[str, Rows]) -> None:
        before = tables["order"].get(step.event.actor, 1) or {"select": 0}
        tables["order"].put(step.event.actor, 1, select=before["select"] + 1, end=0.5)

    reports = Reports(ledger)
    while not reports.step(20):
        pass
    wanted = rows(reports, "SELECT actor, 1, count(*), 0.5 FROM report_v1.events GROUP BY actor ORDER BY actor")
    assert rows(reports, 'SELECT "user", "group", "select", "end" FROM report_v1."order" ORDER BY "user"') == wanted
    assert reports.rebuild(["words"]) == reports.checkpoint()
    assert reports.verify() == []


def test_what_no_code_declares_any_more_can_be_dropped(ledger: Ledger) -> None:
    """Rows of a projection that is gone stay until they are dropped; one that is declared is refused."""
    reports = Reports(ledger)
    reports.catch_up()
    with pytest.raises(InvalidOption, match="it would be built again"):
        reports.drop("counts")
    ledger.projections.clear()
    reports = Reports(ledger)
    assert successes(reports)
    reports.drop("counts")
    assert "counts" not in {row.view for row in reports.state()}
    with reports.file.read() as unit:
        assert not {"per_name", "live_ids"} & set(unit.tables())
    with pytest.raises(InvalidOption, match="no view 'counts'"):
        reports.drop("counts")


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("pd"), st.integers(0, 3), st.integers(-9, 9)), max_size=40), st.integers(1, 9)
)
def test_rows_end_as_a_dict_would(acts: list[tuple[str, int, int]], batch: int) -> None:
    """Whatever is put and dropped, over whatever borders of batches, the table ends as a dictionary would."""
    ledger = Ledger("memory:")
    noop = ledger.task(name="noop")(lambda number: None)
    ledger.enqueue_many(noop.call(number=n) for n in range(len(acts)))

    @ledger.projection(tables=[Table("cells", key={"k": int}, columns={"v": int})])
    def cells(step: Step, tables: Mapping[str, Rows]) -> None:
        kind, key, value = acts[step.position - 1]
        before = (tables["cells"].get(key) or {"v": 0})["v"]
        if kind == "p":
            tables["cells"].put(key, v=before + value)
        else:
            tables["cells"].drop(key)

    wanted: dict[int, int] = {}
    for kind, key, value in acts:
        if kind == "p":
            wanted[key] = wanted.get(key, 0) + value
        else:
            wanted.pop(key, None)
    reports = Reports(ledger)
    while not reports.step(batch):
        pass
    with reports.file.read() as unit:
        assert dict(unit.rows("SELECT k, v FROM cells")) == wanted
    assert reports.verify() == []
    ledger.close()
