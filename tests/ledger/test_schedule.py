"""One schedule: what each command causes, what is refused, and what its slots become."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ledger import events as e
from ledger import schedule_commands as sc
from ledger import schedule_events as s
from ledger.clock import to_us
from ledger.schedule import ScheduleState, default_of, evolve, in_force, is_run_id, loads, run_id
from ledger.slots import jitter_us
from ledger.task import RUNNING, WAITING
from tests.ledger.schedule_scenario import NOON, ScheduleScenario, at, declare, told

DAILY = ("0", "3", "*", "*", "*")
GONE = "the run before, task .*, had not ended"


def live(**changes: Any) -> ScheduleScenario:
    """A schedule whose 13:00 run is live."""
    schedule = ScheduleScenario(**changes).at("13:00")
    assert schedule.fire() == ["fired 13:00"]
    return schedule


# Firing


def test_the_first_firing_follows_the_schedule() -> None:
    """A declaration runs nothing; the first slot is the next one, also when it is declared at one."""
    schedule = ScheduleScenario()
    assert schedule.fire() == []
    assert schedule.next() == at("13:00")
    assert schedule.at("12:59").fire() == []
    assert schedule.at("13:00").fire() == ["fired 13:00"]


def test_a_slot_fires_once() -> None:
    """Looking again at the same time, or after the run has ended, fires nothing."""
    schedule = live()
    assert schedule.fire() == []
    assert schedule.succeed().fire() == []
    assert schedule.next() == at("14:00")


def test_the_run_of_a_slot_has_one_id() -> None:
    """Two workers that fire one slot queue one task: its id comes from schedule and slot alone."""
    first, second = live(), live()
    assert first.state.run_id == second.state.run_id == run_id("nightly", to_us(at("13:00")))
    assert first.state.run_id != run_id("weekly", to_us(at("13:00")))
    assert first.state.run_id != run_id("nightly", to_us(at("14:00")))
    assert is_run_id(str(first.state.run_id))


def test_ids_of_runs_are_ordered_by_slot() -> None:
    """A version 8 UUID begins with its time, so that index inserts stay local, and has the variant of RFC 9562."""
    ids = [run_id("x", to_us(NOON + timedelta(minutes=minute))) for minute in range(100)]
    assert ids == sorted(ids)
    assert all(one[14] == "8" and one[19] in "89ab" for one in ids)


def test_the_next_slot_follows_the_completion() -> None:
    """Slots that pass while a run is live are recorded as soon as it has ended, and never run."""
    schedule = live().at("15:30").succeed()
    assert schedule.next() == at("15:30")
    [missed] = schedule.at("15:30").fire()
    assert missed.startswith("missed 2 14:00-15:00: the run before, task ")
    assert schedule.next() == at("16:00")
    assert schedule.at("16:00").fire() == ["fired 16:00"]


def test_a_run_that_waits_for_its_retry_is_live() -> None:
    """While a failed run waits, no slot is fired, however often one looks."""
    schedule = live().later(minutes=1).run(e.TaskFailed)
    assert schedule.next() is None
    assert schedule.at("18:00").fire() == []
    assert schedule.state.failures == 1
    schedule.run(e.AttemptLost)
    assert (schedule.state.failures, schedule.state.outcome) == (2, "lost")
    schedule.at("18:30").succeed()
    assert (schedule.state.failures, schedule.state.outcome) == (0, "succeeded")
    assert schedule.state.success_us == to_us(at("18:30"))
    [missed] = schedule.fire()
    assert missed.startswith("missed 5 14:00-18:00: the run before")


def test_a_failed_run_does_not_change_the_last_success() -> None:
    """The last run means the last success."""
    schedule = live().succeed()
    schedule.at("14:00").fire()
    schedule.run(e.TaskFailed, final=True)
    assert schedule.state.success_us == to_us(at("13:00"))
    assert (schedule.state.outcome, schedule.state.outcome_us) == ("failed", to_us(at("14:00")))
    assert schedule.next() == at("15:00")


@pytest.mark.parametrize(
    ("misfire", "then"),
    [
        ("one", ["missed 2 13:00-14:00: away; one run stands for all", "fired 15:00"]),
        ("skip", ["missed 3 13:00-15:00: away; late slots are skipped"]),
        ("all", ["missed 3 13:00-15:00: away; they are run one after the other", "fired 13:00"]),
    ],
)
def test_slots_that_nobody_fired(misfire: str, then: list[str]) -> None:
    """Slots missed while no worker ran collapse into one run, are dropped, or are run one after the other."""
    schedule = ScheduleScenario(misfire=misfire).at("15:20")
    assert schedule.fire() == then


@pytest.mark.parametrize("misfire", ["one", "all"])
def test_one_late_slot_runs(misfire: str) -> None:
    """A single slot that is late is run, with nothing to record."""
    assert ScheduleScenario(misfire=misfire).at("13:40").fire() == ["fired 13:00"]


def test_skip_runs_what_is_on_time() -> None:
    """A slot fired within a minute is on time: it is run, and only those before it are dropped."""
    schedule = ScheduleScenario(misfire="skip")
    assert schedule.at("13:01").fire() == ["fired 13:00"]
    schedule.succeed()
    late = schedule.at("16:00").fire()
    assert late == ["missed 2 14:00-15:00: away; one run stands for all", "fired 16:00"]


def test_all_counts_on_from_the_last_slot() -> None:
    """Each missed slot is run after the one before it has ended; what passes meanwhile is skipped."""
    schedule = ScheduleScenario(misfire="all").at("15:20")
    schedule.fire()
    assert schedule.later(minutes=1).fire() == []
    schedule.succeed()
    assert schedule.next() == at("14:00")
    assert schedule.fire() == ["fired 14:00"]
    schedule.at("16:10").succeed()
    missed, fired = schedule.fire()
    assert missed.startswith("missed 1 16:00-16:00: the run before")
    assert fired == "fired 15:00"
    schedule.at("16:20").succeed()
    assert (schedule.fire(), schedule.next()) == ([], at("17:00"))


def test_all_runs_at_most_the_last_thousand() -> None:
    """After a long absence the last 1,000 slots are run; those before are recorded as missed."""
    schedule = ScheduleScenario(misfire="all", fields=("*", "*", "*", "*", "*"))
    dropped, kept, fired = schedule.at("2 12:00").fire()
    assert dropped.startswith("missed 440 12:01-19:20: away; only the last 1,000")
    assert kept.startswith("missed 1000 19:21-12:00")
    assert fired == "fired 19:21"
    assert len(loads(schedule.state.pending)) == 999
    schedule.succeed().later(hours=1)
    dropped, kept, fired = schedule.fire()
    assert dropped.startswith("missed 59 19:22-20:20: away; only the last 1,000")
    assert kept.startswith("missed 60 12:01-13:00: away; they are run")
    assert fired == "fired 20:21"


@pytest.mark.parametrize("misfire", ["one", "skip", "all"])
def test_a_clock_set_back_fires_nothing_twice(misfire: str) -> None:
    """After the clock was set back an hour, slots that have been decided stay so."""
    schedule = live(misfire=misfire).succeed()
    assert schedule.at("12:00").fire() == []
    assert schedule.at("13:00").fire() == []
    assert schedule.next() == at("14:00")
    assert schedule.at("14:00").fire() == ["fired 14:00"]


def test_a_run_that_ends_after_the_clock_was_set_back() -> None:
    """A completion in the past of the slot counts no slot again."""
    schedule = live().at("12:10").succeed()
    assert schedule.next() == at("14:00")
    assert schedule.at("13:00").fire() == []


# Declaring


def test_the_same_declaration_changes_nothing() -> None:
    """A worker that starts with the code of the one before stores nothing."""
    schedule = ScheduleScenario()
    assert schedule.when(declare()) == []


def test_a_changed_default_updates() -> None:
    """A newer default takes effect, from now on."""
    schedule = ScheduleScenario()
    assert [told(one) for one in schedule.when(declare(fields=DAILY))] == ["ScheduleDeclared"]
    assert in_force(schedule.state).fields == DAILY
    assert schedule.next() == at("2 03:00")


def test_an_older_worker_never_goes_back() -> None:
    """A default that a newer one replaced comes back only by somebody's request."""
    schedule = ScheduleScenario()
    schedule.when(declare(fields=DAILY))
    assert schedule.when(declare()) == []
    assert in_force(schedule.state).fields == DAILY
    assert schedule.when(declare(is_sync=True))
    assert in_force(schedule.state).fields != DAILY
    assert schedule.when(declare(fields=DAILY)) == []


def test_a_worker_leaves_the_schedules_of_another_app() -> None:
    """Only a request takes over what another application declared last."""
    schedule = ScheduleScenario()
    assert schedule.when(declare(app="other", fields=DAILY)) == []
    assert schedule.when(declare(app="other", fields=DAILY, is_sync=True))
    assert schedule.state.app == "other"
    assert schedule.when(declare(is_sync=False)) == []


def test_a_customised_schedule_is_left_alone() -> None:
    """A changed default is noted; what was set by hand stays in force, and reset returns to the newest default."""
    schedule = ScheduleScenario()
    mine = ("5", "4", "*", "*", "*")
    schedule.when(sc.Customise(fields=mine, resolved=mine))
    schedule.when(declare(fields=DAILY))
    assert (in_force(schedule.state).fields, default_of(schedule.state).fields) == (mine, DAILY)
    schedule.when(sc.Reset())
    assert in_force(schedule.state).fields == DAILY
    assert schedule.state.custom is None


def test_drawn_values_are_never_drawn_again() -> None:
    """R keeps its value over declarations that leave the R in its field; a field that becomes R is drawn."""
    written = ("R", "3", "*", "*", "*")
    schedule = ScheduleScenario(fields=written, resolved=("17", "3", "*", "*", "*"))
    schedule.when(declare(fields=("R", "R", "*", "*", "*"), resolved=("40", "9", "*", "*", "*")))
    assert in_force(schedule.state).resolved == ("17", "9", "*", "*", "*")
    schedule.when(declare(fields=written, resolved=("55", "3", "*", "*", "*"), is_sync=True))
    assert in_force(schedule.state).resolved == ("17", "3", "*", "*", "*")


def test_retired_and_back() -> None:
    """A retired schedule fires nothing and is changed by nobody; declared again it goes on, from then on."""
    schedule = ScheduleScenario()
    schedule.when(sc.Retire())
    assert schedule.next() is None
    assert schedule.at("15:00").fire() == []
    for command in (sc.Enable(), sc.Reset(), sc.Customise(enabled=True), sc.RunNow(task="t", run=None)):
        schedule.rejects(command, "is retired: its code is gone")
    schedule.when(declare())
    assert schedule.next() == at("16:00")


def test_a_change_of_timing_records_what_it_leaves_behind() -> None:
    """Slots that nobody fired before the schedule was changed are recorded as missed, once."""
    schedule = ScheduleScenario().at("14:30")
    events = [told(one) for one in schedule.when(declare(fields=DAILY))]
    assert events == [
        "missed 2 13:00-14:00: the schedule was changed before a worker fired them",
        "ScheduleDeclared",
    ]
    assert schedule.fire() == []


def test_other_options_leave_slots_alone() -> None:
    """A declaration that changes only how runs are made loses no slot."""
    schedule = ScheduleScenario().at("13:30")
    schedule.when(declare(queue="slow"))
    assert schedule.fire() == ["fired 13:00"]


# Changing


def test_disabling_is_customising_until_enabled_again() -> None:
    """Disabled by hand it differs from the default; enabled again it does not."""
    schedule = ScheduleScenario()
    schedule.when(sc.Disable())
    assert loads(str(schedule.state.custom)) == {"enabled": False}
    assert schedule.when(sc.Disable()) == []
    schedule.when(declare(queue="slow"))
    assert not schedule.state.enabled
    schedule.when(sc.Enable())
    assert schedule.state.custom is None


def test_enabling_does_not_fire_at_once() -> None:
    """Slots of the disabled time are gone; the next slot after enabling is fired."""
    schedule = ScheduleScenario()
    schedule.when(sc.Disable())
    schedule.at("15:30").when(sc.Enable())
    assert schedule.fire() == []
    assert schedule.next() == at("16:00")


def test_disabling_gives_up_pending_slots() -> None:
    """Slots that were still to be run are recorded as missed when the schedule is disabled."""
    schedule = ScheduleScenario(misfire="all").at("15:20")
    schedule.fire()
    schedule.succeed()
    told_ = [told(one) for one in schedule.when(sc.Disable())]
    assert told_ == [
        "missed 2 14:00-15:00: the schedule was changed before a worker fired them",
        "ScheduleDisabled",
    ]
    assert schedule.state.pending == "[]"


def test_an_override_wins_and_cannot_be_changed() -> None:
    """What the configuration file says wins over custom and default, and only the file takes it back."""
    schedule = ScheduleScenario()
    mine, theirs = ("5", "4", "*", "*", "*"), ("6", "5", "*", "*", "*")
    schedule.when(sc.Customise(fields=mine, resolved=mine))
    schedule.when(sc.Customise(fields=theirs, resolved=theirs, enabled=False, override="night*"))
    assert in_force(schedule.state) == (theirs, theirs, "UTC", False)
    for command in (sc.Enable(), sc.Reset(), sc.Customise(enabled=True), sc.Disable()):
        schedule.rejects(command, r"overridden by the configuration file \(schedule_overrides, 'night\*'\)")
    schedule.when(sc.Reset(override=True))
    assert in_force(schedule.state) == (mine, mine, "UTC", True)


def test_a_disabled_component_stops_all_but_those_that_run_always() -> None:
    """Disabling the component stops the schedule, unless it opted in; enabling does not fire at once."""
    for always, fired in ((False, []), (True, ["fired 14:00"])):
        schedule = ScheduleScenario(component="mail", always=always)
        envelope: dict[str, Any] = {"originator_id": "ledger", "command": "c", "at": NOON, "actor": "a"}
        schedule.state = _after(schedule, s.ComponentDisabled(**envelope, originator_version=1, component="mail"))
        assert schedule.at("14:00").fire()[-1:] == fired
        envelope["at"] = at("14:30")
        schedule.state = _after(schedule, s.ComponentEnabled(**envelope, originator_version=2, component="mail"))
        assert schedule.at("14:30").fire() == []


def _after(schedule: ScheduleScenario, event: e.Event) -> ScheduleState:
    return evolve(schedule.state, event)


# Asking for runs


def test_run_now_queues_a_run_beside_the_slots() -> None:
    """A run that was asked for is the schedule's one live run; slots go on after it has ended."""
    schedule = ScheduleScenario().at("12:30")
    [requested] = schedule.when(sc.RunNow(task="t1", run=None))
    assert isinstance(requested, s.RunRequested)
    assert (schedule.state.run_id, schedule.state.is_live, schedule.next()) == ("t1", True, None)
    schedule.at("12:40").succeed()
    assert schedule.next() == at("13:00")


def test_run_now_is_refused_beside_a_running_one() -> None:
    """Beside a running run it is refused; a waiting one is not doubled."""
    schedule = live()
    schedule.rejects(sc.RunNow(task="t2", run=RUNNING), "is running")
    [requested] = schedule.when(sc.RunNow(task="t2", run=WAITING))
    assert isinstance(requested, s.RunRequested)
    assert requested.task == schedule.state.run_id != "t2"


def test_run_asap_is_fired_by_the_next_worker() -> None:
    """A run as soon as possible is fired by the next look, once, and the slots stay as they were."""
    schedule = ScheduleScenario().at("12:30")
    schedule.when(sc.RunSoon(run=None))
    assert schedule.next() == at("12:30")
    schedule.rejects(sc.RunSoon(run=None), "due already")
    assert schedule.at("12:31").fire() == ["asked 12:30"]
    schedule.succeed()
    assert schedule.next() == at("13:00")


@pytest.mark.parametrize("run", [RUNNING, WAITING])
def test_run_asap_is_refused_beside_a_live_run(run: str) -> None:
    """A live run is enough."""
    live().rejects(sc.RunSoon(run=run), f"has a run that is {run}")


def test_run_asap_is_refused_while_disabled() -> None:
    """A disabled schedule can be run now, but not by its workers."""
    schedule = ScheduleScenario()
    schedule.when(sc.Disable())
    schedule.rejects(sc.RunSoon(run=None), "is disabled")
    assert schedule.when(sc.RunNow(task="t1", run=None))


def test_clear_delay_is_for_a_waiting_retry() -> None:
    """It forgets the failures, and is refused where no run waits."""
    schedule = live().run(e.TaskFailed)
    schedule.rejects(sc.ClearDelay(run=RUNNING), "is running")
    [cleared] = schedule.when(sc.ClearDelay(run=WAITING))
    assert isinstance(cleared, s.FailDelayCleared)
    assert schedule.state.failures == 0
    schedule.run(e.TaskCancelled)
    schedule.rejects(sc.ClearDelay(run=None), "no run that waits")
    assert schedule.next() == at("14:00")


# Jitter


@pytest.mark.parametrize("slot", [NOON + timedelta(minutes=minute) for minute in range(0, 600, 7)])
def test_jitter_is_bounded_and_always_the_same(slot: datetime) -> None:
    """A run is due less than the jitter after its slot, by a hash of schedule and slot."""
    delays = {jitter_us("nightly", to_us(slot), 30.0) for _ in range(3)}
    assert len(delays) == 1
    assert 0 <= delays.pop() < 30_000_000
    assert jitter_us("nightly", to_us(slot), 0.0) == 0


def test_jitter_spreads() -> None:
    """Many schedules of one slot are spread over all of the jitter."""
    delays = sorted(jitter_us(f"n{number}", to_us(NOON), 60.0) for number in range(600))
    assert delays[60] < 12_000_000
    assert delays[-60] > 48_000_000
