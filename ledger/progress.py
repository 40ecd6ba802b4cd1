"""Say how far an attempt is: what `current().progress` takes, checked, and what is told of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.errors import InvalidValue
from ledger.values import is_number, shown

Tell = Callable[[float, float | None, str | None], None]
"""Takes done, total and message, checked, as often as the task says them: it only notes them."""
Word = tuple[float, float | None, str | None]
"""Done, total, message."""

MOST = 2**53
"""The greatest whole number up to which a float tells each from the next."""
MOST_MESSAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an attempt said that it is; *total* is None where it does not know."""

    done: float
    total: float | None = None
    message: str | None = None
    at: datetime

    @property
    def percent(self) -> float | None:
        """*done* of *total* in 0 to 100, also where the task counted beyond its total; None without a total."""
        if self.total is None:
            return None
        return min(self.done / self.total * 100, 100.0) if self.total else 100.0

    @property
    def text(self) -> str:
        """What people read: ``40 % (4 of 10)``, or the count alone."""
        done = f"{self.done:,.12g}"
        return done if self.total is None else f"{int(self.percent or 0)} % ({done} of {self.total:,.12g})"

    def summary(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        percent = None if self.percent is None else round(self.percent, 2)
        return {"done": self.done, "total": self.total, "percent": percent, "message": self.message, "at": self.at}


def checked(done: Any, total: Any, message: Any) -> Word:
    """Return what a task says of its progress, as plain numbers and text.

    Raises:
        InvalidValue: *done* or *total* is no number from 0 on, or *message* is no text.
    """
    if message is not None and not isinstance(message, str):
        raise InvalidValue(f"the message of a progress is {shown(message)}; allowed is text or None")
    return _number("done", done), None if total is None else _number("total", total, ", or None"), message


def _number(name: str, value: object, or_none: str = "") -> float:
    if not is_number(value) or not 0 <= value <= MOST:
        raise InvalidValue(
            f"{name} of a progress is {shown(value)}; allowed is a number (int or float) from 0 to {MOST}{or_none}"
        )
    return int(value) if isinstance(value, int) else float(value)


def storable(message: str | None) -> str | None:
    """Return a message as any database can hold it, cut to a bounded length."""
    if message is None:
        return None
    text = message[: MOST_MESSAGE + 1].encode("utf-8", "replace").decode().replace("\x00", "\\x00")
    return text if len(text) <= MOST_MESSAGE else text[: MOST_MESSAGE - 1] + "…"
