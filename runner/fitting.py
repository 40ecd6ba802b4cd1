"""Fit a table into the width of a terminal, so that what is needed to go on stays whole: ids, names, states. Pure.

The whole of every value is in the other forms of output; here, as far as the width asks for it, times lose their
fractions and then their common day, what is the same in every row is said once below, and long text is cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

IDS = ("id", "task", "worker id", "hour", "day")
"""Headings of what is typed into the next command: never cut."""
FOLDED = (*IDS, "name", "next run", "scope", "schedule")
"""Headings of what goes on below rather than being cut."""
WHOLE = ("state", "outcome", "error")
"""Headings of what is told on the narrowest terminal too; of these an error may be cut."""
NARROWEST = 8
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z?)")


class Fitted(NamedTuple):
    """A table as it is to be drawn; a width is None where nothing had to give way."""

    headings: list[str]
    rows: list[list[str]]
    widths: list[int]
    gap: int
    below: str
    """What is not in the table: empty where that is nothing."""


class _Column:
    """A column while room is made."""

    def __init__(self, heading: str, cells: list[str]) -> None:
        self.name, self.heading, self.cells = heading, heading, cells
        self.is_of_times = any(cells) and all(not cell or _TIME.fullmatch(cell) for cell in cells)
        if self.is_of_times:
            self.cells = [_TIME.sub(r"\1T\2\4", cell) for cell in cells]
        self.measure()

    def measure(self) -> None:
        """Set the width that everything needs; a heading of several words may take several lines."""
        self.width = max(map(cell_len, (*self.heading.split(), *self.cells)))

    @property
    def is_empty(self) -> bool:
        return not any(self.cells)

    @property
    def is_whole(self) -> bool:
        return self.is_of_times or (self.name in (*IDS, *WHOLE) and self.name != "error")

    @property
    def is_same(self) -> bool:
        return len(self.cells) > 1 and len(set(self.cells)) == 1 and self.heading not in FOLDED

    def say_day_once(self) -> None:
        """Put the day of all times, if it is one, into the heading."""
        days = {cell[:10] for cell in self.cells if cell}
        if self.is_of_times and len(days) == 1:
            self.heading = f"{self.heading} {days.pop()}"
            self.cells = [cell[11:] for cell in self.cells]
            self.measure()


def fit(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Fitted:
    """Return the table for a terminal so wide; what nothing makes fit is wider."""
    found = [_Column(heading, list(cells)) for heading, *cells in zip(headings, *rows, strict=True)]
    columns = [column for column in found if not column.is_empty] or found[:1]
    gap, same, left_out = 2, [], []
    if _needed(columns, gap) > width:
        for column in columns:
            column.say_day_once()
    for column in sorted(columns, key=lambda one: -one.width):
        if _needed(columns, gap) > width and column.is_same:
            columns.remove(column)
            same.append(f"{column.heading} {column.cells[0]}")
    gap = 1 if _needed(columns, gap) > width else gap
    _cut(columns, gap, width)
    for column in reversed(columns[1:]):
        if _needed(columns, gap) > width and column.name not in (*FOLDED, *WHOLE):
            columns.remove(column)
            left_out.append(column.name)
    _widen(columns, gap, width)
    below = [f"in every row: {', '.join(same)}"] if same else []
    below += [f"for want of width without: {', '.join(reversed(left_out))}"] if left_out else []
    cells = [list(row) for row in zip(*(column.cells for column in columns), strict=True)]
    return Fitted([c.heading for c in columns], cells, [c.width for c in columns], gap, "; ".join(below))


def _needed(columns: list[_Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _cut(columns: list[_Column], gap: int, width: int) -> None:
    """Let the longest texts give way, none below what its heading's longest word or `NARROWEST` takes."""
    while (too_much := _needed(columns, gap) - width) > 0:
        able = [c for c in columns if not c.is_whole and c.width > _narrowest(c)]
        if not able:
            return
        widest = max(able, key=lambda column: column.width)
        widest.width -= min(too_much, max(1, (widest.width - _narrowest(widest)) // 4))


def _narrowest(column: _Column) -> int:
    return max(NARROWEST, *map(len, column.heading.split()))


def _widen(columns: list[_Column], gap: int, width: int) -> None:
    """Give the last text that was cut what has become free."""
    for column in reversed(columns):
        needed = max(map(cell_len, column.cells), default=0)
        column.width += max(0, min(needed - column.width, width - _needed(columns, gap)))
