"""Read the five fields of a schedule: check them, settle `R` and `H`, and give each as the values it means.

What a field may hold is written down in the package's README. Where cron programs differ, the rules here are those of
the scheduler whose vectors are in `tests/ledger/vectors/schedule.json`: a step counts from the first value of its
range, and a single value with a step runs from it to the end of the field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ledger.errors import InvalidSchedule
from ledger.values import shown

MAX_FIELD_LENGTH = 1_000
MAX_DIGITS = 4
"""More digits than any value has: a number of more is refused before it is converted."""
_MONTHS = dict(
    zip(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), range(1, 13), strict=True)
)
_DAYS = dict(zip(("sun", "mon", "tue", "wed", "thu", "fri", "sat"), range(7), strict=True))
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LIST_COMMA = re.compile(r"\s*,\s*", re.ASCII)
_BLANKS = re.compile(r"\s+", re.ASCII)
_SEPARATORS = re.compile(r",|\s+", re.ASCII)
_ITEM = re.compile(r"(?P<first>\*|[0-9]+|[a-z]+)(-(?P<last>[0-9]+|[a-z]+))?(/(?P<step>[0-9]+))?", re.IGNORECASE)
_DRAWN = re.compile(r"(?P<letter>[RH])(/(?P<step>[0-9]+))?")


class Fields(NamedTuple):
    """The five fields as they were written; `R` and `H` allowed until `resolve` has settled them."""

    minute: str = "*"
    hour: str = "*"
    day: str = "*"
    month: str = "*"
    dayofweek: str = "*"


class _Range(NamedTuple):
    """What a field may hold, *low* to *high*, and the range *drawn_low* to *drawn_high* of its `R` and `H`."""

    low: int
    high: int
    drawn_low: int
    drawn_high: int
    names: dict[str, int]


# A drawn day is at most the 28th, which every month has; a drawn weekday counts Sunday once.
_RANGES = {
    "minute": _Range(0, 59, 0, 59, {}),
    "hour": _Range(0, 23, 0, 23, {}),
    "day": _Range(1, 31, 1, 28, {}),
    "month": _Range(1, 12, 1, 12, _MONTHS),
    "dayofweek": _Range(0, 7, 0, 6, _DAYS),
}


def parse_expression(text: str) -> Fields:
    """Return the fields of ``minute hour day month dayofweek`` or of a macro such as ``@daily``, not yet checked.

    Fields are separated by blanks; blanks around the commas of a list belong to the list.

    Raises:
        InvalidSchedule: It is no text, an unknown macro, or has not five fields.
    """
    if not isinstance(text, str):
        raise InvalidSchedule(f"the schedule is of type {type(text).__qualname__}; it must be text")
    if len(text) > MAX_FIELD_LENGTH:
        raise InvalidSchedule(f"the schedule has {len(text)} characters; allowed are at most {MAX_FIELD_LENGTH}")
    expression = _LIST_COMMA.sub(",", text.strip())
    if expression.startswith("@"):
        if expression.lower() not in _MACROS:
            raise InvalidSchedule(f"the schedule is {shown(text)}; allowed after @ are {', '.join(_MACROS)}")
        expression = _MACROS[expression.lower()]
    parts = [part for part in _BLANKS.split(expression) if part]
    if len(parts) != len(Fields._fields):
        raise InvalidSchedule(
            f"the schedule {shown(text)} has {len(parts)} fields; it needs 5: minute hour day month dayofweek"
        )
    return Fields(*parts)


def check_fields(fields: Fields) -> None:
    """Check each field by itself, `R` and `H` allowed.

    Raises:
        InvalidSchedule: A field is not allowed; the message names field, value and range.
    """
    for field, text in zip(Fields._fields, fields, strict=True):
        drawn = _DRAWN.fullmatch(text) if isinstance(text, str) else None
        if drawn is None:
            field_values(field, text)
        elif drawn["step"]:
            _step(field, text, drawn["step"])


def resolve(fields: Fields, name: str, random: Callable[[int, int], int]) -> Fields:
    """Return *fields* with every `R` and `H` settled; the others as written.

    `R` becomes one value drawn by *random* (low, high, both included), `H` one that follows from *name* and the field
    alone: minute 0–59, hour 0–23, day 1–28, month 1–12, dayofweek 0–6. ``R/15`` and ``H/15`` mean every 15 from a
    start so drawn. They stand alone in their field, not in lists or ranges.

    Raises:
        InvalidSchedule: A field is not allowed.
    """
    check_fields(fields)
    return Fields(*(_settle(field, text, name, random) for field, text in zip(Fields._fields, fields, strict=True)))


def _settle(field: str, text: str, name: str, random: Callable[[int, int], int]) -> str:
    drawn = _DRAWN.fullmatch(text)
    if drawn is None:
        return text
    spread = _RANGES[field]
    low, high = spread.drawn_low, spread.drawn_high
    if drawn["step"]:
        high = min(high, low + int(drawn["step"]) - 1)
    if drawn["letter"] == "R":
        value = random(low, high)
    else:
        digest = hashlib.sha256(f"{field}:{name}".encode("utf-8", "surrogatepass")).digest()
        value = low + int.from_bytes(digest[:8], "big") % (high - low + 1)
    if not drawn["step"]:
        return str(value)
    return f"{value}-{spread.high if field != 'dayofweek' else spread.drawn_high}/{drawn['step']}"


def field_values(field: str, text: str) -> tuple[int, ...]:
    """Return the values that *text* means in *field*, ascending; Sunday is 0.

    Raises:
        InvalidSchedule: It is not allowed (`R` and `H` too: they must have been settled).
    """
    if not isinstance(text, str):
        raise InvalidSchedule(f"{field} is of type {type(text).__qualname__}; it must be text")
    if len(text) > MAX_FIELD_LENGTH:
        raise InvalidSchedule(f"{field} has {len(text)} characters; allowed are at most {MAX_FIELD_LENGTH}")
    return _values(field, text)


@lru_cache(maxsize=4_096)
def _values(field: str, text: str) -> tuple[int, ...]:
    values: set[int] = set()
    for item in _SEPARATORS.split(_LIST_COMMA.sub(",", text.strip())):
        values.update(_item_values(field, text, item))
    return tuple(sorted({0 if field == "dayofweek" and value == 7 else value for value in values}))


def _item_values(field: str, text: str, item: str) -> range:
    """Return the values of one item of the list *text*: ``*``, ``a`` or ``a-b``, each with or without ``/step``."""
    if not item:
        raise _refusal(field, text, "an item of its list is empty" if text.strip() else "it is empty")
    if _DRAWN.fullmatch(item):
        raise _refusal(field, text, "R and H stand alone in their field, and are settled before it is evaluated")
    match = _ITEM.fullmatch(item)
    if match is None or (match["first"] == "*" and match["last"]):
        raise _refusal(
            field, text, f"{shown(item)} is none of *, a, a-b, */n, a/n, a-b/n (L, W, # and ? have no meaning)"
        )
    spread = _RANGES[field]
    step = _step(field, text, match["step"]) if match["step"] else 1
    if match["first"] == "*":
        return range(spread.low, spread.high + 1, step)
    first = _value(field, text, match["first"])
    if match["last"] is None:
        return range(first, (spread.high if match["step"] else first) + 1, step)
    last = _value(field, text, match["last"])
    if field == "dayofweek" and last == 0 and match["last"].isalpha() and first:
        last = 7  # fri-sun ends on the Sunday that follows
    if last < first:
        if not (match["first"] + match["last"]).isdigit():
            raise _refusal(field, text, f"the range {shown(item)} runs backwards")
        first, last = last, first
    return range(first, last + 1, step)


def _value(field: str, text: str, word: str) -> int:
    spread = _RANGES[field]
    if word.isdigit():
        if len(word) > MAX_DIGITS or not spread.low <= int(word) <= spread.high:
            raise _refusal(field, text, f"{word[:MAX_DIGITS]} is outside its range")
        return int(word)
    if word.lower() not in spread.names:
        raise _refusal(field, text, f"{shown(word)} is no value of it")
    return spread.names[word.lower()]


def _step(field: str, text: str, word: str) -> int:
    high = _RANGES[field].high
    if len(word) > MAX_DIGITS or not 1 <= int(word) <= high:
        raise _refusal(field, text, f"its step {word[:MAX_DIGITS]} is outside 1 to {high}")
    return int(word)


def _refusal(field: str, text: str, why: str) -> InvalidSchedule:
    spread = _RANGES[field]
    names = list(spread.names)
    allowed = f"{spread.low} to {spread.high}" + (f" or {names[0]} to {names[-1]}" if names else "")
    return InvalidSchedule(f"{field} is {shown(text)}: {why}; allowed are {allowed}, ranges, steps and lists of them")
