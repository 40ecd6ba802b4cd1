"""Print what commands found: rich tables on a terminal, aligned text elsewhere, JSON for programs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from projections.tasks import stamp

LONGEST_CELL = 60

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
# C0 and C1 control characters, marks that reorder or hide text, line separators, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


class Output(StrEnum):
    """The forms of `-o`."""

    table = "table"
    json = "json"
    jsonl = "jsonl"


def clean(value: object) -> str:
    """Return *value* as one line of text that cannot steer a terminal: no ANSI sequences, no control characters."""
    text = stamp(value) if isinstance(value, datetime) else "" if value is None else str(value)
    return _CONTROL.sub(" ", _ANSI.sub("", text))


def short(value: object, limit: int = LONGEST_CELL) -> str:
    """Return *value* as `clean` has it, cut to *limit* characters."""
    text = clean(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def to_json(value: Any, *, indent: bool = False) -> str:
    """Return *value* as JSON; control characters in its texts are escaped, times have a fixed width."""
    option = orjson.OPT_PASSTHROUGH_DATETIME | (orjson.OPT_INDENT_2 if indent else 0)
    text = orjson.dumps(value, default=_time, option=option).decode()
    return _CONTROL.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def _time(value: object) -> str:
    if isinstance(value, datetime):
        return stamp(value)
    raise TypeError(f"{type(value).__qualname__} is not shown as JSON")


def command_name() -> str:
    """Return how the command is typed here: by its name where that is found, else by the path it was started by."""
    return "workledger" if shutil.which("workledger") else os.path.relpath(sys.argv[0])


def print_line(text: str) -> None:
    """Print one line of text that is clean already."""
    print(text)


def print_list(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output: Output, none: str) -> None:
    """Print *rows* in the form of *output*; a table shows only *columns*, or the sentence *none* if it is empty."""
    found = list(rows)
    if output is Output.json:
        print(to_json(found, indent=True))
    elif output is Output.jsonl:
        for row in found:
            print(to_json(row))
    elif not found:
        print(none)
    else:
        _print_table(columns, [[short(row.get(column)) for column in columns] for row in found])


def print_object(value: Mapping[str, Any], output: Output) -> None:
    """Print one object: as JSON, or a line for each of its keys."""
    if output is not Output.table:
        print(to_json(value, indent=output is Output.json))
        return
    width = max(map(len, value), default=0)
    for key, item in value.items():
        text = to_json(item) if isinstance(item, dict | list) else item
        print(f"{key.replace('_', ' '):<{width}}  {short(text, 1000)}".rstrip())


def _print_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    headings = [column.replace("_", " ") for column in columns]
    if sys.stdout.isatty():
        _draw_table(headings, cells)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for row in (headings, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _draw_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # on a terminal alone: they take long to import
    from rich.table import Table
    from rich.text import Text

    from runner.fitting import FOLDED, fit

    console = Console()
    fitted = fit(headings, cells, console.width)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, fitted.gap, 0, 0))
    for heading, width in zip(fitted.headings, fitted.widths, strict=True):
        table.add_column(heading, width=width, overflow="fold" if heading in FOLDED else "ellipsis")
    for row in fitted.rows:
        table.add_row(*map(Text, row))  # Text: the cells are data, never markup
    console.print(table)
    if fitted.below:
        console.print(Text(f"({fitted.below}; -o json has all)"))
