"""Check values before they are stored: JSON as RFC 8259 has it, within stated limits."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

import orjson

from ledger.errors import InvalidOption, InvalidValue

type_names = "null, true, false, a number, text, a list or an object with text keys"
MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MIN_INT, MAX_INT = -(2**63), 2**63 - 1
MAX_NAME = 200
MAX_REASON = 4_000
MAX_SHOWN = 80
_AS_IT_IS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_DOUBTFUL = re.compile(rb"\\u0000|[0-9]{19}").search
"""Finds what JSON allows and the ledger may not: NUL, and integers that might be beyond 64 bits with sign."""

# JSON as Python types it; a recursive alias says no more here and mypy users cannot pass a list[int] to it.
Json = Any


def copy_json(value: Json, what: str) -> Json:
    """Return *value*, checked, as a copy that shares nothing with it: what the log will keep, whoever changes *value*.

    *what* names the value in the error ("argument 'user_id'").

    Raises:
        InvalidValue: It is not JSON, or is beyond the limits (256 KiB, depth 64, 64-bit integers).
    """
    if value is None:
        return None  # what most tasks return
    try:
        encoded = orjson.dumps(value, option=_AS_IT_IS)
        copy = orjson.loads(encoded)
    except (TypeError, ValueError):  # the slow way finds and names the fault
        return _copy_slowly(value, what)
    # What comes back unlike it was is no JSON: NaN, a tuple. There are as many brackets as levels, or more.
    if copy != value or encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH or _DOUBTFUL(encoded):
        return _copy_slowly(value, what)
    _check_size(encoded, what)
    return copy


def _copy_slowly(value: Json, what: str) -> Json:
    check_json(value, what)
    try:
        encoded = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise InvalidValue(f"{what} is not JSON: {error}; allowed is {type_names}") from error
    _check_size(encoded, what)
    return orjson.loads(encoded)


def _check_size(encoded: bytes, what: str) -> None:
    if len(encoded) > MAX_BYTES:
        raise InvalidValue(f"{what} takes {len(encoded):,} bytes as JSON; at most {MAX_BYTES:,} are allowed")


def check_json(value: Json, what: str, depth: int = 0) -> None:
    """Raise `InvalidValue` unless *value* is JSON of at most depth 64; text is checked with its path."""
    kind = type(value)
    if kind is str:
        _check_text(value, what)
    elif kind is int:
        if not MIN_INT <= value <= MAX_INT:
            raise InvalidValue(f"{what} is an integer beyond 64 bits; allowed is {MIN_INT} to {MAX_INT}")
    elif kind is float:
        if not math.isfinite(value):
            raise InvalidValue(f"{what} is {value}; JSON has no NaN and no infinity, pass None or text")
    elif kind is dict or kind is list:
        _check_container(value, what, depth)
    elif kind is not bool and value is not None:
        raise InvalidValue(f"{what} is of type {kind.__qualname__}; allowed is {type_names}")


def _check_container(value: Any, what: str, depth: int) -> None:
    # A cycle is deeper than any limit, so the depth check finds it too.
    if depth >= MAX_DEPTH:
        raise InvalidValue(f"{what[:80]}… is nested deeper than {MAX_DEPTH} (or contains itself)")
    if type(value) is list:
        for index, item in enumerate(value):
            check_json(item, f"{what}[{index}]", depth + 1)
        return
    for key, item in value.items():
        if type(key) is not str:
            raise InvalidValue(f"{what} has the key {shown(key)} of type {type(key).__qualname__}; keys must be text")
        _check_text(key, f"a key of {what}")
        check_json(item, f"{what}.{key}", depth + 1)


def _check_text(text: str, what: str) -> None:
    if "\x00" in text:
        raise InvalidValue(f"{what} contains a NUL character, which databases cannot keep in text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(f"{what} contains a lone surrogate at {error.start}; allowed is valid Unicode") from None


def is_number(value: object) -> TypeGuard[float]:
    """Return whether *value* is a finite number: an int of any size, no bool, no NaN."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def shown(value: object) -> str:
    """Return *value* as an error message shows it: its `repr`, cut; its type where it has none to show."""
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits, or a class of somebody's with a broken repr
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def check_name(text: object, what: str, limit: int = MAX_NAME) -> str:
    """Return *text* if it can serve as a name: 1 to *limit* printable characters without blanks at the ends.

    Raises:
        InvalidOption: It is no text, empty, too long or has control characters.
    """
    if not isinstance(text, str):
        raise InvalidOption(f"{what} is of type {type(text).__qualname__}; it must be text")
    if not text or len(text) > limit or not text.isprintable() or text != text.strip():
        raise InvalidOption(
            f"{what} is {shown(text)}; allowed are 1 to {limit} printable characters, no blanks at the ends"
        )
    return text


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern fits the name: ``*`` stands for anything, also for nothing."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    *middle, last = rest
    left = name[len(first) :]
    for part in middle:
        found = left.find(part)
        if found < 0:
            return False
        left = left[found + len(part) :]
    return left.endswith(last)


def check_reason(text: object) -> str | None:
    """Return a reason as it is stored: None, or 1 to 4,000 characters of text.

    Raises:
        InvalidOption: It is no text, only blanks, too long or cannot be stored.
    """
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_REASON:
        raise InvalidOption(f"reason is {shown(text)}; allowed is text of 1 to {MAX_REASON} characters")
    try:
        _check_text(text, "reason")
    except InvalidValue as error:
        raise InvalidOption(str(error)) from None
    return text


def require_reason(reason: object, verb: str) -> None:
    """Refuse an act without a reason.

    Raises:
        InvalidOption: There is none, or it cannot be stored.
    """
    if check_reason(reason) is None:
        raise InvalidOption(f"{verb} needs a reason, which is kept in the log")


def counted(count: int, what: str) -> str:
    """Return a number of things as people say it: ``1 task``, ``2,000 tasks``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
