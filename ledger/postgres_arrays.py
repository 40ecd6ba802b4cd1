"""Write columns of values as PostgreSQL's array literals: the driver's own way takes several times as long. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return *rows* as columns, each the literal of an array whose type the statement says."""
    return [array(column) for column in zip(*rows, strict=True)]


def array(values: Sequence[Any]) -> str:
    """Return the literal of an array of one kind of values: whole numbers and floats, truth (as 0 and 1), text or bytes.

    None is NULL among any of them.
    """
    kinds = set(map(type, values))
    if kinds == {str}:
        return _of_text(values)
    if kinds <= {int, float}:
        return "{" + ",".join(map(repr, values)) + "}"
    if kinds == {bytes}:
        return '{"\\\\x' + '","\\\\x'.join([value.hex() for value in values]) + '"}'
    return "{" + ",".join(map(_element, values)) + "}"


def _of_text(values: Sequence[str]) -> str:
    literal = '{"' + '","'.join(values) + '"}'
    if "\\" not in literal and literal.count('"') == 2 * len(values):
        return literal
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(int(value))
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case bytes():
            return f'"\\\\x{value.hex()}"'
        case int() | float():
            return repr(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")
