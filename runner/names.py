"""Plan tasks under the names they have now: what was queued under an alias counts with its renamed task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ledger.functions import TaskFunction
from ledger.task import TaskState
from projections.queue import Row

NAME = 1 + TaskState._fields.index("name")
"""Where a row has it."""
Present = Callable[[str], str]
"""Gives the name that a task has now for any that it was queued under."""


def present_name(functions: Mapping[str, TaskFunction[Any, Any]]) -> Present:
    """Return what gives the present names of the tasks registered here; other names are as they are."""

    def present(name: str) -> str:
        function = functions.get(name)
        return name if function is None else function.name

    return present


def renamed(row: Row, present: Present) -> Row:
    """Return the row with the name that its task has now."""
    name = present(row[NAME])
    return row if name == row[NAME] else (*row[:NAME], name, *row[NAME + 1 :])


def counted(
    running: Iterable[tuple[str, str, str | None, int]], present: Present
) -> Iterable[tuple[str, str, str | None, int]]:
    """Return rows of name, queue, key and count with present names; one name may come several times."""
    return ((present(name), queue, key, count) for name, queue, key, count in running)
