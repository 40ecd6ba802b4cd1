"""Changes of many tasks by several processes at once, and by one that is killed in the midst."""

from __future__ import annotations

import json
import signal

from runner.bulk import BATCH
from tests.faults.setup import Site, wait_until

COUNT = 20 * BATCH
CANCEL = ("task", "cancel", "--name", "nothing", "--reason", "not needed any more", "-o", "json")
RETRY = ("task", "retry", "--state", "cancelled", "--reason", "needed after all", "-o", "json")


def test_two_that_change_all_at_once_change_each_task_once(each_site: Site) -> None:
    """Each task is changed by one of them; what the other was too late for is counted there, and is no error."""
    site = each_site
    site.enqueue(*[("nothing", ())] * COUNT)
    for words, topic in ((CANCEL, "TaskCancelled"), (RETRY, "TaskRetried")):
        racers = [site.command(*words) for _ in range(2)]
        assert [site.finish(racer) for racer in racers] == [0, 0], site.logs()
        logs = sorted(site.directory.glob("[0-9]*.log"), key=lambda path: int(path.stem))[-2:]
        done = [json.loads(log.read_text()) for log in logs]

        assert sum(one["changed"] for one in done) == COUNT == site.count(topic)
        assert all(one["found"] == one["changed"] + one["conflicts"] for one in done)
    site.drain()
    site.check()


def test_one_that_is_killed_leaves_whole_batches_and_another_goes_on(each_site: Site) -> None:
    """Killed in the midst it has changed a whole number of batches; called again, the rest is, none twice."""
    site = each_site
    site.enqueue(*[("nothing", ())] * COUNT)
    first = site.command(*CANCEL)
    wait_until(lambda: site.count("TaskCancelled"), "a batch is stored", site)
    first.send_signal(signal.SIGKILL)
    assert site.finish(first) == -signal.SIGKILL
    stored = site.count("TaskCancelled")
    assert site.finish(site.command(*CANCEL)) == 0, site.logs()
    done = json.loads((site.directory / "1.log").read_text())

    assert 0 < stored < COUNT and stored % BATCH == 0
    assert (done["changed"], done["conflicts"], site.count("TaskCancelled")) == (COUNT - stored, 0, COUNT)
    site.check()
