"""The filter language: what it finds is what the same filter in Python finds; what is wrong is named by its column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import InvalidOption, Ledger
from projections.filters import FIELDS, where
from projections.reports import Reports
from tests.projections.everything import fill, ledger_of

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def ledger(module_url: str) -> Iterator[Ledger]:
    """A ledger to which everything has happened, and whose tasks have arguments of every kind."""
    ledger = ledger_of(module_url)
    fill(ledger)

    @ledger.task(name="mail.send_50%")
    def mail(**args: Any) -> None: ...

    for value in (
        5,
        "5",
        5.5,
        True,
        False,
        None,
        [1, {"deep": "x"}],
        {"a b": {"c": 1}},
        'quote"d',
        "*",
        "comma,ed",
        "ü ß",
    ):
        ledger.enqueue(mail.using(labels=("tenant:a", "x,y")).call(v=value))
    Reports(ledger).catch_up()
    yield ledger
    ledger.close()


def find(ledger: Ledger, text: str, view: str = "tasks") -> list[Row]:
    condition = where(text, view, NOW, Reports(ledger).dialect)
    rows = {"history": "attempts AS a JOIN report_v1.tasks AS t ON t.task_id = a.task_id"}.get(view, view)
    sql = f"SELECT * FROM report_v1.{rows} WHERE {condition.sql}"
    with Reports(ledger).read() as unit:
        columns = unit.columns(sql, condition.parameters)
        return [dict(zip(columns, row, strict=True)) for row in unit.rows(sql, condition.parameters)]


def args(row: Row) -> Any:
    return json.loads(row["args"])


CASES: list[tuple[str, Callable[[Row], bool]]] = [
    ("", lambda row: True),
    ("   ", lambda row: True),
    ("state:failed", lambda row: row["state"] == "failed"),
    ("state:failed,cancelled", lambda row: row["state"] in ("failed", "cancelled")),
    ("-state:succeeded", lambda row: row["state"] != "succeeded"),
    ("name:mail.*", lambda row: row["name"].startswith("mail.")),
    ("name:MAIL.*", lambda row: False),
    ("name:*50%", lambda row: row["name"].endswith("50%")),
    ("name:mail?send*", lambda row: False),
    ('name:"mail.*"', lambda row: False),
    ("name:fl_ky*", lambda row: False),
    ("queue:mail state:succeeded", lambda row: row["queue"] == "mail" and row["state"] == "succeeded"),
    ("run_as:alice", lambda row: row["run_as"] == "alice"),
    ("label:a", lambda row: "a" in json.loads(row["labels"])),
    ("label:tenant:*", lambda row: any(one.startswith("tenant:") for one in json.loads(row["labels"]))),
    ('label:"x,y"', lambda row: "x,y" in json.loads(row["labels"])),
    ("args.n:3", lambda row: args(row).get("n") == 3),
    ("args.v:5", lambda row: args(row).get("v") in (5, "5") and args(row).get("v") is not True),
    ("args.v:true", lambda row: args(row).get("v") is True),
    ("args.v:null", lambda row: "v" in args(row) and args(row)["v"] is None),
    ("args.v.1.deep:x", lambda row: args(row).get("v") == [1, {"deep": "x"}]),
    ('args.v:"*"', lambda row: args(row).get("v") == "*"),
    ('args.v:"quote\\"d"', lambda row: args(row).get("v") == 'quote"d'),
    ('args.v:"comma,ed","ü ß"', lambda row: args(row).get("v") in ("comma,ed", "ü ß")),
    ("-args.n:3", lambda row: args(row).get("n") != 3),
    ("error:ValueError", lambda row: row["error_type"] == "ValueError"),
    ("-error:*", lambda row: row["error_type"] is None),
    ("attempts:>=2", lambda row: row["attempt"] >= 2),
    ("attempts:2", lambda row: row["attempt"] == 2),
    ("priority:<0", lambda row: False),
    ("wait:>30s", lambda row: (row["wait_ms"] or 0) > 30_000),
    ("run:<=0.001ms", lambda row: row["run_ms"] is not None and row["run_ms"] <= 0.001),
    ("since:2026-03-02T13:00", lambda row: row["queued_at"] >= "2026-03-02T13:00:00.000000Z"),
    ("until:2h", lambda row: row["queued_at"] < "2026-03-02T13:00:00.000000Z"),
    ('since:"2026-03-02 12:30" until:2026-03-02T14:00+01:00',
     lambda row: "2026-03-02T12:30" <= row["queued_at"] < "2026-03-02T13:00"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=[text for text, _ in CASES])
def test_a_filter_finds_what_it_says(ledger: Ledger, text: str, wanted: Callable[[Row], bool]) -> None:
    """Each form of a term finds the tasks that the same condition in Python finds."""
    everything = find(ledger, "")
    assert sorted(row["task_id"] for row in find(ledger, text)) == sorted(r["task_id"] for r in everything if wanted(r))


def test_the_cases_find_something(ledger: Ledger) -> None:
    """Most of the filters above find some tasks and leave others: they compare more than nothing."""
    count = len(find(ledger, ""))
    found = [len(find(ledger, text)) for text, _ in CASES]
    assert sum(0 < n < count for n in found) >= 20


def test_attempts_and_events_have_fields_of_their_own(ledger: Ledger) -> None:
    """Outcomes, causes, types and data are found in their views."""
    assert {row["outcome"] for row in find(ledger, "outcome:lost,interrupted", "attempts")} == {"lost", "interrupted"}
    assert {row["cause"] for row in find(ledger, "cause:kill*", "attempts")} == {"killed"}
    assert {row["type"] for row in find(ledger, "type:Task* actor:user:bob", "events")} >= {
        "TaskRetried",
        "TaskCancelled",
    }
    assert {row["type"] for row in find(ledger, "data.final:true", "events")} >= {"TaskFailed"}


@pytest.mark.parametrize("view", sorted(FIELDS))
def test_every_field_is_a_column(ledger: Ledger, view: str) -> None:
    """Every field of every view can be asked for."""
    values = {"number": "1", "duration": "1s", "since": "1h", "until": "1h"}
    for name, field in FIELDS[view].items():
        find(ledger, f"{name}{'.a' if field.kind == 'json' else ''}:{values.get(field.kind, 'x')}", view)


WRONG = [
    ("stat:failed", 1, "there is no field 'stat'; there are: actor, args,"),
    ("state:failed nmae:x", 14, "there is no field 'nmae'"),
    ("state:failed -nmae:x", 15, "there is no field 'nmae'"),
    ("failed", 1, "'failed' is no term; one is field:value"),
    ("state:failed boom", 14, "'boom' is no term"),
    ("state:", 1, "is no term"),
    ("name:a since:yesterday", 14, "'yesterday' is no moment"),
    ("since:5", 7, "'5' is no moment"),
    ("attempts:many", 10, "'many' is no number"),
    ("attempts:1,x", 12, "'x' is no number"),
    ("run:>1y", 5, "is no duration"),
    ("args:5", 1, "args is asked for as args.NAME:value"),
    ("name.x:5", 1, "name is asked for as name:value"),
    ('name:"open', 6, "is no term"),
    ("since:99999999999w", 7, "is no moment"),
    ("name:,", 6, "name needs a value"),
]


@pytest.mark.parametrize(("text", "column", "said"), WRONG, ids=[text for text, _, _ in WRONG])
def test_what_is_wrong_is_named_by_its_column(text: str, column: int, said: str) -> None:
    """The error points at the character, and says what would be allowed."""
    with pytest.raises(InvalidOption) as error:
        where(text, "tasks", NOW)
    assert str(error.value).startswith(f"filter, column {column}: ")
    assert said in str(error.value)


@example("name:' OR 1=1 --")
@example('args."x:1')
@example("args.a'b:1")
@given(st.text(alphabet=st.sampled_from("stae:fild.*,\"\\'-;%_()?$[]0 >=<\x00ü"), max_size=25))
def test_any_text_is_a_filter_or_refused(ledger: Ledger, text: str) -> None:
    """No text reaches the database but as a bound value: it is a filter that runs, or an error of the language."""
    reports = Reports(ledger)
    for tail in ("", f"args.a:{text}", f"name:{text}"):
        try:
            condition = where(tail or text, "tasks", NOW, reports.dialect)
        except InvalidOption:
            continue
        assert text == "" or not text.strip() or "?" in condition.sql
        with reports.read() as unit:
            unit.rows(f"SELECT * FROM report_v1.tasks WHERE {condition.sql}", condition.parameters)
