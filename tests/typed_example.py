"""Show that the API is typed: mypy knows arguments and results, and rejects wrong calls. Checked, not run.

Each ``type: ignore`` stands on a call that mypy must reject: with --warn-unused-ignores it fails if one is accepted.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, assert_type

from ledger import Call, Ledger, Retry, Task
from projections.listing import tasks

ledger = Ledger("memory:")


@ledger.task
def add(a: int, b: int = 2) -> int:
    """Return the sum."""
    return a + b


@ledger.task(
    aliases=["post"],
    hide=["subject"],
    queue="mail",
    max_attempts=3,
    retry=Retry(first=1, never_on=(ValueError,)),
    timeout=10,
    limit=3,
)
def send(to: str, *, subject: str = "hello") -> None:
    """Pretend to send."""


@ledger.task(name="fetch page", retry=False)
async def fetch(url: str) -> list[str]:
    """Pretend to fetch."""
    return [url]


@ledger.schedule("R 17 * * 1-5", timezone="Europe/Paris", misfire="all", retry=Retry(first=1), jitter=30)
def nightly(keep: int = 7) -> int:
    """Return how many were kept."""
    return keep


@ledger.schedule(minute="*/5", args={"url": "a page"}, component="web")
async def refresh(url: str) -> list[str]:
    """Pretend to refresh."""
    return [url]


def right() -> None:
    """Use the API as it is meant; every type is known."""
    assert_type(add(1), int)
    assert_type(add.enqueue(1, b=3), Task[int])
    assert_type(add.enqueue(a=1).result(timeout=30), int)
    assert_type(add.call(1), Call[int])
    assert_type(add.using(queue="other", run_after=timedelta(hours=1)).enqueue(1), Task[int])
    assert_type(add.using(unique=True, labels=["a"], concurrency_key="k").call(b=1, a=2), Call[int])
    assert_type(send.enqueue("ann", subject="hi"), Task[None])
    assert_type(add.reschedule_or_queue(1), Task[int])
    assert_type(
        add.using(run_after=timedelta(hours=1), expires=timedelta(hours=2)).reschedule_or_queue(b=1, a=2), Task[int]
    )
    assert_type(add.enqueue(1).attempts_left, int | None)
    assert_type(add.enqueue(1).answer, Literal["queued", "unchanged", "rescheduled", "running"])
    assert_type(tasks(ledger, name="add", state="failed", limit=3)[0].queued_at, datetime)
    assert_type(fetch.enqueue("a page").result(), list[str])
    assert_type(ledger.enqueue_many([add.call(1), fetch.call("a page")]), list[Task[Any]])
    assert_type(ledger.get("an id").state, str)
    assert_type(nightly(keep=3), int)
    assert_type(nightly.enqueue().result(), int)
    assert_type(refresh.enqueue("a page"), Task[list[str]])
    assert_type(ledger.schedules.next("nightly", 3), list[datetime])
    ledger.schedules.set("nightly", hour="4", reason="after the backup")


async def right_async() -> None:
    """Call an async task past the ledger."""
    assert_type(await fetch("a page"), list[str])
    assert_type(await add.aenqueue(1, b=3), Task[int])
    assert_type(await add.using(queue="other").aenqueue(a=1), Task[int])
    assert_type(await ledger.aenqueue_many([add.call(1), fetch.call("a page")]), list[Task[Any]])
    assert_type(await (await fetch.aenqueue("a page")).aresult(timeout=3), list[str])
    assert_type(await ledger.aget("an id"), Task[Any])


def wrong() -> None:
    """Use the API as it is not meant; mypy says so at each line."""
    add.enqueue()  # type: ignore[call-arg]
    add.enqueue("1")  # type: ignore[arg-type]
    add.enqueue(1, 2, 3)  # type: ignore[call-arg]
    add.enqueue(a=1, c=2)  # type: ignore[call-arg]
    add.call(None)  # type: ignore[arg-type]
    add.using(queue="other").enqueue(b=1)  # type: ignore[call-arg]
    add.using(priority="high").enqueue(1)  # type: ignore[arg-type]
    add.using(unknown=1)  # type: ignore[call-arg]
    add.using(on_duplicate="replace")  # type: ignore[arg-type]
    send.enqueue("ann", "hi")  # type: ignore[call-arg]
    send.reschedule_or_queue("ann", "hi")  # type: ignore[call-arg]
    add.using(expires=60)  # type: ignore[arg-type]
    add.using(hide=["a"])  # type: ignore[call-arg]
    tasks(ledger, colour="red")  # type: ignore[call-arg]
    fetch.enqueue(7)  # type: ignore[arg-type]
    ledger.cancel("an id")  # type: ignore[call-arg]
    nightly.enqueue(keep="7")  # type: ignore[arg-type]
    ledger.schedule("* * * * *", misfire="two")  # type: ignore[arg-type]
    ledger.schedule(minute=5)  # type: ignore[arg-type]
    ledger.schedules.reset("nightly")  # type: ignore[call-arg]
    ledger.task(retry=True)  # type: ignore[call-overload]
    text: str = add.enqueue(1).result()  # type: ignore[assignment]
    print(text)
