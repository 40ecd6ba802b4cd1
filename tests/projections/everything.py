"""Make a ledger to which everything has happened that report views tell of, on a clock moved by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ledger import Ledger, Retry
from ledger import commands as c
from ledger import events as e
from ledger.acts import act_on, enqueue
from ledger.forks import fork
from ledger.ids import mint
from ledger.ledger_events import InboxDiscarded, OutputPruned
from ledger.testing import ManualClock, run_queue

START = datetime(2026, 3, 2, 12, 20, tzinfo=UTC)
SECRET = "hunter2-secret"


def ledger_at(path: Path, clock: ManualClock | None = None) -> Ledger:
    """Return a ledger in a file with tasks of every fate and schedules."""
    return ledger_of(f"sqlite:///{path}", clock)


def ledger_of(url: str, clock: ManualClock | None = None) -> Ledger:
    """Return a ledger on the database of *url* with tasks of every fate and schedules."""
    ledger = Ledger(url, clock=clock or ManualClock(START))

    @ledger.task(queue="mail", max_attempts=3, retry=Retry(first=60))
    def flaky(n: int) -> int:
        print(f"line of {n}")
        if n % 3 == 0 and ledger.current().attempt < 1 + n % 4:
            raise ValueError(f"no {n}")
        return n

    @ledger.task(max_attempts=2, retry=Retry(first=30))
    def doomed(n: int) -> None:
        raise KeyError("=cmd|' /C calc'!A0")

    @ledger.task(retry=Retry(first=10))
    def later() -> None:
        if ledger.current().attempt == 1:
            ledger.current().delay(5)

    @ledger.task
    def measured() -> None:
        ledger.current().progress(1, 2)

    @ledger.schedule("*/10 * * * *", component="reporting")
    def often() -> str:
        return "often"

    @ledger.schedule("0 3 * * *", component="nights", max_attempts=3, retry=Retry(first=86_400))
    def nightly() -> None:
        raise OSError("not today")

    return ledger


def fill(ledger: Ledger, count: int = 30) -> None:
    """Let everything happen."""
    functions = ledger.functions
    clock: Any = ledger.clock
    run_queue(ledger)  # declares the schedule
    ledger.enqueue_many(functions["flaky"].call(n) for n in range(count))
    ledger.enqueue_many(functions["doomed"].using(run_as="alice", labels=("a", "b")).call(n) for n in range(count // 6))
    functions["later"].using(unique="once").enqueue()
    run_queue(ledger, until=clock.now() + timedelta(minutes=45))
    failed = functions["doomed"].enqueue(n=0)
    run_queue(ledger, until=clock.now() + timedelta(minutes=5))
    ledger.retry(failed.id, reason="once more", actor="bob")
    waiting = functions["flaky"].using(run_after=timedelta(days=1)).enqueue(n=1)
    ledger.reschedule(waiting.id, timedelta(days=2), reason="not yet", actor="bob")
    ledger.cancel(waiting.id, reason="not at all", actor="bob")
    ledger.schedules.set("often", minute="*/5", reason="more often", actor="bob")
    clock.advance(timedelta(hours=1))  # slots are missed
    run_queue(ledger, until=clock.now() + timedelta(minutes=7))
    ledger.schedules.disable("often", reason="enough", actor="bob")
    ledger.schedules.disable_component("reporting", reason="all of it", actor="bob")
    ledger.controls.pause("mail", reason="mail host moves", actor="bob")
    ledger.controls.resume("mail", reason="moved", actor="bob")
    ledger.controls.pause("mail", reason="once more", actor="ann")
    lost_and_late(ledger)
    printed(ledger)
    hidden(ledger)
    governed(ledger)
    worked(ledger)


def do(ledger: Ledger, task_id: str, *commands: c.Command) -> None:
    """Carry out commands on a task as the worker ``w1`` would."""
    with ledger.store.write() as unit:
        for command in commands:
            act_on(unit, task_id, command, c.Act(id=mint(unit.now), at=unit.now, actor="worker:w1"))


def lost_and_late(ledger: Ledger) -> None:
    """Lose attempts, give one back, let a result come too late, cancel one that runs."""
    clock: Any = ledger.clock
    task = ledger.functions["flaky"].enqueue(n=1)
    claim = c.Claim(worker="w1", seen=0)
    do(ledger, task.id, claim, c.Interrupt(attempt=1, worker="w1", cause="shutdown"), claim)
    clock.advance(timedelta(seconds=3))
    do(ledger, task.id, c.Lose(attempt=2, worker="w1", cause="killed"))
    late = c.Succeed(attempt=2, worker="w1", started_at=clock.now(), finished_at=clock.now(), result=1)
    do(ledger, task.id, late)
    cancelled = ledger.functions["flaky"].enqueue(n=2)
    do(ledger, cancelled.id, claim)
    ledger.cancel(cancelled.id, reason="stop it", actor="bob")
    do(ledger, cancelled.id, c.Interrupt(attempt=1, worker="w1", cause="shutdown"))


def printed(ledger: Ledger) -> None:
    """Let two attempts end with output, of which one is pruned."""
    digest = e.OutputDigest(sha256="ab" * 32, bytes=120, lines=3, dropped_bytes=7, dropped_lines=1)
    ids = []
    for n in range(2):
        ids.append(ledger.functions["flaky"].enqueue(n=n).id)
        moment = ledger.clock.now()
        usage = e.Usage(cpu_seconds=0.25, peak_rss_bytes=1_000_000)
        success = c.Succeed(
            attempt=1, worker="w1", started_at=moment, finished_at=moment, result=1, output=digest, usage=usage
        )
        do(ledger, ids[-1], c.Claim(worker="w1", seen=0), success)
    with ledger.store.write() as unit:
        act = ledger.act(unit, "bob", "space")
        pruned = OutputPruned(
            originator_id="output:flaky",
            originator_version=1,
            command=act.id,
            at=act.at,
            actor=act.actor,
            reason=act.reason,
            name="flaky",
            attempts=[[ids[0], 1]],
            bytes=120,
            cause="older than a day",
        )
        lost = mint(act.at)
        discarded = InboxDiscarded(
            originator_id=f"inbox:{lost}",
            originator_version=1,
            command=act.id,
            at=act.at,
            actor=act.actor,
            reason=act.reason,
            task=lost,
            error="CorruptEvent: unknown topic",
            sha256="cd" * 32,
        )
        unit.append([pruned, discarded])


def hidden(ledger: Ledger) -> None:
    """Queue a task with a hidden argument."""
    new = ledger.functions["flaky"].call(n=5).new_task(mint(ledger.clock.now()), None)
    command = replace(new.command, args={"n": 5, "password": SECRET}, hidden=["password"])
    with ledger.store.write() as unit:
        enqueue(unit, [replace(new, command=command)], ledger.act(unit, "bob"))


def governed(ledger: Ledger) -> None:
    """Let somebody change what governs the running of tasks, and schedules by all the ways there are."""
    by: dict[str, Any] = {"reason": "as agreed", "actor": "ann"}
    ledger.schedules.disable("nightly", **by)
    ledger.schedules.enable("nightly", **by)
    ledger.schedules.set("nightly", minute="30", **by)
    ledger.schedules.reset("nightly", **by)
    ledger.schedules.disable_component("nights", **by)
    ledger.schedules.enable_component("nights", **by)
    ledger.schedules.run_now("nightly", **by)
    run_queue(ledger)
    ledger.schedules.clear_delay("nightly", **by)
    ledger.controls.set_limit("task:flaky", 3, **by)
    ledger.controls.disable_runners(**by)
    ledger.controls.enable_runners(**by)
    ledger.controls.clear_caches(**by)
    revealed = ledger.functions["measured"].enqueue()
    revealed.reveal(**by)
    fork(ledger, revealed.id, **by)
    run_queue(ledger)
    ledger.controls.stop(**by)
    del ledger.schedules.declarations["nightly"]
    ledger.schedules.sync(**by)


def worked(ledger: Ledger) -> None:
    """Let a worker come and go."""
    with ledger.store.write() as unit:
        act = ledger.act(unit, "worker:w2")
        said: dict[str, Any] = {"command": act.id, "at": act.at, "actor": act.actor, "originator_id": "worker:w2"}
        facts: dict[str, Any] = {"name": "w", "host": "here", "pid": 1, "app": "app", "threads": 1, "queues": ["mail"]}
        unit.append([e.WorkerStarted(**said, originator_version=1, **facts)])
        unit.append([e.WorkerStopped(**said, originator_version=2, cause="stopped")])
