"""Scheduled tasks as their users meet them: declared, registered, fired, changed, explained."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from ledger import Ledger, Retry
from ledger import schedule_events as s
from ledger.errors import Conflict, InvalidArguments, InvalidOption, InvalidSchedule, NeverFires, NotFound
from ledger.events import KeyReleased, KeyReserved, TaskCancelled, TaskQueued
from ledger.schedule import in_force, is_run_id
from ledger.testing import ManualClock, memory_ledger, run_queue
from projections import queue, schedules
from projections.reports import Reports
from runner.cycle import Cycle
from tests.api.setup import REASON, new_ledger

pytestmark = pytest.mark.usefixtures("each_database")

HOUR = timedelta(hours=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class App:
    """A ledger with one schedule whose runs are noted; *fails* says how many of the next raise."""

    def __init__(self, expression: str = "0 * * * *", **options: Any) -> None:
        self.ledger, self.clock = new_ledger()
        self.runs: list[datetime] = []
        self.fails = 0
        self.takes = timedelta(0)
        self.ledger.schedule(expression, name="job", **options)(self.job)
        run_queue(self.ledger)

    def job(self) -> None:
        """Do the hourly job.

        This line is not shown.
        """
        self.runs.append(self.clock.now())
        self.clock.advance(self.takes)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("down")

    def until(self, **since_noon: float) -> list[datetime]:
        """Run everything up to so long after noon, and return when runs began."""
        self.runs.clear()
        run_queue(self.ledger, until=NOON + timedelta(**since_noon))
        assert schedules.verify(self.ledger) == []
        assert queue.verify(self.ledger) == []
        return list(self.runs)

    def events(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind."""
        with self.ledger.store.read() as snapshot:
            found = [snapshot.decode(raw) for raw in snapshot.events_after(0, 100_000)]
        return [event for event in found if isinstance(event, kind)]

    @property
    def state(self) -> Any:
        return self.ledger.schedules.get("job")


# Declaring


def test_nothing_is_stored_by_a_declaration() -> None:
    """The decorator stores nothing; the start of a worker does."""
    ledger, _ = new_ledger()
    ledger.schedule("0 * * * *", name="job")(_nothing)
    assert ledger.schedules.names() == []
    assert run_queue(ledger) == 0
    assert ledger.schedules.names() == ["job"]


def test_fields_and_expression_are_the_same() -> None:
    """A schedule given by fields, the others `*`, equals the one given as an expression."""
    ledger, _ = new_ledger()

    @ledger.schedule(minute="5", dayofweek="mon")
    def by_fields() -> None: ...

    @ledger.schedule("5 * * * mon")
    def by_expression() -> None: ...

    ledger.schedules.sync()
    assert in_force(ledger.schedules.get("by_fields")) == in_force(ledger.schedules.get("by_expression"))


def test_a_schedule_is_a_task_too() -> None:
    """The decorated function is called and queued like any task, beside its schedule."""
    app = App()
    task = app.ledger.functions["job"].enqueue()
    assert run_queue(app.ledger) == 1
    assert task.state == "succeeded"
    assert app.until(hours=1) == [NOON + HOUR]


def test_what_is_declared_is_stored() -> None:
    """The declaration event has fields as written and settled, zone, croniter version and every option."""
    ledger, _ = new_ledger()

    @ledger.schedule(
        "R H * * *",
        timezone="Europe/Paris",
        queue="q",
        priority=5,
        run_as="alice",
        timeout=9,
        retry=Retry(first=1),
        max_attempts=3,
        jitter=30,
        misfire="skip",
        component="mail",
        always=True,
        enabled=False,
        args={"n": 3},
        labels=["x"],
        concurrency_key="customer 7",
    )
    def job(n: int, m: int = 4) -> None:
        """Say what it does."""

    ledger.schedules.sync(app="jobs:ledger")
    with ledger.store.read() as snapshot:
        [event] = [event for _, event in snapshot.stream("schedule:job")]
    assert isinstance(event, s.ScheduleDeclared)
    assert (event.app, event.task, event.fields) == ("jobs:ledger", "job", ["R", "H", "*", "*", "*"])
    assert 0 <= int(event.resolved[0]) < 60
    assert 0 <= int(event.resolved[1]) < 24
    assert (event.timezone, event.queue, event.priority, event.run_as) == ("Europe/Paris", "q", 5, "alice")
    assert (event.timeout, event.max_attempts, event.jitter, event.misfire) == (9, 3, 30.0, "skip")
    assert (event.component, event.always, event.enabled, event.args) == ("mail", True, False, {"n": 3, "m": 4})
    assert (event.labels, event.retry["first"], event.description) == (["x"], 1, "Say what it does.")
    assert event.concurrency_key == "customer 7"
    assert event.croniter[0].isdigit()


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"minute": "61"}, InvalidSchedule, "minute is '61'.*0 to 59"),
    ({"hour": "x"}, InvalidSchedule, "hour is 'x'.*0 to 23"),
    ({"day": "0"}, InvalidSchedule, "day is '0'.*1 to 31"),
    ({"month": "13"}, InvalidSchedule, "month is '13'.*1 to 12"),
    ({"dayofweek": "8"}, InvalidSchedule, "dayofweek is '8'.*0 to 7"),
    ({"minute": 5}, InvalidSchedule, "minute is of type int"),
    ({"day": "30", "month": "2"}, NeverFires, "no day|never"),
    ({"timezone": "Mars/Olympus"}, InvalidSchedule, "Mars/Olympus"),
    ({"jitter": -1}, InvalidOption, "jitter is -1"),
    ({"jitter": float("nan")}, InvalidOption, "jitter is nan"),
    ({"misfire": "two"}, InvalidOption, "misfire is 'two'.*'one' or 'skip' or 'all'"),
    ({"enabled": "no"}, InvalidOption, "enabled is 'no'"),
    ({"component": ""}, InvalidOption, "component is ''"),
    ({"args": {"n": 1}}, InvalidArguments, "cannot be called so"),
    ({"queue": ""}, InvalidOption, "queue is ''"),
]


@pytest.mark.parametrize(("given", "error", "words"), BAD)
def test_bad_declarations_are_refused_at_once(given: dict[str, Any], error: type[Exception], words: str) -> None:
    """What can never work is refused where it is declared, with the value and what is allowed."""
    ledger, _ = new_ledger()
    with pytest.raises(error, match=words):
        ledger.schedule(**given)(_nothing)
    assert ledger.schedules.declarations == {}


def _nothing() -> None: ...


def test_an_expression_and_fields_exclude_each_other() -> None:
    """Given both, it is not clear what is meant."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidSchedule, match="exclude each other"):
        ledger.schedule("* * * * *", hour="3")


def test_required_arguments_must_be_given() -> None:
    """A function that cannot be called by a schedule is refused."""
    ledger, _ = new_ledger()
    with pytest.raises(InvalidArguments, match="cannot be called so"):

        @ledger.schedule("* * * * *")
        def needs(n: int) -> None: ...


def test_a_name_is_given_once() -> None:
    """Two tasks of one name are refused, scheduled or not."""
    app = App()
    with pytest.raises(InvalidOption, match="registered already"):
        app.ledger.schedule("* * * * *", name="job")(_nothing)


# Registration


def redeclared(app: App, expression: str | None) -> Ledger:
    """Return the ledger as another process with other code has it: one schedule, or none."""
    other = Ledger("memory:", clock=app.clock)
    other.store = app.ledger.store
    if expression is not None:
        other.schedule(expression, name="job")(_nothing)
    return other


def test_registration_by_sync_and_by_workers() -> None:
    """New, changed, gone and back; only `sync` retires and goes back."""
    app = App()
    old, new, gone = (redeclared(app, text) for text in ("0 * * * *", "0 3 * * *", None))
    assert old.schedules.register().updated == ("job",)
    assert new.schedules.register().updated == ("job",)
    done = old.schedules.register()
    assert done.updated == ()
    assert "newer declaration" in (done.left_alone or {})["job"]
    assert in_force(app.state).fields[1] == "3"
    assert old.schedules.sync().updated == ("job",)
    assert gone.schedules.register().retired == ()
    assert gone.schedules.sync().retired == ("job",)
    assert app.state.status == "retired"
    assert new.schedules.register().back == ()  # what it declares has been replaced
    assert old.schedules.register().back == ("job",)
    assert app.state.status == "declared"


def test_a_customised_schedule_is_left_alone_and_said_so() -> None:
    """Registration names what differs from the code because somebody changed it."""
    app = App()
    app.ledger.schedules.set("job", hour="4", reason=REASON)
    done = redeclared(app, "0 3 * * *").schedules.register()
    assert "customised" in (done.left_alone or {})["job"]
    assert in_force(app.state).fields == ("0", "4", "*", "*", "*")


def test_random_fields_stay_over_deploys() -> None:
    """R keeps its value over syncs, changed options, customising another field and a reset."""
    ledger, _ = new_ledger()
    ledger.schedule("R R * * *", name="job")(_nothing)
    ledger.schedules.sync()
    first = in_force(ledger.schedules.get("job")).resolved
    for queue_name in ("a", "b", "c"):
        other = Ledger("memory:", clock=ledger.clock)
        other.store = ledger.store
        other.schedule("R R * * *", name="job", queue=queue_name)(_nothing)
        assert other.schedules.sync().updated == ("job",)
        assert in_force(ledger.schedules.get("job")).resolved == first
    ledger.schedules.set("job", day="1", reason=REASON)
    assert in_force(ledger.schedules.get("job")).resolved[:2] == first[:2]
    ledger.schedules.reset("job", reason=REASON)
    assert in_force(ledger.schedules.get("job")).resolved == first


def test_the_default_time_zone_is_that_of_the_installation() -> None:
    """A schedule without a time zone goes by the one that registration is given."""
    ledger, _ = new_ledger()
    ledger.schedule("0 3 * * *", name="job")(_nothing)
    ledger.schedules.sync(timezone="Asia/Tokyo")
    assert ledger.schedules.next("job", 1) == [datetime(2026, 1, 1, 18, tzinfo=UTC)]


# Firing


def test_a_run_is_one_append() -> None:
    """SlotFired, KeyReserved and TaskQueued share one act; the run's id tells that it is one."""
    app = App()
    app.until(hours=1)
    [fired], [queued] = app.events(s.SlotFired), app.events(TaskQueued)
    [reserved], [released] = app.events(KeyReserved), app.events(KeyReleased)
    assert fired.command == queued.command == reserved.command
    assert fired.task == reserved.task == released.task == queued.originator_id.removeprefix("task:")
    assert is_run_id(fired.task)
    assert (queued.schedule, queued.slot, queued.due_at) == ("job", NOON + HOUR, NOON + HOUR)
    assert queued.max_attempts is None


def test_runs_have_the_concurrency_key_of_their_schedule() -> None:
    """A limit of the key counts runs of schedules beside other tasks of the key, and what is shown of a run has it."""
    ledger, clock = new_ledger()
    ledger.schedule("0 * * * *", name="job", concurrency_key="customer 7")(lambda: None)
    other = ledger.task(name="other", concurrency_key="customer 7")(lambda: None)
    ledger.controls.set_limit("key:customer 7", 1, reason=REASON)
    run_queue(ledger)
    clock.advance(HOUR)
    other.enqueue()
    turn = Cycle(ledger, "w").turn([], 10, is_idle=True)
    run = ledger.get(str(ledger.schedules.get("job").run_id))

    assert turn.fired == len(turn.claims) == 1
    assert run.record.summary()["concurrency_key"] == run.events[0].concurrency_key == "customer 7"
    reports = Reports(ledger)
    reports.catch_up()
    assert {row.summary()["concurrency_key"] for row in reports.list_tasks()} == {"customer 7"}
    reports.close()


def test_every_slot_runs_at_its_time() -> None:
    """Through a day, each hour's run begins at the hour."""
    assert App().until(hours=24) == [NOON + HOUR * n for n in range(1, 25)]


def test_jitter_delays_the_run_and_not_the_slot() -> None:
    """A run is due a little after its slot; the next slot follows the schedule."""
    app = App(jitter=600)
    runs = app.until(hours=24)
    late = [run - (NOON + HOUR * n) for n, run in enumerate(runs, 1)]
    assert all(timedelta(0) <= one < timedelta(minutes=10) for one in late)
    assert len(set(late)) > 12


def test_a_long_run_skips_slots_and_says_so() -> None:
    """Slots that pass while a run is live are never run, and recorded with their cause."""
    app = App()
    app.takes = timedelta(minutes=130)
    assert app.until(hours=7) == [NOON + HOUR, NOON + 4 * HOUR, NOON + 7 * HOUR]
    assert {(event.count, event.cause.split(",")[0]) for event in app.events(s.SlotsMissed)} == {(2, "the run before")}


def test_a_failing_run_is_retried_by_its_own_delay() -> None:
    """Failures are retried after 60 s, doubling, whatever the schedule, and never given up."""
    app = App("*/2 * * * *")
    app.fails = 14
    runs = app.until(hours=72)
    gaps = [round((after - before).total_seconds()) for before, after in pairwise(runs)]
    assert gaps[:12] == [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440, 86400]
    assert app.state.failures == 13


def test_slots_missed_while_no_worker_ran() -> None:
    """14:00 and 15:00 are seen to be missed, and why."""
    app = App()
    app.clock.advance(timedelta(hours=4, minutes=10))
    assert run_queue(app.ledger) == 1
    [missed] = app.events(s.SlotsMissed)
    assert (missed.first, missed.last, missed.count) == (NOON + HOUR, NOON + 3 * HOUR, 3)
    assert missed.cause == "no worker ran; one run stands for all"


def test_all_missed_slots_are_run_in_order() -> None:
    """With misfire=all each missed slot is run, oldest first, one at a time."""
    app = App(misfire="all")
    app.clock.advance(timedelta(hours=3, minutes=10))
    assert run_queue(app.ledger) == 3
    assert [event.slot for event in app.events(TaskQueued)] == [NOON + HOUR * n for n in (1, 2, 3)]
    assert app.until(hours=4) == [NOON + 4 * HOUR]


def test_skipped_slots_are_not_run() -> None:
    """With misfire=skip late slots are dropped, and recorded."""
    app = App(misfire="skip")
    app.clock.advance(timedelta(hours=3, minutes=10))
    assert run_queue(app.ledger) == 0
    assert [event.count for event in app.events(s.SlotsMissed)] == [3]
    assert app.until(hours=4) == [NOON + 4 * HOUR]


class SetClock(ManualClock):
    """A clock that can be set, as an administrator sets a host's: its monotonic side does not follow."""

    def set_by(self, by: timedelta) -> None:
        self._now += by


def test_a_clock_set_forward_is_reported() -> None:
    """Slots that a jump passed over are recorded with the jump as their cause; nothing runs twice or is lost."""
    clock = SetClock(NOON)
    ledger = memory_ledger(clock)
    runs: list[datetime] = []
    ledger.schedule("0 * * * *", name="job")(lambda: runs.append(clock.now()))

    @ledger.task
    def jump(hours: int) -> None:
        clock.set_by(timedelta(hours=hours))

    jump.using(run_after=timedelta(minutes=90)).enqueue(24)
    run_queue(ledger, until=NOON + timedelta(hours=27))
    with ledger.store.read() as snapshot:
        [missed] = [event for _, event in snapshot.stream("schedule:job") if isinstance(event, s.SlotsMissed)]
    assert missed.cause.startswith("the clock was set forward by 86,400 s")
    assert (missed.first, missed.count) == (NOON + 2 * HOUR, 23)
    assert runs == [NOON + HOUR, NOON + timedelta(hours=25, minutes=30), NOON + 26 * HOUR, NOON + 27 * HOUR]


def test_a_clock_set_back_fires_nothing_twice() -> None:
    """After the clock was set back, slots wait for their time as the clock has never shown it before."""
    clock = SetClock(NOON)
    ledger = memory_ledger(clock)
    ledger.schedule("0 * * * *", name="job")(_nothing)
    run_queue(ledger, until=NOON + timedelta(hours=3, minutes=5))
    clock.set_by(-HOUR)
    run_queue(ledger, until=NOON + 5 * HOUR)
    with ledger.store.read() as snapshot:
        fired = [event.slot for _, event in snapshot.stream("schedule:job") if isinstance(event, s.SlotFired)]
    assert fired == [NOON + HOUR * n for n in range(1, 6)]


def test_a_time_zone_unknown_here_stops_only_its_schedule() -> None:
    """A schedule whose zone this machine does not know is not fired; the others are, and it is shown."""
    app = App()
    with app.ledger.store.write() as unit:
        act = app.ledger.act(unit, "user:test", REASON)
        envelope = {"command": act.id, "at": act.at, "actor": act.actor, "app": "", "task": "job", "croniter": "7"}
        fields = ["0", "*", "*", "*", "*"]
        unit.append(
            [
                s.ScheduleDeclared(
                    originator_id="schedule:lost",
                    originator_version=1,
                    fields=fields,
                    resolved=fields,
                    timezone="Atlantis/Capital",
                    retry=Retry().stored(),
                    **envelope,  # type: ignore[arg-type]
                )
            ]
        )
    assert app.until(hours=2) == [NOON + HOUR, NOON + 2 * HOUR]
    with pytest.raises(InvalidSchedule, match="Atlantis/Capital"):
        app.ledger.schedules.next("lost")


# Administration

CHANGES: list[Callable[[Ledger, str], Any]] = [
    lambda ledger, reason: ledger.schedules.set("job", hour="3", reason=reason),
    lambda ledger, reason: ledger.schedules.reset("job", reason=reason),
    lambda ledger, reason: ledger.schedules.enable("job", reason=reason),
    lambda ledger, reason: ledger.schedules.disable("job", reason=reason),
    lambda ledger, reason: ledger.schedules.disable_component("mail", reason=reason),
    lambda ledger, reason: ledger.schedules.enable_component("mail", reason=reason),
]
REQUESTS: list[Callable[[Ledger, str], Any]] = [
    lambda ledger, reason: ledger.schedules.run_now("job", reason=reason),
    lambda ledger, reason: ledger.schedules.run_asap("job", reason=reason),
    lambda ledger, reason: ledger.schedules.clear_delay("job", reason=reason),
]


@pytest.mark.parametrize("change", [*CHANGES, *REQUESTS])
@pytest.mark.parametrize("reason", ["", "  ", None])
def test_every_change_needs_a_reason(change: Callable[[Ledger, Any], Any], reason: Any) -> None:
    """Nobody changes a schedule without saying why."""
    app = App(component="mail")
    before = app.state
    with pytest.raises(InvalidOption, match="reason"):
        change(app.ledger, reason)
    assert app.state == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_locked_installation_refuses_changes(change: Callable[[Ledger, str], Any]) -> None:
    """With the setting schedules_locked nothing is changed; runs may still be asked for."""
    app = App(component="mail")
    app.ledger.schedules.is_locked = True
    before = app.state
    with pytest.raises(Conflict, match="locked"):
        change(app.ledger, REASON)
    assert app.state == before
    app.ledger.schedules.run_now("job", reason=REASON)


def test_the_lock_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKLEDGER_SCHEDULES_LOCKED locks the Python API too."""
    app = App()
    monkeypatch.setenv("WORKLEDGER_SCHEDULES_LOCKED", "1")
    with pytest.raises(Conflict, match="schedules_locked"):
        app.ledger.schedules.disable("job", reason=REASON)


@pytest.mark.parametrize(
    "look",
    [
        lambda ledger: ledger.schedules.get("x"),
        lambda ledger: ledger.schedules.history("x"),
        lambda ledger: ledger.schedules.next("x"),
        lambda ledger: ledger.schedules.set("x", hour="3", reason=REASON),
        lambda ledger: ledger.schedules.run_now("x", reason=REASON),
        lambda ledger: ledger.schedules.disable_component("x", reason=REASON),
    ],
)
def test_what_is_not_there_is_not_found(look: Callable[[Ledger], Any]) -> None:
    """An unknown schedule or component is a named error."""
    with pytest.raises(NotFound, match="'x'"):
        look(App().ledger)


def test_set_changes_any_subset() -> None:
    """Fields given by name replace those; the others, zone and enabled stay."""
    app = App("5 4 * * 1")
    app.ledger.schedules.set("job", hour="6", reason=REASON)
    assert in_force(app.state)[0] == ("5", "6", "*", "*", "1")
    app.ledger.schedules.set("job", timezone="Europe/Paris", enabled=False, reason=REASON)
    assert in_force(app.state) == (("5", "6", "*", "*", "1"), ("5", "6", "*", "*", "1"), "Europe/Paris", False)
    app.ledger.schedules.set("job", "1 2 3 4 5", enabled=True, reason=REASON)
    assert in_force(app.state)[0] == tuple("12345")
    with pytest.raises(InvalidOption, match="something to set"):
        app.ledger.schedules.set("job", reason=REASON)
    with pytest.raises(InvalidSchedule, match="hour is '99'"):
        app.ledger.schedules.set("job", hour="99", reason=REASON)


def test_the_history_tells_from_what_to_what() -> None:
    """Each change has who, when, why and both values."""
    app = App()
    app.ledger.schedules.set("job", hour="6", reason="after the backup", actor="ann")
    app.ledger.schedules.disable("job", reason="disk is full", actor="ann")
    customised, disabled = app.ledger.schedules.history("job")[1:]
    assert (customised.what, customised.actor, customised.reason) == (
        "ScheduleCustomised",
        "user:ann",
        "after the backup",
    )
    assert customised.changes["schedule"] == ("0 * * * *", "0 6 * * *")
    assert disabled.changes == {"enabled": (True, False)}
    assert disabled.at == NOON


def test_a_waiting_retry_is_moved_by_run_now_and_given_up_by_clear_delay() -> None:
    """run-now makes the retry due; clear-delay cancels it, and the next slot follows."""
    app = App()
    app.fails = 2
    app.clock.advance(HOUR)
    run_queue(app.ledger)
    app.ledger.schedules.run_now("job", reason=REASON)
    assert run_queue(app.ledger) == 1
    assert app.state.failures == 2
    app.ledger.schedules.clear_delay("job", reason=REASON)
    assert app.state.failures == 0
    [cancelled] = app.events(TaskCancelled)
    assert cancelled.reason == REASON
    assert run_queue(app.ledger) == 0
    assert app.until(hours=2) == [NOON + 2 * HOUR]


def test_a_run_beside_a_running_one_is_refused() -> None:
    """Inside its own run the schedule cannot be run now, and disabling lets the run finish."""
    ledger, clock = new_ledger()
    said: list[str] = []

    @ledger.schedule("0 * * * *")
    def job() -> str:
        with pytest.raises(Conflict, match="is running") as refused:
            ledger.schedules.run_now("job", reason=REASON)
        said.append(str(refused.value))
        ledger.schedules.disable("job", reason=REASON)
        return "finished"

    run_queue(ledger)
    clock.advance(HOUR)
    assert run_queue(ledger) == 1
    assert said
    state = ledger.schedules.get("job")
    assert state.run_id is not None
    assert (ledger.get(state.run_id).result(), state.enabled, state.outcome) == ("finished", 0, "succeeded")
    clock.advance(5 * HOUR)
    assert run_queue(ledger) == 0


def test_disabling_cancels_a_waiting_retry() -> None:
    """A disabled schedule has no run left that could begin."""
    app = App()
    app.fails = 1
    app.clock.advance(HOUR)
    run_queue(app.ledger)
    app.ledger.schedules.disable("job", reason=REASON)
    assert app.until(hours=5) == []
    app.ledger.schedules.enable("job", reason=REASON)
    assert run_queue(app.ledger) == 0
    assert app.until(hours=7) == [NOON + 6 * HOUR, NOON + 7 * HOUR]


def test_a_retired_schedule_is_left_with_its_history() -> None:
    """A schedule whose code is gone is retired: its retry is given up, its history readable, the rest goes on."""
    app = App()
    app.fails = 1
    app.clock.advance(HOUR)
    run_queue(app.ledger)
    other = redeclared(app, None)
    beside: list[datetime] = []
    other.schedule("30 * * * *", name="beside")(lambda: beside.append(app.clock.now()))
    assert other.schedules.sync().retired == ("job",)
    run_queue(other, until=NOON + 3 * HOUR)
    assert beside == [NOON + timedelta(minutes=90), NOON + timedelta(minutes=150)]
    assert [change.what for change in other.schedules.history("job")][-1] == "ScheduleRetired"
    assert other.schedules.next("job") == []
    assert schedules.verify(other) == []


def test_run_now_runs_a_disabled_schedule_and_run_asap_does_not() -> None:
    """An administrator may run a disabled schedule by hand."""
    app = App(enabled=False)
    assert app.until(hours=3) == []
    app.ledger.schedules.run_now("job", reason=REASON)
    assert run_queue(app.ledger) == 1
    with pytest.raises(Conflict, match="disabled"):
        app.ledger.schedules.run_asap("job", reason=REASON)


def test_run_asap_runs_once_beside_the_slots() -> None:
    """The next look fires it; the following slot is fired at its time."""
    app = App()
    app.clock.advance(timedelta(minutes=10))
    app.ledger.schedules.run_asap("job", reason=REASON)
    assert run_queue(app.ledger) == 1
    assert [event.asked for event in app.events(s.SlotFired)] == [True]
    assert app.until(hours=1) == [NOON + HOUR]


def test_components_stop_and_start_their_schedules() -> None:
    """A disabled component stops its schedules, but for those that run always; enabling fires nothing at once."""
    ledger, clock = new_ledger()
    runs: list[str] = []
    ledger.schedule("0 * * * *", name="plain", component="mail")(lambda: runs.append("plain"))
    ledger.schedule("0 * * * *", name="always", component="mail", always=True)(lambda: runs.append("always"))
    ledger.schedule("0 * * * *", name="other", component="disk")(lambda: runs.append("other"))
    run_queue(ledger)
    assert ledger.schedules.disable_component("mail", reason=REASON)
    assert not ledger.schedules.disable_component("mail", reason=REASON)
    assert ledger.schedules.disabled_components() == {"mail"}
    run_queue(ledger, until=NOON + HOUR)
    assert sorted(runs) == ["always", "other"]
    with pytest.raises(Conflict, match="component mail"):
        ledger.schedules.run_now("plain", reason=REASON)
    clock.advance(timedelta(minutes=30))
    assert ledger.schedules.enable_component("mail", reason=REASON)
    runs.clear()
    assert run_queue(ledger) == 0
    run_queue(ledger, until=NOON + 2 * HOUR)
    assert sorted(runs) == ["always", "other", "plain"]
    assert schedules.verify(ledger) == []


def test_a_schedule_declared_into_a_disabled_component_stands_still() -> None:
    """The component is off for those that come later too."""
    ledger, _ = new_ledger()
    ledger.schedule("0 * * * *", name="first", component="mail")(_nothing)
    run_queue(ledger)
    ledger.schedules.disable_component("mail", reason=REASON)
    ledger.schedule("0 * * * *", name="second", component="mail")(_nothing)
    assert run_queue(ledger, until=NOON + 2 * HOUR) == 0
    assert ledger.schedules.get("second").is_component_off
    assert schedules.verify(ledger) == []


def test_a_failed_run_that_is_retried_by_hand_is_the_live_run() -> None:
    """`retry` on a run makes it the schedule's live run again, also when it is not the newest."""
    app = App(max_attempts=1)
    app.fails = 1
    app.until(hours=2)
    first = app.events(s.SlotFired)[0].task
    app.takes = timedelta(minutes=90)
    app.ledger.retry(first, reason=REASON)
    assert app.state.run_id == first
    assert app.until(hours=5) == [NOON + 2 * HOUR, NOON + 4 * HOUR]


# Overrides


def test_overrides_of_the_configuration_file() -> None:
    """Exact name first, then the first pattern that fits; shown as such; gone with the file."""
    ledger, _ = new_ledger()
    for name in ("mail.send", "mail.clean", "disk.clean"):
        ledger.schedule("0 * * * *", name=name)(_named(name))
    overrides = {"mail.*": "1 2 3 4 5", "*.clean": {"enabled": False}, "mail.send": {"timezone": "Europe/Paris"}}
    assert ledger.schedules.sync(overrides=overrides).overridden == ("disk.clean", "mail.clean", "mail.send")
    force = {name: in_force(ledger.schedules.get(name)) for name in ledger.schedules.names()}
    assert force["mail.clean"].fields == tuple("12345")
    assert (force["disk.clean"].enabled, force["mail.send"].timezone) == (False, "Europe/Paris")
    assert ledger.schedules.sync(overrides=overrides).overridden == ()
    assert ledger.schedules.register().overridden == ()
    with pytest.raises(Conflict, match="overridden by the configuration file"):
        ledger.schedules.enable("disk.clean", reason=REASON)
    assert len(ledger.schedules.sync(overrides={}).overridden) == 3
    assert all(in_force(ledger.schedules.get(name)).enabled for name in ledger.schedules.names())


def _named(name: str) -> Callable[[], None]:
    def function() -> None: ...

    function.__name__ = name
    return function


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"job": "61 * * * *"}, "'job': minute is '61'"),
        ({"j*": {"timezone": "Mars/Olympus"}}, "Mars/Olympus"),
        ({"job": {"enabled": "no"}}, "enabled is 'no'"),
        ({"job": {"hour": "3"}}, "hour"),
    ],
)
def test_bad_overrides_are_refused(overrides: dict[str, Any], words: str) -> None:
    """An override that cannot be used stops the registration; nothing of it is stored."""
    app = App()
    with pytest.raises(InvalidSchedule, match=words):
        app.ledger.schedules.sync(overrides=overrides)
    assert app.state.override is None
