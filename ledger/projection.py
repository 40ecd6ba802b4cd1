"""Let an application declare projections of its own: tables, and a fold that says what each event changes in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ledger.errors import InvalidOption
from ledger.event import Event
from ledger.values import shown

COLUMN_TYPES = (int, float, str)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
Value = int | float | str | None


@dataclass(frozen=True)
class Table:
    """A table of a projection: its columns with their types, `int`, `float` or `str`; every one but the key may be None.

    Raises:
        InvalidOption: A name or type is outside what is allowed, or there is no key.
    """

    name: str
    key: Mapping[str, type]
    columns: Mapping[str, type]

    def __post_init__(self) -> None:
        check_identifier(self.name, "table")
        if not self.key or not self.columns:
            raise InvalidOption(f"table {self.name!r} needs a key and columns, each a mapping of names to types")
        for name, kind in (*self.key.items(), *self.columns.items()):
            check_identifier(name, f"column of table {self.name!r}")
            if kind not in COLUMN_TYPES:
                raise InvalidOption(
                    f"column {name!r} of table {self.name!r} is {shown(kind)}; allowed are int, float, str"
                )
        if both := self.key.keys() & self.columns.keys():
            raise InvalidOption(f"table {self.name!r} has {sorted(both)[0]!r} in its key and beside it")


class TaskFacts(NamedTuple):
    """What never changes of the task that an event is of; hidden arguments are shown as hidden."""

    id: str
    name: str
    queue: str
    args: Mapping[str, Any]
    run_as: str
    actor: str
    """Who queued it."""
    labels: tuple[str, ...]
    parent: str | None


class Step(Protocol):
    """What a fold is called with: one event, in the order of the log."""

    position: int
    event: Event
    at: str
    """The event's time as reports show it: UTC, of fixed width."""

    @property
    def task(self) -> TaskFacts | None:
        """The task that it is an event of."""


class Rows(Protocol):
    """One table while events are folded."""

    def get(self, *key: Value) -> dict[str, Any] | None:
        """Return the columns of the row with this key, or None."""

    def put(self, *key: Value, **columns: Value) -> None:
        """Store a row whole, over one with the same key; columns left out are None."""

    def drop(self, *key: Value) -> None:
        """Delete the row with this key, if there is one."""


Fold = Callable[[Step, Mapping[str, Rows]], None]


@dataclass(frozen=True)
class Projection:
    """A declared projection; another *version* of it is built anew beside the old one."""

    name: str
    tables: tuple[Table, ...]
    fold: Fold
    version: int = 1


class Projections(dict[str, Projection]):
    """The projections of one ledger, by name."""

    def declare(self, *, tables: Sequence[Table], name: str | None = None, version: int = 1) -> Callable[[Fold], Fold]:
        """Return a decorator that registers a fold of the log into *tables*, kept beside the report views.

        It is called with each event (`Step`) and its tables by name, and has the function's name by default. With
        another *version* it is built anew from the first event, beside the old one.

        Raises:
            InvalidOption: The name is taken or no name, the version is no whole number from 1 on, or there is no table.
        """
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise InvalidOption(f"version is {shown(version)}; allowed are whole numbers from 1 on")
        if not tables or not all(isinstance(table, Table) for table in tables):
            raise InvalidOption("a projection needs tables: a list of ledger.Table")

        def add(fold: Fold) -> Fold:
            own = check_identifier(name or getattr(fold, "__name__", ""), "projection")
            taken = {table.name for other in self.values() for table in other.tables}
            for table in tables:
                if table.name in taken:
                    raise InvalidOption(f"another projection has a table {table.name!r}")
                taken.add(table.name)
            if own in self:
                raise InvalidOption(f"a projection named {own!r} is declared already")
            self[own] = Projection(own, tuple(tables), fold, version)
            return fold

        return add


def check_identifier(name: object, what: str) -> str:
    """Return *name* if it can be one in SQL without quotes.

    Raises:
        InvalidOption: It is none.
    """
    if (
        not isinstance(name, str)
        or not _NAME.fullmatch(name)
        or "__" in name
        or name.startswith(("sqlite", "meta", "pg_"))
    ):
        raise InvalidOption(
            f"{shown(name)} is no name of a {what}; allowed are a small letter, then small letters, digits and single _, "
            "40 at most, not beginning with sqlite, meta or pg_"
        )
    return name
