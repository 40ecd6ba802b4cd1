"""What was decided is decided again from the log alone, and the first difference is named by its position."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import InvalidOption, Ledger, Retry
from ledger import commands as c
from ledger import events as e
from ledger import schedule_events as s
from ledger.event import Event
from ledger.testing import ManualClock, memory_ledger, run_queue
from runner.cycle import Cycle
from runner.decisions import decisions
from runner.losses import end_worker, lost
from runner.names import present_name
from runner.single import run_one
from tests.api.setup import REASON, count_events
from tests.invoking import invoke
from tests.ledger.living import live


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on each kind of database, on a manual clock."""
    ledger = Ledger(url, clock=ManualClock())
    yield ledger
    ledger.close()


def rewritten(ledger: Ledger, change: Callable[[int, Event], Event]) -> Ledger:
    """A new ledger with the log of another one, in which events are changed as other rules would have written them."""
    other = memory_ledger()
    with ledger.store.read() as snapshot:
        snapshot.head()
        events = [(raw[0], snapshot.decode(raw)) for raw in snapshot.events_after(0, 10_000)]
    with other.store.write() as unit:
        for position, event in events:
            assert unit.append([change(position, event)]) == [position]
    return other


def position_of(ledger: Ledger, kind: type[Event], nth: int = 0) -> int:
    with ledger.store.read() as snapshot:
        snapshot.head()
        return [raw[0] for raw in snapshot.events_after(0, 10_000) if raw[3] == kind.TOPIC][nth]


@pytest.mark.parametrize("seed", [3, 4])
def test_what_this_code_has_decided_it_decides_again(ledger: Ledger, seed: int) -> None:
    """Claims, retries and firings of a ledger that has lived differ in nothing, from the beginning and from halfway."""
    live(ledger, seed)
    found = decisions(ledger, present=present_name(ledger.functions))
    assert found.difference is None
    assert found.claims > 10 and found.retries > 0 and found.firings > 1
    half = decisions(ledger, count_events(ledger) // 2)
    assert half.difference is None and half.since == count_events(ledger) // 2
    assert 0 < half.claims < found.claims
    with pytest.raises(InvalidOption, match="lies before"):
        decisions(ledger, 9, 3)


def failing() -> Ledger:
    ledger = memory_ledger()

    @ledger.task(max_attempts=4, retry=Retry(first=100, factor=3))
    def job() -> None:
        raise ValueError("no")

    job.enqueue()
    run_queue(ledger, through_delays=True)
    return ledger


def test_a_changed_retry_rule_is_named_by_its_first_position() -> None:
    """A log written by a rule with another delay: the first retry time of it, and what the rules say now."""
    ledger = failing()
    assert decisions(ledger).difference is None

    def longer(_: int, event: Event) -> Event:
        if isinstance(event, e.TaskFailed) and event.retry_at is not None and event.attempt >= 2:
            return replace(event, retry_at=event.retry_at + timedelta(seconds=1))
        return event

    found = decisions(rewritten(ledger, longer))
    assert found.difference is not None
    assert found.difference.position == position_of(ledger, e.TaskFailed, 1)
    assert "was to be retried at 2026-01-01T12:06:41+00:00, the rules now say 2026-01-01T12:06:40+00:00" in (
        found.difference.text
    )

    def sooner(_: int, event: Event) -> Event:
        """As a version before `retry_at` was kept, whose delays were half as long: only the claims tell."""
        event = replace(event, retry_at=None) if isinstance(event, e.TaskFailed) else event
        return replace(event, at=event.at - timedelta(seconds=50)) if event.at.minute > 1 else event

    found = decisions(rewritten(ledger, sooner))
    assert found.difference is not None
    assert found.difference.position == position_of(ledger, e.TaskClaimed, 2)
    assert "was claimed although it was not due until" in found.difference.text


def test_a_lost_attempt_is_judged_like_a_failed_one() -> None:
    """Its retry time too; and one that would have had no attempts left."""
    ledger = memory_ledger()
    ledger.task(name="job", max_attempts=2)(lambda: None).enqueue()
    Cycle(ledger, "w1").turn([], 1, is_idle=True)
    end_worker(ledger, "w1", "died", lost("died"), actor="system:test")
    assert decisions(ledger).retries == 1 and decisions(ledger).difference is None

    def change(_: int, event: Event) -> Event:
        return replace(event, max_attempts=1) if isinstance(event, e.TaskQueued) else event

    found = decisions(rewritten(ledger, change)).difference
    assert found is not None and found.position == position_of(ledger, e.AttemptLost)
    assert "its 1 attempts are used" in found.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda event: replace(event, slot=event.slot + timedelta(minutes=1)),
            "the rules now say slot 2026-01-01T12:2",
        ),
        (lambda event: replace(event, task="019b796d-d600-8687-a304-309d8e87a611"), "as task 019b796d-d600-8687"),
    ],
)
def test_a_forged_firing_is_named(change: Callable[[Any], Event], said: str) -> None:
    """A slot that the schedule does not have, as another cron library would give, or a run that is not that slot's."""
    ledger = memory_ledger()
    ledger.schedule("*/10 * * * *", name="often")(lambda: None)
    ledger.schedules.sync(reason=REASON)
    for _ in range(3):
        ledger.clock.sleep(600)
        run_queue(ledger)
    assert decisions(ledger).firings == 3
    forged = position_of(ledger, s.SlotFired, 1)
    other = rewritten(ledger, lambda position, event: change(event) if position == forged else event)
    found = decisions(other).difference
    assert found is not None and found.position == forged
    assert said in found.text
    before = decisions(other, 0, forged - 1)
    assert before.difference is None and before.firings == 1


def test_a_firing_that_nobody_may_make_is_named() -> None:
    """One appended behind the ledger's back, while nothing is due; misses that were none."""
    ledger = memory_ledger()
    ledger.schedule("0 5 * * *", name="early")(lambda: None)
    ledger.schedules.sync(reason=REASON)
    run_queue(ledger)
    state = ledger.schedules.get("early")
    envelope: dict[str, Any] = {"command": "forged", "at": ledger.clock.now(), "actor": "worker:w"}
    stream = {"originator_id": "schedule:early", "originator_version": state.version + 1}
    slot = ledger.clock.now()
    with ledger.store.write() as unit:
        [position] = unit.append(
            [s.SlotsMissed(**envelope, **stream, first=slot, last=slot, count=1, cause="forged", run_later=[])]
        )
    found = decisions(ledger).difference
    assert found is not None and found.position == position
    assert "1 missed 2026-01-01T12:00:00+00:00" in found.text and "now say nothing" in found.text


def test_claims_that_were_not_allowed_are_named() -> None:
    """Beyond a limit, of a paused queue, by disabled runners, of a queue not served, of what does not wait."""

    def claimed(prepare: Callable[[Ledger, Any], object], queues: list[str] | None = None) -> str:
        ledger = memory_ledger()
        job: Any = ledger.task(name="job")(lambda: None)
        job.enqueue(), job.enqueue()
        started = e.WorkerStarted(
            originator_id="worker:w1", originator_version=1, command="s", at=ledger.clock.now(), actor="worker:w1",
            name="w", host="h", pid=1, app="", threads=1, queues=queues or [],
        )  # fmt: skip
        with ledger.store.write() as unit:
            unit.append([started])
        prepare(ledger, job)
        with ledger.store.write() as unit:
            seen = unit.head()
            claims = [
                e.TaskClaimed(
                    originator_id="task:" + task.state.task_id, originator_version=task.state.version + 1, command="c",
                    at=unit.now, actor="worker:w1", attempt=1, worker="w1", seen=seen,
                )
                for task in ledger.as_of(seen).waiting()
            ]  # fmt: skip
            positions = unit.append(claims)
        found = decisions(ledger).difference
        return (
            "" if found is None else f"{positions.index(found.position) + 1}: {found.text.partition(' although ')[2]}"
        )

    assert claimed(lambda ledger, job: None) == ""
    assert claimed(lambda ledger, job: None, ["default"]) == ""
    assert claimed(lambda ledger, job: None, ["mail"]) == "1: its worker did not serve queue 'default'"
    assert claimed(lambda ledger, job: ledger.controls.set_limit("task:job", 1, reason=REASON)) == (
        "2: limit task:job was full at 1"
    )
    assert claimed(lambda ledger, job: ledger.controls.pause("default", reason=REASON)) == "1: its queue was paused"
    assert claimed(lambda ledger, job: ledger.controls.disable_runners(reason=REASON)) == "1: the runners were disabled"
    assert claimed(lambda ledger, job: job.using(run_after=timedelta(hours=1)).enqueue()).startswith(
        "3: it was not due"
    )
    assert claimed(lambda ledger, job: (job.using(expires=timedelta(seconds=5)).enqueue(), ledger.clock.sleep(9))) == (
        "3: it had expired"
    )


def test_a_task_run_by_hand_passes_limits_and_pauses(ledger: Ledger) -> None:
    """`task run` asks neither, and is no difference."""
    ledger.task(name="job", limit=1)(lambda: None)
    job: Any = ledger.functions["job"]
    ledger.controls.register()
    task = job.enqueue()
    ledger.controls.pause("default", reason=REASON)
    assert run_one(ledger, task.id) == "succeeded"
    assert decisions(ledger).claims == 1 and decisions(ledger).difference is None


def test_the_command_tells_counts_and_the_first_difference(tmp_path: Path) -> None:
    """Exit 0 where all is decided so now, 1 with the position where not."""
    url = f"sqlite:///{tmp_path}/work.db"
    ledger = Ledger(url, clock=ManualClock())
    ledger.task(name="job")(lambda: None).enqueue()
    run_queue(ledger)

    def call(code: int) -> dict[str, Any]:
        result = invoke(["--url", url, "replay", "decisions", "-o", "json"])
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.output)
        return found

    assert call(0) == {"from": 0, "to": 3, "firings": 0, "retries": 0, "claims": 1, "difference": None}
    with ledger.store.write() as unit:
        act = c.Act(id="x", at=unit.now, actor="worker:w")
        late = e.TaskClaimed(
            originator_id=f"task:{'0' * 36}", originator_version=1, command=act.id, at=act.at, actor=act.actor,
            attempt=1, worker="w", seen=3,
        )  # fmt: skip
        unit.append([late])
    assert call(1)["difference"] == {"position": 4, "text": f"task {'0' * 36} was claimed although it was not live"}
    ledger.close()
