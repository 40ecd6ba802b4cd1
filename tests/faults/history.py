"""Check a finished history: what the log says and what the tasks did must keep the promises, and agree.

The checker shares no code with the ledger, on purpose. It reads the rows of `stored_events` and the lines that the
tasks themselves wrote, folds them by rules of its own, and describes every violation in a sentence.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.faults.rules import Rules

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SLACK_US = 50_000
"""How far the wall clock of the log and the monotonic clock of the effects may drift apart during one history."""
LATEST = 1 << 62
OUTCOMES = ("TaskSucceeded", "TaskFailed", "TaskDelayed", "AttemptLost", "AttemptInterrupted")


class Event(NamedTuple):
    """One stored event; *data* is its parsed JSON."""

    position: int
    stream: str
    version: int
    topic: str
    data: dict[str, Any]


class Effect(NamedTuple):
    """One line that an attempt wrote itself; *kind* is ``begin`` or ``end``."""

    task: str
    attempt: int
    token: str
    pid: int
    kind: str
    monotonic_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that is known of a finished run. *acknowledged* are the ids that enqueue returned."""

    events: Sequence[Event]
    effects: Sequence[Effect] = ()
    acknowledged: Sequence[str] = ()
    wall_minus_monotonic_us: int = 0


@dataclass(slots=True)
class Attempt:
    """One claim of a task and what became of it."""

    worker: str
    claimed_us: int
    outcome: str | None = None
    ended_us: int = LATEST


@dataclass(slots=True)
class Task:
    """One task as its events tell it."""

    id: str
    data: dict[str, Any]
    due_us: int
    status: str = "waiting"
    used: int = 0
    is_lost: bool = False
    expires_us: int = LATEST
    is_cancelling: bool = False
    is_claimed_this_round: bool = False
    attempts: dict[int, Attempt] = field(default_factory=dict)

    @property
    def running(self) -> Attempt | None:
        """The newest attempt while the task runs."""
        return self.attempts[max(self.attempts)] if self.status == "running" else None

    @property
    def is_live(self) -> bool:
        """Whether it waits or runs."""
        return self.status in ("waiting", "running")


def read_history(url: str, directory: Path) -> History:
    """Return the history of the ledger at *url* with the ``*.effects`` and ``*.acknowledged`` of *directory*."""
    if url.startswith("postgresql:"):
        events = _by_act(postgres_rows(url, "SELECT e.*, s.xmin::text FROM events AS e JOIN stored_events AS s"
                                            " ON s.notification_id = e.position ORDER BY e.position"))  # fmt: skip
    else:
        with closing(sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events ORDER BY rowid"
            ).fetchall()
        events = [Event(*row[:4], json.loads(row[4])) for row in rows]
    return History(
        events=events,
        effects=[Effect(**line) for line in _lines(directory, "*.effects")],
        acknowledged=[line["id"] for line in _lines(directory, "*.acknowledged")],
        wall_minus_monotonic_us=(time.time_ns() - time.monotonic_ns()) // 1000,
    )


def postgres_rows(url: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return what a reader of the ledger's schema at *url* sees."""
    base, _, schema = url.partition("&schema=")
    with psycopg.connect(base) as connection:
        connection.execute(f"SET search_path = {schema}")
        return connection.execute(sql.replace("?", "%s"), parameters).fetchall()


def _by_act(rows: Sequence[tuple[Any, ...]]) -> list[Event]:
    """Return events with those of each act together, where its last one stands, numbered anew without holes.

    Acts that append at the same time draw positions in turn; that neither depends on the other is shown by the streams,
    whose order is kept or `check` complains. All events of an act must be of one transaction.
    """
    events = [Event(*row[:4], json.loads(row[4])) for row in rows]
    ends: dict[str, int] = {}
    transactions: dict[str, str] = {}
    for event, row in zip(events, rows, strict=True):
        act = event.data["command"]
        ends[act] = event.position
        if transactions.setdefault(act, row[5]) != row[5]:
            raise AssertionError(f"position {event.position}: the events of act {act} are of two transactions")
    ordered = sorted(events, key=lambda event: (ends[event.data["command"]], event.position))
    numbers = {event.position: number for number, event in enumerate(ordered, 1)}
    for event in ordered:
        if event.data.get("seen"):  # a position too: of an event, since a view has folded up to it
            event.data["seen"] = numbers[event.data["seen"]]
    return [event._replace(position=numbers[event.position]) for event in ordered]


def _lines(directory: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(directory.glob(pattern)) for line in path.read_text().splitlines()]


def check(history: History) -> list[str]:
    """Return a sentence for each violation; an empty list means that the history keeps the promises."""
    return fold_of(history).problems


def fold_of(history: History) -> _Fold:
    """Return the whole history folded, with a sentence for each violation."""
    fold = _Fold(_order(history.events))
    seen: set[str] = set()
    for command, group in groupby(history.events, key=lambda event: event.data.get("command", "")):
        events = list(group)
        if command in seen or not command:
            fold.problems.append(f"position {events[0].position}: the events of act {command!r} are split or unnamed")
        seen.add(command)
        for event in events:
            fold.take(event)
        fold.settle_keys(events)
    fold.problems += [f"{stream}: no notice {kind} stands with it" for _, stream, kind in fold.noticeable]
    fold.problems += _acknowledged(history, fold.tasks)
    fold.problems += _effects(history, fold)
    return fold


def moment_us(text: str) -> int:
    """Return an RFC 3339 time as microseconds since 1970."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def _least_delay(policy: dict[str, float], used: int) -> float:
    """Return the seconds to wait after *used* attempts, the jitter (which only lengthens) left out."""
    if not policy["first"]:
        return 0
    return min(policy["cap"], policy["first"] * policy["factor"] ** min(used - 1, 60))


def _order(events: Sequence[Event]) -> list[str]:
    problems = []
    versions: Counter[str] = Counter()
    for expected, event in enumerate(events, 1):
        if event.position != expected:
            problems.append(f"position {event.position} stands where {expected} should")
        versions[event.stream] += 1
        if event.version != versions[event.stream]:
            problems.append(
                f"position {event.position}: {event.stream} has version {event.version}, not {versions[event.stream]}"
            )
    return problems


class _Fold:
    """The tasks, keys and workers as the log tells them, and the problems met on the way."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.tasks: dict[str, Task] = {}
        self.pids: dict[str, int] = {}
        self.held: defaultdict[str, set[str]] = defaultdict(set)
        self.holders: dict[str, str] = {}
        self.noticeable: list[tuple[str, str, str]] = []
        """(command, stream, kind) of each notice that is due and has not come yet."""
        self.rules = Rules()

    def take(self, event: Event) -> None:
        """Fold one event."""
        kind = event.topic.removesuffix(".v1")
        prefix, _, name = event.stream.partition(":")
        match prefix:
            case "task":
                self._task(name, kind, event)
            case "key":
                self._key(kind, event)
            case "worker":
                if (kind == "WorkerStarted") != (event.version == 1):
                    self._say(event, f"{kind} is version {event.version} of its worker")
                if kind == "WorkerStarted":
                    self.pids[name] = event.data["pid"]
                    self.rules.started[name] = event.position
            case "ledger" if kind == "NoticeRaised":
                self._notice(event)
            case _ if self.rules.take(event.position, event.stream, kind, event.data):
                pass
            case _:
                self._say(event, f"unknown stream {event.stream}")

    def _say(self, event: Event, problem: str) -> None:
        self.problems.append(f"position {event.position}: {event.stream}: {problem}")

    def _task(self, task_id: str, kind: str, event: Event) -> None:
        task = self.tasks.get(task_id)
        if kind == "TaskQueued" and task is None:
            self.tasks[task_id] = Task(task_id, event.data, moment_us(event.data["due_at"]))
            self._expires(self.tasks[task_id], event)
        elif task is None:
            self._say(event, f"{kind} of a task that was never queued")
            self.tasks[task_id] = Task(task_id, {"retry": {"first": 0}, "unique_until": "end"}, 0)
        elif kind == "TaskClaimed":
            self._claim(task, event)
        elif kind in OUTCOMES:
            self._outcome(task, kind, event)
        elif kind == "TaskCancelled":
            self._cancelled(task, event)
        elif kind == "LateResultRejected":
            self._late(task, event)
        else:
            self._asked(task, kind, event)

    def _expires(self, task: Task, event: Event) -> None:
        """Take in the expiry that the event sets; it is void once an attempt was used."""
        if event.data.get("expires_at") and not task.used:
            task.expires_us = moment_us(event.data["expires_at"])

    def _claim(self, task: Task, event: Event) -> None:
        number, worker, at_us = event.data["attempt"], event.data["worker"], moment_us(event.data["at"])
        if task.status != "waiting":
            self._say(event, f"claimed while {task.status}")
        if number != len(task.attempts) + 1:
            self._say(event, f"claimed as attempt {number}, not {len(task.attempts) + 1}")
        if at_us < task.due_us:
            self._say(event, f"claimed {task.due_us - at_us} us before it was due")
        if at_us >= task.expires_us:
            self._say(event, f"claimed {at_us - task.expires_us} us after it had expired")
        if worker not in self.pids:
            self._say(event, f"claimed by worker {worker}, which has not started")
        if event.data["seen"] >= event.position:
            self._say(event, f"planned from position {event.data['seen']}, which came later")
        beside = self.held[worker] - {task.id}
        if beside and (task.is_lost or any(self.tasks[other].is_lost for other in beside)):
            self._say(event, f"claimed beside {len(beside)} others, although an attempt after a loss runs alone")
        for problem in self.rules.problems_of_claim(worker, task.data):
            self._say(event, problem)
        self.rules.begin(task.id, task.data)
        task.attempts[number] = Attempt(worker, at_us)
        task.status, task.is_claimed_this_round = "running", True
        self.held[worker].add(task.id)

    def _outcome(self, task: Task, kind: str, event: Event) -> None:
        running, number = task.running, event.data["attempt"]
        if running is None:
            self._say(event, f"{kind} of attempt {number} while {task.status}")
        elif number != max(task.attempts):
            self._say(event, f"{kind} of attempt {number} while attempt {max(task.attempts)} runs")
        else:
            self._check_holder(running, kind, event)
        if running is not None:
            self._end(task, running, kind, event)
        at_us = moment_us(event.data["at"])
        if kind == "AttemptInterrupted":
            task.status = "waiting"
        elif kind == "TaskSucceeded":
            task.status = "succeeded"
        else:
            self._use(task, kind, event, at_us)

    def _check_holder(self, running: Attempt, kind: str, event: Event) -> None:
        """A result is reported by the holder; others may only tell of its loss, or end it at its time limit."""
        actor, by_others = event.data["actor"], event.data.get("worker")
        if kind in ("AttemptLost", "AttemptInterrupted"):
            if by_others != running.worker:
                self._say(event, f"{kind} of worker {by_others} while {running.worker} holds it")
        elif actor != f"worker:{running.worker}" and not (kind == "TaskFailed" and actor.startswith("system:")):
            self._say(event, f"{kind} by {actor} while worker {running.worker} holds it")

    def _end(self, task: Task, running: Attempt, kind: str, event: Event) -> None:
        running.outcome, running.ended_us = kind, moment_us(event.data["at"])
        self.held[running.worker].discard(task.id)
        self.rules.running.pop(task.id, None)

    def _use(self, task: Task, kind: str, event: Event, at_us: int) -> None:
        """Count an attempt that failed, was lost or asked for a delay, and find when the next one is due."""
        task.used, task.expires_us = task.used + 1, LATEST
        most, is_final = task.data.get("max_attempts"), event.data["final"]
        is_last = most is not None and task.used >= most
        if is_last and not is_final:
            self._say(event, f"{kind} is not final, although all {most} attempts are used")
        if is_final and not is_last and kind != "TaskFailed":
            self._say(event, f"{kind} is final, although {task.used} of {most} attempts are used")
        if is_final:
            self._expect(event, "out_of_attempts" if is_last else "failed_at_once")
        elif kind != "TaskDelayed" and 0 < task.data["retry"].get("cap", 0) <= _least_delay(
            task.data["retry"], task.used
        ):
            self._expect(event, "delay_at_cap")
        task.is_lost = kind == "AttemptLost"
        least = event.data.get("seconds", _least_delay(task.data["retry"], task.used))
        task.status, task.due_us = "failed" if is_final else "waiting", at_us + int(least * 1_000_000)

    def _expect(self, event: Event, kind: str) -> None:
        self.noticeable.append((event.data["command"], event.stream, kind))

    def _notice(self, event: Event) -> None:
        """A notice of a task comes with the failure it is about, once."""
        due = (event.data["command"], event.data["about"], event.data["kind"])
        if due in self.noticeable:
            self.noticeable.remove(due)
        else:
            self._say(event, f"notice {due[2]} of {due[1]} without its cause")

    def _cancelled(self, task: Task, event: Event) -> None:
        number, running = event.data.get("attempt"), task.running
        if not task.is_live:
            self._say(event, f"cancelled while {task.status}")
        if number != (max(task.attempts) if running else None):
            self._say(event, f"cancelled as attempt {number} while {task.status}")
        if running is not None:
            if not task.is_cancelling:
                self._say(event, "cancelled while running, although nobody asked for it")
            self._end(task, running, "TaskCancelled", event)
        elif "expired" in (event.data.get("reason") or "") and moment_us(event.data["at"]) < task.expires_us:
            self._say(event, "cancelled as expired before its expiry")
        task.status = "cancelled"

    def _late(self, task: Task, event: Event) -> None:
        number, worker = event.data["attempt"], event.data["worker"]
        attempt = task.attempts.get(number)
        if attempt is None or attempt.worker != worker:
            self._say(event, f"rejected a result of attempt {number}, which worker {worker} never had")
        elif attempt is task.running:
            self._say(event, f"rejected the result of attempt {number}, which worker {worker} holds")

    def _asked(self, task: Task, kind: str, event: Event) -> None:
        """Fold what somebody asked for, each in the states that allow it."""
        allowed = {"TaskRescheduled": ("waiting",), "CancelRequested": ("running",), "TaskProgressed": ("running",)}
        if task.status not in {**allowed, "TaskRetried": ("failed", "cancelled")}.get(kind, ()):
            self._say(event, f"{kind} while {task.status}")
        elif kind == "TaskRescheduled":
            task.due_us = moment_us(event.data["due_at"])
            self._expires(task, event)
        elif kind == "CancelRequested":
            task.is_cancelling = True
        elif kind == "TaskProgressed":
            if task.running is not task.attempts.get(event.data["attempt"]):
                self._say(event, f"progress of attempt {event.data['attempt']}, which does not run")
        else:
            again = Task(task.id, {**task.data, **event.data}, moment_us(event.data["due_at"]), attempts=task.attempts)
            self.tasks[task.id] = again

    def _key(self, kind: str, event: Event) -> None:
        task_id, holder = event.data["task"], self.holders.get(event.stream)
        if kind == "KeyReserved":
            if holder is not None:
                self._say(event, f"reserved for task {task_id} while task {holder} holds it")
            self.holders[event.stream] = task_id
        else:
            if holder != task_id:
                self._say(event, f"released by task {task_id} while {holder or 'nobody'} holds it")
            self.holders.pop(event.stream, None)

    def settle_keys(self, events: Sequence[Event]) -> None:
        """After the events of one act: each task they touch holds its key exactly while it should."""
        for task_id in dict.fromkeys(e.stream.removeprefix("task:") for e in events if e.stream.startswith("task:")):
            task = self.tasks[task_id]
            key = task.data.get("key_stream")
            if key is None:
                continue
            until_start = task.data["unique_until"] == "start" and task.is_claimed_this_round
            should, does = task.is_live and not until_start, self.holders.get(key) == task_id
            if should != does:
                text = f"holds its key, although it is {task.status}" if does else f"is {task.status} without its key"
                self._say(events[-1], f"task {task_id} {text} (holder: {self.holders.get(key)})")


def _acknowledged(history: History, tasks: dict[str, Task]) -> Iterator[str]:
    for task_id in dict.fromkeys(history.acknowledged):
        if task_id not in tasks:
            yield f"task {task_id} was acknowledged and is lost: the log has no TaskQueued of it"
        elif tasks[task_id].is_live:
            yield f"task {task_id} was acknowledged and has not ended: it is {tasks[task_id].status}"


def _effects(history: History, fold: _Fold) -> list[str]:
    """Compare what the tasks did with what the log says of it."""
    if not history.effects:
        return []
    problems: list[str] = []
    by_attempt: defaultdict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for effect in history.effects:
        where = f"task {effect.task}: attempt {effect.attempt}"
        claimed = effect.task in fold.tasks and fold.tasks[effect.task].attempts.get(effect.attempt)
        if not claimed:
            problems.append(f"{where} wrote {effect.kind!r}, but the log has no such claim")
            continue
        if effect.token != f"{effect.task}:{effect.attempt}":
            problems.append(f"{where} was given the token {effect.token}")
        if effect.pid != fold.pids.get(claimed.worker):
            problems.append(f"{where} wrote {effect.kind!r} in process {effect.pid}, not in its worker's")
        if effect.kind in by_attempt[effect.task, effect.attempt]:
            problems.append(f"{where} wrote {effect.kind!r} twice")
        moment = effect.monotonic_ns // 1000 + history.wall_minus_monotonic_us
        by_attempt[effect.task, effect.attempt][effect.kind] = moment
    for task in fold.tasks.values():
        problems += _spans(task, by_attempt)
    return problems


def _spans(task: Task, by_attempt: dict[tuple[str, int], dict[str, int]]) -> Iterator[str]:
    """Compare the time that each attempt of one task took with its claim, its outcome and the attempt before it."""
    before, before_until = 0, 0
    for number, attempt in sorted(task.attempts.items()):
        span = by_attempt.get((task.id, number), {})
        where = f"task {task.id}: attempt {number}"
        begin, end = span.get("begin"), span.get("end")
        if attempt.outcome == "TaskSucceeded" and (begin is None or end is None):
            yield f"{where} succeeded without {'beginning' if begin is None else 'coming to its end'}"
        if begin is None:
            if end is not None:
                yield f"{where} came to its end without beginning"
            continue
        if end is not None and end < begin:
            yield f"{where} came to its end before it began"
        if begin < attempt.claimed_us - SLACK_US:
            yield f"{where} began before it was claimed"
        if begin > attempt.ended_us + SLACK_US:
            yield f"{where} began {begin - attempt.ended_us} us after it had been recorded as {attempt.outcome}"
        if attempt.outcome == "TaskSucceeded" and end is not None and end > attempt.ended_us + SLACK_US:
            yield f"{where} was recorded as succeeded before it came to its end"
        if begin < before_until:
            yield f"{where} overlaps attempt {before} in time"
        lost_us = attempt.ended_us - SLACK_US
        until = end if end is not None and (end < lost_us or attempt.outcome != "AttemptLost") else lost_us
        before, before_until = number, until
