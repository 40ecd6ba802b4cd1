"""The commands on the inbox, and what others show of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256

import pytest

from ledger import Ledger, Task
from ledger.ledger_events import InboxDiscarded
from projections.queue import catch_up_all
from tests.databases import execute
from tests.faults.calling import connect
from tests.invoking import invoke


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.task(name="note")(lambda what: what)
    ledger.store.prepare()
    yield ledger
    ledger.close()


def call(ledger: Ledger, *words: str, code: int = 0) -> str:
    result = invoke(["--url", ledger.url, *words])
    assert result.exit_code == code, result.output
    return result.output


def put(ledger: Ledger, *damage: str, key: str | None = None) -> Task[object]:
    with closing(connect(ledger.url)) as connection:
        task = ledger.functions["note"].using(connection=connection, unique=key).enqueue("it")
        connection.commit()
    execute(ledger, *damage)
    return task


def test_the_inbox_is_listed_and_tried_again(ledger: Ledger) -> None:
    """What waits and what was set aside; an exit code tells whether all that was tried again is in the log."""
    assert call(ledger, "inbox", "list") == "nothing waits in the inbox\n"
    assert call(ledger, "inbox", "retry") == "nothing was set aside\n"
    bad = put(ledger, "UPDATE inbox SET topic = 'TaskQueued.v99'")
    catch_up_all(ledger)
    good = put(ledger)

    assert [(row["id"], row["state"]) for row in json.loads(call(ledger, "inbox", "list", "-o", "json"))] == [
        (bad.id, "set aside"),
        (good.id, "waiting"),
    ]
    assert good.id not in call(ledger, "inbox", "list", "--set-aside")
    assert "TaskQueued.v99" in call(ledger, "inbox", "retry", code=1)
    assert "TaskQueued.v99" in call(ledger, "task", "show", bad.id, code=4)
    assert "workledger inbox retry" in call(ledger, "health", code=2)
    assert bad.id in call(ledger, "db", "check", code=1)
    assert "no row of task" in call(ledger, "inbox", "retry", good.id, code=3)
    execute(ledger, "UPDATE inbox SET topic = 'TaskQueued.v1'")
    assert call(ledger, "inbox", "retry", bad.id) == f"{bad.id} is in the log\n"
    assert "waiting" in call(ledger, "task", "show", bad.id)


def test_what_was_set_aside_is_discarded_on_record(ledger: Ledger) -> None:
    """Only that, with the digest of what went, the error, who and why; it is unknown from then on, and all is well."""
    bad = put(ledger, "UPDATE inbox SET topic = 'TaskQueued.v99'")
    with ledger.store.read() as snapshot:
        [(topic, state)] = snapshot.rows("SELECT topic, state FROM inbox")
    assert "no row of task" in call(ledger, "inbox", "discard", bad.id, "--reason", "not yet set aside", code=3)
    catch_up_all(ledger)
    other = put(ledger)
    assert "reason" in call(ledger, "inbox", "discard", bad.id, code=2)

    said = call(ledger, "--actor", "ann", "inbox", "discard", bad.id, "--reason", "written by a test")
    assert said.startswith(f"{bad.id} is discarded; it was set aside because ") and "TaskQueued.v99" in said
    with ledger.store.read() as snapshot:
        [(_, event)] = snapshot.stream(f"inbox:{bad.id}")
    assert isinstance(event, InboxDiscarded) and event.actor.endswith("(ann)") and event.reason == "written by a test"
    assert (event.task, event.sha256) == (bad.id, sha256(f"{topic}\n{state}".encode()).hexdigest())
    assert "no row of task" in call(ledger, "inbox", "discard", bad.id, "--reason", "again", code=3)
    assert "no task" in call(ledger, "task", "show", bad.id, code=3)
    assert [row["id"] for row in json.loads(call(ledger, "inbox", "list", "-o", "json"))] == [other.id]
    assert call(ledger, "db", "check", "-o", "json") and other.state == "waiting"


def test_other_commands_know_a_task_in_the_inbox(ledger: Ledger) -> None:
    """It is listed and shown as waiting; `why` and `task cancel` take it in."""
    task = put(ledger)

    assert [row["state"] for row in json.loads(call(ledger, "task", "list", "-o", "json"))] == ["waiting"]
    assert json.loads(call(ledger, "task", "show", task.id, "-o", "json"))["state"] == "waiting"
    assert "no events" in call(ledger, "task", "events", task.id)
    assert "It has been due" in call(ledger, "why", task.id)
    other = put(ledger)
    call(ledger, "task", "cancel", other.id, "--reason", "test")
    assert (task.state, other.state) == ("waiting", "cancelled")
    for unique in (put(ledger, key="k"), put(ledger, key="k")):
        catch_up_all(ledger)
        shown = json.loads(call(ledger, "task", "show", unique.id, "-o", "json"))
    assert shown["duplicate_of"] == unique.duplicate_of is not None


ASKED = [
    ("name:note", True), ("name:no*", True), ("-name:note", False), ("state:waiting", True), ("state:running,failed", False),
    ("args.what:it", True), ("args.what:that", False), ("label:urgent", True), ("-label:urgent", False),
    ("since:24h", True), ("until:24h", False), ("priority:>4", True), ("priority:>5", False), ("run_as:ann", True),
    ("error:ValueError", False), ("-error:ValueError", True), ("attempts:0 lost:0", True), ("run:>1s", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "is_found"), ASKED, ids=[text for text, _ in ASKED])
def test_a_filter_finds_what_waits_in_the_inbox(ledger: Ledger, text: str, is_found: bool) -> None:
    """Text in the filter language finds the same task before and after it was taken in."""
    with closing(connect(ledger.url)) as connection:
        note = ledger.functions["note"].using(connection=connection, labels=["urgent"], priority=5, run_as="ann")
        note.enqueue("it")
        connection.commit()
    before = json.loads(call(ledger, "task", "list", "--filter", text, "-o", "json"))
    assert len(json.loads(call(ledger, "inbox", "list", "-o", "json"))) == 1
    catch_up_all(ledger)
    after = json.loads(call(ledger, "task", "list", "--filter", text, "-o", "json"))

    assert len(before) == len(after) == is_found
