"""Write columns of values as PostgreSQL's arrays: the driver's own way takes several times as long. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_BYTEA, _BYTEA_ARRAY = 17, 1001
"""The server's numbers of these types."""
_HEAD = struct.Struct("!iiIii").pack
_LENGTH = struct.Struct("!i").pack


class ArrayOfBytes(bytes):
    """An array of bytes as the server sends and takes arrays: half as long as its literal, and quicker to read."""


class ArrayOfBytesDumper(Dumper):
    """Hand one over as it is."""

    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: ArrayOfBytes) -> Buffer:
        """Return *obj*."""
        return obj


def teach(context: AdaptContext) -> None:
    """Have a connection take what `columns` returns."""
    context.adapters.register_dumper(ArrayOfBytes, ArrayOfBytesDumper)


def columns(rows: Sequence[Sequence[Any]]) -> list[str | ArrayOfBytes]:
    """Return *rows* as columns, each an array whose type the statement says."""
    return [array(column) for column in zip(*rows, strict=True)]


def array(values: Sequence[Any]) -> str | ArrayOfBytes:
    """Return the array of one kind of values: whole numbers and floats, truth (as 0 and 1), text or bytes.

    None is NULL among any of them.
    """
    kinds = set(map(type, values))
    if kinds == {str}:
        return _of_text(values)
    if kinds <= {int, float}:
        return "{" + ",".join(map(repr, values)) + "}"
    if kinds == {bytes}:
        return _of_bytes(values)
    return "{" + ",".join(map(_element, values)) + "}"


def _of_bytes(values: Sequence[bytes]) -> ArrayOfBytes:
    parts = [_HEAD(1, 0, _BYTEA, len(values), 1)]
    for value in values:
        parts += (_LENGTH(len(value)), value)
    return ArrayOfBytes(b"".join(parts))


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
