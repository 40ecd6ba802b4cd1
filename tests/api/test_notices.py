"""Notices: in the log with the failure they are about, once, and given to the functions that asked for them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import Delay, Fail, InvalidOption, Ledger, Notice, Retry, current
from ledger.ledger_events import NoticeRaised
from ledger.testing import ManualClock, run_queue
from projections import queue, schedules
from tests.api.setup import open_ledger

each_database = pytest.mark.usefixtures("each_database")


def raised(ledger: Ledger) -> list[NoticeRaised]:
    with ledger.store.read() as snapshot:
        return [event for _, event in snapshot.stream("ledger") if isinstance(event, NoticeRaised)]


def told_by_the_log(ledger: Ledger) -> list[tuple[str, str, int, str]]:
    """(stream, kind, attempt, command) of each notice that the stored JSON of the tasks calls for, by its own rules."""
    with ledger.store.read() as snapshot:
        found = snapshot.rows("SELECT originator_id, topic, state FROM stored_events ORDER BY rowid")
    queued: dict[str, dict[str, Any]] = {}
    used: dict[str, int] = {}
    expected = []
    for stream, topic, state in found:
        data, kind = json.loads(state), topic.removesuffix(".v1")
        if kind in ("TaskQueued", "TaskRetried"):
            queued[stream], used[stream] = data, 0
        if kind not in ("TaskFailed", "TaskDelayed", "AttemptLost"):
            continue
        used[stream] += 1
        retry, most = queued[stream]["retry"], queued[stream].get("max_attempts")
        delay = retry["first"] * retry["factor"] ** (used[stream] - 1)
        if data["final"]:
            needs = "out_of_attempts" if used[stream] == most else "failed_at_once"
        elif kind != "TaskDelayed" and delay >= retry["cap"] > 0:
            needs = "delay_at_cap"
        else:
            continue
        expected.append((stream, needs, data["attempt"], data["command"]))
    return expected


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["ok", "error", "fail", "delay"]), min_size=1, max_size=4),
            st.sampled_from([None, 1, 2, 3]),
            st.sampled_from([(0, 1, 0), (1, 1, 1), (1, 2, 4), (60, 2, 86_400)]),
        ),
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_log_alone_tells_them(tasks: list[tuple[list[str], int | None, tuple[int, int, int]]]) -> None:
    """Whatever tasks do, the notices are those that a reader of the log derives, in its order, in the same commit."""
    ledger = open_ledger()

    @ledger.task
    def act(steps: list[str]) -> None:
        step = steps[min(current().attempt, len(steps)) - 1]
        if step == "error":
            raise ConnectionError("down")
        if step == "fail":
            raise Fail("never")
        if step == "delay":
            raise Delay(1)

    for steps, most, (first, factor, cap) in tasks:
        policy = Retry(first=first, factor=factor, cap=cap)
        act.using(max_attempts=most, retry=policy).enqueue([*steps, "ok"])
    run_queue(ledger, through_delays=True, max_tasks=40)

    found = [(one.about, one.kind, (one.details or {})["attempt"], one.command) for one in raised(ledger)]
    assert found == told_by_the_log(ledger)
    assert queue.verify(ledger) == []


@each_database
def test_a_hook_is_given_each_notice_once() -> None:
    """A function gets what was raised, in order, with what a person needs; nothing twice."""
    ledger = open_ledger()
    given_: list[Notice] = []

    @ledger.on_notice
    def tell(notice: Notice) -> None:
        given_.append(notice)

    @ledger.task(retry=False)
    def bad(number: int) -> None:
        raise ValueError(f"number {number}")

    ids = [bad.enqueue(number).id for number in range(3)]
    run_queue(ledger)
    run_queue(ledger)

    assert [one.about for one in given_] == [f"task:{one}" for one in ids]
    assert [one.subject for one in given_] == ["Task failed: bad"] * 3
    assert "ValueError: number 1" in given_[1].text
    assert [one.position for one in given_] == sorted(one.position for one in given_)


@each_database
def test_a_hook_that_fails_is_called_again_and_keeps_the_others_from_nothing() -> None:
    """What a hook raises is tried again after 10 s, doubling, from the same notice on; other hooks and tasks go on."""
    clock = ManualClock()
    ledger = open_ledger(clock)
    calls: list[str] = []

    @ledger.on_notice
    def broken(notice: Notice) -> None:
        calls.append(notice.details["attempt"])
        if len(calls) < 5:
            raise SystemExit("not now")

    @ledger.on_notice
    def whole(notice: Notice) -> None:
        calls.append("whole")

    @ledger.task(retry=False)
    def bad() -> None:
        raise ValueError("no")

    bad.enqueue()
    run_queue(ledger)
    assert calls == [1, "whole"]
    for seconds, count in ((9, 2), (1, 3), (19, 3), (1, 4), (39, 4), (1, 5)):
        clock.advance(timedelta(seconds=seconds))
        run_queue(ledger)
        assert len(calls) == count
    assert calls == [1, "whole", 1, 1, 1]


@each_database
def test_a_new_hook_begins_with_the_present() -> None:
    """A hook that was never there before is not told of the past; one that was gone for a while is told of all since."""
    ledger = open_ledger()
    given_: dict[str, list[str]] = {"early": [], "late": []}

    @ledger.task(retry=False)
    def bad(word: str) -> None:
        raise ValueError(word)

    def early(notice: Notice) -> None:
        given_["early"].append(notice.text.split()[-1])

    def late(notice: Notice) -> None:
        given_["late"].append(notice.text.split()[-1])

    ledger.on_notice(early)
    run_queue(ledger)
    ledger.notice_hooks.clear()
    bad.enqueue("one")
    run_queue(ledger)
    ledger.on_notice(early)
    ledger.on_notice(late)
    bad.enqueue("two")
    run_queue(ledger)

    assert given_ == {"early": ["one", "two"], "late": ["two"]}


@each_database
def test_what_is_no_hook_is_refused() -> None:
    """A coroutine function, something that cannot be called, and a second hook of one name are errors at once."""
    ledger = open_ledger()

    async def coroutine(notice: Notice) -> None: ...

    def plain(notice: Notice) -> None: ...

    ledger.on_notice(plain)
    for hook, why in ((coroutine, "plain function"), ("mail", "plain function"), (plain, "hook .*plain.* already")):
        with pytest.raises(InvalidOption, match=why):
            ledger.on_notice(hook)  # type: ignore[type-var]


class Hourly:
    """A schedule that runs at every full hour on a manual clock, and fails or succeeds as it is told."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()  # noon
        self.ledger = open_ledger(self.clock)
        self.fails = True
        self.ledger.schedule("0 * * * *", name="hourly", retry=Retry(first=60, factor=1), **options)(self.job)
        run_queue(self.ledger)

    def job(self) -> None:
        if self.fails:
            raise ConnectionError("down")

    def until(self, hours: float) -> list[str]:
        """Go on to so many hours after noon; return the notices of overdue schedules so far, by their hours."""
        moment = ManualClock().now() + timedelta(hours=hours)
        while self.clock.now() < moment:
            run_queue(self.ledger, until=min(self.clock.now() + timedelta(minutes=10), moment))
        assert schedules.verify(self.ledger) == []
        return [f"{one.at:%H}" for one in raised(self.ledger) if one.kind == "schedule_overdue"]


def test_a_schedule_that_does_not_succeed_raises_one_notice() -> None:
    """Past its fourth slot without a success, once, however long that lasts; again only after a success in between."""
    hourly = Hourly()
    assert hourly.until(3.9) == []
    assert hourly.until(4.5) == ["16"]
    assert hourly.until(9) == ["16"]
    [notice] = [one for one in raised(hourly.ledger) if one.kind == "schedule_overdue"]
    assert (notice.about, notice.name) == ("schedule:hourly", "hourly")
    assert notice.text == (
        "it has not succeeded since it was declared, enabled or changed at 2026-01-01 12:00 UTC, "
        "and more than 3 of its slots have passed"
    )
    assert notice.details is not None and notice.details["intervals"] == 3 and notice.details["failures"] > 0
    assert hourly.ledger.schedules.get("hourly").noticed_us is not None
    hourly.fails = False
    assert hourly.until(10.1) == ["16"]
    assert hourly.ledger.schedules.get("hourly").noticed_us is None
    hourly.fails = True
    assert hourly.until(13.9) == ["16"]
    assert hourly.until(16.5) == ["16", "02"]
    assert "it succeeded last at 2026-01-01 22:00 UTC" in raised(hourly.ledger)[-1].text


def test_a_schedule_that_stands_still_is_not_overdue() -> None:
    """Disabled by hand or with its component, a schedule is nobody's trouble; its slots count anew when it is enabled."""
    by_hand, by_component = Hourly(), Hourly(component="mail")
    by_hand.ledger.schedules.disable("hourly", reason="test")
    by_component.ledger.schedules.disable_component("mail", reason="test")
    assert by_hand.until(30) == by_component.until(30) == []
    by_hand.ledger.schedules.enable("hourly", reason="test")
    by_component.ledger.schedules.enable_component("mail", reason="test")
    assert by_hand.until(33.9) == by_component.until(33.9) == []
    assert by_hand.until(35) == by_component.until(35) == ["22"]


def test_a_schedule_counts_in_slots_not_in_hours() -> None:
    """A weekend without slots is no delay: a schedule of working days is overdue after four of those."""
    clock = ManualClock()  # a Thursday
    ledger = open_ledger(clock)

    @ledger.schedule("0 17 * * mon-fri", retry=Retry(first=3600, factor=1))
    def evening() -> None:
        raise ConnectionError("down")

    run_queue(ledger)
    found = []
    for _ in range(7):
        for _ in range(24):
            run_queue(ledger, until=clock.now() + timedelta(hours=1))
        found.append(len([one for one in raised(ledger) if one.kind == "schedule_overdue"]))

    assert found == [0, 0, 0, 0, 0, 1, 1], "Thursday, Friday, Monday and Tuesday 17:00 have passed on the sixth noon"
