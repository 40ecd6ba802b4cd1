"""Find what a plan chooses from: the first due rows of each name, queue and priority, as many as the plan asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ledger.limits import Limits, Running, room, room_of_key
from ledger.moments import has_come
from ledger.store import Unit
from projections.queue import SQL, Row
from runner.names import Present, counted, renamed
from runner.plan import (
    CONCURRENCY_KEY,
    DUE,
    DUE_THEN_POSITION,
    EXPIRES,
    LOST,
    NAME,
    POSITION,
    PRIORITY,
    QUEUE,
    Plan,
    plan,
)

Takes = Literal["all", "fresh", "lost"]
"""What a worker claims: everything; only tasks whose last attempt was not lost; only those whose was, one at a time."""
LEAST_KEYED = 16
"""Rows looked at in the order of their due times before the keys of a group are gone through one by one."""
MOST_KEYS = 500
"""Keys of one group gone through in one turn; the next turn goes on behind them."""


@dataclass(slots=True)
class Group:
    """Waiting tasks of one name, queue and priority, those with and those without a concurrency key apart."""

    head: Row
    """The first of them, which is due."""
    is_keyed: bool
    most: int
    """How many of its rows a plan can have a use for, as far as its limits go."""
    rows: list[Row]
    """Those at hand."""
    has_more: bool
    wanted: int = 1

    @property
    def place(self) -> tuple[str, str, int]:
        """Name, queue and priority."""
        return self.head[NAME], self.head[QUEUE], self.head[PRIORITY]

    @property
    def last(self) -> Row:
        """The row that stands for those behind it."""
        return self.rows[-1] if self.rows else self.head


@dataclass(slots=True)
class Found:
    """What one turn may claim, and when something that is not due yet will be."""

    plan: Plan
    next_due_us: int | None = None


class Finder:
    """One worker's look for candidates; it remembers how far it went through the keys of a group."""

    def __init__(self, is_ours: Callable[[str, str], bool], takes: Takes, present: Present = str) -> None:
        self._is_ours = is_ours
        self._takes = takes
        self._present = present
        self._behind: dict[tuple[str, str, int], str] = {}

    def find(self, unit: Unit, limits: Limits, free: int, now_us: int, *, is_idle: bool) -> Found:
        """Return the plan for at most *free* claims: from the first row of each group, and of more that the plan wants."""
        if self._takes == "lost":
            return self.find_lost(unit, limits, now_us)
        heads = [(row, False) for row in unit.rows(SQL["heads"])]
        heads += [(row, True) for row in unit.rows(SQL["keyed_heads"])]
        ours = [head for head in heads if self._is_ours(head[0][NAME], head[0][QUEUE])]
        later = (row[DUE] for row, _ in ours if row[DUE] > now_us)
        found = Found(Plan([], [], []), min(later, default=None))
        due = [head for head in ours if head[0][DUE] <= now_us]
        running = self._running(unit) if due else Running()
        look = _Look(unit, limits, running, now_us, 1 if self._takes == "all" else 0, self._behind, self._present)
        groups = [group for row, is_keyed in due if (group := look.group(row, free, is_keyed=is_keyed)).most]
        lacking = bool(groups)
        while lacking:
            rows = [renamed(row, self._present) for group in groups for row in group.rows]
            behind = {group.last[POSITION]: group for group in groups if group.has_more}
            more = [renamed(group.last, self._present) for group in behind.values()]
            found.plan = plan(rows, running, free, is_idle=is_idle, limits=limits, more=more)
            for row in found.plan.wanted:
                group = behind[row[POSITION]]
                look.fetch(group, max(2 * group.wanted, -(-free // len(groups))))
            lacking = bool(found.plan.wanted)
        for group in groups if not found.plan.claims else ():  # else there is a turn when one of them ends
            if not group.rows or (group.is_keyed and limits.has_keys):
                found.next_due_us = earlier(found.next_due_us, look.next_due(group))
        return found

    def find_lost(self, unit: Unit, limits: Limits, now_us: int) -> Found:
        """Return the plan for one claim of a task whose last attempt was lost."""
        rows = [row for row in unit.rows(SQL["lost_rows"]) if self._is_ours(row[NAME], row[QUEUE])]
        later = (row[DUE] for row in rows if row[DUE] > now_us)
        due = [renamed(row, self._present) for row in rows if row[DUE] <= now_us]
        running = self._running(unit) if due else Running()
        return Found(plan(due, running, 1, is_idle=True, limits=limits), next(later, None))

    def _running(self, unit: Unit) -> Running:
        return Running(counted(unit.rows(SQL["running_counts"]), self._present))


@dataclass(slots=True)
class _Look:
    """One turn's reading of rows."""

    unit: Unit
    limits: Limits
    running: Running
    now_us: int
    most_lost: int
    behind: dict[tuple[str, str, int], str]
    present: Present
    rooms: dict[tuple[str, str], int] = field(default_factory=dict)
    """By name and queue, which many groups share."""

    def _room(self, name: str, queue: str) -> int:
        found = self.rooms.get((name, queue))
        if found is None:
            found = self.rooms[name, queue] = room(self.limits, self.running, self.present(name), queue)
        return found

    def group(self, head: Row, free: int, *, is_keyed: bool) -> Group:
        """Return the group of a first row, at hand if it can be claimed as far as it alone can tell."""
        most = min(free, self._room(head[NAME], head[QUEUE]))
        # What has expired, and of very many is not cancelled yet, is passed over: some behind it may have not.
        is_at_hand = head[LOST] <= self.most_lost and not has_come(head[EXPIRES], self.now_us)
        if is_keyed and self.limits.has_keys:
            most = free if most else 0  # claims of the same plan may fill the keys of its first rows
            is_at_hand = is_at_hand and room_of_key(self.limits, self.running, head[CONCURRENCY_KEY]) > 0
        return Group(head, is_keyed, most, [head] if is_at_hand else [], has_more=most > 1 or not is_at_hand)

    def fetch(self, group: Group, wanted: int) -> None:
        """Read the first due rows of a group, at most *wanted* of those that its limits leave room for."""
        group.wanted = min(wanted, group.most)
        if group.is_keyed and self.limits.has_keys:
            self._fetch_keyed(group)
            return
        statement = SQL["keyed_due_rows" if group.is_keyed else "due_rows"]
        group.rows = self._rows(statement, group.place, group.wanted)
        group.has_more = len(group.rows) == group.wanted < group.most

    def _rows(self, statement: str, place: tuple[str | int, ...], limit: int) -> list[Row]:
        return self.unit.rows(statement, (*place, self.now_us, self.most_lost, limit))

    def _fetch_keyed(self, group: Group) -> None:
        """Read rows whose keys have room: by due time, or where the first of them all lack it, key by key."""
        limit = max(group.wanted, LEAST_KEYED)
        first = self._rows(SQL["keyed_due_rows"], group.place, limit)
        left: Counter[str] = Counter()
        rows = []
        for row in first:
            key = row[CONCURRENCY_KEY]
            if left[key] < room_of_key(self.limits, self.running, key):
                left[key] += 1
                rows.append(row)
        if len(rows) < group.wanted and len(first) == limit:
            known = {row[POSITION] for row in rows}
            rows += [row for row in self._by_keys(group) if row[POSITION] not in known]
            rows.sort(key=DUE_THEN_POSITION)
        group.has_more = len(rows) >= group.wanted < group.most
        group.rows = rows[: group.wanted]

    def _by_keys(self, group: Group) -> list[Row]:
        """Return the first due rows of those keys that have room, the keys with the earliest due times first."""
        heads = []
        for key, due_us in self._keys(group):
            places = room_of_key(self.limits, self.running, key)
            if places and due_us <= self.now_us:
                heads.append((due_us, key, places))
        rows: list[Row] = []
        for _, key, places in sorted(heads)[: group.wanted]:
            rows += self._rows(SQL["due_rows_of_key"], (*group.place, key), min(places, group.wanted))
        return rows

    def _keys(self, group: Group) -> list[tuple[str, int]]:
        after = self.behind.pop(group.place, "")
        place: dict[str, Any] = dict(zip(("name", "queue", "priority"), group.place, strict=True))
        keys = self.unit.rows(SQL["keys"], {**place, "after": after, "most": MOST_KEYS})
        if after and len(keys) < MOST_KEYS:
            again = self.unit.rows(SQL["keys"], {**place, "after": "", "most": MOST_KEYS - len(keys)})
            keys += [found for found in again if found[0] <= after]
        if len(keys) == MOST_KEYS:
            self.behind[group.place] = keys[-1][0]
        return [(key, due_us) for key, due_us in keys]

    def next_due(self, group: Group) -> int | None:
        """Return when the first task of a group is due that is not due yet."""
        statement = SQL["keyed_next_due" if group.is_keyed else "next_due"]
        due_us: int | None = self.unit.rows(statement, (*group.place, self.now_us))[0][0]
        return due_us


def earlier(one: int | None, other: int | None) -> int | None:
    """Return the earlier of two moments, either of which may be missing."""
    return min((moment for moment in (one, other) if moment is not None), default=None)
