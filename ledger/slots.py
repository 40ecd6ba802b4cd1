"""Judge which slots of a schedule are due, which were missed and why, and when to look next. Pure.

A *slot* is one due time of a schedule. Every slot up to `ScheduleState.decided_us` has been decided; each judgement
decides those up to its present.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from ledger.clock import from_us, to_us
from ledger.cron import Fields, Rule
from ledger.schedule import MOST_PENDING, ScheduleState, loads

GRACE_US = 60_000_000
"""A slot fired so late is on time; one that is later was missed."""
RUN_BEFORE = "the run before, task "
"""How the cause of a slot begins that was skipped since a run was still live."""
_HOUR_US = 3_600_000_000


class Missed(NamedTuple):
    """Slots that passed without a run at their time; those in *run_later_us* shall be run one after the other."""

    first_us: int
    last_us: int
    number: int
    cause: str
    run_later_us: tuple[int, ...] = ()


class Verdict(NamedTuple):
    """What to do now: the slot to fire, if any, whether it is a request and no slot, and the slots that were missed."""

    fire_us: int | None
    is_asked: bool
    missed: tuple[Missed, ...]


@lru_cache(maxsize=32_768)
def _rule(resolved: str, timezone: str) -> Rule:
    return Rule(Fields(*loads(resolved)), timezone)


def rule_of(state: ScheduleState) -> Rule:
    """Return when the schedule fires.

    Raises:
        InvalidSchedule: This machine does not know its time zone, or it was stored by a version with other rules.
    """
    return _rule(state.resolved, state.timezone)


def next_us(state: ScheduleState) -> int | None:
    """Return when the schedule wants to be looked at next: its next slot, or earlier if something is to be recorded.

    None while nothing can be fired: it is disabled or retired, its component is disabled, a run of it is live.

    Raises:
        InvalidSchedule: As `rule_of`.
    """
    if not state.is_active or state.is_live:
        return None
    pending = loads(state.pending)
    if pending:
        return int(pending[0])
    slot = rule_of(state).next_after(from_us(state.decided_us))
    slot_us = None if slot is None else to_us(slot)
    ended_us = state.run_ended_us
    if slot_us is not None and ended_us is not None and slot_us <= ended_us:
        slot_us = ended_us  # slots passed while the run was live: they are recorded at once
    if state.asked_us is not None:
        return state.asked_us if slot_us is None else min(state.asked_us, slot_us)
    return slot_us


def next_slot_us(state: ScheduleState) -> int | None:
    """Return the next slot that will be fired as things stand; as `next_us` but never a time of mere recording."""
    if not state.is_active or state.is_live:
        return None
    pending = loads(state.pending)
    if pending or state.asked_us is not None:
        return int(pending[0]) if pending else state.asked_us
    slot = rule_of(state).next_after(from_us(max(state.decided_us, state.run_ended_us or 0)))
    return None if slot is None else to_us(slot)


def overdue_us(state: ScheduleState, intervals: int) -> int | None:
    """Return when more than *intervals* slots have passed since the last success, or since slots count as they stand.

    None where it fires no slots.

    Raises:
        InvalidSchedule: As `rule_of`.
    """
    if not state.is_active:
        return None
    firings = rule_of(state).firings(from_us(max(state.success_us or 0, state.counted_us)))
    slot = next(islice(firings, intervals, None), None)
    return None if slot is None else to_us(slot)


def judge(state: ScheduleState, now_us: int, away: str) -> Verdict:
    """Return what to do with every slot up to *now_us*; *away* is the cause of those that nobody fired in time."""
    missed, base_us = _while_live(state, now_us)
    rule = rule_of(state)
    due = [to_us(slot) for slot in rule.between(from_us(base_us), from_us(now_us), 2)] if base_us < now_us else []
    pending = loads(state.pending)
    if state.asked_us is not None:
        if due:
            missed.append(_span(rule, base_us, now_us, "a run that was asked for took their place"))
        return Verdict(state.asked_us, is_asked=True, missed=tuple(filter(None, missed)))
    if state.misfire == "all" or pending:
        fire_us, more = _all(state, rule, base_us, now_us, away)
    elif len(due) < 2 and (not due or state.misfire == "one" or now_us - due[0] <= GRACE_US):
        fire_us, more = (due[0] if due else None), []
    else:
        fire_us, more = _newest(state, rule, base_us, now_us, away)
    return Verdict(fire_us, is_asked=False, missed=(*filter(None, missed), *filter(None, more)))


def passed(state: ScheduleState, now_us: int, cause: str) -> tuple[Missed, ...]:
    """Return the slots up to *now_us* that have not been decided, as missed for *cause*; pending ones not included."""
    if not state.is_active:
        return ()
    missed, base_us = _while_live(state, now_us)
    if base_us < now_us:
        missed.append(_span(rule_of(state), base_us, now_us, cause))
    return tuple(filter(None, missed))


def given_up(state: ScheduleState, cause: str) -> tuple[Missed, ...]:
    """Return the pending slots as missed for *cause*."""
    return tuple(_groups(state, loads(state.pending), cause))


def _groups(state: ScheduleState, waiting: list[int], cause: str) -> Iterator[Missed]:
    """Yield pending slots as missed, those that follow one another as one: between two groups others were skipped."""
    if not waiting:
        return
    rule = rule_of(state)
    begin = 0
    for index, slot_us in enumerate(waiting, 1):
        following = rule.next_after(from_us(slot_us))
        if index == len(waiting) or following is None or to_us(following) != waiting[index]:
            yield Missed(waiting[begin], slot_us, index - begin, cause)
            begin = index


def jitter_us(name: str, slot_us: int, jitter_seconds: float) -> int:
    """Return how long after its slot a run is due: less than *jitter_seconds*, the same for the same slot."""
    if not jitter_seconds:
        return 0
    share = int.from_bytes(hashlib.sha256(f"jitter:{name}:{slot_us}".encode()).digest()[:8], "big")
    return round(jitter_seconds * 1_000_000) * share >> 64


def _while_live(state: ScheduleState, now_us: int) -> tuple[list[Missed | None], int]:
    """Return the slots that passed while the newest run was live, and the moment from which the others count."""
    base_us = state.decided_us
    if state.run_id is None:
        return [], base_us
    until_us = now_us if state.run_ended_us is None else state.run_ended_us
    if until_us <= base_us:
        return [], base_us
    # After a run the clock may have been set back before its end: nothing later than the present is decided.
    cause = f"{RUN_BEFORE}{state.run_id}, had not ended"
    return [_span(rule_of(state), base_us, min(until_us, now_us), cause)], until_us


def _span(rule: Rule, after_us: int, upto_us: int, cause: str) -> Missed | None:
    """Return all slots in a span of time as missed, or None if it has none."""
    after, upto = from_us(after_us), from_us(upto_us)
    first = rule.next_after(after)
    if first is None or first > upto:
        return None
    [last] = rule.last_between(after, upto, 1)
    return Missed(to_us(first), to_us(last), rule.count(after, upto), cause)


def _newest(
    state: ScheduleState, rule: Rule, base_us: int, now_us: int, away: str
) -> tuple[int | None, list[Missed | None]]:
    """Return the newest slot to fire and those before it as missed; with ``skip`` a late one is missed too."""
    newest_us = to_us(rule.last_between(from_us(base_us), from_us(now_us), 1)[0])
    if state.misfire == "skip" and now_us - newest_us > GRACE_US:
        return None, [_span(rule, base_us, now_us, f"{away}; late slots are skipped")]
    return newest_us, [_span(rule, base_us, newest_us - 1, f"{away}; one run stands for all")]


def _all(
    state: ScheduleState, rule: Rule, base_us: int, now_us: int, away: str
) -> tuple[int | None, list[Missed | None]]:
    """Return the oldest slot that is still to be run, and those to be run after it; more than the last 1,000 are not."""
    pending = list(loads(state.pending))
    after, now = from_us(base_us), from_us(now_us)
    due = [to_us(slot) for slot in rule.last_between(after, now, MOST_PENDING)] if base_us < now_us else []
    missed: list[Missed | None] = []
    if due and len(due) == MOST_PENDING:
        cause = f"{away}; only the last {MOST_PENDING:,} are run"
        missed += given_up(state, cause)
        missed.append(_span(rule, base_us, due[0] - 1, cause))
        pending = []
    elif over := max(len(pending) + len(due) - MOST_PENDING, 0):
        cause = f"{away}; only the last {MOST_PENDING:,} are run"
        missed += _groups(state, pending[:over], cause)
        pending = pending[over:]
    if len(due) > 1 or (due and pending):
        missed.append(Missed(due[0], due[-1], len(due), f"{away}; they are run one after the other", tuple(due)))
    waiting = [*pending, *due]
    return (waiting[0] if waiting else None), missed
