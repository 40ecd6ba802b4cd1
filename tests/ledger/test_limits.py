"""Limits and switches as pure rules: what scopes there are, whose word counts, and which events a command causes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ledger import Conflict, InvalidOption
from ledger import control_events as ce
from ledger.commands import Act
from ledger.control_rules import (
    LimitState,
    ResetLimit,
    SetLimit,
    SwitchState,
    TurnOff,
    TurnOn,
    change,
    evolve_limit,
    evolve_switch,
    turn,
)
from ledger.events import KeyReleased
from ledger.limits import Limit, Limits, Running, check_most, check_scope, configured, fulls, room, room_of_key

ACT = Act(id="a", at=datetime(2026, 1, 2, tzinfo=UTC), actor="user:ann", reason="why")


@pytest.mark.parametrize("scope", ["ledger", "queue:mail", "task:mail.*", "key:customer 7", "key:a:b", "task:*"])
def test_scopes_that_there_are(scope: str) -> None:
    """The ledger, and by name a queue, a task or a key; the name may have colons and patterns."""
    assert check_scope(scope) == scope


@pytest.mark.parametrize(
    "scope", ["", "queue", "queue:", "mail", "worker:w", "ledger:x", "key: a", "task:a\n", 7, None]
)
def test_what_is_no_scope_is_refused(scope: Any) -> None:
    """Anything else is refused, and the message says what is allowed or what is wrong with the name."""
    with pytest.raises(InvalidOption, match=r"scope|the key of a limit|the task of a limit"):
        check_scope(scope)


@pytest.mark.parametrize("most", [0, -1, 1_000_001, True, "3", 2.0])
def test_what_is_no_limit_is_refused(most: Any) -> None:
    """A limit is a whole number from 1; what 0 might mean is said by another command."""
    with pytest.raises(InvalidOption, match="allowed is a whole number from 1"):
        check_most(most)
    if most == 0:
        with pytest.raises(InvalidOption, match="queue pause"):
            check_most(most)


def test_cases_of_the_limit_of_a_class() -> None:
    """Cases 59 to 61: none configured is none; a default for all; the own limit of a class before it."""
    assert Limits().of("task", "A") is None
    site_default = Limit("task:*", 10, "configuration")
    found = Limits([site_default]).of("task", "A")
    assert found is not None and found.most == 10
    own = Limits([site_default, Limit("task:A", 5, "configuration")]).of("task", "A")
    assert own is not None and own.most == 5


def test_the_closest_scope_counts() -> None:
    """The exact name, else the pattern with the most letters, of equal ones the first; None lifts those beneath it."""
    limits = Limits(
        Limit(scope, most, "hand")
        for scope, most in (("key:*", 1), ("key:ab*", 2), ("key:*ab", 3), ("key:abc", None), ("key:**", 9))
    )
    found = {key: limits.of("key", key) for key in ("x", "abx", "ab", "abc")}

    assert {key: one and one.scope for key, one in found.items()} == {
        "x": "key:*",
        "abx": "key:ab*",
        "ab": "key:*ab",
        "abc": None,
    }


def test_what_is_full_is_counted_by_scope() -> None:
    """Every limit that a task meets is told, the widest first; and the room that is left."""
    running = Running([("a", "q", "k", 2), ("a", "r", None, 1), ("b", "q", None, 4)])
    limits = Limits(
        [Limit("ledger", 7, "code"), Limit("queue:q", 6, "hand"), Limit("task:a", 3, "code"), Limit("key:k", 2, "code")]
    )
    found = fulls(limits, running, "a", "q", "k")

    assert [(full.limit.scope, full.name, full.running) for full in found] == [
        ("ledger", "ledger", 7),
        ("queue:q", "q", 6),
        ("task:a", "a", 3),
        ("key:k", "k", 2),
    ]
    assert fulls(Limits([Limit("task:a", 4, "code")]), running, "a", "q", "k") == []
    wide = Limits(
        [
            Limit("ledger", 10, "code"),
            Limit("task:a", 5, "code"),
            Limit("queue:r", 9, "code"),
            Limit("key:k", 3, "code"),
        ]
    )
    assert (room(wide, running, "a", "q"), room(wide, running, "b", "q"), room(limits, running, "c", "r")) == (2, 3, 0)
    assert (room_of_key(wide, running, "k"), room_of_key(limits, running, "k")) == (1, 0)


def test_a_source_says_and_takes_back() -> None:
    """Configuration before hand before code; what one takes back leaves the word of the next; none is a word too."""
    state = LimitState("task:a")

    def said(command: SetLimit | ResetLimit) -> Limit | None:
        nonlocal state
        for event in change(state, command, ACT):
            state = evolve_limit(state, event)
        return state.in_force

    assert said(SetLimit(source="code", most=5, app="app")) == ("task:a", 5, "code")
    assert said(SetLimit(source="hand", most=None)) == ("task:a", None, "hand")
    assert said(SetLimit(source="configuration", most=2)) == ("task:a", 2, "configuration")
    with pytest.raises(Conflict, match=r"said by the configuration \(limits\)"):
        said(SetLimit(source="hand", most=9))
    assert said(ResetLimit(source="configuration")) == ("task:a", None, "hand")
    assert said(ResetLimit(source="hand")) == ("task:a", 5, "code")
    assert said(ResetLimit(source="code")) is None
    assert (state.version, state.actor, state.reason) == (6, "user:ann", "why")


def test_what_is_said_already_is_no_event() -> None:
    """The same limit again, or a reset of what nobody said, leaves no trace."""
    state = LimitState("task:a", 1, code=5, app="one")
    assert change(state, SetLimit(source="code", most=5, app="two"), ACT) == []
    assert change(state, ResetLimit(source="hand"), ACT) == []
    assert change(state._replace(hand=-1), SetLimit(source="hand", most=None), ACT) == []


@pytest.mark.parametrize(
    ("stream", "off", "on"),
    [("queue:mail", ce.QueuePaused, ce.QueueResumed), ("ledger", ce.RunnersDisabled, ce.RunnersEnabled)],
)
def test_a_switch_is_turned_once(stream: str, off: type, on: type) -> None:
    """Off and on again are events of the stream; what is so already is none."""
    state = SwitchState(stream, version=4)
    assert turn(state, TurnOn(), ACT) == []
    [event] = turn(state, TurnOff(), ACT)
    state = evolve_switch(state, event)
    assert (type(event), event.originator_id, event.originator_version, event.reason) == (off, stream, 5, "why")
    assert turn(state, TurnOff(), ACT) == []
    [event] = turn(state, TurnOn(), ACT)
    assert type(event) is on and not evolve_switch(state, event).is_off


def test_other_events_change_nothing_but_the_version() -> None:
    """The fold takes any event, also one that is of no concern."""
    other = KeyReleased(originator_id="x", originator_version=9, command="c", at=ACT.at, actor="a", task="t")
    odd = ce.LimitChanged(
        originator_id="x", originator_version=9, command="c", at=ACT.at, actor="a", source="moon", most=1
    )
    assert evolve_switch(SwitchState("ledger", 1, is_off=True), other) == SwitchState("ledger", 9, is_off=True)
    assert evolve_limit(LimitState("task:a", 1, code=2), odd) == LimitState("task:a", 9, code=2)


def test_the_setting_says_none_by_a_word() -> None:
    """TOML has no null: "none" stands for it."""
    assert configured({"ledger": 3, "task:a": "none"}) == {"ledger": 3, "task:a": None}
    assert configured(None) is None
