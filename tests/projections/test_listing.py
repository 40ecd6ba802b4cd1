"""Lists of tasks by what they have in common: each filter alone and with others, against a plain loop over the records."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import InvalidOption, Ledger, NotFound, Retry
from ledger.testing import memory_ledger, run_queue
from projections.listing import Filter, Listed, all_tasks, tasks

NAMES, QUEUES, USERS, LABELS = ("good", "bad"), ("default", "mail"), ("system", "ann"), ("", "x", "x,y")


def filled() -> tuple[Ledger, list[Any]]:
    """A ledger with tasks of every state, queue, identity, actor and label, and their handles."""
    ledger = memory_ledger()

    @ledger.task(max_attempts=2, retry=Retry(first=60))
    def good() -> str:
        return "done"

    @ledger.task(max_attempts=2, retry=Retry(first=60))
    def bad() -> None:
        raise ValueError("no")

    made = []
    for number in range(48):
        options = {
            "queue": QUEUES[number // 2 % 2],
            "run_as": USERS[number // 4 % 2],
            "labels": [label for label in LABELS[number % 3].split(",") if label],
            "actor": ("bob", "eve")[number // 3 % 2],
            "run_after": timedelta(days=number // 24),
        }
        made.append((good, bad)[number % 2].using(**options).enqueue())
    run_queue(ledger)
    for task in made[4:20:3]:
        try:
            ledger.cancel(task.id, reason="no longer wanted")
        except Exception:
            continue
    ledger.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
    run_queue(ledger, max_tasks=4)
    return ledger, made


LEDGER, MADE = filled()
RECORDS = [task.record for task in reversed(MADE)]


def expected(having: dict[str, Any]) -> list[str]:
    """The ids that a filter should give, newest first, from the records."""
    found = []
    for record in RECORDS:
        state, queued = record.state, record.queued
        is_failed = state.status == "failed" or (state.status in ("waiting", "running") and state.used > 0)
        has = {
            "name": queued.name,
            "state": state.status,
            "queue": state.queue,
            "run_as": state.run_as,
            "actor": queued.actor,
        }
        if any(having.get(key) not in (None, value) for key, value in has.items()):
            continue
        if having.get("label") is not None and having["label"] not in queued.labels:
            continue
        if not having.get("failed_only") or is_failed:
            found.append(state.task_id)
    return found


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.none() | st.sampled_from([*NAMES, "ugly"]),
        "state": st.none() | st.sampled_from(["waiting", "succeeded", "failed", "cancelled", "running"]),
        "queue": st.none() | st.sampled_from(QUEUES),
        "run_as": st.none() | st.sampled_from(USERS),
        "actor": st.none() | st.sampled_from(["user:bob", "user:eve", "bob"]),
        "label": st.none() | st.sampled_from(["x", "y", "x,y"]),
        "failed_only": st.booleans(),
    },
)


@given(FILTERS, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_every_filter_gives_what_a_loop_over_the_records_gives(having: dict[str, Any], page: int) -> None:
    """Pages of any size, newest first, are together what a plain loop finds; oldest first the same the other way."""
    should = expected(having)
    found: list[str] = []
    after = None
    while listed := tasks(LEDGER, limit=page, after=after, **having):  # type: ignore[arg-type]
        found += [one.id for one in listed]
        after = listed[-1].id
    assert found == should
    assert [one.id for one in all_tasks(LEDGER, **having)] == should[::-1]  # type: ignore[arg-type]


def test_a_listed_task_is_typed_and_leads_to_its_handle() -> None:
    """Times are aware, labels a tuple, attempts left are counted; the handle reads the log."""
    listed = tasks(LEDGER, name="bad", failed_only=True, state="waiting", limit=1)[0]
    assert isinstance(listed, Listed)
    assert (listed.attempts_used, listed.attempts_left, listed.max_attempts) == (1, 1, 2)
    assert listed.due_at.tzinfo == UTC and listed.ended_at is None and isinstance(listed.labels, tuple)
    assert listed.error is not None and listed.error["message"] == "no"
    task = listed.handle(LEDGER)
    assert (task.state, task.attempts_left, task.record.queued_position) == ("waiting", 1, listed.position)
    [done] = tasks(LEDGER, name="good", state="succeeded", limit=1)
    assert done.attempts_left == 0 and done.ended_at is not None


@pytest.mark.parametrize(
    "having",
    [
        {"state": "done"},
        {"state": 1},
        {"name": ""},
        {"queue": " mail"},
        {"label": ["x"]},
        {"run_as": "a\nb"},
        {"failed_only": "yes"},
        {"limit": 0},
        {"limit": True},
        {"limit": 100_001},
        {"colour": "red"},
    ],
)
def test_what_cannot_be_asked_for_is_refused(having: Any) -> None:
    """A value outside what is allowed, and an unknown field, is an InvalidOption that says what there is."""
    with pytest.raises(InvalidOption):
        tasks(LEDGER, **having)


def test_a_page_after_an_unknown_task_is_not_found() -> None:
    """`after` is the id of a task."""
    with pytest.raises(NotFound):
        tasks(LEDGER, after="nope")


def test_an_empty_filter_is_one() -> None:
    """`is_empty` tells a filter that asks for nothing from one that does."""
    assert Filter().is_empty
    assert not Filter(failed_only=True).is_empty and not Filter(name="good").is_empty


def test_terms_of_the_filter_language_narrow_a_list() -> None:
    """`where` holds beside the other fields, for pages and for all; blanks ask for nothing."""
    both = [listed.id for listed in tasks(LEDGER, name="good", where="run_as:ann -queue:mail label:x", limit=100)]
    wanted = expected({"name": "good", "run_as": "ann", "queue": "default", "label": "x"})
    assert wanted and both == wanted
    assert [listed.id for listed in all_tasks(LEDGER, name="good", where="run_as:ann -queue:mail label:x")] == wanted[
        ::-1
    ]
    assert [listed.id for listed in tasks(LEDGER, where="name:GOOD", limit=100)] == [], "letters count as they are"
    assert tasks(LEDGER, where="name:GO*") == []
    assert Filter(where="  ").is_empty and not Filter(where="name:good").is_empty


@pytest.mark.parametrize(("where", "said"), [("nmae:x", "filter, column 1: "), (7, "where is 7; allowed is a text")])
def test_what_is_no_filter_is_refused(where: Any, said: str) -> None:
    """When the filter is made, before anything is read."""
    with pytest.raises(InvalidOption, match=said):
        Filter(where=where)
