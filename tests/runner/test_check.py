"""`db check --deep` finds every kind of damage that is planted, and none where there is none."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import Ledger
from ledger import commands as c
from ledger.acts import act_on
from projections.reports import report_path
from runner.check import check
from runner.inline import run_inline
from runner.prune import Rules, prune
from tests.databases import execute, replaced
from tests.runner.keeping import begin, end


def fill(ledger: Ledger) -> dict[str, str]:
    """Let a ledger have a task of every kind; return their ids by what they are."""
    flaky, fine = ledger.task(name="flaky", max_attempts=1)(_fail), ledger.task(name="fine")(lambda: 1)
    ledger.schedule("0 3 * * *", name="nightly")(lambda: None)
    ids = {"succeeded": fine.enqueue().id, "failed": flaky.enqueue().id}
    run_inline(ledger)
    ledger.retry(ids["failed"], reason="again")
    run_inline(ledger)
    ids["keyed"] = fine.using(unique="k", run_after=timedelta(days=1)).enqueue().id
    ids["freed"] = fine.using(unique="f").enqueue().id
    run_inline(ledger)
    for name in ("pruned", "printed", "lost"):
        state, printed = begin(ledger, name, "hello\n")
        ids[name] = state.task_id
        if name == "lost":
            with ledger.store.write() as unit:
                act_on(unit, state.task_id, c.Lose(attempt=1, worker="w", cause="gone"), ledger.act(unit))
        else:
            end(ledger, state, printed)
        if name == "pruned":
            prune(ledger, Rules(runs=0), reason="a test")
    ledger.controls.pause("slow", reason="a test")
    check(ledger, is_deep=True)  # brings the views up to the log
    return ids


def _fail() -> None:
    raise ValueError("no")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A ledger without damage, closed, to be copied."""
    directory = tmp_path_factory.mktemp("sound")
    ledger = Ledger(f"sqlite:///{directory}/work.db")
    ids = fill(ledger)
    assert check(ledger, is_deep=True).problems == []
    ledger.close()
    return directory, ids


@pytest.fixture
def place(sound: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[tuple[Ledger, dict[str, str]]]:
    for file in sound[0].glob("*.db"):
        shutil.copy(file, tmp_path)
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    yield ledger, sound[1]
    ledger.close()


def plant(ledger: Ledger, script: str, ids: dict[str, str], *, reports: bool = False) -> None:
    """Change the file as no ledger does: past its triggers. ``@name`` in *script* is the id of that task."""
    path = report_path(ledger.store.path) if reports else ledger.store.path
    script = re.sub(r"@(\w+)", lambda found: ids[found[1]], script)
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        connection.executescript("".join(f"DROP TRIGGER {name};" for (name,) in triggers) + script)


LAST = "(SELECT max(rowid) FROM stored_events)"
DAMAGE = {
    "an event is gone": (
        "DELETE FROM stored_events WHERE originator_id = 'task:@succeeded' AND originator_version = 2",
        r"positions \d+ to \d+ are missing|stream task:.* some are missing",
    ),
    "the first event is gone": ("DELETE FROM stored_events WHERE rowid = 1", "positions 1 to 1 are missing"),
    "a version is gone, its position filled": (
        "UPDATE stored_events SET originator_version = 9 "
        "WHERE originator_id = 'task:@succeeded' AND originator_version = 3",
        r"stream task:.* has 3 events, versions 1 to 9",
    ),
    "two events of a stream change places": (
        "UPDATE stored_events SET originator_version = 99 "
        "WHERE originator_id = 'task:@succeeded' AND originator_version = 1;"
        "UPDATE stored_events SET originator_version = 1 "
        "WHERE originator_id = 'task:@succeeded' AND originator_version = 2;"
        "UPDATE stored_events SET originator_version = 2 "
        "WHERE originator_id = 'task:@succeeded' AND originator_version = 99",
        "stands before the version it follows",
    ),
    "an unknown topic": ("UPDATE stored_events SET topic = 'TaskFlown.v1' WHERE rowid = 1", "topic 'TaskFlown.v1'"),
    "half an event": (
        "UPDATE stored_events SET state = substr(state, 1, 40) WHERE rowid = 3",
        r"cannot be read.*position 3",
    ),
    "a second end": (
        f"INSERT INTO stored_events SELECT {LAST} + 1, originator_id, originator_version + 1, topic, state "
        "FROM stored_events WHERE originator_id = 'task:@succeeded' AND topic = 'TaskSucceeded.v1'",
        r"task .*: TaskSucceeded at position \d+ follows its end",
    ),
    "an attempt out of order": (
        "UPDATE stored_events SET state = replace(CAST(state AS TEXT), '\"attempt\":1', '\"attempt\":7') "
        "WHERE originator_id = 'task:@succeeded' AND topic = 'TaskClaimed.v1'",
        "claims attempt 7 after 0",
    ),
    "an outcome without a claim": (
        "UPDATE stored_events SET topic = 'CancelRequested.v1' "
        "WHERE originator_id = 'task:@succeeded' AND topic = 'TaskClaimed.v1'",
        "tells of a run, and it does not run",
    ),
    "a retry of what lives": (
        f"INSERT INTO stored_events SELECT {LAST} + 1, 'task:@keyed', 2, topic, state "
        "FROM stored_events WHERE originator_id = 'task:@failed' AND topic = 'TaskRetried.v1'",
        "retries a task that has not ended",
    ),
    "a task queued twice": (
        f"INSERT INTO stored_events SELECT {LAST} + 1, originator_id, 2, topic, state "
        "FROM stored_events WHERE originator_id = 'task:@keyed'",
        "queues it a second time",
    ),
    "a key reserved twice": (
        f"INSERT INTO stored_events SELECT {LAST} + 1, originator_id, 2, topic, state FROM stored_events "
        "WHERE topic = 'KeyReserved.v1' AND CAST(state AS TEXT) LIKE '%@keyed%'",
        "version 2 repeats",
    ),
    "a key that is another task's": (
        "UPDATE stored_events SET state = replace(CAST(state AS TEXT), '@keyed', '@printed') "
        "WHERE topic = 'KeyReserved.v1' AND CAST(state AS TEXT) LIKE '%@keyed%'",
        "key key:.* is reserved by task .*, which does not hold it",
    ),
    "a key freed too early": (
        f"INSERT INTO stored_events SELECT {LAST} + 1, k.originator_id, 2, r.topic, r.state "
        "FROM stored_events AS k, stored_events AS r WHERE k.topic = 'KeyReserved.v1' AND CAST(k.state AS TEXT) LIKE '%@keyed%' "
        "AND r.topic = 'KeyReleased.v1' AND CAST(r.state AS TEXT) LIKE '%@freed%'",
        "holds the key key:.*, which is not reserved by it",
    ),
    "output changed": (
        "UPDATE output SET body = replace(body, 'hello', 'jello') WHERE task_id = '@printed'",
        "is not what its outcome says",
    ),
    "output gone": (
        "DELETE FROM output WHERE task_id = '@printed'; DELETE FROM output_attempts WHERE task_id = '@printed'",
        "the output of attempt 1 of task .* is missing, and no OutputPruned event says why",
    ),
    "output that is no JSON": ("UPDATE output SET body = '[' WHERE task_id = '@printed'", "cannot be read"),
    "output that pruning would not find": (
        "DELETE FROM output_attempts WHERE task_id = '@lost'",
        "is not listed, so that it would never be pruned",
    ),
    "a list of output that is not there": (
        "DELETE FROM output WHERE task_id = '@lost'",
        "is listed, and there is none",
    ),
    "output of nobody": (
        "UPDATE output SET attempt = 4 WHERE task_id = '@lost'",
        "attempt 4 of task .* is kept, and the log knows no such attempt",
    ),
    "a pruning that is not on record": (
        "UPDATE stored_events SET state = replace(CAST(state AS TEXT), '@pruned', '@lost') "
        "WHERE topic = 'OutputPruned.v1'",
        "is missing, and no OutputPruned event says why",
    ),
    "a row of the queue": ("UPDATE queue SET priority = 9 WHERE task_id = '@keyed'", "view queue: .*priority"),
    "a row of the controls": ("DELETE FROM marks", "view controls: "),
    "a row of the schedules": ("DELETE FROM schedules", "view schedules: schedule nightly: the live row is missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_planted_damage_is_found(place: tuple[Ledger, dict[str, str]], kind: str) -> None:
    """Each kind of damage has a sentence that names what is wrong and where; undamaged, the check says nothing."""
    ledger, ids = place
    script, said = DAMAGE[kind]
    assert check(ledger, is_deep=True).problems == []
    ledger.close()
    plant(ledger, script, ids)
    problems = check(ledger, is_deep=True).problems
    assert any(re.search(said, problem) for problem in problems), problems


def test_planted_damage_is_found_on_postgresql(postgres_url: str) -> None:
    """What is damaged in the tables of a schema is found too, all of it in one look; undamaged, the check says nothing."""
    with closing(Ledger(postgres_url)) as ledger:
        ids = fill(ledger)
        assert check(ledger, is_deep=True).problems == []
        of = {name: f"= 'task:{ids[name]}'" for name in ids}
        released = replaced(ledger, "state", ids["keyed"], ids["printed"])
        execute(
            ledger,
            "DROP TRIGGER stored_events_are_immutable ON stored_events",
            f"DELETE FROM stored_events WHERE originator_id {of['succeeded']} AND originator_version = 2",
            f"UPDATE stored_events SET topic = 'TaskFlown.v1' WHERE originator_id {of['failed']} AND originator_version = 3",
            f"UPDATE stored_events SET state = {released} WHERE topic = 'KeyReserved.v1'",
            f"UPDATE output SET body = {replaced(ledger, 'body', 'hello', 'jello')} WHERE task_id = '{ids['printed']}'",
            f"DELETE FROM output WHERE task_id = '{ids['lost']}'",
            f"UPDATE queue SET priority = 9 WHERE task_id = '{ids['keyed']}'",
        )
        problems = check(ledger, is_deep=True).problems

    for said in (
        "the trigger that refuses changes of events is missing",
        f"stream task:{ids['succeeded']}.* some are missing",
        "topic 'TaskFlown.v1'",
        "key key:.* is reserved by task .*, which does not hold it",
        "is not what its outcome says",
        "is listed, and there is none",
    ):
        assert any(re.search(said, problem) for problem in problems), (said, problems)


def test_a_damaged_report_is_found(place: tuple[Ledger, dict[str, str]]) -> None:
    """A changed cell of the report view `tasks` is named."""
    ledger, ids = place
    plant(ledger, "UPDATE tasks SET state = 'waiting' WHERE task_id = '@succeeded'", ids, reports=True)
    [problem] = check(ledger, is_deep=True).problems
    assert problem.startswith(f"view tasks: task {ids['succeeded']}: state")


@pytest.mark.parametrize("table", ["stored_events", "output"])
def test_damage_of_the_file_itself_is_found(place: tuple[Ledger, dict[str, str]], table: str) -> None:
    """A page of zeros in the midst of a table: the check says so, and still looks at the rest."""
    ledger, _ = place
    with closing(sqlite3.connect(ledger.store.path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with open(ledger.store.path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    problems = check(ledger, is_deep=True).problems
    assert any(re.search(r"intact|[Pp]age|malformed|btree", problem) for problem in problems), problems
    json.dumps(problems)


def test_a_check_that_is_not_deep_leaves_the_ledger_as_it_is(place: tuple[Ledger, dict[str, str]]) -> None:
    """It writes nothing, and counts every event."""
    ledger, _ = place
    before = Path(ledger.store.path).read_bytes()
    with ledger.store.read() as snapshot:
        head = snapshot.head()
    assert check(ledger).events == head
    ledger.close()
    assert Path(ledger.store.path).read_bytes() == before
