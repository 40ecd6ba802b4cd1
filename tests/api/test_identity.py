"""As whom a task runs: asked for, checked, taken on, given back, and told in every place where the task is listed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from ledger import (
    CapabilityMissing,
    Delay,
    IdentityNotFound,
    IdentityUnavailable,
    InvalidOption,
    Ledger,
    NotInTask,
    OSUsers,
    PlainIdentities,
    Retry,
    acting_as,
    current,
    require_capability,
)
from ledger.events import TaskDelayed, TaskFailed, TaskQueued, TaskSucceeded
from ledger.testing import ManualClock, run_queue
from projections.reports import Reports
from tests.api.setup import REASON, count_events, names_of, open_ledger

pytestmark = pytest.mark.usefixtures("each_database")

USERS = {"alice": {"read"}, "bob": {"read", "write"}}
SECRET: ContextVar[str] = ContextVar("secret", default="nobody")


class Accounts(PlainIdentities):
    """Identities of an application that keeps a user of its own beside the ledger's, and counts who comes and goes."""

    def __init__(self, users: Mapping[str, Collection[str]]) -> None:
        super().__init__(users)
        self.steps: list[str] = []
        self.broken = 0
        """How often nobody can be asked, from now on."""

    def refusal(self, user: str) -> str | None:
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the accounts are down")
        return super().refusal(user)

    @contextmanager
    def activate(self, user: str) -> Iterator[None]:
        before, token = SECRET.get(), SECRET.set(user)
        self.steps.append(f"{before}>{user}")
        try:
            yield
        finally:
            self.steps.append(f"{user}>{before}")
            SECRET.reset(token)


class Place:
    """A ledger whose identities are accounts, and a task that does as it is told."""

    def __init__(self, **options: Any) -> None:
        self.users: dict[str, Collection[str]] = dict(USERS)
        self.accounts = Accounts(self.users)
        self.clock = ManualClock()
        self.ledger = open_ledger(self.clock, identities=self.accounts, **options)
        self.does: Callable[[], Any] = lambda: [current().run_as, SECRET.get()]
        self.job = self.ledger.task(retry=Retry(first=0), max_attempts=3)(self._job)

    def _job(self) -> Any:
        return self.does()

    def run(self, does: Callable[[], Any], run_as: str = "alice") -> Any:
        self.does = does
        task = self.job.using(run_as=run_as).enqueue()
        run_queue(self.ledger)
        return task


# Who asks for it


def test_a_task_runs_as_the_identity_it_was_queued_for() -> None:
    """`current().run_as` is it, and it is activated around the function and left again."""
    place = Place()

    assert place.run(place.does).result() == ["alice", "alice"]
    assert place.run(place.does, run_as="system").result() == ["system", "system"]
    assert place.accounts.steps == ["nobody>alice", "alice>nobody", "nobody>system", "system>nobody"]


def test_without_identities_any_name_is_somebody() -> None:
    """A ledger that was given none runs tasks under any name; nobody but the system may do what is checked."""
    ledger = open_ledger(ManualClock())

    @ledger.task(retry=False)
    def job(capability: str | None) -> str:
        if capability:
            require_capability(capability)
        return current().run_as

    tasks = [job.using(run_as=name).enqueue(None) for name in ("anybody", "system")]
    refused, allowed = job.using(run_as="anybody").enqueue("read"), job.enqueue("read")
    run_queue(ledger)

    assert [task.result() for task in tasks] == ["anybody", "system"]
    assert (refused.state, allowed.state) == ("failed", "succeeded")


def test_the_system_identity_has_the_name_that_the_ledger_gives_it() -> None:
    """Tasks and schedules run as it where nothing else is said, and it needs no account."""
    place = Place(system_identity="cron")
    place.does = lambda: current().run_as
    task = place.job.enqueue()

    @place.ledger.schedule("0 * * * *")
    def hourly() -> str:
        return current().run_as

    run_queue(place.ledger, until=place.clock.now() + timedelta(hours=1))

    assert task.result() == "cron"
    assert [row.run_as for row in _rows(place.ledger)] == ["cron", "cron"]


@pytest.mark.parametrize("name", ["", "a\nb", 7])
def test_a_system_identity_must_be_a_name(name: Any) -> None:
    """What is no name is refused when the ledger is made."""
    with pytest.raises(InvalidOption, match="system_identity"):
        Ledger("memory:", system_identity=name)


def test_identities_must_be_some() -> None:
    """An object without the methods is refused, with the name of the first that is missing."""
    with pytest.raises(InvalidOption, match="refusal"):
        Ledger("memory:", identities=object())  # type: ignore[arg-type]


def test_nothing_is_queued_for_somebody_who_is_not_there() -> None:
    """Enqueue raises the typed error and stores nothing: alone, among many, and with an outcome."""
    place = Place()
    ghost = place.job.using(run_as="ghost")
    before = count_events(place.ledger)
    with pytest.raises(IdentityNotFound, match="'ghost', it does not exist"):
        ghost.enqueue()
    with pytest.raises(IdentityNotFound):
        place.ledger.enqueue_many([place.job.call(), ghost.call(), place.job.call()])

    assert count_events(place.ledger) == before

    def queue_a_child() -> None:
        place.job.using(run_as="ghost", with_outcome=True).enqueue()

    task = place.run(queue_a_child)
    assert task.state == "failed" and task.record.error["type"] == "ledger.errors.IdentityNotFound"


def test_somebody_who_is_gone_at_the_start_ends_the_task() -> None:
    """It fails for good and says why; its function is not called, and no attempt follows."""
    place, calls = Place(), []
    place.does = lambda: calls.append(1)
    task = place.job.using(run_as="bob").enqueue()
    del place.users["bob"]
    ran = run_queue(place.ledger, through_delays=True)

    assert (ran, calls, place.accounts.steps) == (1, [], [])
    assert names_of(task) == ["TaskQueued", "TaskClaimed", "TaskFailed"]
    assert task.state == "failed"
    assert task.record.error == {
        "type": "ledger.errors.IdentityNotFound",
        "message": "identity not found: nothing can run as 'bob', it does not exist",
        "traceback": "",
    }


def test_a_check_that_breaks_is_a_failure_like_any_other() -> None:
    """Where the accounts cannot be asked at the start, the attempt fails and is retried."""
    place = Place()
    task = place.job.using(run_as="bob").enqueue()
    place.accounts.broken = 1
    run_queue(place.ledger, through_delays=True)

    assert names_of(task)[2:] == ["TaskFailed", "TaskClaimed", "TaskSucceeded"]


def test_a_schedule_whose_identity_is_gone_fails_each_run_and_goes_on() -> None:
    """Each slot has a run that says why it failed and is not retried; asking for one at once is refused."""
    place = Place()
    calls: list[int] = []

    @place.ledger.schedule("0 * * * *", run_as="bob")
    def hourly() -> None:
        calls.append(1)

    run_queue(place.ledger, until=place.clock.now() + timedelta(hours=1))
    del place.users["bob"]
    run_queue(place.ledger, until=place.clock.now() + timedelta(hours=2))
    with pytest.raises(IdentityNotFound):
        place.ledger.schedules.run_now("hourly", reason=REASON)

    rows = sorted(_rows(place.ledger), key=lambda row: row.first_position)
    assert calls == [1]
    assert [row.state for row in rows] == ["succeeded", "failed", "failed"]
    assert {row.error_type for row in rows[1:]} == {"ledger.errors.IdentityNotFound"}
    assert [row.attempts_used for row in rows[1:]] == [1, 1]


# Acting as somebody else


def test_acting_as_lasts_for_its_block() -> None:
    """Inside it is the other identity, nested the innermost; afterwards what it was, and the task's own is known."""
    place, seen = Place(), []

    def look() -> None:
        seen.append((current().run_as, SECRET.get(), current().task_run_as))

    def does() -> None:
        look()
        with acting_as("bob"):
            look()
            with current().acting_as("system"):
                look()
            look()
        look()

    place.run(does).result()
    names = ["alice", "bob", "system", "bob", "alice"]
    assert seen == [(name, name, "alice") for name in names]


@pytest.mark.parametrize("error", [ValueError("x"), Delay(5), SystemExit(3), KeyError("y")])
def test_whatever_ends_a_task_gives_its_identities_back(error: BaseException) -> None:
    """An error, a delay or an exit out of nested blocks leaves everything as it was before the attempt."""
    place = Place()

    def does() -> None:
        with acting_as("bob"), acting_as("system"):
            raise error

    place.run(does)

    assert place.accounts.steps[:6] == [
        "nobody>alice", "alice>bob", "bob>system", "system>bob", "bob>alice", "alice>nobody",
    ]  # fmt: skip
    assert SECRET.get() == "nobody"
    assert place.run(lambda: [current().run_as, SECRET.get()]).result() == ["alice", "alice"]


def test_nobody_acts_as_one_who_is_not_there() -> None:
    """`acting_as` asks the identities and raises; the task's own identity stays, and the attempt may go on or fail."""
    place = Place()

    def does() -> str:
        for name in ("ghost", "", None):
            with pytest.raises((IdentityNotFound, InvalidOption)), acting_as(name):  # type: ignore[arg-type]
                raise AssertionError("the block was entered")
        return current().run_as

    task = place.run(does)
    assert task.result() == "alice" and task.attempts[0].acted_as == ()

    def fails() -> None:
        with acting_as("ghost"):
            raise AssertionError("the block was entered")

    task = place.run(fails)
    assert len(task.attempts) == 3, "it is no failure at the start: a later attempt may find the user there"


def test_coroutines_act_for_themselves() -> None:
    """Of two coroutines of one task each acts as its own; one that begins inside a block inherits it."""
    place = Place()
    seen: dict[str, list[str]] = {"alice": [], "bob": [], "system": []}

    async def work(name: str) -> None:
        with acting_as(name):
            for _ in range(3):
                await asyncio.sleep(0)
                seen[name].append(current().run_as)
            await asyncio.create_task(inherit(name))

    async def inherit(name: str) -> None:
        seen[name].append(current().run_as)

    @place.ledger.task
    async def job() -> str:
        await asyncio.gather(work("bob"), work("system"), work("alice"))
        return current().run_as

    task = job.using(run_as="alice").enqueue()
    run_queue(place.ledger)

    assert task.result() == "alice"
    assert seen == {name: [name] * 4 for name in seen}
    assert task.attempts[0].acted_as == ("bob", "system", "alice")


def test_outside_of_a_task_nobody_acts() -> None:
    """`acting_as` and `require_capability` say so; a ledger can be asked about a user anywhere."""
    place = Place()
    with pytest.raises(NotInTask, match="no task runs here"), acting_as("bob"):
        pass
    for user in (None, "bob"):
        with pytest.raises(NotInTask, match=r"ledger\.require_capability"):
            require_capability("read", user)
    place.ledger.require_capability("write", "bob")
    with pytest.raises(CapabilityMissing):
        place.ledger.require_capability("write", "alice")


# Capabilities


def test_capabilities_are_those_of_who_acts() -> None:
    """The task's identity, in a block the one acted as, or the one that is named; the system may do everything."""
    place = Place()

    def may(name: str, user: str | None = None) -> bool:
        try:
            require_capability(name, user)
        except CapabilityMissing:
            return False
        return True

    def does() -> list[bool]:
        found = [may("read"), may("write"), may("write", "bob"), may("anything", "system"), may("read", "ghost")]
        with acting_as("bob"):
            found += [may("write"), may("write", "alice")]
        with acting_as("system"):
            found.append(may("anything"))
        return found

    assert place.run(does).result() == [True, False, True, True, False, True, False, True]


def test_a_missing_capability_fails_the_task_and_says_two_names() -> None:
    """The error is typed, retried by the policy like any other, and tells who and what, and nothing else."""
    place = Place()
    task = place.run(lambda: current().require_capability("write"))
    assert len(task.attempts) == 3

    error = task.record.error
    assert error is not None and error["type"] == "ledger.errors.CapabilityMissing"
    assert error["message"] == "'alice' lacks the capability 'write'"
    with pytest.raises(InvalidOption, match="capability"):
        place.ledger.require_capability("", "alice")


# What the log and the lists tell


def test_both_principals_are_in_the_events_and_in_every_list() -> None:
    """Who asked and as whom it ran are told by the event, the record and the report; whom it acted as by its outcome."""
    place = Place()

    def does() -> None:
        for name in ("bob", "system", "bob"):
            with acting_as(name):
                pass
        if current().attempt == 1:
            raise Delay(1)
        if current().attempt == 2:
            raise ValueError("again")

    place.does = does
    task = place.job.using(run_as="alice", actor="carol").enqueue()
    run_queue(place.ledger, through_delays=True)

    queued, delayed, failed, done = (e for e in task.events if type(e).__name__ != "TaskClaimed")
    assert isinstance(queued, TaskQueued) and (queued.actor, queued.run_as) == ("user:carol", "alice")
    assert isinstance(delayed, TaskDelayed) and isinstance(failed, TaskFailed) and isinstance(done, TaskSucceeded)
    assert [e.acted_as for e in (delayed, failed, done)] == [["bob", "system"]] * 3
    assert [attempt.acted_as for attempt in task.attempts] == [("bob", "system")] * 3
    summary = task.record.summary()
    assert (summary["actor"], summary["run_as"]) == ("user:carol", "alice")
    assert [(row.actor, row.run_as) for row in _rows(place.ledger)] == [("user:carol", "alice")]


def test_who_acted_as_nobody_else_leaves_no_word_of_it() -> None:
    """The field is left out of what is stored."""
    place = Place()
    task = place.run(lambda: None)
    with place.ledger.store.read() as snapshot:
        states = [raw[4] for raw in snapshot.events_after(0, 100)]

    assert task.state == "succeeded" and not any(b"acted_as" in state for state in states)


# Users of the operating system


def test_users_of_the_operating_system_are_checked_by_name() -> None:
    """Known users are somebody; the superuser and, of a list, those not on it are refused with the reason."""
    ledger = open_ledger(ManualClock(), identities=OSUsers())

    @ledger.task(retry=False)
    def job() -> str:
        return current().run_as

    job.using(run_as="nobody").enqueue()
    with pytest.raises(IdentityNotFound, match="no such user"):
        job.using(run_as="nobody-at-all").enqueue()
    with pytest.raises(IdentityNotFound, match="superuser"):
        job.using(run_as="root").enqueue()
    some = OSUsers(["root", "daemon"])
    assert some.refusal("root") is None and some.refusal("nobody") == "it is none of the users that are allowed"


def test_a_thread_does_not_become_a_user_of_the_operating_system() -> None:
    """Only a process of its own can: elsewhere the attempt fails with what it needs, unless it runs as the system."""
    ledger = open_ledger(ManualClock(), identities=OSUsers())

    @ledger.task(retry=False)
    def job(acts_as: str | None) -> str:
        if acts_as:
            with acting_as(acts_as):
                return "acted"
        return current().run_as

    wrong, acting, right = job.using(run_as="nobody").enqueue(None), job.enqueue("nobody"), job.enqueue(None)
    run_queue(ledger)

    assert right.result() == "system"
    for task in (wrong, acting):
        error = task.record.error
        assert error is not None and error["type"] == f"ledger.errors.{IdentityUnavailable.__name__}"
        assert "isolation='process'" in error["message"]


def _rows(ledger: Ledger) -> list[Any]:
    reports = Reports(ledger)
    reports.catch_up()
    return list(reports.list_tasks(None, None, None, 100, None))
