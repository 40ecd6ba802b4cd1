"""With the setting audit_reads: who looked at which task's arguments, result or output, on record before it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.events import EVENT_CLASSES
from ledger.ledger_events import ReadRecorded
from ledger.reads import reads_of
from ledger.testing import ManualClock, run_queue
from tests.api.setup import REASON, count_events
from tests.databases import execute
from tests.invoking import invoke
from tests.runner.keeping import begin, end

BOTH = ["arguments", "result"]
SHOWING: list[tuple[list[str], list[str]]] = [
    (["task", "show", "ID"], BOTH),
    (["task", "show", "ID", "--at", "2"], BOTH),
    (["task", "events", "ID"], BOTH),
    (["task", "list", "-o", "json"], BOTH),
    (["task", "list", "--at", "3", "-o", "jsonl"], BOTH),
    (["task", "log", "ID"], ["output"]),
    (["compare", "ID:1", "ID"], [*BOTH, "output"]),
]


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on each kind of database, on a manual clock, with a task that has succeeded."""
    ledger = Ledger(url, clock=ManualClock())
    ledger.task(name="job")(lambda number: number).enqueue(7)
    run_queue(ledger)
    yield ledger
    ledger.close()


def call(ledger: Ledger, place: Path, words: list[str], code: int = 0, *, audit: bool = True) -> str:
    config = place / "audited.toml"
    config.write_text(f"audit_reads = {str(audit).lower()}\n")
    result = invoke(["--url", ledger.url, "--config", str(config), "--actor", "ann", *words])
    assert result.exit_code == code, result.output
    return result.output


def task_id(ledger: Ledger) -> str:
    with ledger.store.read() as snapshot:
        snapshot.head()
        return snapshot.events_after(0, 1)[0][1].removeprefix("task:")


def read(ledger: Ledger) -> list[Any]:
    with ledger.store.read() as snapshot:
        return [one.event for one in reads_of(snapshot, task_id(ledger))]


@pytest.mark.parametrize(("words", "what"), SHOWING, ids="-".join)
def test_what_is_shown_is_recorded_once_and_only_if_asked_for(
    ledger: Ledger, tmp_path: Path, words: list[str], what: list[str]
) -> None:
    """With the setting one event a task with who and what; without it none; the output is the same but for them."""
    words = [word.replace("ID", task_id(ledger)) for word in words]
    before = count_events(ledger)
    shown = call(ledger, tmp_path, words, audit=False)
    assert count_events(ledger) == before
    assert call(ledger, tmp_path, words) == shown
    [one] = read(ledger)
    assert (one.task, one.what) == (task_id(ledger), what)
    assert one.actor.startswith("user:") and one.actor.endswith("(ann)")
    assert count_events(ledger) == before + 1


@pytest.mark.parametrize("kind", ["tasks", "events"])
def test_an_export_is_one_read_of_all(ledger: Ledger, tmp_path: Path, kind: str) -> None:
    """It shows arguments and results, of how many tasks ever; attempts have neither."""
    before = count_events(ledger)
    call(ledger, tmp_path, ["export", "attempts"])
    assert count_events(ledger) == before
    call(ledger, tmp_path, ["export", kind])
    with ledger.store.read() as snapshot:
        [one] = [one.event for one in reads_of(snapshot, "*")]
    assert isinstance(one, ReadRecorded) and one.what == BOTH and one.actor.endswith("(ann)")
    assert count_events(ledger) == before + 1


def test_lines_found_by_history_are_reads_of_their_tasks(tmp_path: Path) -> None:
    """Of the tasks on the page, no others; what searches no output shows none."""
    ledger = Ledger(f"sqlite:///{tmp_path}/printed.db", clock=ManualClock())
    for text in ("disk full\n", "all well\n"):
        end(ledger, *begin(ledger, "prints", text))
    call(ledger, tmp_path, ["history"])
    found = call(ledger, tmp_path, ["history", "--grep", "disk", "-o", "json"])
    [entry] = json.loads(found)
    with ledger.store.read() as snapshot:
        raws = snapshot.events_after(0, 100)
        [one] = [one.event for one in reads_of(snapshot, entry["id"])]
    ledger.close()
    assert isinstance(one, ReadRecorded) and one.what == ["output"]
    assert [raw[3] for raw in raws].count("ReadRecorded.v1") == 1


@pytest.mark.parametrize("words", [["task", "list"], ["history"], ["stats"], ["queue", "list"], ["now"], ["why", "ID"]])
def test_what_shows_no_arguments_is_not_recorded(ledger: Ledger, tmp_path: Path, words: list[str]) -> None:
    """Lists of names and states are no reads; nor is what is refused."""
    before = count_events(ledger)
    call(ledger, tmp_path, [word.replace("ID", task_id(ledger)) for word in words])
    call(ledger, tmp_path, ["task", "show", "nothing"], code=3)
    assert count_events(ledger) == before


def test_what_cannot_be_recorded_is_not_shown(ledger: Ledger, tmp_path: Path) -> None:
    """A database that refuses the event: an error, and no word of the task."""
    table = "stored_events"
    if ledger.url.startswith("sqlite"):
        refusal = (
            f"CREATE TRIGGER no_reads BEFORE INSERT ON {table} WHEN NEW.topic = 'ReadRecorded.v1' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        execute(ledger, refusal)
    else:
        execute(ledger, f"ALTER TABLE {table} ADD CONSTRAINT no_reads CHECK (topic <> 'ReadRecorded.v1')")
    result = invoke(["--url", ledger.url, "task", "show", task_id(ledger)], env={"WORKLEDGER_AUDIT_READS": "true"})
    assert result.exit_code != 0
    assert "job" not in result.stdout
    assert read(ledger) == []


def test_a_revealed_task_has_its_reads_in_one_stream(ledger: Ledger, tmp_path: Path) -> None:
    """`reveal` is recorded with its reason, whatever the setting says, beside the other reads."""
    ledger.get(task_id(ledger)).reveal(reason=REASON, actor="bob")
    call(ledger, tmp_path, ["task", "show", task_id(ledger)])
    assert [(one.reason, one.originator_version) for one in read(ledger)] == [(REASON, 1), (None, 2)]
    assert ReadRecorded in EVENT_CLASSES
