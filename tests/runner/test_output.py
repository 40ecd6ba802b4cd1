"""What tasks print: kept with the attempt wherever it came from, bounded, shown safely, and checked against the log."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Ledger, Task
from ledger.clock import SystemClock
from ledger.current import Current, reset_current, set_current
from ledger.output import Chunk, digest_of, lines_of
from ledger.signals import OutputLimit
from runner.output import TaskStream
from runner.recorder import Recorder
from tests.databases import execute, replaced
from tests.processes import Command, call

ROOT = Path(__file__).parents[2]


class Place:
    """A ledger in a directory of its own, and the real command to work it."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.directory = directory
        self.ledger = Ledger(url or f"sqlite:///{directory}/work.db")
        self.environment = {
            **os.environ,
            "WORKLEDGER_URL": self.ledger.url,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8:backslashreplace",
        }

    def call(self, *words: str, code: int = 0) -> str:
        """Run the command to its end and return what it printed."""
        done = call("--app", "tests.runner.printing:ledger", *words, cwd=self.directory, env=self.environment)
        assert done.returncode == code, done.stderr
        return done.stdout

    def queue(self, name: str, **arguments: Any) -> Task[Any]:
        """Queue a task by the command and return it."""
        found = json.loads(self.call("enqueue", name, "--args", json.dumps(arguments), "-o", "json"))
        return self.ledger.get(found["id"])

    @contextmanager
    def running(self, *options: str) -> Iterator[Command]:
        """Run workers until the block ends."""
        words = ["--app", "tests.runner.printing:ledger", "run", *options]
        with Command(words, cwd=self.directory, env=self.environment, stderr=subprocess.DEVNULL) as process:
            try:
                yield process
            finally:
                process.terminate()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.ledger.close()


@pytest.fixture
def each_place(tmp_path: Path, url: str) -> Iterator[Place]:
    """A place on each kind of database: for what rests on the store."""
    found = Place(tmp_path, url)
    yield found
    found.ledger.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for another process to bring something about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        SystemClock().sleep(0.02)


def texts(task: Task[Any], stream: str | None = None) -> list[str]:
    return [line.text for line in task.output() if stream in (None, line.stream)]


def test_both_streams_are_kept_line_by_line(each_place: Place) -> None:
    """Lines come whole and in order, with their stream; the outcome has their digest, and what was used."""
    task = each_place.queue("plain", word="you")
    each_place.call("run", "--drain")

    assert texts(task, "stdout") == [
        "hello you",
        "in parts",
        "traced 1",
        "\x1b[31mred\x1b[0m \x1b]0;title\x07 \\ud800",
        "no end",
    ]
    assert texts(task, "stderr") == ["careful"]
    [attempt] = task.attempts
    text = b"hello you\ncareful\nin parts\ntraced 1\n\x1b[31mred\x1b[0m \x1b]0;title\x07 \\ud800\nno end"
    assert attempt.output == {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text), "lines": 5}
    assert attempt.usage is not None and attempt.usage["peak_rss_bytes"] > 1_000_000
    moments = [line.at for line in task.output()]
    assert moments == sorted(moments) and task.record.queued.at < moments[0] < attempt.ended_at


def test_buffers_of_the_task_are_its_own(place: Place) -> None:
    """What it prints into a buffer is kept only if it prints it again (vectors 119 and 120)."""
    task = place.queue("buffers")
    place.call("run", "--drain")

    assert texts(task) == ["passed on"]


def test_logging_is_kept(place: Place) -> None:
    """Records reach the attempt by a default handler, and by handlers made before the worker was."""
    task = place.queue("logs")
    place.call("run", "--drain")

    assert texts(task, "stderr") == ["INFO mine: by the root", "by its own handler"]


def test_threads_pools_commands_and_forks_print_to_their_attempt(place: Place) -> None:
    """Four attempts at once, on threads of one process: each has what it caused and nothing of the others'."""
    tasks = {word: place.queue("elsewhere", word=word) for word in ("one", "two", "three", "four")}
    place.call("run", "--drain", "--threads", "4")

    for word, task in tasks.items():
        lines = sorted([f"task {word}", f"thread {word}", f"pool {word}", f"command {word}", f"forked {word}"])
        assert sorted(texts(task, "stdout")) == lines
        assert texts(task, "stderr") == ["bad"]


def test_async_tasks_keep_what_is_theirs(place: Place) -> None:
    """Coroutines of one loop, and commands they run, print to their own attempts."""
    tasks = {word: place.queue("asynchronous", word=word) for word in ("one", "two", "three")}
    place.call("run", "--drain")

    for word, task in tasks.items():
        assert texts(task) == [f"before {word}", f"command {word}", f"after {word}"]


def test_of_much_output_the_two_ends_are_kept(place: Place) -> None:
    """Beyond the limit the middle is dropped and counted; what is kept has the digest of the outcome."""
    place.environment["WORKLEDGER_OUTPUT_KEEP"] = str(256 * 1024)
    task = place.queue("much", lines=20_000)
    place.call("run", "--drain")
    numbers = [int(line) for line in texts(task)]
    [attempt] = task.attempts
    kept, said = "".join(f"{number:099}\n" for number in numbers).encode(), attempt.output or {}

    assert numbers[0] == 0 and numbers[-1] == 19_999 and len(numbers) < 20_000
    assert [b - a for a, b in pairwise(numbers) if b != a + 1] == [20_000 - len(numbers) + 1]
    assert 200 * 1024 < len(kept) <= 256 * 1024
    assert said["sha256"] == hashlib.sha256(kept).hexdigest() and said["bytes"] == len(kept)
    assert said["dropped_bytes"] == 2_000_000 - len(kept) and said["dropped_lines"] == 20_000 - len(numbers)
    assert f"{said['dropped_bytes']:,} bytes dropped" in place.call("task", "log", task.id)


def test_failed_attempts_keep_their_output(place: Place) -> None:
    """What was printed before the error is there."""
    task = place.queue("fails")
    place.call("run", "--drain", code=1)

    assert task.state == "failed" and texts(task) == ["soon"]


def test_a_task_may_keep_less(each_place: Place) -> None:
    """output="failures" keeps nothing of a success, output="none" nothing at all; neither has a digest then."""
    well, badly, never = (
        each_place.queue("quiet", fail=False),
        each_place.queue("quiet", fail=True),
        each_place.queue("silent"),
    )
    each_place.call("run", "--max-tasks", "3", code=1)

    assert [texts(task) for task in (well, badly, never)] == [[], ["quiet"], []]
    assert [task.attempts[0].output is None for task in (well, badly, never)] == [True, False, True]


def test_what_was_stored_of_a_success_that_keeps_nothing_goes_with_its_end(each_place: Place) -> None:
    """A running attempt can be followed; at its success the stored lines are deleted."""
    flag = each_place.directory / "flag"
    task = each_place.queue("quiet", fail=False, wait_for=str(flag))
    with each_place.running():
        until(lambda: texts(task) == ["quiet"])
        flag.touch()
        until(lambda: task.state == "succeeded")

    assert texts(task) == []


def test_a_running_attempt_can_be_followed(each_place: Place) -> None:
    """`task log -f` waits for the attempt, shows lines as they come and ends with it."""
    flag = each_place.directory / "flag"
    task = each_place.queue("waits", path=str(flag))
    command = [sys.executable, "-m", "runner.cli", "task", "log", task.id, "-f"]
    with subprocess.Popen(command, env=each_place.environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        with each_place.running():
            lines = [follower.stdout.readline() for _ in range(2)]
            assert "attempt 1 of waits" in lines[0] and lines[1].endswith("out first\n") and task.state == "running"
            flag.touch()
            rest = follower.stdout.read().splitlines()
        assert follower.wait(timeout=30) == 0

    assert rest[0].endswith("out second") and "succeeded, after " in rest[1]


def test_a_worker_that_dies_leaves_what_its_attempt_printed(each_place: Place) -> None:
    """Output stored while the attempt ran outlives the process."""
    flag = each_place.directory / "flag"
    task = each_place.queue("waits", path=str(flag), dies=True)
    with each_place.running():
        until(lambda: texts(task) == ["first"])
        flag.touch()
        until(lambda: task.attempts[0].outcome == "lost")

    assert texts(task) == ["first"]


def test_output_is_shown_safely_and_as_json(place: Place) -> None:
    """In a pipe no escape sequence is left; JSON has the text as it was, escaped."""
    task = place.queue("plain", word="you")
    place.call("run", "--drain")
    shown = place.call("task", "log", task.id)
    lines = [json.loads(line) for line in place.call("task", "log", task.id, "-o", "jsonl").splitlines()]
    whole = json.loads(place.call("task", "log", task.id, "-o", "json"))

    assert "\x1b" not in shown and "\x07" not in shown and "out red" in shown
    assert [line["text"] for line in lines] == texts(task) and lines == whole["lines"]
    assert whole["outcome"] == "succeeded" and whole["output"]["lines"] == 5
    assert place.call("task", "log", task.id, "--attempt", "2", code=3) == ""


def test_check_finds_changed_output(each_place: Place) -> None:
    """`db check` names the attempt whose stored output is not what its outcome says, and one whose output is gone."""
    changed, gone = each_place.queue("plain", word="one"), each_place.queue("plain", word="two")
    each_place.call("run", "--drain")
    each_place.call("db", "check")
    execute(
        each_place.ledger,
        f"UPDATE output SET body = {replaced(each_place.ledger, 'body', 'hello', 'jello')} WHERE task_id = '{changed.id}'",
        f"DELETE FROM output WHERE task_id = '{gone.id}'",
    )

    said = each_place.call("db", "check", code=1)
    assert f"the output of attempt 1 of task {changed.id} is not what its outcome says" in said
    assert f"the output of attempt 1 of task {gone.id} is missing" in said


def test_each_attempt_has_a_bound_of_its_own() -> None:
    """What goes beyond the bound is dropped and raises, again at every print; other attempts are not touched."""
    passed_on = io.StringIO()
    stream = TaskStream("stdout", passed_on, 10, lambda _, text: passed_on.write(text) and None)
    stream.write("x" * 100)  # outside a task there is no bound
    for number in (1, 2):
        token = set_current(Current(task_id="t", name="n", attempt=number, run_as="system", worker="w"))
        stream.write("0123456789")
        for _ in range(2):
            with pytest.raises(OutputLimit, match="more than 10 characters"):
                stream.write("a")
        reset_current(token)
    assert passed_on.getvalue() == "x" * 100 + "0123456789" * 2


TEXTS = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(alphabet="aé\n\ud800", max_size=50)), max_size=40
)


@given(TEXTS, st.integers(64, 400), st.lists(st.booleans(), max_size=40))
@settings(deadline=None)
def test_what_is_stored_in_steps_is_what_was_printed(texts: Any, keep: int, stores: list[bool]) -> None:
    """Whatever is printed and whenever it is stored, failed attempts to store included: the rows have the two ends."""
    recorder, rows = Recorder(keep, SystemClock()), {}
    for (stream, text), does_store in zip(texts, stores + [False] * len(texts), strict=False):
        recorder.write(stream, text)
        try:
            with recorder.changes() as printed:
                if not does_store:
                    raise ConnectionError
                rows |= dict(printed.chunks)
                rows = {number: found for number, found in rows.items() if number not in printed.dropped}
        except ConnectionError:
            pass
    last = recorder.close(is_kept=True)
    if last is None:
        assert not any(text for _, text in texts)
        return
    rows |= dict(last.chunks)
    rows = {number: found for number, found in sorted(rows.items()) if number not in last.dropped}
    kept = [text for entries in rows.values() for _, _, text in entries]
    digest = last.digest or {}

    assert (
        digest["sha256"]
        == digest_of(map(Chunk._make, rows.items()))
        == hashlib.sha256("".join(kept).encode()).hexdigest()
    )
    assert digest["bytes"] == len("".join(kept).encode())
    assert (
        digest["lines"]
        == sum(text.count("\n") for text in kept)
        == len(list(lines_of(map(Chunk._make, rows.items())))) - sum(not text.endswith("\n") for text in kept)
    )
    for stream in ("stdout", "stderr"):
        whole = "".join(text for to, text in texts if to == stream).encode("utf-8", "backslashreplace").decode()
        mine = "".join(text for entries in rows.values() for _, to, text in entries if to == stream)
        if not digest.get("dropped_bytes"):
            assert mine == whole
        else:
            assert len(mine) <= len(whole)
    everything = sum(len(text.encode("utf-8", "backslashreplace")) for _, text in texts)
    assert digest["bytes"] + digest.get("dropped_bytes", 0) == everything
