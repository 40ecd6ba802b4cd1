"""Read a list of Moodle's scheduled tasks as JSON: the definitions that each of its components ships."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ledger.cron import Fields
from ledger.errors import InvalidInput
from ledger.values import shown
from runner.imports.found import Entry, Found, Line, check

_KNOWN = {"name", "classname", "disabled", "blocking", "description", "timezone", *Fields._fields}
_COMPONENT = re.compile(r"\w+(?=[.\\])", re.ASCII)


def read(text: str) -> Found:
    """Return the schedules of a list of tasks, or of an object with such a list as ``tasks``.

    A task is an object: ``classname`` or ``name``, the five fields (each ``*`` where it is missing), ``disabled``,
    ``description`` and ``timezone``. Its component is the first part of its name. ``blocking`` has no meaning any more; whatever else it has is reported.

    Raises:
        InvalidInput: The text is not JSON, or not such a list.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the file is not JSON: {error}") from error
    except RecursionError:
        raise InvalidInput("the file is not JSON that can be read: it is nested too deep") from None
    tasks = data.get("tasks") if isinstance(data, dict) else data
    if not isinstance(tasks, list):
        raise InvalidInput("the file is no list of tasks, nor an object that has one as tasks")
    entries: list[Entry] = []
    lines: list[Line] = []
    for number, task in enumerate(tasks, 1):
        line = _take(number, task, entries)
        lines.append(line)
    return Found(tuple(entries), tuple(lines))


def _take(number: int, task: Any, entries: list[Entry]) -> Line:
    """Add the schedule of one *task* to *entries* if it can be taken; return what became of it."""
    if not isinstance(task, Mapping):
        return Line(line=number, taken=False, what=shown(task), why="it is no object")
    name = task.get("name", task.get("classname"))
    if not isinstance(name, str):
        return Line(line=number, taken=False, what=shown(dict(task)), why="it has neither a name nor a classname")
    name = name.removeprefix("\\")
    try:
        entry = _entry(number, name, task)
    except InvalidInput as error:
        return Line(line=number, taken=False, what=name, why=str(error))
    why = check(entry)
    if why is None and any(other.name == name for other in entries):
        why = "a task before it has the same name"
    if why is not None:
        return Line(line=number, taken=False, what=name, why=why)
    entries.append(entry)
    return Line(line=number, taken=True, what=name, schedule=True, why=_left_out(task))


def _entry(number: int, name: str, task: Mapping[str, Any]) -> Entry:
    fields = {}
    for field in Fields._fields:
        value = task.get(field, "*")
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise InvalidInput(f"{field} is {shown(value)}; it must be text")
        fields[field] = value
    disabled = task.get("disabled", False)
    if disabled not in (0, 1):
        raise InvalidInput(f"disabled is {shown(disabled)}; allowed is true or false, 1 or 0")
    texts = {key: task.get(key) or "" for key in ("description", "timezone")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise InvalidInput(f"{key} is {shown(value)}; it must be text")
    return Entry(
        line=number,
        name=name,
        fields=Fields(**fields),
        timezone=texts["timezone"],
        enabled=not disabled,
        description=texts["description"] or None,
        component=component[0] if (component := _COMPONENT.match(name)) else None,
    )


def _left_out(task: Mapping[str, Any]) -> str:
    left = [str(key) for key in task if key not in _KNOWN]
    if task.get("blocking"):
        left.append("blocking")
    return f"left out: {', '.join(left)}" if left else ""
