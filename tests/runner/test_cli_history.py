"""The commands that look back, as they are typed: history, stats with its charts and files, and the timeline of a task."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ledger import Ledger, Retry
from ledger.testing import ManualClock, run_queue
from tests.invoking import invoke


@pytest.fixture(scope="module")
def place(module_url: str) -> Iterator[tuple[Ledger, str]]:
    """A ledger with a task that failed twice, was retried by hand and succeeded, and one that waits; the first's id."""
    clock = ManualClock()
    ledger = Ledger(module_url, clock=clock)

    @ledger.task(queue="mail", max_attempts=2, retry=Retry(first=60))
    def send(to: str) -> None:
        clock.advance(timedelta(seconds=10))
        if ledger.current().attempt < 3:
            raise ConnectionError("no $\x1b[31m route$")

    @ledger.task(name="$x^2_$ <b>&")
    def odd() -> None: ...

    task = send.using(reason="as asked", actor="ann").enqueue(to="bob")
    run_queue(ledger, through_delays=True)
    clock.advance(timedelta(seconds=20))
    ledger.retry(task.id, reason="route is back", actor="eve")
    run_queue(ledger)
    odd.enqueue()
    run_queue(ledger)
    send.using(run_after=timedelta(hours=1)).enqueue(to="eve")
    yield ledger, task.id
    ledger.close()


def call(ledger: Ledger, *words: str, code: int = 0) -> str:
    done = invoke(["--url", ledger.url, *words])
    assert done.exit_code == code, done.output
    return done.output


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_history_as_a_table_and_as_json(place: tuple[Ledger, str]) -> None:
    """Newest first, with durations in seconds; nothing that a task says steers the terminal."""
    ledger, task_id = place
    heading, *lines = call(ledger, "history", "--filter", "name:send").splitlines()
    assert heading.split()[:3] == ["claimed", "at", "name"]
    assert [line.split()[1:5] for line in lines] == [
        ["send", "3", "succeeded", "10.000"],
        ["send", "2", "failed", "10.000"],
        ["send", "1", "failed", "10.000"],
    ]
    assert lines[1].endswith("ConnectionError: no $ route$")
    found = rows(call(ledger, "history", "--filter", 'name:send message:"no*" args.to:bob', "-o", "jsonl"))
    assert found == [], "quoted, a * means itself"
    found = rows(call(ledger, "history", "--filter", "name:send message:no* args.to:bob", "-o", "jsonl"))
    assert [(row["id"], row["attempt"], row["args"]) for row in found] == [(task_id, n, {"to": "bob"}) for n in (2, 1)]
    page = rows(call(ledger, "history", "--limit", "1", "--after", str(found[0]["position"]), "-o", "jsonl"))
    assert [row["attempt"] for row in page] == [1]
    assert call(ledger, "history", "--until", "2001-01-01") == "no attempts\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["history", "--filter", "name:send boom"], "filter, column 11: 'boom' is no term"),
        (["history", "--since", "soon"], "'soon' is no moment"),
        (["history", "--grep", ""], "the text to be found in output is empty"),
        (["stats", "--filter", "state:failed"], "there is no field 'state'; there are: name, queue, since, until"),
        (["stats", "--plot", "a.gif"], "its name ends with .svg or .png"),
        (["stats", "--plot", "none/a.svg"], "none/a.svg: No such file or directory"),
        (["stats", "--filter", "name:nobody", "--plot", "a.svg"], "there is nothing to draw"),
        (["task", "list", "--filter", "outcome:failed"], "filter, column 1: there is no field 'outcome'"),
        (["task", "cancel", "--filter", "  ", "--reason", "x"], "needs an id, a filter"),
    ],
)
def test_what_is_wrong_is_said(place: tuple[Ledger, str], words: list[str], said: str, tmp_path: Path) -> None:
    """A typed error with what is allowed, and nothing is done or written."""
    done = invoke(["--url", place[0].url, *words])
    assert done.exit_code != 0
    assert said in done.output


def test_one_filter_language_for_lists_and_changes(place: tuple[Ledger, str]) -> None:
    """`task list` and the changes of many take the terms that `export` and `history` take, beside their own flags."""
    ledger, task_id = place
    found = rows(call(ledger, "task", "list", "--filter", "args.to:bob", "-o", "jsonl"))
    assert [row["id"] for row in found] == [task_id]
    assert rows(call(ledger, "task", "list", "--name", "send", "--filter", "-args.to:bob,eve", "-o", "jsonl")) == []
    said = call(ledger, "task", "cancel", "--filter", "args.to:eve,bob", "--reason", "no more", "--dry-run")
    assert said == "1 task (1 send) would be cancelled\n"
    said = call(ledger, "task", "cancel", "--state", "waiting", "--filter", "args.to:bob", "--reason", "x", "--dry-run")
    assert said.startswith("0 tasks")


def test_statistics_as_tables_and_charts(place: tuple[Ledger, str]) -> None:
    """A row and two bars for each name, the busiest first, the longest bar that of the most."""
    ledger, _ = place
    text = call(ledger, "stats")
    lines = text.splitlines()
    assert lines[1].split()[:7] == ["send", "2", "3", "1", "1", "1", "66.7"]
    bars = lines[lines.index("attempts that ended") + 1 :]
    assert (bars[0].count("█"), bars[1].count("█")) == (40, 13)
    assert [bar.split()[-1] for bar in bars[:2]] == ["3", "1"]
    assert "66.7 %" in text
    [day] = rows(call(ledger, "stats", "--by", "day", "--filter", "queue:mail", "-o", "jsonl"))
    assert (day["day"], day["started"], day["run_max_ms"]) == ("2026-01-01", 3, 10_000.0)
    assert call(ledger, "stats", "--since", "2030-01-01") == "no hours\n"


def test_statistics_are_drawn(place: tuple[Ledger, str], tmp_path: Path) -> None:
    """SVG is XML that has the names as text, whatever they hold, and is the same each time; PNG is an image."""
    ledger, _ = place
    pictures = []
    for name in ("a.svg", "b.svg", "c.png"):
        assert call(ledger, "stats", "--plot", str(tmp_path / name)) == f"{tmp_path / name}: 2 names drawn\n"
        pictures.append((tmp_path / name).read_bytes())
    texts = {element.text for element in ET.fromstring(pictures[0]).iter("{http://www.w3.org/2000/svg}text")}
    assert {"send", "$x^2_$ <b>&", "attempts that ended", "without success, %"} <= texts
    assert pictures[0] == pictures[1]
    assert pictures[2].startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", pictures[2][16:24])
    assert min(width, height) > 300


def test_the_timeline_of_a_task(place: tuple[Ledger, str]) -> None:
    """Each wait, attempt and act in order, to scale, with who did it and why."""
    ledger, task_id = place
    found = rows(call(ledger, "task", "timeline", task_id, "-o", "jsonl"))
    assert [(span["what"], span["said"].split(", worker")[0]) for span in found] == [
        ("queued", "by user:ann: as asked"),
        ("attempt 1", "failed, ConnectionError: no $\x1b[31m route$"),
        ("not due", ""),
        ("attempt 2", "failed, ConnectionError: no $\x1b[31m route$"),
        ("retried", "by user:eve: route is back"),
        ("attempt 3", "succeeded"),
    ]
    heading, *lines = call(ledger, "task", "timeline", task_id).splitlines()
    assert heading == f"send, succeeded, task {task_id}"
    assert "\x1b" not in "".join(lines)
    drawn = [line.split("|")[1] for line in lines]
    # 110 s: 10 run, 60 wait for the retry, 10 run, 20 failed, 10 run.
    assert [len(bar) for bar in drawn] == [40] * 6
    assert [(bar.find(bar.strip()), len(bar.strip())) for bar in drawn] == [
        (0, 1), (0, 4), (4, 21), (25, 4), (36, 1), (36, 4),
    ]  # fmt: skip
    [waiting] = rows(call(ledger, "task", "list", "--state", "waiting", "-o", "jsonl"))
    spans = rows(call(ledger, "task", "timeline", waiting["id"], "-o", "jsonl"))
    assert [span["what"] for span in spans] == ["queued", "not due", "due"]
    moments = [datetime.fromisoformat(span["end"]) - datetime.fromisoformat(span["begin"]) for span in spans]
    assert moments[:2] == [timedelta(), timedelta(hours=1)] and moments[2] > timedelta()
    assert call(ledger, "task", "timeline", "01890a5d-ac96-774b-bcce-b302099a8057", code=3)
