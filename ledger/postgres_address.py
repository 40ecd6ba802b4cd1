"""Read the URL of a ledger on PostgreSQL: what the driver is told, and the schema that holds the ledger."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ledger.errors import InvalidOption
from ledger.values import shown

DEFAULT_SCHEMA = "workledger"
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "workledger",
    # A peer that is gone without a word is noticed within about 10 s.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


_LONGEST_CHANNEL = 63


def channel_of(schema: str) -> str:
    """Return the channel on which commits to the ledger in *schema* are told: ``workledger_`` and as much of it as fits."""
    return f"workledger_{schema}"[:_LONGEST_CHANNEL]


class Address(NamedTuple):
    """Where a ledger is."""

    parameters: dict[str, Any]
    """What libpq is told."""
    schema: str
    shown: str
    """The URL as it may be shown to anybody: without password."""


def address_of(url: str) -> Address:
    """Return the address that *url* names: ``postgresql://user@host:port/database?schema=name``.

    What stands behind the ``?`` goes to the driver, but for *schema*, by default ``workledger``.

    Raises:
        InvalidOption: It is no such URL.
    """
    try:
        place, _, query = url.partition("?")
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        rest = urlencode([(name, value) for name, value in options if name != "schema"], quote_via=quote)
        parameters = conninfo_to_dict(f"{place}?{rest}" if rest else place)
        for port in str(parameters.get("port", 5432)).split(","):
            int(port or 5432)  # of several hosts each may leave it out
    except (ProgrammingError, ValueError) as error:
        raise InvalidOption(
            f"{shown(_without_password(url))} is no PostgreSQL URL: {str(error).strip()}; {_ALLOWED}"
        ) from None
    schema = dict(options).get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise InvalidOption(
            f"schema {shown(schema)} of the URL is not allowed: lower-case letters, digits and _, at most 63, "
            "not beginning with a digit or pg_"
        )
    return Address({**_DEFAULTS, **parameters}, schema, _without_password(url))


_ALLOWED = (
    "allowed is postgresql://user:password@host:port/database?schema=name, with the driver's options behind the ?"
)


def _without_password(url: str) -> str:
    hidden = re.sub(r"(?<=://)([^/@:?]*):[^/@?]*@", r"\1:***@", url)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", hidden)
