"""Load named SQL statements: each begins with a line ``-- name --`` in a `.sql` file beside the code that runs it."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def statements(package: str, path: str) -> dict[str, str]:
    """Return the statements of *path* (such as ``sql/sqlite/queue.sql``) in *package* by name."""
    text = files(package).joinpath(path).read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}
