"""Names, options and due times: what is allowed, what a call changes, what is stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ledger import Delay, Retry
from ledger.errors import (
    InvalidOption,
    LedgerError,
    NotRegistered,
)
from ledger.options import Options
from ledger.testing import DEFAULT_START, run_queue
from tests.api.setup import REASON, count_events, new_ledger, queued

pytestmark = pytest.mark.usefixtures("each_database")

# Names and options


def test_a_second_task_of_one_name_is_refused() -> None:
    """Two functions cannot be registered under one name; `name=` tells them apart."""
    ledger, _ = new_ledger()

    def job() -> None: ...

    ledger.task(job)
    with pytest.raises(InvalidOption, match="job"):
        ledger.task(job)
    ledger.task(name="job again")(job)
    assert set(ledger.functions) == {"job", "job again"}
    with pytest.raises(NotRegistered, match="job again"):
        ledger.function("unknown")


@pytest.mark.parametrize(
    "make", [lambda task: task(5), lambda task: task(name="")(print), lambda task: task(name=7)(print)]
)
def test_what_is_no_named_function_is_refused(make: Callable[[Any], Any]) -> None:
    """A task is a function under a name; anything else is an InvalidOption where it is declared."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidOption):
        make(ledger.task)
    assert ledger.functions == {}


BAD_OPTIONS: list[dict[str, Any]] = [
    {"queue": ""},
    {"queue": " padded"},
    {"queue": "tab\t"},
    {"queue": "q" * 201},
    {"queue": 7},
    {"priority": 101},
    {"priority": -101},
    {"priority": True},
    {"priority": 1.0},
    {"max_attempts": 0},
    {"max_attempts": True},
    {"max_attempts": "3"},
    {"retry": True},
    {"retry": None},
    {"timeout": 0},
    {"timeout": float("nan")},
    {"timeout": -1},
    {"timeout": "1"},
    {"kill_after": -1},
    {"kill_after": float("inf")},
    {"run_as": ""},
    {"run_as": None},
    {"unique": ""},
    {"unique": 3},
    {"unique": "k" * 201},
    {"unique_until": "never"},
    {"labels": "text"},
    {"labels": ["x"] * 21},
    {"labels": [""]},
    {"labels": [1]},
]
BAD_CALL_OPTIONS: list[dict[str, Any]] = [
    {"run_after": datetime(2026, 1, 1)},
    {"run_after": timedelta(seconds=-1)},
    {"run_after": timedelta(days=3661)},
    {"run_after": 60},
    {"run_after": datetime(9999, 1, 1, tzinfo=UTC)},
    {"reason": " "},
    {"reason": "x" * 4001},
    {"reason": "nul\x00"},
    {"reason": "\ud800"},
    {"actor": ""},
    {"actor": 3},
    {"on_duplicate": "replace"},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=repr)
def test_the_decorator_refuses_a_bad_option(options: dict[str, Any]) -> None:
    """An option outside what is allowed is an InvalidOption that names it, where the task is declared."""
    ledger, _ = new_ledger()
    [name] = options
    with pytest.raises(InvalidOption, match="label" if name == "labels" else name):
        ledger.task(**options)
    assert ledger.functions == {}


@pytest.mark.parametrize("options", BAD_OPTIONS + BAD_CALL_OPTIONS, ids=repr)
def test_a_call_refuses_a_bad_option(options: dict[str, Any]) -> None:
    """An option outside what is allowed is an InvalidOption where the call is made, and nothing is stored."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    with pytest.raises(InvalidOption):
        job.using(**options).enqueue()
    assert count_events(ledger) == 0


HUGE = 10**400


@pytest.mark.parametrize(
    "make",
    [lambda: Options(timeout=HUGE), lambda: Options(kill_after=HUGE), lambda: Retry(first=HUGE), lambda: Delay(HUGE)],
    ids=["timeout", "kill_after", "retry", "delay"],
)
def test_a_number_beyond_any_float_is_refused(make: Callable[[], Any]) -> None:
    """Seconds as a whole number of any size are an InvalidOption, not an OverflowError."""
    with pytest.raises(InvalidOption):
        make()


@pytest.mark.parametrize("task_id", ["\ud800", 7, None, b"x"], ids=repr)
def test_a_task_id_that_cannot_be_one_is_a_typed_error(task_id: Any) -> None:
    """An id that is no text, or no Unicode, is refused by an error of the ledger."""
    ledger, _ = new_ledger()
    with pytest.raises(LedgerError):
        ledger.get(task_id)


def test_reschedule_to_no_time_is_refused() -> None:
    """`reschedule` needs a moment or a timedelta; None is an InvalidOption."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    moment: Any = None
    with pytest.raises(InvalidOption):
        ledger.reschedule(job.enqueue().id, moment, reason=REASON)


@pytest.mark.parametrize(
    "policy", [{"first": -1}, {"factor": 0.5}, {"cap": float("nan")}, {"jitter": 2}, {"never_on": (1,)}, {"first": "1"}]
)
def test_a_retry_policy_refuses_bad_numbers(policy: dict[str, Any]) -> None:
    """A retry policy with a number outside its range cannot be made."""
    with pytest.raises(InvalidOption, match="retry"):
        Retry(**policy)


def test_a_call_changes_the_declared_options_and_only_those_it_names() -> None:
    """`using` replaces the options it is given and keeps the others as the decorator set them."""
    ledger, _ = new_ledger()

    @ledger.task(queue="mail", priority=5, max_attempts=3, labels=["a"])
    def job() -> None: ...

    plain, other = (
        job.enqueue(),
        job.using(queue="slow", run_as="alice", labels=["b", "c"], max_attempts=None).enqueue(),
    )
    assert (queued(plain).queue, queued(plain).priority, queued(plain).labels) == ("mail", 5, ["a"])
    assert (queued(plain).max_attempts, queued(plain).run_as) == (3, "system")
    assert (queued(other).queue, queued(other).priority, queued(other).labels) == ("slow", 5, ["b", "c"])
    assert (queued(other).max_attempts, queued(other).run_as) == (None, "alice")


def test_every_event_says_who_asked_and_why() -> None:
    """Actor and reason of a call are in its event; the operating system's user is the actor where none is given."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    asked = queued(job.using(actor="bob", reason=REASON).enqueue())
    assert (asked.actor, asked.reason) == ("user:bob", REASON)
    assert queued(job.enqueue()).actor.startswith("user:")
    [many] = ledger.enqueue_many([job.call()], actor="system:import", reason=REASON)
    assert (queued(many).actor, queued(many).reason) == ("system:import", REASON)


# Due times


def test_run_after_a_timedelta_counts_from_now() -> None:
    """A task with `run_after` a timedelta is not run before that much time has passed, and is run then."""
    ledger, clock = new_ledger()

    @ledger.task
    def job() -> str:
        return "done"

    task = job.using(run_after=timedelta(hours=1)).enqueue()
    assert queued(task).due_at == DEFAULT_START + timedelta(hours=1)
    clock.advance(timedelta(minutes=59, seconds=59))
    assert run_queue(ledger) == 0
    clock.advance(timedelta(seconds=1))
    assert run_queue(ledger) == 1
    assert task.result() == "done"


def test_run_after_a_datetime_is_stored_in_utc() -> None:
    """A task with `run_after` an aware datetime of any zone is due at that moment, stored in UTC."""
    ledger, _ = new_ledger()

    @ledger.task
    def job() -> None: ...

    moment = datetime(2026, 1, 1, 15, 30, tzinfo=timezone(timedelta(hours=2)))
    task = job.using(run_after=moment).enqueue()
    assert queued(task).due_at == moment
    assert queued(task).due_at.utcoffset() == timedelta(0)
    assert run_queue(ledger) == 0
    assert run_queue(ledger, through_delays=True) == 1
    assert ledger.clock.now() == moment


def test_higher_priority_runs_first() -> None:
    """Of due tasks the one with the higher priority runs first, then the one that was due earlier."""
    ledger, clock = new_ledger()
    seen: list[str] = []

    @ledger.task
    def job(name: str) -> None:
        seen.append(name)

    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 100)):
        job.using(priority=priority).enqueue(name)
        clock.advance(timedelta(seconds=1))
    run_queue(ledger)
    assert seen == ["high", "first", "second", "low"]
