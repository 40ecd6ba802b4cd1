"""Which failures need a person: those whose retry delay reaches its cap, and those after which nothing is tried again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import commands as c
from ledger.commands import Act
from ledger.events import Event
from ledger.ledger_events import NoticeRaised
from ledger.notices import of_task
from ledger.retry import Retry
from ledger.task import evolve
from tests.ledger.scenario import Scenario


class Noticed(Scenario):
    """A task's history, and the notices that its events raise."""

    def __init__(self, **queued: Any) -> None:
        self.notices: list[NoticeRaised] = []
        super().__init__(**queued)

    def when(self, command: c.Command) -> list[Event]:
        before = self.state
        events = super().when(command)
        for event in events:
            last = self.notices[-1] if self.notices else None
            act = Act(id="act", at=self.now, actor="worker:w1")
            if (found := of_task(before, event, lambda last=last: last, act)) is not None:  # type: ignore[misc]
                self.notices.append(found)
            before = evolve(before, event)
        return events

    def fails(self, times: int = 1) -> Noticed:
        for _ in range(times):
            self.later(10**8).claimed()
            self.fail()
        return self

    def kinds(self) -> list[str]:
        return [one.kind for one in self.notices]


def stored(**changes: Any) -> Any:
    return Retry(**changes).stored()


def test_a_failure_below_the_cap_raises_none() -> None:
    """Eleven failures of the default policy wait 60 s to 17 h: nobody is told."""
    assert Noticed().fails(11).kinds() == []


def test_each_failure_whose_new_delay_reaches_the_cap_raises_one() -> None:
    """After delays of 43,200, 86,400 and 86,400 s the next is the cap: 1, 2 and 3 notices, and none after the first."""
    task = Noticed(retry=stored(first=43_200), max_attempts=None)
    counts = []
    for _ in range(4):
        task.fails()
        counts.append(len(task.notices))

    assert counts == [0, 1, 2, 3]
    assert set(task.kinds()) == {"delay_at_cap"}
    assert [one.originator_version for one in task.notices] == [1, 2, 3]


def test_what_the_first_notice_says() -> None:
    """It is about the task, by name, with the error, the attempt and the delay."""
    task = Noticed(name="send", retry=stored(first=600, cap=3_600), max_attempts=None).fails(4)
    [notice] = task.notices

    assert (notice.originator_id, notice.kind, notice.about) == ("ledger", "delay_at_cap", f"task:{task.state.task_id}")
    assert notice.name == "send"
    assert notice.text == "attempt 4 failed with ValueError: no; the retry delay has reached its cap, 3,600 s"
    assert notice.details == {"attempt": 4, "attempts_used": 4, "delay_seconds": 3_600.0}


@pytest.mark.parametrize(
    ("queued", "times", "kinds"),
    [
        ({"max_attempts": 12}, 12, ["out_of_attempts"]),
        ({"max_attempts": 1}, 1, ["out_of_attempts"]),
        (
            {"max_attempts": 3, "retry": stored(first=60, cap=60)},
            3,
            ["delay_at_cap", "delay_at_cap", "out_of_attempts"],
        ),
        ({"max_attempts": None}, 14, ["delay_at_cap"] * 3),
        ({"max_attempts": None, "retry": stored(first=0)}, 5, []),
        ({"max_attempts": None, "retry": stored(first=0, cap=0)}, 5, []),
        ({"max_attempts": None, "retry": stored(first=30, factor=1)}, 50, []),
        ({"max_attempts": None, "retry": stored(first=59, factor=1, cap=60, jitter=1)}, 50, []),
        (
            {"max_attempts": None, "retry": stored(first=60, factor=1000, cap=86_400, jitter=0.5)},
            3,
            ["delay_at_cap"],
        ),
    ],
)
def test_when_there_is_a_notice(queued: dict[str, Any], times: int, kinds: list[str]) -> None:
    """One for each failure at the cap and one for the end; a delay that never grows to it, or is none, raises none."""
    assert Noticed(**queued).fails(times).kinds() == kinds


def test_how_an_end_is_told() -> None:
    """Out of attempts and never retried are told apart, whatever the last outcome was."""
    failed = Noticed(max_attempts=2).fails(2).notices[-1]
    at_once = Noticed()
    at_once.claimed().fail(forever=True)
    lost, asked = Noticed(max_attempts=1), Noticed(max_attempts=1)
    lost.claimed().lose()
    asked.claimed().delay(5)

    assert failed.text == "failed for good: all 2 attempts are used; the last one failed with ValueError: no"
    assert at_once.notices[0].kind == "failed_at_once"
    assert at_once.notices[0].text == "failed for good: it is never retried after this: ValueError: no"
    assert lost.notices[0].text == "failed for good: its one attempt is used; the last one was lost: gone"
    assert asked.notices[0].text.endswith("its one attempt is used; the last one asked to run again in 5 s")


def test_what_raises_none() -> None:
    """Success, interruption, a delay that was asked for, and a cancelled task are nobody's trouble."""
    task = Noticed(retry=stored(first=60, cap=60))
    task.claimed().interrupt()
    task.claimed().delay(86_400)
    task.later(86_400).claimed().when(c.Cancel())
    task.fail()
    other = Noticed()
    other.claimed().succeed()

    assert task.kinds() == other.kinds() == []


def delays(first: float, factor: float, cap: float, count: int) -> list[float]:
    """The delays after each failure, by multiplication."""
    found, delay = [], first
    for _ in range(count):
        found.append(min(delay, cap))
        delay = min(delay * factor, 1e18)
    return found


@given(
    first=st.integers(0, 500),
    factor=st.integers(1, 10),
    cap=st.integers(0, 5_000),
    jitter=st.sampled_from([0.0, 0.3]),
    most=st.none() | st.integers(1, 12),
    outcomes=st.lists(st.sampled_from(["fail", "lose", "delay", "interrupt"]), max_size=15),
)
@settings(deadline=None, max_examples=200)
def test_any_policy(first: int, factor: int, cap: int, jitter: float, most: int | None, outcomes: list[str]) -> None:
    """Whatever the policy and the outcomes, the notices are those of a walk over the delays."""
    task = Noticed(retry=stored(first=first, factor=factor, cap=cap, jitter=jitter), max_attempts=most)
    expected, used = [], 0
    waits = delays(first, factor, cap, 20)
    for outcome in outcomes:
        if task.state.status != "waiting":
            break
        task.later(10**9).claimed()
        {"fail": task.fail, "lose": task.lose, "interrupt": task.interrupt, "delay": lambda: task.delay(1)}[outcome]()
        used += outcome != "interrupt"
        if used == most:
            expected.append("out_of_attempts")
        elif outcome in ("fail", "lose") and cap > 0 and waits[used - 1] == cap:
            expected.append("delay_at_cap")

    assert task.kinds() == expected
