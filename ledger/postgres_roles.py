"""Say what roles with fewer rights than the owner of a ledger on PostgreSQL need: one to work, one to read reports."""

from __future__ import annotations

import re

from ledger.errors import InvalidOption
from ledger.statements import statements
from ledger.values import shown

SQL = statements("ledger", "sql/postgres/roles.sql")


def grants(schema: str, reports: str, app: str, report: str) -> str:
    """Return the SQL script that gives roles *app* and *report*, which must exist, what they need.

    *schema* is the ledger's, *reports* that of its reports, of which *app* becomes the owner.

    Raises:
        InvalidOption: A name is none of a role.
    """
    names = {"schema": schema, "reports": reports, "app": app, "report": report}
    for name in (app, report):
        if not name.isprintable() or not 0 < len(name.encode()) < 64:
            raise InvalidOption(f"role {shown(name)} is not allowed: 1 to 63 bytes of printable text")
    quoted = {word: '"' + name.replace('"', '""') + '"' for word, name in names.items()}
    return re.sub(r'"(schema|reports|app|report)"', lambda found: quoted[found[1]], SQL["grants"]) + ";"
