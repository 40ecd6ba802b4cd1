"""Hidden arguments in Python: what is shown of them, what errors say of them, and who was shown them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from ledger import InvalidArguments, InvalidOption, InvalidValue, Ledger, LedgerError, NotFound, schedule_acts
from ledger.events import TaskQueued
from ledger.ledger_events import ReadRecorded
from ledger.testing import run_queue
from projections import schedules as schedules_view
from projections.listing import tasks
from runner.schedule_rows import details_of
from tests.api.setup import REASON, new_ledger

pytestmark = pytest.mark.usefixtures("each_database")

SECRET = "s3cr3t-9f27"


@pytest.fixture
def setting() -> tuple[Ledger, Any, list[Any]]:
    """A ledger and a task with a hidden argument, and what its function was given."""
    ledger, _ = new_ledger()
    given: list[Any] = []

    @ledger.task(hide=["token", "more"])
    def send(user: int, token: Any = SECRET, **more: Any) -> None:
        given.append((user, token, more))

    return ledger, send, given


def test_the_function_is_given_the_value_and_nobody_else_is_shown_it(setting: Any) -> None:
    """Handle, record, events, listing and their representations have the argument as hidden; the task has its value."""
    ledger, send, given = setting
    task = send.enqueue(7, SECRET, key=SECRET)
    run_queue(ledger)
    assert given == [(7, SECRET, {"key": SECRET})]
    [listed] = tasks(ledger)
    masked = {"user": 7, "token": "[hidden]", "more": "[hidden]"}
    assert task.record.queued.args == task.record.summary()["args"] == listed.args == masked
    first = task.events[0]
    assert isinstance(first, TaskQueued) and first.args == masked and first.hidden == ["token", "more"]
    shown = [task, task.record, task.events, listed, send, send.call(7, SECRET), send.using().call(7, SECRET)]
    assert SECRET not in repr(shown)


def test_a_default_is_hidden_too(setting: Any) -> None:
    """A value that comes from the signature is hidden like one that is given, in errors too."""
    _, send, _ = setting
    assert send.enqueue(7).record.queued.args["token"] == "[hidden]"
    with pytest.raises(InvalidArguments) as raised:
        send.enqueue()
    assert "token: 'Any' = [hidden]" in str(raised.value) and SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        {SECRET: object()},
        {1: SECRET},
        [SECRET + "\x00"],
        {SECRET + "\x00": 1},
        "\ud800" + SECRET,
        SECRET * 100_000,
        2**70,
        (SECRET,),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_about_a_hidden_argument_says_no_more_than_its_name(setting: Any, value: Any) -> None:
    """What is wrong in a hidden value could tell the value: the error names the argument alone, in its whole chain."""
    _ledger, send, _ = setting
    with pytest.raises(InvalidValue, match="argument 'token' of send is not JSON within the limits") as raised:
        send.enqueue(7, value)
    assert SECRET not in str(raised.value) and raised.value.__cause__ is None and raised.value.__suppress_context__
    with pytest.raises(InvalidValue, match="'user' of send is"):
        send.enqueue(float("nan"), SECRET)


def test_the_key_of_unique_arguments_has_a_digest(setting: Any) -> None:
    """Equal calls have equal keys and others have not, but the key's text does not have the value."""
    ledger, send, _ = setting
    unique = send.using(unique=True)
    first = unique.enqueue(7, SECRET)
    assert unique.enqueue(7, SECRET).id == first.id
    assert unique.enqueue(7, SECRET + "x").answer == "queued"
    with ledger.store.read() as snapshot:
        keys = [raw for raw in snapshot.events_after(0, 100) if raw[1].startswith("key:")]
    assert len(keys) == 2
    assert SECRET not in repr(keys) and SECRET not in repr(first.record)


def test_a_retry_after_the_function_has_changed_hides_it_in_the_error() -> None:
    """Arguments that the function does not take any more fail the attempt; its error tells nothing of them."""
    ledger, _ = new_ledger()
    ledger.task(name="send", hide=["token"])(lambda token: None)
    task = ledger.functions["send"].enqueue(SECRET)
    ledger.functions.clear()

    def changed(key: str, token: str = SECRET) -> None: ...

    ledger.task(name="send", hide=["token"])(changed)
    run_queue(ledger)
    assert task.record.error is not None and "no longer takes" in task.record.error["message"]
    assert SECRET not in json.dumps(task.record.error)


def test_revealing_is_recorded_before_it_shows(setting: Any) -> None:
    """`reveal` gives the values and leaves a ReadRecorded with actor and reason; refused, it shows and leaves nothing."""
    ledger, send, _ = setting
    task = send.enqueue(7, SECRET)
    assert task.reveal(reason=REASON, actor="ann") == {"user": 7, "token": SECRET, "more": {}}
    with ledger.store.read() as snapshot:
        read = snapshot.last(f"reads:{task.id}")
    assert isinstance(read, ReadRecorded)
    assert (read.task, read.what, read.actor, read.reason) == (task.id, ["arguments"], "user:ann", REASON)
    bad: Any = " "
    for call in (
        lambda: task.reveal(reason=bad),
        lambda: ledger.get("nope").reveal(reason=REASON),
    ):
        with pytest.raises(LedgerError):
            call()
    with ledger.store.read() as snapshot:
        assert snapshot.last(f"reads:{task.id}") == read
    with pytest.raises(NotFound):
        ledger.get("nope")


@pytest.mark.parametrize("hide", [["tokn"], ["kwargs"], "token", [7], [""]])
def test_only_parameters_can_be_hidden(hide: Any) -> None:
    """A name in `hide` that is no parameter is refused where the task is declared, and the parameters are listed."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidOption, match="hide"):
        ledger.task(hide=hide)(lambda user, token: None)
    assert not ledger.functions


def test_a_scheduled_task_hides_its_arguments() -> None:
    """The arguments of a schedule are hidden in its state and history and in its runs, which are given the value."""
    ledger, _clock = new_ledger()
    given = []

    @ledger.schedule("0 * * * *", args={"token": SECRET}, hide=["token"])
    def hourly(token: str) -> None:
        given.append(token)

    run_queue(ledger, until=ledger.clock.now() + timedelta(hours=1))
    assert given == [SECRET]
    [run] = tasks(ledger)
    assert run.args == {"token": "[hidden]"}
    history = ledger.schedules.history("hourly")
    assert history[0].changes["args"] == (None, {"token": "[hidden]"})
    assert SECRET not in repr([history, ledger.schedules.get("hourly"), run.handle(ledger).events])
    with ledger.store.read() as snapshot:
        row = details_of(schedule_acts.load(snapshot, "hourly"), None, snapshot.now)
    assert row["args"] == {"token": "[hidden]"}
    for damage in ("replace(declared, 'default', 'other')", "substr(declared, 2)"):
        with ledger.store.write() as unit:
            unit.run(f"UPDATE schedules SET declared = {damage}")
        [said] = schedules_view.verify(ledger)
        assert "declared is" in said and SECRET not in said, "also what a damaged view is told apart by"
