"""Changes of many tasks by several processes at once, and by one that is killed in the midst."""

from __future__ import annotations

import json
import signal

from runner.bulk import BATCH
from tests.faults.setup import Site, wait_until

COUNT = 20 * BATCH
WORDS = ("task", "retry", "--name", "doomed", "--reason", "the cause is mended", "-o", "json")


def failed(site: Site) -> list[str]:
    """Queue many tasks that fail for good, let them, and return their ids."""
    ids = site.enqueue(*[("doomed", ())] * COUNT)
    site.drain("--threads", "1")
    assert site.count("TaskFailed") == COUNT
    return ids


def test_two_that_retry_all_at_once_retry_each_task_once(site: Site) -> None:
    """Each task is retried by one of them; what the other was too late for is counted there, and is no error."""
    failed(site)
    racers = [site.command(*WORDS) for _ in range(2)]
    assert [site.finish(racer) for racer in racers] == [0, 0], site.logs()
    done = [json.loads((site.directory / f"{number}.log").read_text()) for number in (1, 2)]

    assert sum(one["changed"] for one in done) == COUNT == site.count("TaskRetried")
    assert all(one["found"] == one["changed"] + one["conflicts"] for one in done)
    site.drain("--threads", "1")
    site.check()


def test_one_that_is_killed_leaves_whole_batches_and_another_goes_on(site: Site) -> None:
    """Killed in the midst it has retried a whole number of batches; called again, the rest is, none twice."""
    failed(site)
    first = site.command(*WORDS)
    wait_until(lambda: site.count("TaskRetried"), "a batch is stored", site)
    first.send_signal(signal.SIGKILL)
    assert site.finish(first) == -signal.SIGKILL
    stored = site.count("TaskRetried")
    assert site.finish(site.command(*WORDS)) == 0, site.logs()
    done = json.loads((site.directory / "2.log").read_text())

    assert 0 < stored < COUNT and stored % BATCH == 0
    assert (done["changed"], done["conflicts"], site.count("TaskRetried")) == (COUNT - stored, 0, COUNT)
    site.drain("--threads", "1")
    site.check()
