"""The schedules view: rows that equal a fresh fold whatever happened, and a state that the streams alone give too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger import Ledger
from ledger import schedule_events as s
from ledger.errors import Conflict
from ledger.testing import ManualClock, memory_ledger, run_queue
from projections import queue, schedules
from projections.reports import Reports
from tests.api.setup import REASON

NAMES = ("hourly", "often", "always")
NAME = st.sampled_from(NAMES)


@contextmanager
def allowed() -> Iterator[None]:
    try:
        yield
    except Conflict:
        pass


class ViewMachine(RuleBasedStateMachine):
    """Schedules of one component that fire, fail, are changed and asked for, with workers that come and go."""

    @initialize()
    def make(self) -> None:
        self.clock = ManualClock()
        self.ledger = self.new_ledger()
        self.fails = False
        self.ledger.schedule("0 * * * *", name="hourly", component="mail")(self.job)
        self.ledger.schedule("*/7 * * * *", name="often", component="mail", misfire="all", jitter=90)(self.job)
        self.ledger.schedule("*/20 1-23 * * *", name="always", component="mail", always=True, misfire="skip")(self.job)
        run_queue(self.ledger)

    def new_ledger(self) -> Ledger:
        return memory_ledger(self.clock)

    def job(self) -> None:
        if self.fails:
            raise OSError("down")

    @rule(minutes=st.sampled_from([0, 1, 9, 45, 200]))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(timedelta(minutes=minutes))

    @rule(minutes=st.sampled_from([0, 5, 70]), fails=st.booleans())
    def a_worker_works(self, minutes: int, fails: bool) -> None:
        self.fails = fails
        run_queue(self.ledger, until=self.clock.now() + timedelta(minutes=minutes))

    @rule(name=NAME)
    def run_now(self, name: str) -> None:
        with allowed():
            self.ledger.schedules.run_now(name, reason=REASON)

    @rule(name=NAME)
    def run_asap(self, name: str) -> None:
        with allowed():
            self.ledger.schedules.run_asap(name, reason=REASON)

    @rule(name=NAME)
    def clear_delay(self, name: str) -> None:
        with allowed():
            self.ledger.schedules.clear_delay(name, reason=REASON)

    @rule(name=NAME, enabled=st.booleans())
    def switch(self, name: str, enabled: bool) -> None:
        change = self.ledger.schedules.enable if enabled else self.ledger.schedules.disable
        change(name, reason=REASON)

    @rule(name=NAME, minute=st.sampled_from(["5", "R", "*/11"]))
    def change(self, name: str, minute: str) -> None:
        self.ledger.schedules.set(name, minute=minute, reason=REASON)

    @rule(name=NAME)
    def reset(self, name: str) -> None:
        self.ledger.schedules.reset(name, reason=REASON)

    @rule(enabled=st.booleans())
    def switch_component(self, enabled: bool) -> None:
        change = self.ledger.schedules.enable_component if enabled else self.ledger.schedules.disable_component
        change("mail", reason=REASON)

    @rule(name=NAME)
    def cancel_the_run(self, name: str) -> None:
        run = self.ledger.schedules.get(name).run_id
        with allowed():
            if run is not None:
                self.ledger.cancel(run, reason=REASON)

    @rule(name=NAME, which=st.integers(0, 3))
    def retry_a_run(self, name: str, which: int) -> None:
        with self.ledger.store.read() as snapshot:
            runs = [e.task for _, e in snapshot.stream(f"schedule:{name}") if isinstance(e, s.SlotFired)]
        with allowed():
            if which < len(runs):
                self.ledger.retry(runs[which], reason=REASON)

    @rule()
    def rebuild(self) -> None:
        schedules.rebuild(self.ledger)
        queue.rebuild(self.ledger)

    @invariant()
    def streams_and_rows_give_one_state(self) -> None:
        """Before the view is caught up, row and tail give what the whole streams give; after it, the row alone."""
        before = {name: self.ledger.schedules.get(name) for name in NAMES}
        queue.catch_up_all(self.ledger)
        with self.ledger.store.read() as snapshot:
            assert {state.name: state for state in schedules.all_states(snapshot)} == before
            live = snapshot.rows("SELECT name, task_id FROM queue ORDER BY name")
        assert live == [(name, state.run_id) for name, state in sorted(before.items()) if state.is_live]
        assert schedules.verify(self.ledger) == []
        assert queue.verify(self.ledger) == []


TestViewMachine = ViewMachine.TestCase
TestViewMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_the_views_equal_their_folds_on_postgres(postgres_ledgers: Callable[[ManualClock], Ledger]) -> None:
    """The same on PostgreSQL."""

    class PostgresViewMachine(ViewMachine):
        def new_ledger(self) -> Ledger:
            return postgres_ledgers(self.clock)

    run_state_machine_as_test(
        PostgresViewMachine, settings=settings(max_examples=10, stateful_step_count=25, deadline=None)
    )


def hourly(url: str) -> tuple[Ledger, ManualClock]:
    clock = ManualClock()
    ledger = Ledger(url, clock=clock)
    ledger.schedule("0 * * * *", name="job")(lambda: None)
    return ledger, clock


def test_a_ledger_without_the_view_gets_it(url: str) -> None:
    """A database whose views are older than this one gets it filled from the log, at the first use."""
    ledger, clock = hourly(url)
    run_queue(ledger, until=clock.now() + timedelta(hours=3))
    with ledger.store.write() as unit:
        unit.run("DROP TABLE schedules")
        unit.run("DROP TABLE components")
    queue.catch_up_all(ledger)
    assert schedules.verify(ledger) == []
    assert ledger.schedules.get("job").run_slot_us is not None
    ledger.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE schedules SET decided_us = 5", "schedule job: decided_us is 5"),
        ("UPDATE schedules SET next_us = NULL", "schedule job: next_us is None"),
        ("DELETE FROM schedules", "schedule job: the live row is missing"),
        ("UPDATE schedules SET name = 'other'", "schedule other: a live row that the log does not give"),
        ("INSERT INTO components VALUES ('mail', 7)", "component mail: disabled since 7"),
    ],
)
def test_verify_names_every_difference_and_rebuild_mends_it(url: str, damage: str, words: str) -> None:
    """A damaged row is found, named, and gone after a rebuild."""
    ledger, clock = hourly(url)
    run_queue(ledger, until=clock.now() + timedelta(hours=2))
    with ledger.store.write() as unit:
        unit.run(damage)
    assert any(sentence.startswith(words) for sentence in schedules.verify(ledger))
    schedules.rebuild(ledger)
    assert schedules.verify(ledger) == []
    ledger.close()


def test_rebuilding_one_view_leaves_the_other_caught_up(url: str) -> None:
    """The two views share a checkpoint: a rebuild of either takes the other along."""
    ledger, clock = hourly(url)
    run_queue(ledger)
    clock.advance(timedelta(hours=1))
    ledger.schedules.run_now("job", reason=REASON)
    queue.rebuild(ledger)
    assert schedules.verify(ledger) == []
    ledger.schedules.disable("job", reason=REASON)
    schedules.rebuild(ledger)
    assert queue.verify(ledger) == []
    assert Reports(ledger).verify() == []
    ledger.close()
