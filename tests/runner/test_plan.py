"""The plan: priority first, names share what is free, limits are kept, an attempt after a loss runs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.limits import Limit, Limits, Running
from ledger.task import TaskState
from projections.queue import Row
from runner.plan import NAME
from runner.plan import plan as full_plan


def row(
    position: int,
    name: str = "a",
    *,
    priority: int = 0,
    due: int = 0,
    lost: int = 0,
    queue: str = "q",
    key: str | None = None,
) -> Row:
    state = TaskState(f"task-{position}", name=name, queue=queue, priority=priority, due_us=due, lost=lost)
    return (position, *state._replace(concurrency_key=key))


def running_of(names: Mapping[str, int]) -> Running:
    return Running((name, "q", None, count) for name, count in names.items())


def limits_of(said: Mapping[str, int | None]) -> Limits:
    return Limits(Limit(scope, most, "hand") for scope, most in said.items())


def plan(
    rows: list[Row],
    running: Mapping[str, int],
    free: int,
    *,
    is_idle: bool,
    limits: Mapping[str, int | None] | None = None,
) -> list[Row]:
    return full_plan(rows, running_of(running), free, is_idle=is_idle, limits=limits_of(limits or {})).claims


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


# The cases 62 to 71 of the study of Moodle's own tests (group "candidates and fair sharing").


class Case(NamedTuple):
    """Running and due tasks of each class, how many may run of each, how many slots are free; who is claimed."""

    number: str
    running: dict[str, int]
    due: str
    most: int
    free: int
    claimed: str
    own: tuple[tuple[str, int], ...] = ()


CASES = (
    Case("62", {}, "AAAAA", 5, 100, "AAAAA"),
    Case("63", {"A": 1}, "AAAA", 5, 100, "AAAA"),
    Case("64", {"A": 1}, "AAAA", 1, 100, ""),
    Case("65", {"A": 2}, "AAA", 2, 100, ""),
    Case("66", {"A": 2, "B": 2}, "C", 2, 100, "C"),
    Case("67, adapted", {}, "AAAB", 2, 2, "AB"),
    Case("68", {"A": 2}, "AB", 2, 2, "B"),
    Case("69", dict.fromkeys("ABCDE", 2), "ABCDE", 3, 100, "ABCDE"),
    Case("70", dict.fromkeys("ABCDE", 2), "ABCDE", 3, 100, "", tuple((name, 2) for name in "ABCDE")),
    Case("71, its last state", {}, "A", 5, 1, "A"),
)
"""There the number of slots bounds how many of a class may run; here a limit of ``task:*`` does, and what a case gives to
a class itself is a limit of its own name.

67 differs: there the answer is a list of rows that is looked through later, and its two rows may both be A's. Here the
answer is what is claimed at once, and none takes all free slots while another waits. 71 is about rows that a runner
remembers: a plan remembers none, so that only the third row is left to it; the whole story is in
`test_what_ended_elsewhere_is_not_claimed` of the limits' tests.
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_the_cases_of_fair_sharing(case: Case) -> None:
    """Names with fewest running go first, none beyond its limit, and the first in line of each."""
    rows = [row(number, name) for number, name in enumerate(case.due, 1)]
    said = {"task:*": case.most, **{f"task:{name}": most for name, most in case.own}}

    assert (
        "".join(found[NAME] for found in plan(rows, case.running, case.free, is_idle=False, limits=said))
        == case.claimed
    )


# Limits


def test_a_limit_of_the_ledger_bounds_all_claims() -> None:
    """What runs and what is claimed count together."""
    rows = [row(n, name) for n, name in enumerate("abcde", 1)]

    assert len(plan(rows, {"z": 3}, 9, is_idle=False, limits={"ledger": 5})) == 2
    assert plan(rows, {"z": 5}, 9, is_idle=False, limits={"ledger": 5}) == []


def test_a_full_queue_holds_up_no_other_of_the_same_name() -> None:
    """Tasks of one name in another queue go on."""
    rows = [row(1, queue="full"), row(2, queue="full"), row(3, queue="open"), row(4, queue="open")]

    assert positions(plan(rows, {}, 9, is_idle=False, limits={"queue:full": 1})) == [1, 3, 4]


def test_a_full_key_holds_up_no_other_and_counts_over_names() -> None:
    """A key is counted whatever the names of its tasks; each key of a pattern by itself."""
    rows = [row(1, "a", key="x"), row(2, "a", key="x"), row(3, "a", key="y"), row(4, "b", key="x"), row(5, "b")]

    assert positions(plan(rows, {}, 9, is_idle=False, limits={"key:x": 1})) == [1, 5, 3]
    assert positions(plan(rows, {}, 9, is_idle=False, limits={"key:*": 1})) == [1, 5, 3]


def test_the_own_limit_counts_before_that_of_a_pattern() -> None:
    """The exact name first, else the pattern with the most letters; none lifts the limit of a wider one."""
    said = {"task:*": 1, "task:mail.*": 2, "task:mail.big": 3, "task:free": None}
    for name, most in (("other", 1), ("mail.small", 2), ("mail.big", 3), ("free", 9)):
        rows = [row(number, name) for number in range(1, 10)]
        assert len(plan(rows, {}, 9, is_idle=False, limits=said)) == most, name


def test_a_lost_task_that_a_limit_holds_up_holds_up_nobody() -> None:
    """An attempt after a loss that may not begin is passed over like any other."""
    rows = [row(1, "a", lost=1), row(2, "b")]

    assert positions(plan(rows, {"a": 1}, 5, is_idle=False, limits={"task:a": 1})) == [2]


def test_the_plan_says_what_it_passed_over_and_why() -> None:
    """Each limit that was met is named, with how many ran then, the claims of the plan among them."""
    rows = [row(1, "a"), row(2, "a"), row(3, "a"), row(4, "b", key="k")]
    found = full_plan(
        rows,
        Running([("a", "q", None, 1), ("b", "q", "k", 1)]),
        9,
        is_idle=False,
        limits=limits_of({"task:a": 2, "key:k": 1}),
    )

    assert [(passed[0], full.limit.scope, full.name, full.running) for passed, full in found.passed] == [
        (4, "key:k", "k", 1),
        (2, "task:a", "a", 2),
    ]


def test_the_plan_says_where_its_rows_ran_out() -> None:
    """It asks for what is behind a row when that would be next, and slots are left; not because the row was claimed."""
    a, b, c = row(1, "a"), row(2, "b"), row(3, "b")

    def wanted(free: int, *more: Row, **said: int) -> list[int]:
        limits = limits_of({f"task:{name}": most for name, most in said.items()})
        return positions(full_plan([a, b, c], Running(), free, is_idle=False, limits=limits, more=more).wanted)

    assert wanted(2, a, c) == []
    assert wanted(3, a, c) == [1]
    assert wanted(9, a, c) == [1, 3]
    assert wanted(9, a, c, a=1) == [3], "its limit is full: whatever is behind cannot be claimed"
    assert wanted(9, b) == [2], "a row that stands for others stands behind itself"


PLACES = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(-1, 1),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from("qr"),
        st.sampled_from((None, None, "x", "y")),
    ),
    max_size=25,
)
RUNNING = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("qr"), st.sampled_from((None, "x", "y"))), max_size=8
)
LIMITS = st.dictionaries(
    st.sampled_from(("ledger", "queue:q", "queue:*", "task:a", "task:b", "task:*", "key:x", "key:*")),
    st.one_of(st.none(), st.integers(1, 6)),
    max_size=5,
)


@given(PLACES, RUNNING, LIMITS, st.integers(0, 12), st.booleans())
@settings(max_examples=600, deadline=None)
def test_the_plan_is_what_picking_one_at_a_time_gives(
    places: list[tuple[str, int, int, bool, str, str | None]],
    running: list[tuple[str, str, str | None]],
    said: dict[str, int | None],
    free: int,
    is_idle: bool,
) -> None:
    """An oracle that looks at all rows for each single claim comes to the same claims in the same order."""
    rows = [
        row(n, name, priority=p, due=due, lost=int(lost), queue=queue, key=key)
        for n, (name, p, due, lost, queue, key) in enumerate(places, 1)
    ]
    counts: Counter[tuple[str, str | None]] = Counter()

    def count(name: str, queue: str, key: str | None) -> None:
        counts.update([("ledger", ""), ("task", name), ("queue", queue), ("key", key)])

    def may_begin(one: TaskState) -> bool:
        for kind, name in (("ledger", ""), ("task", one.name), ("queue", one.queue), ("key", one.concurrency_key)):
            own = f"{kind}:{name}" if name else kind
            most = said[own] if own in said else said.get(f"{kind}:*")
            if name is not None and most is not None and counts[kind, name] >= most:
                return False
        return True

    for one in running:
        count(*one)
    left = [TaskState._make(one[1:]) for one in rows]
    chosen: list[str] = []
    while len(chosen) < free:
        able = [one for one in left if may_begin(one)]
        if not able:
            break
        most = max(one.priority for one in able)
        heads: dict[str, TaskState] = {}
        for one in able:  # in the order of their positions
            if one.priority == most and (one.name not in heads or one.due_us < heads[one.name].due_us):
                heads[one.name] = one
        best = min(heads.values(), key=lambda one: (counts["task", one.name], one.due_us, int(one.task_id[5:])))
        if best.lost:
            if is_idle and not chosen:
                chosen.append(best.task_id)
            break
        left.remove(best)
        count(best.name, best.queue, best.concurrency_key)
        chosen.append(best.task_id)
    found = full_plan(rows, Running((*one, 1) for one in running), free, is_idle=is_idle, limits=limits_of(said))

    assert [one[1] for one in found.claims] == chosen
