"""Explain a decision of the past: what the runner saw then, and what the pure plan makes of that again."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ledger import keys
from ledger.api import Ledger
from ledger.clock import to_us
from ledger.events import TaskClaimed, WorkerStarted
from ledger.moments import has_come
from ledger.past import Past
from ledger.record import TaskRecord
from ledger.store import Recorded
from ledger.task import WAITING, TaskState
from ledger.world import WORKER_PREFIX
from projections.heartbeat import Heartbeat
from projections.queue import Row
from projections.tasks import stamp
from runner.control_rows import holds
from runner.past_rows import controls_of
from runner.plan import NAME, QUEUE, Plan, plan
from runner.why import why


class Seen(NamedTuple):
    """What a plan was made from, and made again: the due rows that could be claimed, and the plan of all of them."""

    rows: list[Row]
    plan: Plan


def why_then(ledger: Ledger, task_id: str, past: Past) -> list[str]:
    """Return in sentences why the task was where it was: the facts of that position, then what the plan made of them.

    Raises:
        NotFound: There was no such task then.
    """
    record = past.get(task_id)
    state = record.state
    before = sum(_goes_before(row, record) for row in _due(past, to_us(past.at))) if state.status == WAITING else 0
    held_up = holds(state, controls_of(past), past.running_counts())
    said = why(record, past.at, _workers(past), before, _key_holder(ledger, record, past), held_up)
    said = [f"This is of position {past.position}, {stamp(past.at)}.", *said]
    if state.status == WAITING:
        return [*said, *_of_the_plan(past, task_id)]
    claim = _last_claim(past.events(task_id))
    return [*said, *_of_the_claim(ledger, claim)] if claim is not None else said


def seen_at(past: Past, now_us: int, queues: frozenset[str] = frozenset()) -> Seen:
    """Return what could be claimed of *queues* (empty: all) at the position, and the plan for any number of slots."""
    rows = [row for row in _due(past, now_us) if not queues or row[QUEUE] in queues]
    controls = controls_of(past)
    rows = [] if controls.disabled else [row for row in rows if controls.paused(row[QUEUE]) is None]
    chosen = plan(rows, past.running_counts(), max(len(rows), 1), is_idle=True, limits=controls.limits)
    return Seen(rows, chosen)


def _due(past: Past, now_us: int) -> list[Row]:
    return [
        (position, *state)
        for position, state in past.waiting()
        if state.due_us <= now_us and not has_come(state.expires_us, now_us)
    ]


def _goes_before(row: Row, record: TaskRecord) -> bool:
    state = record.state
    other = TaskState._make(row[1:])
    mine = (-state.priority, state.due_us, record.queued_position)
    return other.queue == state.queue and (-other.priority, other.due_us, row[0]) < mine


def _key_holder(ledger: Ledger, record: TaskRecord, past: Past) -> str | None:
    if record.queued.key_stream is None:
        return None
    with ledger.store.read() as snapshot:
        found = [one.event for one in snapshot.stream(record.queued.key_stream) if one.position <= past.position]
    return keys.holder(found[-1]) if found else None


def _workers(past: Past) -> list[Heartbeat]:
    """Return the workers that had started, as if each was heard of: heartbeats are not kept."""
    # Which names a worker knew is not in the log either: it shall know all that are live.
    names = _json(sorted({task.state.name for task in past.world.tasks.values()}))
    return [
        Heartbeat(
            one.worker_id,
            one.name,
            one.host,
            boot="",
            pid=one.pid,
            pid_started=0.0,
            started_us=one.started_us,
            beat_us=to_us(past.at),
            beats=1,
            threads=one.threads,
            queues=_json(one.queues),
            lease_us=0,
            names=names,
        )
        for one in past.workers()
    ]


def _json(texts: object) -> str:
    return orjson.dumps(texts).decode()


def _of_the_plan(past: Past, task_id: str) -> list[str]:
    seen = seen_at(past, to_us(past.at))
    places = [row[1] for row in seen.plan.claims]
    if task_id in places:
        place = places.index(task_id) + 1
        return [
            f"The plan made again from that position claims it as number {place} of {len(places)}, as slots are free: "
            f"{_slots(past)}."
        ]
    passed = next((full for row, full in seen.plan.passed if row[1] == task_id), None)
    if passed is not None:
        return [f"The plan made again passes it over: the limit {passed.limit.scope} was full at {passed.running}."]
    return [f"The plan made again from that position claims {len(places)} tasks and not this one."]


def _slots(past: Past) -> str:
    threads = sum(worker.threads for worker in past.workers())
    running = len(past.running())
    return f"{threads} slots of {len(past.workers())} workers, {running} of them running"


def _last_claim(events: list[Recorded]) -> Recorded | None:
    found = [one for one in events if isinstance(one.event, TaskClaimed)]
    return found[-1] if found else None


def _of_the_claim(ledger: Ledger, claim: Recorded) -> list[str]:
    """Return what the worker saw that claimed the task, and the place that the plan gave it."""
    event = claim.event
    assert isinstance(event, TaskClaimed)
    with ledger.store.read() as snapshot:
        snapshot.head()
        started = snapshot.stream(WORKER_PREFIX + event.worker)
        batch = [raw for raw in snapshot.events_after(event.seen, 5_000) if raw[3] == TaskClaimed.TOPIC]
        claims = [one for raw in batch if (one := snapshot.decode(raw)).command == event.command]
    queues = next((one.event.queues for one in started if isinstance(one.event, WorkerStarted)), [])
    seen = seen_at(ledger.as_of(event.seen), to_us(event.at), frozenset(queues))
    task_id = event.originator_id.partition(":")[2]
    places = [row[1] for row in seen.plan.claims]
    names = len({row[NAME] for row in seen.rows})
    said = [
        f"Attempt {event.attempt} was claimed at position {claim.position} by worker {event.worker}, which saw position "
        f"{event.seen}: {_count(len(seen.rows), 'due task')} of {_count(names, 'name')}, and claimed {len(claims)}."
    ]
    if task_id not in places:
        return [*said, "The plan made again from there does not claim it: it was run by hand, or by other rules."]
    return [*said, f"The plan made again from there gives it place {places.index(task_id) + 1} of {len(places)}."]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
