"""Notices reach who wants them: by functions, commands and real mail, at least once, and never at the queue's cost."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, Notice, Task, deliveries
from ledger.clock import SystemClock
from ledger.deliveries import Delivery
from ledger.testing import ManualClock, memory_ledger, run_queue
from runner.logs import Log
from runner.mail import MailServer, compose
from runner.notices import deliver, hooks_of
from runner.options import RunOptions
from tests.processes import Command, call
from tests.runner.smtp_server import CERTIFICATE, mailbox

ROOT = Path(__file__).parents[2]
APP = "tests.runner.noticing:ledger"


class Place:
    """A ledger in a directory of its own, and the real command to work it."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.directory = directory
        self.ledger = Ledger(url or f"sqlite:///{directory}/work.db")
        self.environment = {
            **os.environ,
            "WORKLEDGER_URL": self.ledger.url,
            "WORKLEDGER_BEAT_SECONDS": "0.1",
            "WORKLEDGER_LEASE_SECONDS": "10",
            "PYTHONPATH": str(ROOT),
            "TEST_HERE": str(directory),
        }

    def call(self, *words: str, code: int = 0, **environment: str) -> str:
        """Run the command to its end and return what it printed."""
        done = call("--app", APP, *words, cwd=self.directory, env={**self.environment, **environment})
        assert done.returncode == code, done.stderr
        return done.stdout + (done.stderr if words[0] == "run" else "")

    def queue(self, name: str, *words: str) -> list[Task[Any]]:
        function = self.ledger.functions.get(name) or self.ledger.task(name=name, retry=False)(lambda word: None)
        return self.ledger.enqueue_many(function.call(word) for word in words)

    @contextmanager
    def running(self, *options: str, **environment: str) -> Iterator[Command]:
        """Run workers until the block ends."""
        words = ["--app", APP, "run", *options]
        with (self.directory / "log").open("wb") as log:
            process = Command(words, cwd=self.directory, env={**self.environment, **environment}, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()  # its workers leave when it is gone

    def told(self) -> list[dict[str, Any]]:
        path = self.directory / "told.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def deliveries(self) -> dict[str, Delivery]:
        with self.ledger.store.read() as snapshot:
            return {one.hook: one for one in deliveries.all_of(snapshot)}


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


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for another process to bring something about."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < deadline, "it did not come about"
        clock.sleep(0.02)


def smtp(port: int, **more: Any) -> dict[str, Any]:
    return {
        "smtp_host": "localhost",
        "smtp_port": port,
        "smtp_from": "a@example.org",
        "smtp_to": ("b@example.org",),
    } | more


def variables(settings: dict[str, Any]) -> dict[str, str]:
    """The settings as environment variables."""
    texts = {key: ",".join(value) if isinstance(value, tuple) else str(value) for key, value in settings.items()}
    return {f"WORKLEDGER_{key.upper()}": value for key, value in texts.items()}


def failing(**options: Any) -> tuple[Ledger, ManualClock, Callable[[str], Task[Any]]]:
    """A ledger in memory whose task fails for good, and a function that queues and runs it."""
    clock = ManualClock()
    ledger = memory_ledger(clock)

    def bad(word: str) -> None:
        raise ValueError(word)

    function = ledger.task(name="bad", retry=False, **options)(bad)

    def fail(word: str) -> Task[Any]:
        task = function.enqueue(word)
        run_queue(ledger)
        return task

    return ledger, clock, fail


def test_a_mail_tells_of_a_failed_task(place: Place) -> None:
    """It comes from a real worker, names the task in its subject, and has the command that shows its log."""
    with mailbox() as box:
        [task] = place.queue("bad", "cannot <be>")
        out = place.call("run", "--drain", code=1, **variables(smtp(box.port)))
        [mail] = box.mails

    assert "notices delivered" in out
    assert box.envelopes == [("a@example.org", ["b@example.org"])]
    assert mail["Subject"] == "Task failed: bad" and mail["To"] == "b@example.org"
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Message-ID"]
    text = mail.get_content()
    assert "failed for good: its one attempt is used; the last one failed with ValueError: cannot <be>" in text
    shown = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("workledger ")]
    assert [words[-3:] for words in shown] == [["task", "log", task.id], ["task", "show", task.id]]
    assert "failed" in place.call(*shown[0]) and "ValueError: cannot <be>" in place.call(*shown[1])


def test_a_mail_goes_encrypted_and_by_login(place: Place) -> None:
    """With smtp_starttls and smtp_user the password of the environment is said, over TLS only, to a known server."""
    with mailbox(with_login=True) as box:
        place.queue("bad", "x")
        given = variables(smtp(box.port, smtp_starttls=True, smtp_user="me"))
        trusted = {"SSL_CERT_FILE": str(CERTIFICATE), "WORKLEDGER_SMTP_PASSWORD": "right"}
        wrong = place.call("run", "--drain", code=1, **given, **{**trusted, "WORKLEDGER_SMTP_PASSWORD": "wrong"})
        assert "SMTPAuthenticationError" in wrong and box.mails == []
        assert place.deliveries()["smtp"].failures == 1
        with place.ledger.store.write() as unit:
            unit.run("UPDATE deliveries SET next_us = 0")
        place.call("run", "--drain", **given, **trusted)
        assert [mail["Subject"] for mail in box.mails] == ["Task failed: bad"]
        place.queue("bad", "y")
        unknown = place.call("run", "--drain", code=1, **given, WORKLEDGER_SMTP_PASSWORD="right")

    assert (b"me", b"right", True) in box.logins and all(encrypted for _, _, encrypted in box.logins)
    assert "certificate verify failed" in unknown and len(box.mails) == 1
    assert "wrong" not in json.dumps(place.ledger.get(place.queue("good", "z")[0].id).record.summary(), default=str)


def test_a_server_that_is_down_or_refuses_is_tried_again() -> None:
    """Nothing is lost while no server answers or it says no: it is tried after 10 s, 20 s, then all comes in one mail."""
    ledger, clock, fail = failing()
    log = Log("json")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        hooks = hooks_of(ledger, RunOptions(**smtp(taken.getsockname()[1])))
        with ledger.store.write() as unit:
            deliveries.begin(unit, ["smtp"])
        fail("one")
        assert deliver(ledger, hooks, "w1", log) == {}
    with mailbox() as box:
        hooks = hooks_of(ledger, RunOptions(**smtp(box.port)))
        box.refuses = True
        clock.advance(timedelta(seconds=10))
        assert deliver(ledger, hooks, "w1", log) == {}
        with ledger.store.read() as snapshot:
            [row] = deliveries.all_of(snapshot)
        assert row.failures == 2 and row.error is not None and "come again later" in row.error
        box.refuses = False
        fail("two")
        clock.advance(timedelta(seconds=19))
        assert deliver(ledger, hooks, "w1", log) == {}, "its pause is not over"
        clock.advance(timedelta(seconds=1))
        assert deliver(ledger, hooks, "w1", log) == {"smtp": 2}
        assert deliver(ledger, hooks, "w1", log) == {}

    [mail] = box.mails
    assert mail["Subject"] == "2 notices: bad"
    assert "ValueError: one" in mail.get_content() and "ValueError: two" in mail.get_content()


def notice(number: int = 1, **changes: Any) -> Notice:
    fields: dict[str, Any] = {
        "position": number,
        "at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "kind": "out_of_attempts",
        "about": f"task:{number}",
        "name": "übung",
        "text": "failed",
        "details": {},
    }
    return Notice(**(fields | changes))


def test_many_notices_are_a_mail_that_can_be_read() -> None:
    """Fifty are told, the rest counted; names of any script and of any length make a subject of one line."""
    server = MailServer(host="h", port=25, sender="a@example.org", to=["b@example.org", "c@example.org"])
    mail = compose(server, [notice(number, name=f"{number}{'ü' * 190}") for number in range(53)], "sqlite:///work.db")

    assert mail["To"] == "b@example.org, c@example.org"
    assert mail["Subject"].startswith("53 notices: 0ü") and len(mail["Subject"]) == 200 and mail["Subject"][-1] == "…"
    assert mail.get_content().count("Task failed: ") == 50
    assert mail.get_content().endswith("and 3 more: workledger --url sqlite:///work.db notices\n")
    about = compose(server, [notice(kind="schedule_overdue", about="schedule:nightly", name="nightly")], "u")
    assert about["Subject"] == "Schedule overdue: nightly"
    assert "workledger --url u schedule history nightly" in about.get_content()
    assert b"\n\n" in bytes(about) and bytes(compose(server, [notice()], "u"))


def test_workers_share_the_deliveries(each_place: Place) -> None:
    """With three workers a function is told of each failure once and in order, and of all before a drained run ends."""
    tasks = each_place.queue("bad", *map(str, range(60)))
    each_place.call("run", "--drain", "--workers", "3", code=1, TEST_HOOK="plain")
    told = each_place.told()

    assert len(told) == 60
    assert {one["about"] for one in told} == {f"task:{task.id}" for task in tasks}
    assert [one["position"] for one in told] == sorted(one["position"] for one in told)


def test_a_slow_hook_holds_up_nothing(each_place: Place) -> None:
    """While a hook hangs, tasks queued after it are worked, and its worker keeps its leases; then it is told the rest."""
    each_place.queue("bad", "one")
    with each_place.running("--workers", "1", TEST_HOOK="slow"):
        until(lambda: each_place.deliveries() and all(one.worker for one in each_place.deliveries().values()))
        after = each_place.queue("good", *map(str, range(50)))
        each_place.queue("bad", "two")
        until(lambda: all(task.state == "succeeded" for task in after))
        assert each_place.told() == []
        (each_place.directory / "go").touch()
        until(lambda: len(each_place.told()) == 2)

    assert len({one["pid"] for one in each_place.told()}) == 1


def test_who_takes_and_dies_leaves_it_to_another() -> None:
    """What a worker took and never told of is another's two minutes later, not before: at least once, not lost."""
    ledger, clock, fail = failing()
    given: list[Notice] = []
    ledger.on_notice(given.append)
    run_queue(ledger)
    [hook] = hooks_of(ledger)
    calls, ledger.notice_hooks = dict(ledger.notice_hooks), {}
    fail("x")
    ledger.notice_hooks = calls
    with ledger.store.write() as unit:
        taken, version = deliveries.take(unit, hook.name, "dead", 1)
    assert len(taken) == 1 and version > 0
    clock.advance(timedelta(seconds=119))
    run_queue(ledger)
    assert given == []
    clock.advance(timedelta(seconds=1))
    run_queue(ledger)
    assert given == taken
    with ledger.store.write() as unit:  # the first one was only slow: what it tells now changes nothing
        deliveries.done(unit, hook.name, version)
        deliveries.failed(unit, hook.name, "dead", "late")
    run_queue(ledger)
    assert given == taken


def test_a_command_gets_each_notice_as_json(place: Place) -> None:
    """One run a notice, the notice on its standard input; what it says when it fails is in the log and kept."""
    script = place.directory / "page.py"
    script.write_text(
        "import sys\n"
        "text = sys.stdin.read()\n"
        "if 'refuse' in text:\n"
        "    print('pager is down')\n"
        "    sys.exit(3)\n"
        "open(sys.argv[1], 'a').write(text)\n"
    )
    command = json.dumps([sys.executable, str(script), str(place.directory / "paged")])
    first, second, refused = place.queue("bad", "one", "two", "refuse")
    out = place.call("run", "--drain", "--threads", "1", code=1, WORKLEDGER_NOTICE_COMMAND=command)
    paged = [json.loads(line) for line in (place.directory / "paged").read_text().splitlines()]

    assert [one["about"] for one in paged] == [f"task:{first.id}", f"task:{second.id}"]
    assert paged[0].keys() == {"position", "at", "kind", "about", "name", "text", "details"}
    assert paged[0]["kind"] == "out_of_attempts" and paged[0]["details"] == {"attempt": 1, "attempts_used": 1}
    assert "pager is down" in out and "again_in_seconds=10" in out
    row = place.deliveries()["command"]
    assert row.failures == 1 and row.error is not None and row.error.endswith("ended with 3: pager is down")
    assert refused.state == "failed"


def test_a_command_that_is_not_there_is_a_failure_like_others(place: Place) -> None:
    """A wrong path is logged and tried again; the queue does not notice."""
    place.queue("bad", "one")
    [good] = place.queue("good", "two")
    out = place.call("run", "--drain", code=1, WORKLEDGER_NOTICE_COMMAND='["/nowhere/at-all"]')

    assert "FileNotFoundError" in out and good.state == "succeeded"


def test_notices_are_listed(place: Place) -> None:
    """The command lists them, oldest first, by kind, name, subject and time; also as JSON."""
    one, two = place.queue("bad", "one", "two")
    assert place.call("notices") == "no notices\n"
    place.call("run", "--drain", "--threads", "1", code=1)
    listed = json.loads(place.call("notices", "-o", "json"))

    assert [row["about"] for row in listed] == [f"task:{one.id}", f"task:{two.id}"]
    assert listed[0]["name"] == "bad" and listed[0]["kind"] == "out_of_attempts"
    lines = place.call("notices").splitlines()
    assert len(lines) == 2 and f"out_of_attempts  bad ({two.id}): failed for good" in lines[1]
    assert lines[1].endswith("ValueError: two")
    for words, count in (
        (("--kind", "out_of_attempts"), 2),
        (("--kind", "delay_at_cap"), 0),
        (("--name", "bad"), 2),
        (("--name", "good"), 0),
        (("--about", one.id), 1),
        (("--about", f"task:{two.id}"), 1),
        (("--about", "bad"), 0),
        (("--since", "2020-01-01"), 2),
        (("--since", "2099-01-01"), 0),
        (("--limit", "1"), 1),
    ):
        assert len(json.loads(place.call("notices", *words, "-o", "json"))) == count, words
    assert json.loads(place.call("notices", "--limit", "1", "-o", "jsonl"))["about"] == f"task:{two.id}"
    place.call("notices", "--kind", "fire", code=2)
