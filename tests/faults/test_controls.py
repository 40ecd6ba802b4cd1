"""Limits, pauses, recycling, disabled runners and stop with real processes under load, also while workers are killed."""

from __future__ import annotations

import json
import random
import secrets
import signal
import time
from collections import Counter
from typing import Any

import pytest

from ledger import Ledger
from tests.faults.history import fold_of, read_history
from tests.faults.setup import Site, wait_until, workers_of
from tests.faults.test_storm import kill, stop
from tests.processes import Command

LIMITS = {"ledger": 7, "queue:slow": 3, "task:work": 4, "task:*": 6, "key:*": 1, "key:big": 2}


def controls(site: Site) -> Any:
    return Ledger(site.environment["WORKLEDGER_URL"]).controls


def check(site: Site) -> Counter[tuple[str, str]]:
    """Check the history and the views; return the most that ever ran at once, by kind and name."""
    site.check()
    return fold_of(read_history(site.url, site.directory)).rules.peaks


def causes(site: Site) -> list[str]:
    """Why workers stopped, in order."""
    rows = site.rows("SELECT CAST(state AS TEXT) FROM stored_events WHERE topic = 'WorkerStopped.v1' ORDER BY rowid")
    return [json.loads(text)["cause"] for (text,) in rows]


def stop_by_signal(site: Site, run: Command) -> None:
    run.send_signal(signal.SIGTERM)
    assert site.finish(run) == 0, site.logs()


def load(site: Site, count: int, milliseconds: int = 15) -> None:
    """Queue tasks of two names in two queues, some with keys; the first and the most numerous have the key "big"."""
    dice = random.Random(7)
    for name in ("work", "work_async"):
        site.enqueue(*[(name, (milliseconds,))] * (count // 3), concurrency_key="big")
        for number in range(count // 12):
            key = dice.choice((None, "a", "b", "c"))
            site.enqueue((name, (milliseconds,)), queue=dice.choice(("default", "slow")), concurrency_key=key)
            site.enqueue((name, (milliseconds,)), queue="slow", priority=number % 2)


def test_limits_hold_exactly_over_three_workers(site: Site) -> None:
    """At no position do more run than any limit allows; and each limit is reached, so that it was a limit."""
    ledger = controls(site)
    for scope, most in LIMITS.items():
        ledger.set_limit(scope, most, reason="as the test says")
    load(site, 240)
    assert site.drain("--workers", "3", "--threads", "6") == 0
    peaks = check(site)

    reached = {"ledger": peaks["ledger", ""], "task:work": peaks["task", "work"], "queue:slow": peaks["queue", "slow"]}
    reached |= {"key:big": peaks["key", "big"], "key:*": peaks["key", "a"]}
    assert reached == {scope: LIMITS[scope] for scope in reached}


def test_limits_hold_while_workers_are_killed(each_site: Site) -> None:
    """Attempts of killed workers count until their loss is recorded; no claim comes too early."""
    site = each_site
    seed = secrets.token_hex(4)
    print("seed", seed)
    dice = random.Random(seed)
    for scope, most in LIMITS.items():
        controls(site).set_limit(scope, most, reason="as the test says")
    load(site, 240, milliseconds=30)
    run = site.command("run", "--workers", "3")
    while site.count("AttemptLost") < 4 and site.count("TaskSucceeded") < 200:
        begun = site.begun()
        wait_until(lambda b=begun: site.begun() > b, "work goes on", site)  # type: ignore[misc]
        if pids := workers_of(run):
            kill(dice.choice(pids))
        time.sleep(dice.uniform(0.0, 0.2))  # the storm itself, no wait for anything
    stop(site, [run])
    site.drain("--workers", "3")

    assert site.count("AttemptLost") > 0, "the storm met nothing that ran"
    assert check(site)["task", "work"] == LIMITS["task:work"]


def test_a_limit_set_during_load_holds_from_its_position_on(site: Site) -> None:
    """Lowered, raised and reset while three workers run: each claim keeps the limit of its position."""
    site.enqueue(*[("work", (10,))] * 300)
    run = site.command("run", "--workers", "3")
    ledger = controls(site)
    for number, most in enumerate((5, 1, 3, None, 2)):
        wait_until(lambda n=number: site.count("TaskSucceeded") > 15 * n, "work goes on", site)  # type: ignore[misc]
        ledger.set_limit("task:work", most, reason="as the test says")
    ledger.reset_limit("task:work", reason="enough")
    wait_until(lambda: site.count("TaskSucceeded") == 300, "all has run", site)
    stop_by_signal(site, run)

    assert check(site)["task", "work"] > 5


def test_a_paused_queue_is_left_alone_under_load(each_site: Site) -> None:
    """From the pause on nothing of the queue is claimed by anybody, others go on; resumed, it is worked to its end."""
    site = each_site
    site.enqueue(*[("work_async", (5,))] * 250, queue="mail")
    site.enqueue(*[("work", (5,))] * 50)
    run = site.command("run", "--workers", "2")
    wait_until(lambda: site.count("TaskSucceeded") > 20, "work is done", site)
    ledger = controls(site)
    assert ledger.pause("mail", reason="mail server moves")
    site.enqueue(*[("work_async", (5,))] * 20, queue="mail")
    site.enqueue(*[("work", (5,))] * 20)
    sql = "SELECT count(*) FROM queue WHERE queue = 'default' OR status = 'running'"
    wait_until(lambda: site.rows(sql) == [(0,)], "all else is done", site)
    left = site.rows("SELECT count(*) FROM queue WHERE queue = 'mail'")[0][0]
    assert left >= 20
    assert ledger.resume("mail", reason="it has moved")
    wait_until(lambda: site.count("TaskSucceeded") == 340, "the rest is done", site)
    stop_by_signal(site, run)

    check(site)


def test_recycling_during_load_replaces_every_worker_and_loses_nothing(site: Site) -> None:
    """Three calls under load: six workers finish and leave, six others take their places, no attempt is lost."""
    site.enqueue(*[("work", (5,))] * 400)
    run = site.command("run", "--workers", "2")
    ledger = controls(site)
    for number in range(1, 4):
        wait_until(lambda n=number: site.count("WorkerStarted") == 2 * n, "workers have started", site)  # type: ignore[misc]
        done = site.count("TaskSucceeded")
        wait_until(lambda d=done: site.count("TaskSucceeded") > d, "they work", site)  # type: ignore[misc]
        ledger.clear_caches(reason=f"call {number}")
    wait_until(lambda: site.count("WorkerStarted") == 8, "the last two have started", site)
    wait_until(lambda: site.count("TaskSucceeded") == 400, "all has run", site)
    stop_by_signal(site, run)

    check(site)
    assert site.count("AttemptLost") == 0
    assert Counter(cause.rpartition(": ")[2] for cause in causes(site)) == {
        "call 1": 2,
        "call 2": 2,
        "call 3": 2,
        "stopped": 2,
    }


def test_a_task_that_clears_caches_ends_in_its_old_process(site: Site) -> None:
    """The attempt that asks is finished where it runs; what was claimed beside it is given back, for another process."""
    site.enqueue(*[("work", (0,))] * 50, priority=2)
    [asks] = site.enqueue(("clear_caches", ()), priority=1)
    later = site.enqueue(*[("work", (30,))] * 50)
    assert site.drain("--threads", "1") == 0
    check(site)

    assert site.count("AttemptInterrupted") > 0, "nothing was claimed beside it, to be given back"
    pids = {}
    for path in site.directory.glob("*.effects"):
        pids |= {json.loads(line)["task"]: int(path.stem) for line in path.read_text().splitlines()}
    assert sum(pids[task] == pids[asks] for task in later) <= 3
    assert any(
        c.startswith("recycled, as asked by worker:") and c.endswith(": what was cached has changed")
        for c in causes(site)
    )


def test_disabled_runners_finish_what_runs_and_stay(each_site: Site) -> None:
    """--wait waits for what runs, exit code 1 if it still does; nothing is claimed until they are enabled."""
    site = each_site
    site.enqueue(("hold", ("go",)))
    run = site.command("run", "--workers", "2")
    wait_until(lambda: site.begun() == 1, "it holds", site)
    assert site.finish(site.command("runners", "disable", "--wait", "0.2", "--reason", "backup")) == 1
    site.enqueue(*[("work", (1,))] * 20)
    waiting = site.command("runners", "disable", "--wait", "--reason", "backup")
    (site.directory / "go").touch()
    assert site.finish(waiting) == 0, site.logs()
    assert site.count("TaskSucceeded") == 1
    assert len(workers_of(run)) == 2
    assert site.finish(site.command("runners", "enable", "--reason", "backup is done")) == 0
    wait_until(lambda: site.count("TaskSucceeded") == 22, "the rest is done", site)
    stop_by_signal(site, run)

    check(site)
    assert (site.count("RunnersDisabled"), site.count("RunnersEnabled")) == (1, 1)


def test_stop_ends_every_run_that_had_begun_and_no_other(site: Site) -> None:
    """Two runs finish what they hold and end with exit code 0, although one of their tasks failed; a later run goes on."""
    site.enqueue(("doomed", ()))
    runs = [site.command("run", "--workers", "2", "--name", f"run{number}") for number in range(2)]
    wait_until(lambda: site.count("WorkerStarted") == 4, "all workers have started", site)
    wait_until(lambda: site.count("TaskFailed") == 1, "one has failed", site)
    site.enqueue(("hold", ("go",)), ("hold", ("go",)))
    wait_until(lambda: site.begun() == 3, "two hold", site)
    controls(site).stop(reason="release 7")
    later = site.command("run", "--name", "later")
    wait_until(lambda: site.count("WorkerStarted") == 5, "a later one has started", site)
    site.enqueue(*[("work", (1,))] * 30)
    wait_until(lambda: site.count_where("topic = 'TaskSucceeded.v1'") == 30, "the later one works", site)
    (site.directory / "go").touch()
    assert [site.finish(run) for run in runs] == [0, 0], site.logs()
    wait_until(lambda: site.count("TaskSucceeded") == 34, "all is done", site)
    assert later.poll() is None
    stop_by_signal(site, later)

    check(site)
    assert [cause for cause in causes(site) if cause != "stopped"] == [
        f"all runs were told to stop by {json.loads(site.rows(STOPS)[0][0])['actor']}: release 7"
    ] * 4


STOPS = "SELECT CAST(state AS TEXT) FROM stored_events WHERE topic = 'StopRequested.v1'"


def test_a_worker_that_dies_after_a_stop_is_not_in_the_way_of_it(site: Site) -> None:
    """A run whose worker is killed after the stop ends all the same: one started in its place is told too."""
    site.enqueue(("hold", ("go",)))
    run = site.command("run", "--workers", "1")
    wait_until(lambda: site.begun() == 1, "it holds", site)
    controls(site).stop(reason="release 7")
    [worker] = workers_of(run)
    kill(worker)
    assert site.finish(run) == 0, site.logs()

    (site.directory / "go").touch()
    site.drain()
    check(site)


def test_a_worker_is_replaced_after_so_many_tasks(site: Site) -> None:
    """Ten tasks, three for each worker: four workers one after the other, and each says why it left."""
    site.enqueue(*[("work", (1,))] * 10)
    assert site.drain("--workers", "1", "--max-tasks-per-worker", "3") == 0
    check(site)
    rows = site.rows("SELECT CAST(state AS TEXT) FROM stored_events WHERE topic = 'TaskClaimed.v1'")
    claimed = Counter(json.loads(text)["worker"] for (text,) in rows)

    assert sorted(claimed.values()) == [1, 3, 3, 3]
    assert causes(site) == ["recycled after 3 tasks"] * 3 + ["stopped"]


def test_tasks_of_a_worker_and_tasks_of_a_run_are_both_counted(site: Site) -> None:
    """--max-tasks ends the run, however often its workers were replaced on the way."""
    site.enqueue(*[("work", (1,))] * 20)
    run = site.command("run", "--workers", "1", "--max-tasks-per-worker", "3", "--max-tasks", "8")
    assert site.finish(run) == 0

    assert site.count("TaskSucceeded") == 8
    assert site.count("WorkerStarted") == 3


def test_a_worker_is_replaced_when_it_takes_too_much_memory(site: Site) -> None:
    """Each task leaves 150 MiB behind, a worker may have 250: it finishes what it runs and another takes its place."""
    site.enqueue(*[("grow", (150,))] * 4)
    assert site.drain("--workers", "1", "--threads", "1", "--max-memory-per-worker", "250") == 0
    check(site)

    recycled = [cause for cause in causes(site) if cause.startswith("recycled at ")]
    # Tasks this short may all have run before the worker looks at its memory: then one replacement is all there is.
    assert recycled and site.count("WorkerStarted") > len(recycled)
    assert all(cause.endswith(" MiB of memory; at most 250 are allowed") for cause in recycled)
    assert site.count("AttemptLost") == 0


def test_a_bound_of_memory_that_no_worker_could_keep_is_refused(site: Site) -> None:
    """A worker that would leave after every task is not started; the message says what it takes."""
    assert site.finish(site.command("run", "--max-memory-per-worker", "1")) == 2
    assert "MiB before any task" in site.logs()


@pytest.mark.soak
def test_limits_and_calls_over_a_long_storm(site: Site) -> None:
    """The long one: sixty kills, with limits set, queues paused and workers recycled at random meanwhile."""
    seed = secrets.token_hex(4)
    print("seed", seed)
    dice = random.Random(seed)
    ledger = controls(site)
    runs = [site.command("run", "--workers", "2", "--name", f"run{number}") for number in range(2)]
    producer = site.start("-m", "tests.faults.produce", "producer", seed)
    for _ in range(200):
        time.sleep(dice.uniform(0.05, 0.3))
        match dice.randrange(6):
            case 0:
                ledger.set_limit(dice.choice(list(LIMITS)), dice.choice((1, 2, 3, 5, None)), reason="storm")
            case 1:
                (ledger.pause if dice.random() < 0.5 else ledger.resume)("default", reason="storm")
            case 2:
                (ledger.disable_runners if dice.random() < 0.3 else ledger.enable_runners)(reason="storm")
            case 3:
                ledger.clear_caches(reason="storm")
            case _:
                if pids := workers_of(dice.choice(runs)):
                    kill(dice.choice(pids))
    (site.directory / "stop").touch()
    assert site.finish(producer) == 0
    ledger.resume("default", reason="the storm is over")
    ledger.enable_runners(reason="the storm is over")
    ledger.stop(reason="the storm is over")
    assert [site.finish(run) for run in runs] == [0, 0], site.logs()
    site.drain("--workers", "2")

    check(site)
