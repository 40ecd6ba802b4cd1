"""A renamed task: what was queued under its older names runs, counts and is found as before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger import InvalidOption, Ledger
from ledger.testing import ManualClock, run_queue
from projections import queue as queue_view
from runner.cycle import Cycle
from runner.inline import run_inline
from tests.api.setup import REASON, names_of, new_ledger, open_ledger

pytestmark = pytest.mark.usefixtures("each_database")


def before_and_after(**options: Any) -> tuple[Ledger, Ledger, ManualClock, Any]:
    """Two ledgers on one database: the code before the renaming of `old` to `new`, and the code after it."""
    clock = ManualClock()
    before, after = open_ledger(clock), open_ledger(clock)
    after.store = before.store
    seen: list[tuple[str, str]] = []
    before.task(name="old", **options)(lambda text="": None)

    @after.task(name="new", aliases=["old", "older"], **options)
    def new(text: str = "") -> str:
        seen.append((after.current().name, text))
        return text

    return before, after, clock, seen


def test_what_was_queued_under_an_old_name_runs() -> None:
    """Tasks of both names run by the one function, which sees its present name; the log keeps the name as queued."""
    before, after, _, seen = before_and_after()
    old, new = before.functions["old"].enqueue("a"), after.functions["new"].enqueue("b")
    assert run_queue(before, max_tasks=1) == 1, "the code before the change runs what it knows"
    again = before.functions["old"].enqueue("c")
    run_queue(after)
    assert seen == [("new", "b"), ("new", "c")]
    assert (old.state, new.result(), again.result()) == ("succeeded", "b", "c")
    assert again.record.queued.name == "old"
    assert queue_view.verify(after) == []


def test_a_retry_and_a_scheduled_retry_run_too() -> None:
    """A failed task of an old name may be retried after the renaming, and comes out of its back-off by itself."""
    clock = ManualClock()
    before, after = open_ledger(clock), open_ledger(clock)
    after.store = before.store

    @before.task(name="old", max_attempts=2)
    def fail() -> None:
        raise ValueError("old code")

    task = fail.enqueue()
    run_queue(before)
    after.task(name="new", aliases=["old"])(lambda: "mended")
    run_queue(after, through_delays=True)
    assert (task.state, names_of(task)[-1], after.get(task.id).result()) == ("succeeded", "TaskSucceeded", "mended")


@pytest.mark.parametrize("unique", [True, "a key"])
def test_a_key_holds_over_the_renaming(unique: bool | str) -> None:
    """A live task of the old name is the duplicate of an equal call under the new one."""
    before, after, _, _ = before_and_after(unique=unique)
    old = before.functions["old"].enqueue("a")
    new = after.functions["new"]
    assert (new.enqueue("a").id, new.enqueue("a").duplicate) == (old.id, True)
    assert new.using(run_after=timedelta(hours=1)).reschedule_or_queue("a").answer == "rescheduled"
    after.cancel(old.id, reason=REASON)
    assert new.enqueue("a").answer == "queued"


def test_both_names_are_one_in_the_plan() -> None:
    """A fair share is that of the task, not of each of its names: its two names do not take two of three slots."""
    _, after, _, _ = before_and_after()
    old, new, other = (open_ledger(), after, after)
    old.store = after.store
    old.task(name="old")(lambda text="": None)
    other.task(name="other")(lambda: None)
    for _ in range(4):
        old.functions["old"].enqueue("a")
        new.functions["new"].enqueue("b")
        other.functions["other"].enqueue()
    cycle = Cycle(after, "w1")
    while (turn := cycle.turn([], 4, is_idle=True)).is_behind:
        pass
    assert sorted(claimed.state.name for claimed in turn.claims) == ["new", "new", "other", "other"]
    assert queue_view.verify(after) == []
    more = Cycle(after, "w2").turn([], 2, is_idle=True)
    assert sorted(claimed.state.name for claimed in more.claims) == ["new", "other"], (
        "running ones count under one name"
    )


def test_a_limit_is_one_for_all_names() -> None:
    """The limit of a task is declared once, under its name, and what was queued under an alias counts with it."""
    before, after, _, _ = before_and_after(limit=2)
    before.functions["old"].enqueue("a")
    for text in "bcd":
        after.functions["new"].enqueue(text)
    after.controls.register(app="tests")
    assert [limit.scope for limit in after.controls.limits()] == ["task:new"]
    cycle = Cycle(after, "w1")
    while (turn := cycle.turn([], 4, is_idle=True)).is_behind:
        pass
    assert [claimed.args["text"] for claimed in turn.claims] == ["a", "b"]


def test_a_task_whose_key_frees_at_its_start_runs_under_an_alias() -> None:
    """`unique_until="start"` and an alias go together: the key frees at the claim."""
    before, after, _, seen = before_and_after(unique=True, unique_until="start")
    task = before.functions["old"].enqueue("a")
    run_inline(after)
    assert (task.state, seen) == ("succeeded", [("new", "a")])
    assert not after.functions["new"].enqueue("a").duplicate


def test_the_command_line_and_the_registry_find_it_under_each_name() -> None:
    """`function` gives the task for its old names; what is queued so is queued under the present one."""
    _, after, _, _ = before_and_after()
    assert after.function("older") is after.function("new")
    assert after.function("old").enqueue().record.queued.name == "new"


@pytest.mark.parametrize(
    ("name", "aliases", "clash"),
    [
        ("c", ["a"], "'a'"),
        ("c", ["b"], "'b'"),
        ("b", [], "'b'"),
        ("c", ["c"], "'c'"),
        ("c", ["d", "d"], "'d'"),
    ],
)
def test_a_clash_is_refused(name: str, aliases: list[str], clash: str) -> None:
    """An alias that is a name or alias of another task, or said twice, is refused, and nothing is registered."""
    ledger, _ = new_ledger()
    ledger.task(name="a", aliases=["b"])(lambda: None)
    with pytest.raises(InvalidOption, match=clash):
        ledger.task(name=name, aliases=aliases)(lambda: None)
    assert ledger.functions.keys() == {"a", "b"}


@pytest.mark.parametrize("aliases", ["old", [""], [1], [f"a{n}" for n in range(21)], ["a\n"], None])
def test_what_is_no_list_of_names_is_refused(aliases: Any) -> None:
    """`aliases` is a list of names."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidOption, match="alias"):
        ledger.task(aliases=aliases)(lambda: None)


# Schedules


def renamed_schedule(*, customise: bool) -> tuple[Ledger, Ledger, ManualClock]:
    clock = ManualClock()
    before, after = open_ledger(clock), open_ledger(clock)
    after.store = before.store
    before.schedule("0 * * * *", name="old")(lambda: None)
    run_queue(before)
    if customise:
        before.schedules.set("old", hour="7", reason=REASON)
    after.schedule("0 * * * *", name="new", aliases=["old"])(lambda: None)
    return before, after, clock


def test_a_renamed_schedule_fires_once_a_slot() -> None:
    """The schedule of the old name is retired when the new one is declared: not both fire."""
    _, after, clock = renamed_schedule(customise=False)
    assert run_queue(after, until=clock.now() + timedelta(hours=3)) == 3
    assert after.schedules.get("old").status == "retired"
    assert [change.what for change in after.schedules.history("old")][-1] == "ScheduleRetired"
    assert after.schedules.history("old")[-1].reason == "renamed to new"


def test_what_was_set_by_hand_goes_with_the_new_name() -> None:
    """A customised schedule keeps its hour under its new name; once set anew there, the old one does not come back."""
    before, after, clock = renamed_schedule(customise=True)
    run_queue(after, max_tasks=1, until=clock.now() + timedelta(minutes=1))
    assert after.schedules.get("new").custom == before.schedules.get("old").custom
    assert [f"{slot:%H:%M}" for slot in after.schedules.next("new", 2)] == ["07:00", "07:00"]
    after.schedules.reset("new", reason=REASON)
    after.schedules.register()
    assert after.schedules.get("new").custom is None


def test_a_schedule_in_the_log_runs_its_renamed_task() -> None:
    """A schedule that names the old task (declared by another app, say) runs the function by its alias."""
    clock = ManualClock()
    before, after = open_ledger(clock), open_ledger(clock)
    after.store = before.store
    before.schedule("0 * * * *", name="old")(lambda: None)
    before.schedules.register(app="another")
    seen = []
    after.task(name="new", aliases=["old"])(lambda: seen.append(1))
    run_queue(after, until=clock.now() + timedelta(hours=2))
    assert seen == [1, 1]
    assert after.schedules.get("old").status == "declared"
