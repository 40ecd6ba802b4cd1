"""Read what `--at` says, and give the ledger as it was then."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.errors import InvalidOption
from ledger.past import Past

if TYPE_CHECKING:
    from runner.session import Session

At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME|POSITION", help="As it was then: an ISO 8601 time with its zone, or a position."
    ),
]


def parse_at(text: str, flag: str = "--at") -> datetime | int:
    """Return the position or the time that *text* gives.

    Raises:
        InvalidOption: It is neither.
    """
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        allowed = "a position of the log and ISO 8601 times with their zone, such as 2031-05-01T12:00:00Z"
        raise InvalidOption(f"{flag} is {text!r}; allowed are {allowed}")
    return moment


def past_of(session: Session, at: str) -> Past:
    """Return the session's ledger as it was at what ``--at`` says.

    Raises:
        InvalidOption: It is no past.
    """
    return session.existing().as_of(parse_at(at))
