"""The history of attempts, statistics and timelines say what a plain loop over the raw log says."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from ledger import InvalidOption, Ledger, Retry
from ledger import commands as c
from ledger.acts import act_on
from ledger.testing import ManualClock, run_queue
from projections.filters import where
from projections.history import SQL, Asked, Entry, history
from projections.reports import Reports
from projections.statistics import By, statistics
from tests.databases import by_driver
from tests.projections.everything import fill, ledger_of
from tests.runner.keeping import begin, end

ENDS = ("TaskSucceeded", "TaskFailed", "TaskDelayed", "AttemptLost", "AttemptInterrupted", "TaskCancelled")
Attempt = dict[str, Any]


@pytest.fixture(scope="module")
def ledger(module_url: str) -> Iterator[Ledger]:
    """A ledger to which everything has happened."""
    ledger = ledger_of(module_url)
    fill(ledger)
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def attempts(ledger: Ledger) -> list[Attempt]:
    """Every attempt, newest first, by a plain loop over the log as JSON."""
    with by_driver(ledger) as ask_driver:
        rows = ask_driver("SELECT position, stream, topic, CAST(data AS text) FROM events ORDER BY position")
    queued: dict[str, dict[str, Any]] = {}
    found: dict[tuple[str, int], Attempt] = {}
    for position, stream, topic, text in rows:
        kind, data = topic.removesuffix(".v1"), json.loads(text)
        if kind == "TaskQueued":
            queued[stream] = data
        elif kind == "TaskClaimed":
            asked = queued[stream]
            found[stream, data["attempt"]] = {
                "position": position, "id": stream.removeprefix("task:"), "attempt": data["attempt"],
                "worker": data["worker"], "claimed_at": data["at"], "outcome": "running", "error": {}, **{
                    name: asked.get(name) for name in ("name", "queue", "run_as", "actor", "args", "labels", "schedule")
                },
            }  # fmt: skip
        elif kind in ENDS and (stream, data.get("attempt")) in found:
            attempt = found[stream, data["attempt"]]
            attempt["outcome"] = kind.removeprefix("Task").removeprefix("Attempt").lower()
            attempt["error"] = data.get("error") or {}
            begun = datetime.fromisoformat(data.get("started_at", attempt["claimed_at"]))
            ended = datetime.fromisoformat(data.get("finished_at", data["at"]))
            attempt["run"] = (ended - begun) / timedelta(seconds=1)
    return sorted(found.values(), key=lambda attempt: -attempt["position"])


def ask(ledger: Ledger, filter_: str = "", **asked: Any) -> list[Entry]:
    return list(history(Reports(ledger), Asked(filter=filter_, **{"limit": 1_000, **asked})))


FILTERS: list[tuple[str, Callable[[Attempt], bool]]] = [
    ("", lambda a: True),
    ("outcome:failed", lambda a: a["outcome"] == "failed"),
    ("-outcome:succeeded,failed", lambda a: a["outcome"] not in ("succeeded", "failed")),
    ("name:f*", lambda a: fnmatch.fnmatchcase(a["name"], "f*")),
    ("name:flaky attempt:>1", lambda a: a["name"] == "flaky" and a["attempt"] > 1),
    ("queue:mail run_as:system", lambda a: (a["queue"], a["run_as"]) == ("mail", "system")),
    ("run_as:alice label:b", lambda a: a["run_as"] == "alice" and "b" in (a["labels"] or ())),
    ("args.n:3", lambda a: str(a["args"].get("n")) == "3"),
    ("worker:w1", lambda a: a["worker"] == "w1"),
    ("error:ValueError,KeyError", lambda a: a["error"].get("type") in ("ValueError", "KeyError")),
    ('message:"no 3"', lambda a: a["error"].get("message") == "no 3"),
    ("schedule:often", lambda a: a["schedule"] == "often"),
    ("component:night*", lambda a: a["schedule"] == "nightly"),
    ("-component:reporting", lambda a: a["schedule"] != "often"),
    ("run:>=1s", lambda a: a.get("run", 0) >= 1),
    ("since:2026-03-02T13:00", lambda a: a["claimed_at"] >= "2026-03-02T13:00"),
    ("until:2026-03-02T13:00", lambda a: a["claimed_at"] < "2026-03-02T13:00"),
    ("actor:user:ann", lambda a: a["actor"] == "user:ann"),
]


@pytest.mark.parametrize(("text", "fits"), FILTERS, ids=[text for text, _ in FILTERS])
def test_history_is_what_the_log_says(
    ledger: Ledger, attempts: list[Attempt], text: str, fits: Callable[[Attempt], bool]
) -> None:
    """Each filter finds the attempts that a loop over the log finds, newest first, with what they say."""
    found = ask(ledger, text)
    wanted = [attempt for attempt in attempts if fits(attempt)]
    assert wanted, "a filter that finds nothing shows nothing"
    assert [entry.position for entry in found] == [attempt["position"] for attempt in wanted]
    for entry, attempt in zip(found, wanted, strict=True):
        for name in ("id", "attempt", "name", "queue", "worker", "outcome", "run_as", "actor"):
            assert getattr(entry, name) == attempt[name]
        assert entry.labels == (attempt["labels"] or [])


def test_pages_join_to_the_whole(ledger: Ledger, attempts: list[Attempt]) -> None:
    """Read page by page, each after the last entry of the page before, nothing is missing or there twice."""
    found: list[Entry] = []
    while page := ask(ledger, limit=7, after=found[-1].position if found else None):
        assert len(page) <= 7
        assert not found or page[0].position < found[-1].position
        found += page
    assert [entry.position for entry in found] == [attempt["position"] for attempt in attempts]


@pytest.mark.parametrize(("text", "column"), [("outcom:failed", 1), ("name:a run:>fast", 12), ("component.x:a", 1)])
def test_a_wrong_filter_is_named_by_its_column(ledger: Ledger, text: str, column: int) -> None:
    """The error points at the character, before anything is read."""
    with pytest.raises(InvalidOption, match=f"filter, column {column}: "):
        ask(ledger, text)


def test_output_is_searched(url: str) -> None:
    """Attempts that printed a text are found with the line that has it; of many others before them too, by pages."""
    ledger = Ledger(url, clock=ManualClock())
    wanted = []
    for number in range(450):
        text = f"line one of {number}\ndisk {'full' if number % 150 == 7 else 'fine'} 100%\nüber _ %\n"
        state, printed = begin(ledger, "prints", text)
        end(ledger, state, printed)
        if number % 150 == 7:
            wanted.append(state.task_id)
    found = ask(ledger, text="disk full")
    assert [(entry.id, entry.line) for entry in found] == [(id_, "disk full 100%") for id_ in reversed(wanted)]
    assert [entry.id for entry in ask(ledger, text="disk full", limit=2)] == wanted[:0:-1]
    assert ask(ledger, "-name:prints", text="disk full") == ask(ledger, text="Disk full") == []
    assert len(ask(ledger, text="über _ %", limit=5)) == 5
    with pytest.raises(InvalidOption, match="empty"):
        ask(ledger, text="")
    ledger.close()


def test_the_search_finds_what_runs_and_what_was_lost(url: str) -> None:
    """What a running attempt has printed so far, and one whose process died: neither has told the log of its output."""
    ledger = Ledger(url, clock=ManualClock())
    lost, _ = begin(ledger, "job", "disk full\n")
    with ledger.store.write() as unit:
        act_on(unit, lost.task_id, c.Lose(attempt=1, worker="w", cause="gone"), ledger.act(unit))
    running, printed = begin(ledger, "job", "disk full\n")
    begin(ledger, "job", "disk fine\n")

    assert [(e.id, e.outcome) for e in ask(ledger, text="disk full")] == [
        (running.task_id, "running"), (lost.task_id, "lost"),
    ]  # fmt: skip
    end(ledger, running, printed)
    assert [e.outcome for e in ask(ledger, text="disk full")] == ["succeeded", "lost"]
    ledger.close()


def test_the_newest_page_reads_no_more_than_it_shows(ledger: Ledger) -> None:
    """Filters on outcome and name walk an index in the order of the page: no sort, no look at every attempt."""
    for text in ("", "outcome:failed", "name:flaky"):
        condition = where(text, "history", datetime.fromisoformat("2026-03-02T15:00:00Z"))
        sql = SQL["page"].format(where=condition.sql)
        parameters = (*condition.parameters, 1_000_000, 50)
        with Reports(ledger).read() as unit:
            if unit.dialect == "sqlite":
                plan = [row[3] for row in unit.rows(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            else:
                for way in (
                    "seqscan",
                    "bitmapscan",
                    "hashjoin",
                    "mergejoin",
                ):  # of few rows it would read them all and sort
                    unit.run(f"SET LOCAL enable_{way} = off")
                plan = [row[0].strip() for row in unit.rows(f"EXPLAIN {sql}", parameters)]
        assert plan
        sorts = ("TEMP B-TREE", "Sort")
        assert not [line for line in plan if any(word in line for word in sorts) or line.startswith("SCAN a")], plan


@pytest.mark.parametrize("by", list(By))
def test_statistics_add_up(ledger: Ledger, attempts: list[Attempt], by: By) -> None:
    """Counts are those of the log, whatever they are added up by; the longest run is the longest there was."""
    found = statistics(Reports(ledger), by)
    wanted: Counter[str] = Counter()
    longest: dict[str, float] = {}
    for attempt in attempts:
        of = {
            By.name: attempt["name"],
            By.queue: attempt["queue"],
            By.hour: attempt["claimed_at"][:13] + ":00Z",
            By.day: attempt["claimed_at"][:10],
        }[by]
        wanted[of] += 1
        longest[of] = max(longest.get(of, 0), attempt.get("run", 0))
    assert {total.of: total.started for total in found if total.started} == dict(wanted)
    outcomes = Counter(attempt["outcome"] for attempt in attempts)
    assert sum(total.succeeded for total in found) == outcomes["succeeded"]
    assert sum(total.failed + total.retried for total in found) == sum(
        outcomes[name] for name in ("failed", "delayed", "lost")
    )
    for total in found:
        if by in (By.name, By.queue) and longest.get(total.of):
            assert total.run_max_ms == pytest.approx(longest[total.of] * 1000)
        ended = total.succeeded + total.failed + total.retried
        unsuccessful = total.failed + total.retried
        assert total.failure_percent == (round(100 * unsuccessful / ended, 1) if ended else None)
    order = [total.of for total in found]
    assert order == (sorted(order) if by in (By.hour, By.day) else sorted(order, key=lambda of: (-wanted[of], of)))


def test_statistics_of_a_part(ledger: Ledger) -> None:
    """A filter leaves whole hours, names and queues out; percentiles are those of all that is left, not of parts."""
    [flaky] = statistics(Reports(ledger), By.queue, "name:flaky")
    assert [flaky] == [total._replace(of="mail") for total in statistics(Reports(ledger), By.name, "name:flaky")]
    assert statistics(Reports(ledger), By.day, "name:nobody") == []
    hours = statistics(Reports(ledger), By.hour, "since:2026-03-02T13:00 until:2026-03-02T14:00")
    assert [total.of for total in hours] == ["2026-03-02T13:00Z"]
    with pytest.raises(InvalidOption, match="column 1: there is no field 'state'"):
        statistics(Reports(ledger), By.name, "state:failed")


def test_percentiles_of_hours_together(url: str) -> None:
    """The percentiles of two hours are at most a bucket (9.1 %) above those of their runs taken together."""
    clock = ManualClock()
    ledger = Ledger(url, clock=clock)
    seconds = [70, 0.1, 0.2, 0.3, 5, 7, 9, 40, 50, 60]

    @ledger.task(retry=Retry(first=1))
    def runs(n: int) -> None:
        clock.advance(timedelta(seconds=seconds[n]))

    for n in range(len(seconds)):
        runs.enqueue(n)
        run_queue(ledger)
        clock.advance(timedelta(minutes=12))
    assert len(statistics(Reports(ledger), By.hour)) > 1
    [total] = statistics(Reports(ledger), By.name)
    assert total.run_max_ms == 70_000
    assert 7_000 <= (total.run_p50_ms or 0) <= 7_000 * 1.091
    assert 60_000 <= (total.run_p95_ms or 0) <= 70_000
    ledger.close()
