"""Put what governs the running of tasks into words: marks, limits, and what holds a waiting task up. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.clock import from_us
from ledger.control_rules import QUEUE_PREFIX, LimitState
from ledger.limits import KEY, LEDGER, QUEUE, TASK, UNLIMITED, Full, Running, fulls
from ledger.task import TaskState
from ledger.values import matches
from projections.control_fold import Mark
from projections.controls import Controls
from projections.heartbeat import Heartbeat
from projections.tasks import stamp

CONTROL_COLUMNS = ("control", "name", "at", "actor", "reason", "details")
LIMIT_COLUMNS = ("scope", "most", "source", "running", "code", "hand", "configuration", "at", "actor", "reason")
_NAMES = {QUEUE: "queue", TASK: "task", KEY: "concurrency key"}


def mark_row(mark: Mark) -> dict[str, Any]:
    """Return who said it, when and why, as one JSON object."""
    return {"at": from_us(mark.at_us), "actor": mark.actor, "reason": mark.reason}


def control_rows(controls: Controls, workers: Iterable[Heartbeat]) -> list[dict[str, Any]]:
    """Return what keeps work from going on as usual: disabled runners, paused queues, workers that are to leave."""
    rows = []
    if (mark := controls.disabled) is not None:
        rows.append({"control": "runners disabled", "name": None, **mark_row(mark), "details": None})
    for mark in controls.marks.values():
        if mark.mark.startswith(QUEUE_PREFIX):
            queue = mark.mark.removeprefix(QUEUE_PREFIX)
            rows.append({"control": "queue paused", "name": queue, **mark_row(mark), "details": None})
    told = [told_to_leave(worker, controls) for worker in workers]
    for what, mark in (("stop requested", controls.stop), ("recycling", controls.caches)):
        count = sum(found is not None and found[0] == what for found in told)
        if mark is not None and count:
            details = f"{count} {'worker has' if count == 1 else 'workers have'} not left yet"
            rows.append({"control": what, "name": None, **mark_row(mark), "details": details})
    return rows


def told_to_leave(worker: Heartbeat, controls: Controls) -> tuple[str, Mark] | None:
    """Return what a worker was told since it started, and who told it; a run in its caller's thread hears only a stop."""
    if controls.stop is not None and worker.started_us < controls.stop.at_us:
        return "stop requested", controls.stop
    if controls.caches is not None and worker.lease_us and worker.started_us < controls.caches.at_us:
        return "recycling", controls.caches
    return None


def leaving_for(worker: Heartbeat, controls: Controls) -> str | None:
    """Return in words why a worker is to leave, or None."""
    told = told_to_leave(worker, controls)
    return None if told is None else f"{told[0]} by {told[1].actor}: {told[1].reason}"


def limit_row(state: LimitState, running: Running) -> dict[str, Any]:
    """Return what ``limit list`` tells of one scope; *running* of a pattern is that of the fullest that fits."""
    force = state.in_force
    fullest, count = _fullest(state.scope, running)
    return {
        "scope": state.scope,
        "most": None if force is None or force.most is None else force.most,
        "source": None if force is None else force.source,
        "running": count,
        "fullest": fullest,
        **{source: _said(getattr(state, source)) for source in ("code", "hand", "configuration")},
        "app": state.app,
        "at": from_us(state.at_us),
        "actor": state.actor,
        "reason": state.reason,
    }


def _said(most: int | None) -> int | str | None:
    return "none" if most == UNLIMITED else most


def _fullest(scope: str, running: Running) -> tuple[str | None, int]:
    kind, _, name = scope.partition(":")
    if kind == LEDGER:
        return None, running.total
    counts = [(count, what) for (of, what), count in running.of.items() if of == kind and matches(name, what)]
    count, what = max(counts, default=(0, None))
    return (what if "*" in name else None), count


def holds(state: TaskState, controls: Controls, running: Running) -> list[str]:
    """Return in sentences what keeps a due task from beginning, whatever workers there are."""
    sentences = []
    if (mark := controls.disabled) is not None:
        sentences.append(f"The runners are disabled {_since(mark)}; `runners enable` lets work go on.")
    if (mark := controls.paused(state.queue)) is not None:
        sentences.append(f"Queue {state.queue!r} is paused {_since(mark)}; `queue resume` lets it go on.")
    return [*sentences, *map(_full, fulls(controls.limits, running, state.name, state.queue, state.concurrency_key))]


def _since(mark: Mark) -> str:
    return f"since {stamp(from_us(mark.at_us))} by {mark.actor}: {mark.reason}"


def _full(full: Full) -> str:
    limit = full.limit
    what = "the ledger" if limit.kind == LEDGER else f"{_NAMES[limit.kind]} {full.name!r}"
    scope = "" if limit.kind == LEDGER or limit.scope == f"{limit.kind}:{full.name}" else f", {limit.scope}"
    verb = "runs" if full.running == 1 else "run"
    return f"The limit of {what} is full: {full.running} {verb}, at most {limit.most} may (by {limit.source}{scope})."
