"""The controls view: whatever was said in whatever steps, its rows are the fold of the log, and damage is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Conflict, Ledger
from ledger.testing import memory_ledger
from projections import controls, queue
from projections.control_fold import SQL

REASON = "because the test says so"
SCOPES = ("ledger", "queue:a", "task:a", "task:*", "key:a b")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("pause", "resume", "disable", "enable", "stop", "recycle", "set", "reset", "register", "other")
        ),
        st.integers(0, 4),
        st.booleans(),
    ),
    max_size=40,
)


def carry_out(ledger: Ledger, verb: str, number: int) -> None:
    """Do one step; what is refused leaves no trace."""
    control = ledger.controls
    most = number or None
    match verb:
        case "pause":
            control.pause("ab"[number % 2], reason=REASON)
        case "resume":
            control.resume("ab"[number % 2], reason=REASON)
        case "disable":
            control.disable_runners(reason=REASON)
        case "enable":
            control.enable_runners(reason=REASON)
        case "stop":
            control.stop(reason=REASON)
        case "recycle":
            control.clear_caches(reason=REASON)
        case "set" | "reset":
            try:
                if verb == "set":
                    control.set_limit(SCOPES[number], most, reason=REASON)
                else:
                    control.reset_limit(SCOPES[number], reason=REASON)
            except Conflict:
                pass
        case "register":
            control.register(app="ab"[number % 2], configuration={SCOPES[number]: most} if number % 3 else {})
        case _:
            ledger.functions["add"].enqueue()


def rows(ledger: Ledger) -> tuple[list[Any], list[Any]]:
    with ledger.store.read() as snapshot:
        return snapshot.rows(SQL["all_marks"]), snapshot.rows(SQL["all_limits"])


def told_by_the_log(ledger: Ledger) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """Mark → position, and scope → what each source says, read from the stored JSON by rules of its own."""
    with ledger.store.read() as snapshot:
        found = snapshot.rows("SELECT rowid, originator_id, topic, state FROM stored_events ORDER BY rowid")
    marks: dict[str, int] = {}
    limits: dict[str, dict[str, Any]] = {}
    for position, stream, topic, state in found:
        data = json.loads(state)
        match topic.removesuffix(".v1"):
            case "QueuePaused":
                marks[stream] = position
            case "QueueResumed":
                del marks[stream]
            case "RunnersDisabled":
                marks["runners"] = position
            case "RunnersEnabled":
                del marks["runners"]
                marks["enabled"] = position
            case "StopRequested":
                marks["stop"] = position
            case "CachesCleared":
                marks["caches"] = position
            case "LimitChanged":
                marks["limits"] = position
                said = limits.setdefault(stream.removeprefix("limit:"), {})
                said[data["source"]] = None if data["reset"] else data.get("most", -1)
    return marks, {scope: said for scope, said in limits.items() if any(value is not None for value in said.values())}


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_live_rows_are_the_fold_of_the_log(steps: list[tuple[str, int, bool]]) -> None:
    """After any history, caught up in any steps, live rows, a rebuild and the log agree."""
    ledger = memory_ledger()
    ledger.task(name="add", limit=3)(lambda: None)
    for verb, number, is_caught_up in steps:
        carry_out(ledger, verb, number)
        if is_caught_up:
            queue.catch_up_all(ledger)
    queue.catch_up_all(ledger)
    live = rows(ledger)
    assert controls.verify(ledger) == []
    marks, limits = told_by_the_log(ledger)
    assert {row[0]: row[1] for row in live[0]} == marks
    sources = ("code", "hand", "configuration")
    assert {row[0]: dict(zip(sources, row[2:5], strict=True)) for row in live[1]} == {
        scope: {source: said.get(source) for source in sources} for scope, said in limits.items()
    }
    for rebuild in (controls.rebuild, queue.rebuild):
        rebuild(ledger)
        assert rows(ledger) == live


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger with something of every kind, caught up."""
    ledger = Ledger(url, limits={"queue:mail": 2})
    ledger.controls.register()
    ledger.controls.set_limit("ledger", 5, reason=REASON)
    ledger.controls.pause("mail", reason=REASON)
    ledger.controls.disable_runners(reason=REASON)
    ledger.controls.stop(reason=REASON)
    queue.catch_up_all(ledger)
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    ("table", "column", "what"),
    [
        *(("marks", column, "mark queue:mail") for column in ("position", "at_us", "actor", "reason")),
        *(
            ("limits", column, "limit ledger")
            for column in ("version", "code", "hand", "configuration", "app", "at_us")
        ),
        *(("limits", column, "limit ledger") for column in ("actor", "reason")),
    ],
)
def test_verify_names_a_changed_cell(ledger: Ledger, table: str, column: str, what: str) -> None:
    """A cell changed by hand is named with its row, what it is and what it should be; a rebuild mends it."""
    with ledger.store.write() as unit:
        unit.run(
            f"UPDATE {table} SET {column} = 77 WHERE ? IN ('mark ' || {KEYS[table]}, 'limit ' || {KEYS[table]})",
            (what,),
        )

    [found] = controls.verify(ledger)
    assert found.startswith(f"{what}: {column} is ") and "the fold gives" in found
    controls.rebuild(ledger)
    assert controls.verify(ledger) == []


KEYS = {"marks": "mark", "limits": "scope"}


def test_verify_finds_missing_and_foreign_rows(ledger: Ledger) -> None:
    """A row deleted by hand and a row that no event gave are both named."""
    with ledger.store.write() as unit:
        unit.run("DELETE FROM marks WHERE mark = 'queue:mail'")
        unit.run("UPDATE limits SET scope = 'task:ghost' WHERE scope = 'ledger'")

    assert controls.verify(ledger) == [
        "limit ledger: the live row is missing",
        "limit task:ghost: a live row that the log does not give",
        "mark queue:mail: the live row is missing",
    ]


def test_tables_of_an_older_shape_are_made_anew(ledger: Ledger) -> None:
    """Tables that are missing or have other columns are made anew, up to the checkpoint that all views share."""
    live = rows(ledger)
    with ledger.store.write() as unit:
        unit.run("DROP TABLE marks")
        unit.run("ALTER TABLE limits DROP COLUMN app")
    ledger.controls.resume("mail", reason="after the checkpoint")

    assert controls.verify(ledger) == []
    assert [row for row in live[0] if row[0] != "queue:mail"] == rows(ledger)[0]
    assert rows(ledger)[1] == live[1]


def test_limits_are_read_again_only_when_they_have_changed(ledger: Ledger) -> None:
    """A cycle keeps what it has made of the limits until one of them changes."""
    with ledger.store.read() as snapshot:
        first = controls.read(snapshot)
    ledger.controls.resume("mail", reason=REASON)
    queue.catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        second = controls.read(snapshot, first)
    assert second.limits is first.limits
    assert second.paused("mail") is None
    ledger.controls.set_limit("ledger", 6, reason=REASON)
    queue.catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        third = controls.read(snapshot, second)

    over_all = third.limits.over_all()
    assert over_all is not None and over_all.most == 6
