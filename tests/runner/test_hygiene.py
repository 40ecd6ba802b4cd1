"""What a task changes of its worker's process, no later task finds: restored, or the worker is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger, Task
from tests.faults.setup import Site, wait_until
from tests.runner.guest_app import LEAVES, declare

APP = "tests.runner.guest_app:ledger"
REPLACED = {"signal_handler", "ignored_signal"}
"""What can only be done away with by another process."""
REFUSED = {"nothing"}
"""What Python refuses to threads."""


class Guest(Site):
    """A directory with a ledger whose tasks leave things behind."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.own = declare(Ledger(f"sqlite:///{self.database}"))

    def queue(self, name: str, *args: Any, **options: Any) -> Task[Any]:
        function: Any = self.own.functions[name]
        return function.using(**options).enqueue(*args)

    def work(self, *words: str, code: int | None = 0) -> None:
        found = self.drain(*words, app=APP)
        assert code is None or found == code, self.logs()

    def workers(self) -> int:
        return self.count("WorkerStarted")


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    found = Guest(tmp_path)
    yield found
    found.own.close()
    found.close()


def found_by(task: Task[Any]) -> dict[str, Any]:
    """What a task found, but for the process that it ran in."""
    result = dict(task.result(timeout=0))
    del result["pid"]
    return result


@pytest.mark.parametrize("name", ["leave", "leave_async"])
def test_nothing_that_a_task_leaves_behind_reaches_the_next(guest: Guest, name: str) -> None:
    """On one thread: whatever is left, by success or failure, the task after it finds everything as the first did."""
    whats = sorted(LEAVES.keys() - REPLACED)
    first = guest.queue("look")
    tasks = [(guest.queue(name, what), guest.queue("look")) for what in whats]
    if name == "leave":
        tasks += [(guest.queue(name, what, True), guest.queue("look")) for what in whats]
    guest.work("--threads", "1", code=1)

    expected = found_by(first)
    assert expected["directory"] == str(guest.directory) and expected["environment"][0] == "as it was"
    for left, look in tasks:
        what = left.record.queued.args["what"]
        assert found_by(look) == expected, what
        assert left.state == ("failed" if left.record.queued.args.get("fails") or what in REFUSED else "succeeded")
    assert guest.workers() == 1
    assert "a task left the process changed" in guest.logs() and "umask" in guest.logs()


@pytest.mark.parametrize("what", sorted(REPLACED))
def test_a_worker_that_cannot_be_restored_is_replaced(guest: Guest, what: str) -> None:
    """It takes no other task; the next one runs in a fresh process, and finds everything as it was."""
    first, left = guest.queue("look"), guest.queue("leave", what)
    looks = [guest.queue("look") for _ in range(3)]
    guest.work("--threads", "1")

    assert left.state == "succeeded"
    pids = {task.result(timeout=0)["pid"] for task in looks}
    assert first.result(timeout=0)["pid"] not in pids
    assert [found_by(task) for task in looks] == [found_by(first)] * 3
    assert guest.workers() == 2 == guest.count("WorkerStopped")
    assert guest.count_where("topic = 'WorkerStopped.v1' AND CAST(state AS TEXT) LIKE '%to be replaced%'") == 1
    assert guest.count("AttemptLost") == guest.count("TaskFailed") == 0


def test_a_process_of_its_own_keeps_everything_to_itself(guest: Guest) -> None:
    """Isolated attempts may change all of it, handlers too; the next one, and the worker, begin as the first did."""
    tasks = [guest.queue("leave_isolated", what) for what in sorted(LEAVES) for _ in range(2)]
    looks = [guest.queue("look"), guest.queue("look")]
    guest.work("--threads", "1")

    states = [task.result(timeout=0) for task in tasks]
    assert all(state == states[0] for state in states)
    assert found_by(looks[0]) == found_by(looks[1])
    assert guest.workers() == 1


def test_a_change_is_left_to_the_attempt_that_made_it_while_it_runs(guest: Guest) -> None:
    """Others may end meanwhile and touch nothing of it; at its own end it is restored."""
    first, then = str(guest.directory / "first"), str(guest.directory / "then")
    changer = guest.queue("keep_changed", first, then)
    with_others = guest.command("run", "--threads", "2", app=APP)
    wait_until(lambda: Path(first).exists(), "the directory is changed", guest)
    others = [guest.queue("look") for _ in range(20)]
    wait_until(lambda: all(task.state == "succeeded" for task in others), "others have run", guest)
    Path(then).touch()
    wait_until(lambda: changer.state == "succeeded", "it has ended", guest)
    after = guest.queue("look")
    wait_until(lambda: after.state == "succeeded", "one more has run", guest)
    with_others.terminate()
    guest.finish(with_others)

    assert changer.result(timeout=0) == ["/"]
    assert found_by(after)["directory"] == str(guest.directory)
    assert guest.workers() == 1


def test_a_change_of_an_ended_attempt_is_restored_although_others_run(guest: Guest) -> None:
    """Who made it is known, so nobody else's is touched; nobody waits for the others, and no worker is replaced."""
    first, then = str(guest.directory / "first"), str(guest.directory / "then")
    waiting = guest.queue("wait", first, then)
    run = guest.command("run", "--threads", "2", app=APP)
    wait_until(lambda: Path(first).exists(), "one waits", guest)
    looks = []
    for what in ("directory", "umask", "environment", "locale", "timer"):
        left = guest.queue("leave", what)
        wait_until(lambda left=left: left.state == "succeeded", "it has left something", guest)  # type: ignore[misc]
        looks.append(guest.queue("look"))
        wait_until(lambda: looks[-1].state == "succeeded", "another has looked", guest)
    Path(then).touch()
    wait_until(lambda: waiting.state == "succeeded", "it has ended", guest)
    looks.append(guest.queue("look"))
    wait_until(lambda: looks[-1].state == "succeeded", "the last has looked", guest)
    run.terminate()
    guest.finish(run)

    assert all(found_by(look) == found_by(looks[-1]) for look in looks)
    assert found_by(looks[-1])["directory"] == str(guest.directory)
    assert guest.workers() == 1


def test_a_change_of_which_nobody_knows_whose_it_is_replaces_the_worker(guest: Guest) -> None:
    """It finishes what it runs and takes no other; a fresh one goes on, and nothing is lost or failed by it."""
    first, then = str(guest.directory / "first"), str(guest.directory / "then")
    waiting = guest.queue("wait", first, then)
    run = guest.command("run", "--threads", "2", app=APP)
    wait_until(lambda: Path(first).exists(), "one waits", guest)
    left = guest.queue("leave", "directory_past_python")
    wait_until(lambda: left.state == "succeeded", "it has left something", guest)
    look = guest.queue("look")
    Path(then).touch()
    wait_until(lambda: look.state == "succeeded", "another has looked", guest)
    run.terminate()
    guest.finish(run)

    assert found_by(look)["directory"] == str(guest.directory)
    assert (waiting.state, guest.workers()) == ("succeeded", 2)
    assert guest.count("AttemptLost") == guest.count("TaskFailed") == 0


def test_a_transaction_left_open_holds_up_neither_worker_nor_database(guest: Guest) -> None:
    """The attempt fails, what it queued inside is not there, and the same worker runs the next task."""
    left, look = guest.queue("left_open"), guest.queue("look")
    guest.work("--threads", "1", code=1)

    error = left.record.error
    assert error is not None and error["type"] == "ledger.errors.TransactionLeftOpen"
    assert look.state == "succeeded" and guest.count("TaskQueued") == 2 and guest.workers() == 1


def test_threads_act_for_themselves_and_hand_it_on(guest: Guest) -> None:
    """Four attempts at once act as four users; a thread begun in a block inherits it; each is itself again after it."""
    tasks = {name: guest.queue("acts", name, 4, run_as="self") for name in ("ann", "ben", "cem", "dot")}
    guest.work("--threads", "4")

    for name, task in tasks.items():
        assert task.result(timeout=0) == [name, name, "self"]
        assert task.attempts[0].acted_as == (name,)
