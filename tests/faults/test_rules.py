"""The history checker's rules of limits, pauses and calls to leave: each breach is named, what is allowed is not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.history import History, check
from tests.faults.test_history import PID, Log

Line = tuple[str, str, dict[str, Any]]


def limit(scope: str, most: int | None = None, source: str = "hand", *, reset: bool = False) -> Line:
    said = {} if most is None else {"most": most}
    return "LimitChanged", f"limit:{scope}", {"source": source, "reset": reset, **said}


def history(*controls: Line, between: tuple[Line, ...] = ()) -> History:
    """Two tasks of one name, queue and key, the second claimed while the first runs; *controls* before both claims."""
    log = Log()
    for worker, pid in PID.items():
        log.act(0, "worker:" + worker, ("WorkerStarted", "worker:" + worker, {"pid": pid}))
    for task in ("one", "two"):
        log.queue(1, task, queue="mail", concurrency_key="customer 7")
    for line in controls:
        log.act(1.1, "user:me", line)
    log.claim(1.5, "w1", ("one", 1))
    for line in between:
        log.act(1.6, "user:me", line)
    log.claim(1.7, "w2", ("two", 1))
    log.succeed(2, "w1", "one", 1)
    log.succeed(2, "w2", "two", 1)
    return History(events=log.events, effects=log.effects, wall_minus_monotonic_us=1_000_000 * 1_000_000)


PAUSED: Line = ("QueuePaused", "queue:mail", {})
RESUMED: Line = ("QueueResumed", "queue:mail", {})
DISABLED: Line = ("RunnersDisabled", "ledger", {})
ENABLED: Line = ("RunnersEnabled", "ledger", {})

ALLOWED = {
    "nothing said": history(),
    "room for both": history(limit("ledger", 2), limit("queue:mail", 2), limit("task:job", 2), limit("key:*", 2)),
    "another name": history(limit("task:other", 1), limit("queue:mai", 1), limit("key:customer", 1)),
    "the own before the pattern": history(limit("task:*", 1), limit("task:job", 2)),
    "the longer pattern": history(limit("key:*", 1), limit("key:customer *", 2)),
    "lifted by hand": history(limit("task:job", 1, "code"), limit("task:job", None)),
    "taken back": history(limit("task:job", 1), limit("task:job", reset=True)),
    "the configuration counts": history(limit("task:job", 1, "hand"), limit("task:job", 2, "configuration")),
    "paused and resumed": history(PAUSED, RESUMED),
    "disabled and enabled": history(DISABLED, ENABLED),
}
BREACHES = {
    "limit of the ledger": (history(limit("ledger", 1)), "claimed while 1 of ledger  run, of which at most 1 may"),
    "limit of the queue": (history(limit("queue:mail", 1)), "while 1 of queue mail run, of which at most 1 may"),
    "limit of the name": (history(limit("task:job", 1, "code")), "while 1 of task job run, of which at most 1 may"),
    "limit of the key": (history(limit("key:customer 7", 1)), "while 1 of key customer 7 run"),
    "limit of a pattern": (history(limit("key:*7", 1)), "while 1 of key customer 7 run"),
    "limit set between": (history(between=(limit("task:job", 1),)), "while 1 of task job run"),
    "limit of the code again": (
        history(limit("task:job", 1, "code"), limit("task:job", 5), limit("task:job", reset=True)),
        "while 1 of task job run",
    ),
    "paused": (history(between=(PAUSED,)), "task:two: claimed while its queue mail is paused"),
    "disabled": (history(between=(DISABLED,)), "task:two: claimed while the runners are disabled"),
    "told to stop": (
        history(between=(("StopRequested", "ledger", {}),)),
        "claimed by worker w2, which was told to leave",
    ),
    "recycled": (history(between=(("CachesCleared", "ledger", {}),)), "claimed by worker w2, which was told to leave"),
    "an unknown event": (history(("LimitForgotten", "limit:ledger", {})), "unknown stream limit:ledger"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_rules_allow_is_accepted(name: str) -> None:
    """A claim within every limit, from a queue that goes on, is no breach."""
    assert check(ALLOWED[name]) == []


@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_of_a_rule_is_named(name: str) -> None:
    """A claim beyond a limit, from a paused queue, or by a worker that was told to leave is named with its position."""
    found, says = BREACHES[name]

    assert any(says in problem for problem in check(found)), check(found)
