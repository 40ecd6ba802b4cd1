"""The history checker itself: it accepts a right history, and finds each damage that is planted in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.history import EPOCH, Effect, Event, History, check, read_history

RETRY = {"first": 1.0, "factor": 2.0, "cap": 10.0, "jitter": 0.0, "never_on": []}
QUEUED = {"name": "job", "args": {}, "max_attempts": 3, "retry": RETRY, "unique_until": "end"}
START = 1_000_000
PID = {"w1": 101, "w2": 102}


def moment(second: float) -> str:
    """The time *second* seconds after the beginning of these histories, as events keep it."""
    return (EPOCH + timedelta(seconds=START + second)).isoformat()


class Log:
    """A history as it grows: each line is (topic, stream, fields); the events of one act go in one call."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.effects: list[Effect] = []
        self.versions: dict[str, int] = {}

    def act(self, second: float, actor: str, *lines: tuple[str, str, dict[str, Any]]) -> None:
        """Append the events of one act."""
        command = f"act {len(self.events)}"
        for topic, stream, fields in lines:
            self.versions[stream] = version = self.versions.get(stream, 0) + 1
            data = {"command": command, "at": moment(second), "actor": actor, **fields}
            self.events.append(Event(len(self.events) + 1, stream, version, topic + ".v1", data))

    def queue(self, second: float, task: str, **fields: Any) -> None:
        """Queue *task*, with its key if it has one."""
        queued = ("TaskQueued", f"task:{task}", {**QUEUED, "due_at": moment(second), **fields})
        key = fields.get("key_stream")
        self.act(second, "user:me", *([("KeyReserved", key, {"task": task, "key": "k"})] if key else []), queued)

    def claim(self, second: float, worker: str, *attempts: tuple[str, int]) -> None:
        """Claim attempts for *worker*, in one act."""
        seen = len(self.events)
        lines = [("TaskClaimed", f"task:{t}", {"attempt": n, "worker": worker, "seen": seen}) for t, n in attempts]
        self.act(second, "worker:" + worker, *lines)

    def effect(self, second: float, worker: str, task: str, attempt: int, kind: str) -> None:
        """Let an attempt write a line."""
        self.effects.append(Effect(task, attempt, f"{task}:{attempt}", PID[worker], kind, round(second * 1e9)))

    def succeed(self, second: float, worker: str, task: str, attempt: int, *more: tuple[str, str, Any]) -> None:
        """Let an attempt run for the tenth of a second before *second*, and succeed."""
        self.effect(second - 0.2, worker, task, attempt, "begin")
        self.effect(second - 0.1, worker, task, attempt, "end")
        self.act(second, "worker:" + worker, ("TaskSucceeded", f"task:{task}", {"attempt": attempt}), *more)


def right() -> History:
    """A small right history: plain, failing, lost and late, unique, cancelled and retried tasks on two workers."""
    log = Log()
    for worker, pid in PID.items():
        log.act(0, "worker:" + worker, ("WorkerStarted", "worker:" + worker, {"pid": pid}))
    log.queue(1, "plain")
    log.queue(1, "failing")
    log.claim(1.5, "w1", ("plain", 1), ("failing", 1))
    log.succeed(2, "w1", "plain", 1)
    log.effect(1.8, "w1", "failing", 1, "begin")
    log.effect(1.9, "w1", "failing", 1, "end")
    log.act(2, "worker:w1", ("TaskFailed", "task:failing", {"attempt": 1, "final": False, "error": {}}))
    log.queue(2, "lost")
    log.claim(2, "w2", ("lost", 1))
    log.effect(2.1, "w2", "lost", 1, "begin")
    log.act(4, "system:supervisor:1", ("AttemptLost", "task:lost", {"attempt": 1, "worker": "w2", "final": False}))
    log.claim(4, "w1", ("failing", 2))
    log.succeed(5, "w1", "failing", 2)
    log.claim(5, "w1", ("lost", 2))
    log.effect(5.6, "w2", "lost", 1, "end")
    log.act(5.7, "worker:w2", ("LateResultRejected", "task:lost", {"attempt": 1, "worker": "w2"}))
    log.succeed(6, "w1", "lost", 2)
    log.queue(6, "unique", key_stream="key:k")
    log.claim(6, "w1", ("unique", 1))
    log.succeed(7, "w1", "unique", 1, ("KeyReleased", "key:k", {"task": "unique"}))
    log.queue(7, "cancelled", key_stream="key:k")
    released = ("KeyReleased", "key:k", {"task": "cancelled"})
    log.act(7, "user:me", ("TaskCancelled", "task:cancelled", {}), released)
    retried = ("TaskRetried", "task:cancelled", {**QUEUED, "due_at": moment(8), "key_stream": "key:k"})
    log.act(8, "user:me", retried, ("KeyReserved", "key:k", {"task": "cancelled", "key": "k"}))
    log.claim(8, "w2", ("cancelled", 1))
    log.act(8.2, "worker:w2", ("AttemptInterrupted", "task:cancelled", {"attempt": 1, "worker": "w2", "cause": "full"}))
    log.claim(8.3, "w2", ("cancelled", 2))
    log.act(8.4, "user:me", ("CancelRequested", "task:cancelled", {}))
    log.succeed(9, "w2", "cancelled", 2, released)
    log.queue(10, "broken", max_attempts=1)
    log.claim(10, "w1", ("broken", 1))
    log.effect(10.1, "w1", "broken", 1, "begin")
    notice = ("NoticeRaised", "ledger", {"kind": "out_of_attempts", "about": "task:broken"})
    log.act(10.2, "worker:w1", ("TaskFailed", "task:broken", {"attempt": 1, "final": True, "error": {}}), notice)
    log.queue(10, "expired", expires_at=moment(11), key_stream="key:e")
    log.act(10.5, "user:me", ("TaskRescheduled", "task:expired", {"due_at": moment(10.6), "expires_at": moment(12)}))
    gone = ("TaskCancelled", "task:expired", {"reason": "it expired"})
    log.act(12, "worker:w1", gone, ("KeyReleased", "key:e", {"task": "expired"}))
    log.queue(12, "in time", expires_at=moment(13))
    log.claim(12.9, "w1", ("in time", 1))
    log.succeed(14, "w1", "in time", 1)
    ids = ["plain", "failing", "lost", "unique", "cancelled", "broken", "expired", "in time"]
    return History(events=log.events, effects=log.effects, acknowledged=ids, wall_minus_monotonic_us=START * 1_000_000)


Damage = Callable[[History], History]


def find(history: History, topic: str, task: str = "", nth: int = 0) -> int:
    """The index of the *nth* event of this topic and task."""
    found = [
        index
        for index, event in enumerate(history.events)
        if event.topic == topic + ".v1" and task in (event.stream.partition(":")[2], event.data.get("task", ""), "")
    ]
    return found[nth]


def renumbered(events: list[Event]) -> list[Event]:
    """Give positions and versions anew, so that only the damage meant is there."""
    log = Log()
    for event in events:
        log.versions[event.stream] = version = log.versions.get(event.stream, 0) + 1
        log.events.append(event._replace(position=len(log.events) + 1, version=version))
    return log.events


def without(topic: str, task: str = "", nth: int = 0) -> Damage:
    """Leave one event out."""

    def damage(history: History) -> History:
        index = find(history, topic, task, nth)
        return replace(history, events=renumbered([*history.events[:index], *history.events[index + 1 :]]))

    return damage


def changed(topic: str, task: str = "", nth: int = 0, /, **fields: Any) -> Damage:
    """Change fields of one event."""

    def damage(history: History) -> History:
        index, events = find(history, topic, task, nth), list(history.events)
        events[index] = events[index]._replace(data={**events[index].data, **fields})
        return replace(history, events=events)

    return damage


def repeated(topic: str, task: str = "", nth: int = 0, /, **fields: Any) -> Damage:
    """Append one event again, by an act of its own."""

    def damage(history: History) -> History:
        event = history.events[find(history, topic, task, nth)]
        again = event._replace(data={**event.data, "command": "again", **fields})
        return replace(history, events=renumbered([*history.events, again]))

    return damage


def renamed(topic: str, task: str, /, **changes: str) -> Damage:
    """Give one event another topic or another stream."""

    def damage(history: History) -> History:
        index, events = find(history, topic, task), list(history.events)
        events[index] = events[index]._replace(**changes)  # type: ignore[arg-type]
        return replace(history, events=events)

    return damage


def moved(topic: str, task: str, *, nth: int = 0, by: int) -> Damage:
    """Let one event stand further on in the log."""

    def damage(history: History) -> History:
        index, events = find(history, topic, task, nth), list(history.events)
        event = events.pop(index)
        events.insert(index + by, event)
        return replace(history, events=renumbered(events))

    return damage


def effects(task: str, attempt: int, kind: str, **fields: Any) -> Damage:
    """Change what one line of an attempt says; with no fields leave it out."""

    def damage(history: History) -> History:
        lines = []
        for line in history.effects:
            if (line.task, line.attempt, line.kind) != (task, attempt, kind):
                lines.append(line)
            elif fields:
                lines.append(line._replace(**fields))
        return replace(history, effects=lines)

    return damage


def gap(history: History) -> History:
    """Leave a position out."""
    return replace(history, events=[*history.events[:9], *history.events[10:]])


def swapped(history: History) -> History:
    """Swap two positions."""
    events = list(history.events)
    events[4], events[5] = events[5], events[4]
    return replace(history, events=events)


def version_twice(history: History) -> History:
    """Give the second event of a stream the version of its first."""
    events = list(history.events)
    index = find(history, "TaskClaimed", "plain")
    events[index] = events[index]._replace(version=1)
    return replace(history, events=events)


def second_line(history: History) -> History:
    """Let an attempt begin twice."""
    return replace(history, effects=[*history.effects, history.effects[0]])


def unclaimed_line(history: History) -> History:
    """Let an attempt run that nobody claimed."""
    line = Effect("plain", 2, "plain:2", 101, "begin", 3_000_000_000)
    return replace(history, effects=[*history.effects, line])


def never_queued(history: History) -> History:
    """Acknowledge a task that is not in the log."""
    return replace(history, acknowledged=[*history.acknowledged, "ghost"])


DAMAGES: list[tuple[str, Damage, str]] = [
    ("a gap", gap, "position 11 stands where 10 should"),
    ("two positions swapped", swapped, "position 6 stands where 5 should"),
    ("a version twice", version_twice, "task:plain has version 1, not 2"),
    ("an act split", moved("TaskClaimed", "failing", by=1), "are split"),
    ("an acknowledged task lost", never_queued, "task ghost was acknowledged and is lost"),
    ("no TaskQueued", without("TaskQueued", "plain"), "task that was never queued"),
    ("queued twice", repeated("TaskQueued", "plain"), "TaskQueued while succeeded"),
    ("no end", without("TaskSucceeded", "plain"), "task plain was acknowledged and has not ended: it is running"),
    ("two ends", repeated("TaskSucceeded", "plain"), "TaskSucceeded of attempt 1 while succeeded"),
    (
        "failed after success",
        repeated("TaskFailed", "failing", attempt=2),
        "TaskFailed of attempt 2 while succeeded",
    ),
    ("lost after its end", repeated("AttemptLost", "lost", attempt=2, worker="w1"), "AttemptLost of attempt 2 while"),
    ("cancelled after its end", repeated("TaskCancelled", "cancelled"), "cancelled while succeeded"),
    ("claimed twice", repeated("TaskClaimed", "plain", attempt=2), "claimed while succeeded"),
    ("attempt number left out", changed("TaskClaimed", "lost", 1, attempt=3), "claimed as attempt 3, not 2"),
    ("attempt number again", changed("TaskClaimed", "failing", 1, attempt=1), "claimed as attempt 1, not 2"),
    ("claimed too early", changed("TaskClaimed", "failing", 1, at=moment(2.9)), "claimed 100000 us before it was due"),
    ("claimed before queued", changed("TaskClaimed", "plain", at=moment(0.5)), "claimed 500000 us before it was due"),
    ("claimed after its expiry", changed("TaskClaimed", "in time", at=moment(13)), "claimed 0 us after it had expired"),
    ("expired too early", changed("TaskCancelled", "expired", at=moment(11.9)), "expired before its expiry"),
    ("expired unsaid", changed("TaskRescheduled", "expired", expires_at=moment(13)), "expired before its expiry"),
    ("claimed by nobody", changed("TaskClaimed", "plain", worker="w9"), "worker w9, which has not started"),
    ("planned from the future", changed("TaskClaimed", "plain", seen=999), "planned from position 999"),
    ("outcome of an old attempt", changed("TaskSucceeded", "lost", attempt=1), "of attempt 1 while attempt 2 runs"),
    ("outcome by another", changed("TaskSucceeded", "plain", actor="worker:w2"), "by worker:w2 while worker w1 holds"),
    ("loss of another's", changed("AttemptLost", "lost", worker="w1"), "AttemptLost of worker w1 while w2 holds it"),
    ("one attempt too many", changed("TaskQueued", "failing", max_attempts=1), "not final, although all 1 attempts"),
    ("given up early", changed("AttemptLost", "lost", final=True), "is final, although 1 of 3 attempts are used"),
    ("late result of the holder", changed("LateResultRejected", "lost", attempt=2, worker="w1"), "w1 holds"),
    ("late result of nobody", changed("LateResultRejected", "lost", worker="w1"), "which worker w1 never had"),
    ("a lost task in company", moved("TaskSucceeded", "failing", by=1), "an attempt after a loss runs alone"),
    ("retried after success", repeated("TaskRetried", "cancelled"), "TaskRetried while succeeded"),
    ("cancelled unasked", changed("TaskCancelled", "cancelled", attempt=1), "cancelled as attempt 1 while waiting"),
    ("running, cancelled unasked", renamed("TaskSucceeded", "plain", topic="TaskCancelled.v1"), "nobody asked for it"),
    ("an unknown event", renamed("LateResultRejected", "lost", topic="TaskPaused.v1"), "TaskPaused while running"),
    ("an unknown stream", renamed("KeyReleased", "unique", stream="lock:k"), "unknown stream lock:k"),
    ("no notice", without("NoticeRaised"), "task:broken: no notice out_of_attempts stands with it"),
    ("a notice twice", repeated("NoticeRaised"), "notice out_of_attempts of task:broken without its cause"),
    ("another notice", changed("NoticeRaised", kind="delay_at_cap"), "notice delay_at_cap of task:broken without its"),
    ("a notice of another", changed("NoticeRaised", about="task:plain"), "of task:plain without its cause"),
    ("a worker's id used again", repeated("WorkerStarted"), "WorkerStarted is version 2 of its worker"),
    ("key taken twice", without("KeyReleased", "unique"), "while task unique holds it"),
    ("key freed twice", repeated("KeyReleased", "unique"), "released by task unique while nobody holds it"),
    ("key freed by another", changed("KeyReleased", "unique", task="plain"), "released by task plain while unique"),
    ("two tasks of a key", without("KeyReserved", "cancelled"), "task cancelled is waiting without its key"),
    ("key freed late", changed("KeyReleased", "unique", command="later"), "holds its key, although it is succeeded"),
    ("an attempt nobody claimed", unclaimed_line, "task plain: attempt 2 wrote 'begin', but the log has no such claim"),
    ("begun twice", second_line, "attempt 1 wrote 'begin' twice"),
    ("a wrong token", effects("plain", 1, "begin", token="plain:2"), "was given the token plain:2"),
    ("a wrong process", effects("plain", 1, "end", pid=102), "wrote 'end' in process 102"),
    ("success without a begin", effects("plain", 1, "begin"), "attempt 1 succeeded without beginning"),
    ("success without an end", effects("plain", 1, "end"), "attempt 1 succeeded without coming to its end"),
    ("begun before its claim", effects("plain", 1, "begin", monotonic_ns=10**9), "began before it was claimed"),
    ("begun after its loss", effects("lost", 1, "begin", monotonic_ns=5 * 10**9), "had been recorded as AttemptLost"),
    ("ended after its success", effects("plain", 1, "end", monotonic_ns=3 * 10**9), "before it came to its end"),
    ("end before begin", effects("plain", 1, "end", monotonic_ns=1_600_000_000), "to its end before it began"),
    ("two at a time", effects("failing", 1, "end", monotonic_ns=4_900_000_000), "attempt 2 overlaps attempt 1"),
]


def test_a_right_history_is_accepted() -> None:
    """A history that keeps every promise has no violation."""
    assert check(right()) == []


@pytest.mark.parametrize(("damage", "says"), [line[1:] for line in DAMAGES], ids=[line[0] for line in DAMAGES])
def test_each_damage_is_found_and_named(damage: Damage, says: str) -> None:
    """One damage in a right history gives a sentence that names it."""
    problems = check(damage(right()))

    assert any(says in problem for problem in problems), problems


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Rows and lines on disk come back as the same history, whichever files the lines are spread over."""
    history = right()
    database = tmp_path / "work.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "CREATE TABLE stored_events (rowid INTEGER PRIMARY KEY, originator_id TEXT, originator_version INTEGER,"
            " topic TEXT, state BLOB)"
        )
        rows = [(*event[:4], json.dumps(event.data).encode()) for event in history.events]
        connection.executemany("INSERT INTO stored_events VALUES (?,?,?,?,?)", rows)
    for effect in history.effects:
        with (tmp_path / f"{effect.pid}.effects").open("a") as file:
            file.write(json.dumps(effect._asdict()) + "\n")
    (tmp_path / "a.acknowledged").write_text("".join(json.dumps({"id": one}) + "\n" for one in history.acknowledged))
    found = read_history(f"sqlite:///{database}", tmp_path)

    assert found.events == history.events
    assert sorted(found.effects) == sorted(history.effects)
    assert found.acknowledged == history.acknowledged
