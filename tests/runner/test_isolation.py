"""Attempts in processes of their own: fresh, bounded, heard, and gone when they must be, without harm to their worker."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger, OSUsers, Task
from ledger.testing import memory_ledger, run_queue
from runner.frames import Marked
from runner.isolation import MARK
from tests.faults.setup import LEASES, Site, wait_until, workers_of
from tests.processes import Command
from tests.runner.isolated_app import MIB, PACKETS, declare, signals_of_a_command

APP = "tests.runner.isolated_app:ledger"
NOBODY = pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")


class House(Site):
    """A directory with a ledger whose tasks run in processes of their own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.own = declare(Ledger(f"sqlite:///{self.database}"))

    def queue(self, name: str, *args: Any, **options: Any) -> Task[Any]:
        function: Any = self.own.functions[name]
        return function.using(**options).enqueue(*args)

    def work(self, *words: str, code: int = 0, **environment: str) -> None:
        assert self.drain(*words, app=APP, **environment) == code, self.logs()

    def run(self, *words: str) -> Command:
        return self.command("run", *words, app=APP, **LEASES)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def pid_in(self, name: str) -> int:
        """The process that an attempt has written to a file of this name."""
        path = Path(self.path(name))
        wait_until(lambda: path.exists() and path.read_text(), "an attempt has begun", self)
        return int(path.read_text().split()[0])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.own.close()
    found.close()


def texts(task: Task[Any], stream: str | None = None) -> list[str]:
    return [line.text for line in task.output() if stream in (None, line.stream)]


def error_of(task: Task[Any]) -> str:
    error = task.record.error
    assert task.state == "failed" and error is not None
    return f"{error['type']}: {error['message']}"


def is_gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


# What it is


def test_each_attempt_has_a_fresh_process(house: House) -> None:
    """None is used twice, none is the worker's; it has one thread, no input, randomness of its own, and its attempt."""
    tasks = [house.queue("where", number) for number in range(12)]
    coroutine, plain = house.queue("asynchronous"), house.queue("plain")
    house.work()

    found = [task.result(timeout=0) for task in tasks]
    pids = {one["pid"] for one in found} | {coroutine.result(timeout=0), plain.result(timeout=0)}
    assert len(pids) == 14 and len({one["random"] for one in found}) == 12
    for number, one in enumerate(found):
        assert (one["number"], one["threads"], one["stdin"]) == (number, 1, "")
        assert one["token"] and one["is_isolated"]
        for theirs, ours in zip(one["signals"], signals_of_a_command(), strict=True):
            assert not int(theirs, 16) & ~int(ours, 16), "commands are born with no more ignored or blocked than ours"
        assert one["command"] == ["0", "1", "2", "3"], "commands get the standard streams alone (and what ls opens)"
    assert texts(coroutine) == ["in a loop"]
    assert all(is_gone(pid) for pid in pids)


def test_it_works_where_the_worker_has_no_input(house: House) -> None:
    """A service may be started with a closed standard input, whose place no line of an attempt may take."""
    task = house.queue("where", 1)
    words = [sys.executable, "-m", "runner.cli", "--app", APP, "run", "--drain"]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *words]
    done = subprocess.run(
        closed, cwd=house.directory, env=house.environment, capture_output=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert task.result(timeout=0)["stdin"] == ""


def test_everything_that_it_prints_is_kept_in_order(house: House) -> None:
    """Python's streams, logging, threads, forks, commands, and what goes past Python to the descriptors."""
    task = house.queue("prints")
    house.work()

    words = ["one", "two", "three", "four", "WARNING mine: five", "six", "seven", "eight", "nine"]
    assert texts(task) == [*words, "ten \\ud800 \x1b[31m"]
    assert texts(task, "stderr") == ["three", "four", "WARNING mine: five"]
    [attempt] = task.attempts
    assert attempt.output is not None and attempt.output["lines"] == 9
    assert "six" in house.logs(), "it is echoed by the worker"


def test_output_that_waited_is_still_in_order(house: House) -> None:
    """Also where the worker was frozen while it was printed, and finds all of it in its pipes at once."""
    paths = [house.path(name) for name in ("first", "then", "done")]
    task = house.queue("prints_unheard", *paths)
    run = house.command("run", "--drain", app=APP)
    wait_until(Path(paths[0]).exists, "it has begun", house)
    [worker] = workers_of(run)
    os.kill(worker, signal.SIGSTOP)
    Path(paths[1]).touch()
    wait_until(Path(paths[2]).exists, "it has printed", house)
    os.kill(worker, signal.SIGCONT)

    assert house.finish(run) == 0
    found = texts(task)
    assert [text for text in found if "error" not in text] == [
        f"{by} {n}" for n in range(3) for by in ("python", "shell")
    ]
    assert [text for text in found if "shell" not in text] == [
        f"{to} {n}" for n in range(3) for to in ("python", "error")
    ]


@given(st.lists(st.text("mark\n", max_size=9), min_size=1, max_size=6), st.lists(st.integers(1, 9)))
def test_bytes_between_marks_come_between_packets(parts: list[str], sizes: list[int]) -> None:
    """However a pipe is read, bytes are given in order, none before the packet that they come after, and no mark."""
    parts = [part.replace("mark", "") for part in parts]
    data, got = "mark".join(parts).encode(), b""

    def take(piece: bytes) -> None:
        nonlocal got
        got += piece

    found, passed, whole = Marked(b"mark", take), 0, data.count(b"mark")
    expected = data.split(b"mark")
    for size in [*sizes, len(data) + 1]:
        found.feed(data[:size])
        data = data[size:]
        assert b"".join(expected[: passed + 1]).startswith(got)
        while found.pass_mark():
            passed += 1
            found.feed(b"")
    found.end()

    assert (got, passed) == (b"".join(expected), whole)


@given(st.text("a \n\r\t\0é\u00ff€\U0010ffff"))
def test_no_text_is_held_back_for_a_mark(text: str) -> None:
    """What ends as a mark begins waits for more; no text does, so that a line is seen when it is printed."""
    got: list[bytes] = []
    Marked(MARK + b"0123456789", got.append).feed(text.encode("utf-8", "replace"))

    assert b"".join(got) == text.encode("utf-8", "replace")


def test_output_is_bounded_and_kept_as_the_task_says(house: House) -> None:
    """Of much the two ends; of a success that keeps nothing, nothing; too much fails the attempt."""
    much, well, badly = house.queue("prints_much", 2), house.queue("quiet", False), house.queue("quiet", True)
    limits = {"WORKLEDGER_OUTPUT_KEEP": str(MIB), "WORKLEDGER_OUTPUT_ECHO": "false"}
    house.work(code=1, **limits)
    too_much = house.queue("prints_much", 3)
    house.work(code=1, WORKLEDGER_OUTPUT_LIMIT=str(MIB), WORKLEDGER_OUTPUT_ECHO="false")

    [attempt] = much.attempts
    assert attempt.output is not None and attempt.output["bytes"] + attempt.output["dropped_bytes"] == 2 * 1_000_000
    assert attempt.output["bytes"] <= MIB
    assert (texts(well), texts(badly)) == ([], ["quiet"])
    assert error_of(too_much).startswith("OutputLimit")


def test_its_own_use_is_recorded(house: House) -> None:
    """CPU and memory are those of the attempt's process: a small one beside a large one has small figures."""
    small, large = house.queue("hooked", False), house.queue("prints_much", 60)
    house.work(WORKLEDGER_OUTPUT_ECHO="false")

    usages = [task.attempts[0].usage for task in (small, large)]
    assert usages[0] is not None and usages[1] is not None
    assert 0 < usages[0]["cpu_seconds"] < usages[1]["cpu_seconds"]
    assert usages[0]["peak_rss_bytes"] > MIB


def test_it_uses_the_ledger_by_itself(house: House) -> None:
    """It reads and queues through connections of its own; a child with its outcome stands with its success alone."""
    task, failing = house.queue("queues"), house.queue("queues_and_fails")
    house.work(code=1)

    at_once, later, state = task.result(timeout=0)
    children = [house.own.get(one).record for one in (at_once, later)]
    assert state == "running" and [child.queued.parent for child in children] == [task.id, task.id]
    assert [child.state.status for child in children] == ["succeeded", "succeeded"]
    assert children[0].queued.actor == f"worker:{task.attempts[0].worker}" and children[1].queued.labels == ["late"]
    assert error_of(failing) == "ValueError: no"
    assert house.count("TaskQueued") == 4


def test_its_progress_is_heard(house: House) -> None:
    """The last word is on record, however many there were, and also where the process died after it."""
    well, badly = house.queue("progresses", 20_000, False), house.queue("progresses", 10, True, max_attempts=1)
    house.work(code=1)

    for task, last in ((well, 20_000), (badly, 10)):
        progress = task.attempts[0].progress
        assert progress is not None and (progress.done, progress.total, progress.message) == (
            last,
            last,
            f"step {last}",
        )


def test_hooks_and_transactions_are_its_own_matter(house: House) -> None:
    """Hooks are entered in the process of the attempt; a transaction left open fails it and holds up nobody."""
    well, badly, left = house.queue("hooked", False), house.queue("hooked", True), house.queue("left_open")
    house.work(code=1)

    uid = os.geteuid()
    assert texts(well) == [f"in hooked {uid}", "runs", "out"]
    assert texts(badly) == [f"in hooked {uid}", "runs", "out KeyError"]
    assert error_of(left).startswith("ledger.errors.TransactionLeftOpen") and house.count("TaskQueued") == 3


def test_a_queue_run_inline_runs_it_where_it_stands() -> None:
    """`run_queue` makes no processes: a ledger in memory has nobody else to be seen by."""
    ledger = memory_ledger()

    @ledger.task(isolation="process", cpu_limit=1, memory_limit=1)
    def job() -> int:
        return os.getpid()

    task = job.enqueue()
    run_queue(ledger)
    assert task.result() == os.getpid()


# How it ends


def test_a_process_that_dies_loses_its_attempt_and_nothing_else(house: House) -> None:
    """A signal, an exit, a crash: lost, with the cause and what it printed; worker and other attempts go on."""
    dying = {how: house.queue("ends", how, max_attempts=1) for how in ("killed", "exited", "crashed")}
    ending = {how: house.queue("ends", how) for how in ("raised", "left", "delayed", "forked", "daemon")}
    others = [house.queue("plain") for _ in range(5)]
    house.work(code=1)

    causes = {how: error_of(task).removeprefix("AttemptLost: its process ") for how, task in dying.items()}
    assert causes == {
        "killed": "was ended by signal 9 (SIGKILL) before the task had ended",
        "exited": "exited with 0 before the task had ended",
        "crashed": "was ended by signal 11 (SIGSEGV) before the task had ended",
    }
    assert all(texts(task) == ["before"] for task in dying.values())
    assert error_of(ending["raised"]) == "Fail: for good" and error_of(ending["left"]) == "SystemExit: 3"
    assert type(ending["delayed"].events[-1]).__name__ == "TaskDelayed"
    assert ending["forked"].state == ending["daemon"].state == "succeeded"
    assert texts(ending["daemon"])[0] == "before"
    assert all(task.state == "succeeded" for task in others) and house.count("WorkerStarted") == 1


def test_a_process_that_lies_to_its_worker_loses_its_attempt(house: House) -> None:
    """What is sent is JSON of a known form or nothing: whatever else comes is a loss with its cause, no harm."""
    tasks = {name: house.queue("lies", name) for name in sorted(PACKETS)}
    other = house.queue("plain")
    house.work(code=1)

    for name, task in tasks.items():
        assert error_of(task).startswith("AttemptLost: "), name
    assert other.state == "succeeded" and house.count("WorkerStarted") == 1


def test_memory_is_bounded(house: House) -> None:
    """Beyond the limit is MemoryError, for heap and mappings; within it all is well; it is no matter of the worker's."""
    tasks = {how: house.queue("takes_memory", how) for how in ("heap", "shared", "within", "for ever")}
    house.work(code=1)

    assert tasks["within"].result(timeout=0) == 1
    assert error_of(tasks["heap"]).startswith("MemoryError")
    assert error_of(tasks["shared"]) == "OSError: [Errno 12] Cannot allocate memory"
    assert error_of(tasks["for ever"]).startswith("MemoryError")
    assert all(texts(task) == ["before"] for task in tasks.values())
    usage = tasks["heap"].attempts[0].usage
    assert usage is not None and usage["peak_rss_bytes"] < 250 * MIB


def test_cpu_is_bounded(house: House) -> None:
    """Raised inside where Python runs; where it does not, the process is ended; waiting costs nothing."""
    tasks = {how: house.queue("takes_cpu", how) for how in ("python", "c", "sleeps")}
    house.work(code=1)

    assert error_of(tasks["python"]) == "CpuLimit: the task used more than its cpu_limit of 1 s"
    assert error_of(tasks["c"]).startswith("CpuLimit: the task used more than its cpu_limit of 1 s by 2 s and")
    assert tasks["sleeps"].state == "succeeded"
    usages = [tasks[how].attempts[0].usage or {} for how in ("python", "c")]
    assert 0.5 < usages[0]["cpu_seconds"] < 2 < usages[1]["cpu_seconds"] < 4


def test_a_timeout_is_raised_inside(house: House) -> None:
    """Also while it sleeps; the task may clean up; a coroutine's await is cancelled."""
    task, coroutine = house.queue("overtime", house.path("cleaned")), house.queue("overtime_async")
    house.work(code=1)

    for one in (task, coroutine):
        assert error_of(one) == "TimeLimit: the task ran longer than its timeout of 0.3 s"
    assert Path(house.path("cleaned")).exists()


def test_a_timeout_waits_for_a_transaction_of_the_ledger(house: House) -> None:
    """What the task wrote in it is stored as a whole, and the timeout is met right after it."""
    task = house.queue("in_transaction", house.path("inside"))
    house.work(code=1)

    assert error_of(task).startswith("TimeLimit")
    assert house.count("TaskQueued") == 2


def test_past_its_hard_timeout_the_process_alone_is_ended(house: House) -> None:
    """With all that it has started; the worker lives, and what else it runs goes on undisturbed."""
    others = [house.queue("waits", house.path(f"first{n}"), house.path("then")) for n in range(2)]
    task = house.queue("stubborn", house.path("stubborn"))
    run = house.run()
    house.pid_in("first0"), house.pid_in("first1"), house.pid_in("stubborn")
    wait_until(lambda: task.state == "failed", "it is ended", house)
    pids = list(map(int, Path(house.path("stubborn")).read_text().split()))
    Path(house.path("then")).touch()
    wait_until(lambda: all(other.state == "succeeded" for other in others), "the others have ended", house)
    run.terminate()

    assert house.finish(run) == 1
    assert error_of(task) == "TimeLimit: the task went on past its timeout of 0.1 s and its process was ended"
    assert [len(other.attempts) for other in others] == [1, 1] and house.count("WorkerStarted") == 1
    wait_until(lambda: all(map(is_gone, pids)), "its command is gone too", house)


def test_a_request_to_cancel_is_seen_inside(house: House) -> None:
    """`current().cancelled` tells of it; the task may end as it likes."""
    task = house.queue("waits", house.path("first"), house.path("never"))
    run = house.run()
    house.pid_in("first")
    house.own.cancel(task.id, reason="not needed")
    wait_until(lambda: task.state == "succeeded", "it has ended", house)
    run.terminate()

    assert house.finish(run) == 0
    assert task.result(timeout=0) == "cancelled"


# Who ends it


def test_a_first_signal_lets_it_finish(house: House) -> None:
    """SIGTERM to every process at once, as a service manager sends it: the attempt comes to its own end."""
    task = house.queue("waits", house.path("first"), house.path("then"))
    run = house.run()
    pid = house.pid_in("first")
    [worker] = workers_of(run)
    for one in [run.pid, worker, *(child.pid for child in psutil.Process(worker).children(recursive=True))]:
        os.kill(one, signal.SIGTERM)
    assert not is_gone(pid)
    Path(house.path("then")).touch()

    assert house.finish(run) == 0, house.logs()
    assert task.result(timeout=0) == "done" and len(task.attempts) == 1
    assert house.count("WorkerStopped") == 1


@pytest.mark.parametrize("victim", ["worker", "supervisor", "server"])
def test_nothing_is_left_of_an_attempt_whose_worker_dies(house: House, victim: str) -> None:
    """Whichever of its processes is killed, the attempt's is gone at once; it is lost, and run again by a fresh one."""
    task = house.queue("waits", house.path("first"), house.path("then"))
    run = house.run("--threads", "1")
    pid = house.pid_in("first")
    [worker] = workers_of(run)
    [server] = [child.pid for child in psutil.Process(worker).children()]
    os.kill({"worker": worker, "supervisor": run.pid, "server": server}[victim], signal.SIGKILL)
    wait_until(lambda: is_gone(pid) and is_gone(server), "they are gone", house)
    Path(house.path("then")).touch()
    if victim == "supervisor":
        house.finish(run)
        run = house.run("--drain")
    wait_until(lambda: task.state == "succeeded", "it has run again", house)
    with suppress(ProcessLookupError):
        run.terminate()
    house.finish(run)

    assert [attempt.outcome for attempt in task.attempts] == ["lost", "succeeded"]
    if victim == "server":
        assert task.attempts[0].cause == "the fork server of its worker is gone"
        assert house.count_where("topic = 'WorkerStopped.v1' AND CAST(state AS TEXT) LIKE '%to be replaced%'") == 1


def test_a_server_that_dies_idle_costs_no_attempt(house: House) -> None:
    """The next attempt is given back before it has begun, and a fresh worker runs it."""
    first = house.queue("where", 1)
    run = house.run("--threads", "1")
    wait_until(lambda: first.state == "succeeded", "one has run", house)
    [worker] = workers_of(run)
    [server] = [child.pid for child in psutil.Process(worker).children()]
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: is_gone(server), "it is gone", house)
    task = house.queue("where", 2)
    wait_until(lambda: task.state == "succeeded", "it has run", house)
    run.terminate()

    assert house.finish(run) == 0
    assert {attempt.outcome for attempt in task.attempts[:-1]} <= {"interrupted"} and task.record.state.used == 0
    assert house.count("WorkerStarted") == 2


def test_a_worker_without_such_tasks_makes_no_server(tmp_path: Path) -> None:
    """Nobody pays for what no task of the application asks for."""
    site = Site(tmp_path)
    site.enqueue(("hold", ("go",)))
    run = site.command("run")
    wait_until(site.begun, "an attempt has begun", site)
    [worker] = workers_of(run)
    assert psutil.Process(worker).children() == []
    (tmp_path / "go").touch()
    run.terminate()
    assert site.finish(run) == 0


# As whom. Only root may become others; a run of these tests as somebody else sees that they are refused.


@pytest.fixture
def users() -> Iterator[House]:
    """A house of users of the operating system, all of whom may enter, and write into one directory of it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        shared = Path(directory, "shared")
        shared.mkdir()
        shared.chmod(0o777)
        house = House(Path(directory))
        house.environment |= {"AS_USERS": "1", "SHARED": str(shared)}
        house.own = declare(Ledger(f"sqlite:///{house.database}", identities=OSUsers(["nobody", "daemon"])))
        yield house
        house.own.close()
        house.close()


def ids_of(user: pwd.struct_passwd) -> list[Any]:
    return [[user.pw_uid] * 3, [user.pw_gid] * 3, sorted(os.getgrouplist(user.pw_name, user.pw_gid))]


def does_refuse(users: House, *args: Any, **options: Any) -> None:
    task = users.queue("who", *args, **options, max_attempts=1)
    users.work(code=1)
    assert error_of(task).startswith("ledger.errors.IdentityUnavailable")


def test_it_runs_as_a_user_of_the_operating_system(users: House) -> None:
    """Real, effective and saved user, group and groups are the user's; so are its files, commands and hooks."""
    if os.geteuid() != 0:
        does_refuse(users, run_as="nobody")
        return
    task, system = users.queue("who", run_as="nobody"), users.queue("who")
    users.work()

    found = task.result(timeout=0)
    assert found["run_as"] == "nobody" and found["ids"] == ids_of(NOBODY)
    assert (found["file"], found["command"], found["home"]) == (NOBODY.pw_uid, str(NOBODY.pw_uid), NOBODY.pw_dir)
    assert texts(task)[0] == f"in who {NOBODY.pw_uid}"
    assert found["death_signal"] == signal.SIGKILL, "it still ends with its worker"
    own = system.result(timeout=0)
    assert (own["run_as"], own["ids"][0], own["file"]) == ("system", [os.getuid()] * 3, os.getuid())


def test_it_acts_as_another_user_for_a_block(users: House) -> None:
    """The effective user changes and comes back; the attempt says in the log as whom it acted."""
    if os.geteuid() != 0:
        does_refuse(users, "daemon")
        return
    task = users.queue("who", "daemon")
    users.work()

    found = task.result(timeout=0)
    name, ids, owner = found["acting"]
    assert name == "daemon" and owner == DAEMON.pw_uid
    assert (ids[0], ids[1][1]) == ([os.getuid(), DAEMON.pw_uid, os.getuid()], DAEMON.pw_gid)
    assert found["after"] == ["system", found["ids"]] and found["death_signal"] == signal.SIGKILL
    assert task.attempts[0].acted_as == ("daemon",)


def test_from_a_user_there_is_no_way_back(users: House) -> None:
    """A process that has become somebody regains nothing, by itself or by `acting_as`, and fails with a typed error."""
    task = users.queue("goes_back", run_as="nobody")
    users.work(code=1)

    assert error_of(task).startswith("ledger.errors.IdentityUnavailable: this process")
    assert texts(task) == []


def test_its_hard_timeout_ends_it_as_whoever_it_runs(users: House) -> None:
    """The worker ends the process of another user, and its death does so too."""
    if os.geteuid() != 0:
        does_refuse(users, run_as="nobody")
        return
    task = users.queue("stubborn", users.path("shared/stubborn"), run_as="nobody")
    users.work(code=1)
    dying = users.queue("waits", users.path("shared/first"), users.path("never"), run_as="nobody")
    run = users.run()
    pid = users.pid_in("shared/first")
    assert psutil.Process(pid).uids().real == NOBODY.pw_uid
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), "it is gone", users)
    users.finish(run)

    assert error_of(task).startswith("TimeLimit") and dying.state == "running"


def test_without_the_right_to_change_users_it_fails_and_says_so(users: House) -> None:
    """A worker that is not root cannot run as others; nothing of the task is called."""
    task = users.queue("who", run_as="daemon", max_attempts=1)
    users.own.close()
    command = [sys.executable, "-m", "runner.cli", "--app", APP, "run", "--drain"]
    if os.geteuid() == 0:
        for path in (users.directory, *users.directory.iterdir()):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        command = ["setpriv", "--reuid=nobody", f"--regid={NOBODY.pw_gid}", "--clear-groups", *command]
    done = subprocess.run(
        command, env=users.environment, cwd=users.directory, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1, done.stderr
    assert error_of(task).startswith("ledger.errors.IdentityUnavailable: this process") and texts(task) == []
