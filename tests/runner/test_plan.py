"""The plan: priority first, names share what is free, an attempt after a loss runs alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.task import TaskState
from projections.queue import Row
from runner.plan import plan


def row(position: int, name: str = "a", *, priority: int = 0, due: int = 0, lost: int = 0) -> Row:
    return (position, *TaskState(f"task-{position}", name=name, priority=priority, due_us=due, lost=lost))


def positions(rows: list[Row]) -> list[int]:
    return [found[0] for found in rows]


def test_priority_goes_before_everything() -> None:
    """A higher priority is claimed first, whatever is due earlier or runs less."""
    rows = [row(1, "a", due=1), row(2, "b", priority=5, due=9)]

    assert positions(plan(rows, {"b": 9}, 2, is_idle=True)) == [2, 1]


def test_names_of_one_priority_share() -> None:
    """The name with the fewest running goes first, and each claim of the plan counts as running."""
    rows = [*(row(n, "a") for n in range(1, 5)), row(5, "b"), row(6, "c")]

    assert positions(plan(rows, {"a": 1}, 4, is_idle=False)) == [5, 6, 1, 2]


def test_claims_of_a_higher_priority_count_for_the_next() -> None:
    """A name that took slots at one priority waits for the others at the next."""
    rows = [row(1, "a", priority=1), row(2, "a", priority=1), row(3, "a"), row(4, "b")]

    assert positions(plan(rows, {}, 3, is_idle=False)) == [1, 2, 4]


def test_within_a_name_the_earlier_due_then_the_earlier_queued() -> None:
    """Due time decides, then position."""
    rows = [row(3, due=5), row(2, due=5), row(1, due=7)]

    assert positions(plan(rows, {}, 3, is_idle=False)) == [2, 3, 1]


def test_spare_slots_are_filled_by_one_name() -> None:
    """Where no other name waits, one name takes all that is free."""
    rows = [row(n, "a") for n in range(1, 6)]

    assert len(plan(rows, {"a": 100}, 5, is_idle=False)) == 5


def test_an_attempt_after_a_loss_is_claimed_alone() -> None:
    """It is claimed by an idle worker and with nothing beside it; a busy one claims nothing past it."""
    rows = [row(1, lost=1), row(2)]

    assert positions(plan(rows, {}, 5, is_idle=True)) == [1]
    assert plan(rows, {}, 5, is_idle=False) == []
    assert positions(plan([row(1), row(2, lost=1), row(3)], {}, 5, is_idle=True)) == [1]


ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-1, 1), st.integers(0, 3), st.booleans()), max_size=25)


@given(ROWS, st.dictionaries(st.sampled_from("abcd"), st.integers(0, 4)), st.integers(0, 12), st.booleans())
@settings(max_examples=400, deadline=None)
def test_the_plan_is_what_picking_one_at_a_time_gives(
    places: list[tuple[str, int, int, bool]], running: dict[str, int], free: int, is_idle: bool
) -> None:
    """An oracle that looks at all rows for each single claim comes to the same claims in the same order."""
    rows = [row(n, name, priority=p, due=due, lost=int(lost)) for n, (name, p, due, lost) in enumerate(places, 1)]
    left = [TaskState._make(one[1:]) for one in rows]
    counts, chosen = Counter(running), []
    while left and len(chosen) < free:
        most = max(one.priority for one in left)
        heads = {}
        for one in left:  # in the order of their positions
            if one.priority == most and (one.name not in heads or one.due_us < heads[one.name].due_us):
                heads[one.name] = one
        best = min(heads.values(), key=lambda one: (counts[one.name], one.due_us, int(one.task_id[5:])))
        if best.lost:
            if is_idle and not chosen:
                chosen.append(best)
            break
        left.remove(best)
        counts[best.name] += 1
        chosen.append(best)

    assert [found[1] for found in plan(rows, running, free, is_idle=is_idle)] == [one.task_id for one in chosen]
