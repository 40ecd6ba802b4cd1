"""Say how many tasks may run at once: the scopes of limits, those in force, and what of them a task meets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ledger.errors import InvalidOption
from ledger.values import check_name, matches, shown

LIMIT_PREFIX = "limit:"
LEDGER = "ledger"
QUEUE, TASK, KEY = "queue", "task", "key"
KINDS = (QUEUE, TASK, KEY)
SOURCES = ("code", "hand", "configuration")
"""Who says a limit; the later counts before the earlier."""
UNLIMITED = -1
"""How a source's saying that any number may run is kept, where None means that it says nothing."""
MOST = 1_000_000


def limit_stream(scope: str) -> str:
    """Return the stream of the limit with this scope."""
    return LIMIT_PREFIX + scope


def check_scope(scope: object) -> str:
    """Return *scope* if it is one: ``ledger``, ``queue:NAME``, ``task:NAME`` or ``key:KEY``.

    In a name ``*`` stands for anything; each queue, task name or key that fits is then counted by itself.

    Raises:
        InvalidOption: It is none.
    """
    if scope == LEDGER:
        return LEDGER
    kind, _, name = scope.partition(":") if isinstance(scope, str) else ("", "", "")
    if kind not in KINDS or not name:
        allowed = "'ledger', 'queue:NAME', 'task:NAME' and 'key:KEY', in which * stands for anything"
        raise InvalidOption(f"the scope of a limit is {shown(scope)}; allowed are {allowed}")
    return f"{kind}:{check_name(name, f'the {kind} of a limit')}"


def check_most(most: object) -> int | None:
    """Return *most* if it can be a limit: a whole number from 1, or None for none.

    Raises:
        InvalidOption: It cannot.
    """
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST):
        hint = "; `queue pause` lets none run" if most == 0 else ""
        raise InvalidOption(f"a limit is {shown(most)}; allowed is a whole number from 1 to {MOST:,}, or None{hint}")
    return most


def configured(limits: Mapping[str, Any] | None) -> dict[str, int | None] | None:
    """Return what the setting ``limits`` says, in which ``"none"`` stands for None; None where none is read."""
    return None if limits is None else {scope: None if most == "none" else most for scope, most in limits.items()}


class Limit(NamedTuple):
    """One limit in force: at most *most* at once; None lifts a limit of a wider pattern."""

    scope: str
    most: int | None
    source: str

    @property
    def kind(self) -> str:
        """``ledger``, ``queue``, ``task`` or ``key``."""
        return self.scope.partition(":")[0]


class Limits:
    """The limits in force. What fits a name is found once and remembered; otherwise this never changes."""

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self._exact: dict[tuple[str, str], Limit] = {}
        self._patterns: dict[str, list[Limit]] = {kind: [] for kind in KINDS}
        self._found: dict[tuple[str, str], Limit | None] = {}
        for limit in limits:
            kind, _, name = limit.scope.partition(":")
            if "*" in name:
                self._patterns[kind].append(limit)
            else:
                self._exact[kind, name] = limit
        for found in self._patterns.values():
            found.sort(key=lambda limit: (-len(limit.scope.replace("*", "")), limit.scope))
        self.is_empty = not self._exact and not any(self._patterns.values())
        self.has_keys = bool(self._patterns[KEY]) or any(kind == KEY for kind, _ in self._exact)

    def of(self, kind: str, name: str) -> Limit | None:
        """Return the limit of this queue, task name or key: its own, else that of the pattern with the most letters."""
        found = self._found.get((kind, name), _UNKNOWN)
        if found is _UNKNOWN:
            found = self._exact.get((kind, name))
            if found is None:
                patterns = self._patterns.get(kind, ())
                fits = (limit for limit in patterns if matches(limit.scope.partition(":")[2], name))
                found = next(fits, None)
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            self._found[kind, name] = found
        return None if found is None or found.most is None else found

    def over_all(self) -> Limit | None:
        """Return the limit of the whole ledger."""
        return self.of(LEDGER, "")


_UNKNOWN: Any = object()
_MOST_REMEMBERED = 100_000


class Running:
    """How many run: of all, and of each queue, task name and concurrency key. The plan counts its claims on a copy."""

    def __init__(self, rows: Iterable[tuple[str, str, str | None, int]] = ()) -> None:
        self.total = 0
        self.of: dict[tuple[str, str], int] = {}
        for name, queue, key, count in rows:
            self.add(name, queue, key, count)

    def add(self, name: str, queue: str, key: str | None, count: int = 1) -> None:
        """Count so many more tasks of one name, queue and key."""
        self.total += count
        of = self.of
        of[TASK, name] = of.get((TASK, name), 0) + count
        of[QUEUE, queue] = of.get((QUEUE, queue), 0) + count
        if key is not None:
            of[KEY, key] = of.get((KEY, key), 0) + count

    def copy(self) -> Running:
        """Return a copy to count on."""
        other = Running()
        other.total, other.of = self.total, dict(self.of)
        return other

    def names(self) -> Mapping[str, int]:
        """Return how many run of each task name."""
        return {name: count for (kind, name), count in self.of.items() if kind == TASK}


class Full(NamedTuple):
    """A limit that lets nothing more begin: *running* tasks run of what *name* names."""

    limit: Limit
    name: str
    running: int


def fulls(limits: Limits, running: Running, name: str, queue: str, key: str | None) -> list[Full]:
    """Return every limit that keeps a task of this name, queue and concurrency key from beginning now."""
    found = []
    over_all = limits.over_all()
    if over_all is not None and over_all.most is not None and running.total >= over_all.most:
        found.append(Full(over_all, LEDGER, running.total))
    for kind, what in ((QUEUE, queue), (TASK, name), (KEY, key)):
        if what is None or (limit := limits.of(kind, what)) is None or limit.most is None:
            continue
        count = running.of.get((kind, what), 0)
        if count >= limit.most:
            found.append(Full(limit, what, count))
    return found


def room(limits: Limits, running: Running, name: str, queue: str) -> int:
    """Return how many more tasks of this name and queue may begin, their keys left out of account."""
    most = MOST
    over_all = limits.over_all()
    if over_all is not None and over_all.most is not None:
        most = over_all.most - running.total
    for kind, what in ((QUEUE, queue), (TASK, name)):
        limit = limits.of(kind, what)
        if limit is not None and limit.most is not None:
            most = min(most, limit.most - running.of.get((kind, what), 0))
    return max(most, 0)


def room_of_key(limits: Limits, running: Running, key: str) -> int:
    """Return how many more tasks of this concurrency key may begin."""
    limit = limits.of(KEY, key)
    return MOST if limit is None or limit.most is None else max(limit.most - running.of.get((KEY, key), 0), 0)
