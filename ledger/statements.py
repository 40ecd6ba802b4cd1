"""Load named SQL statements: each begins with a line ``-- name --`` in a `.sql` file beside the code that runs it."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Self

DIALECTS = ("sqlite", "postgres")
_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


class Statement(str):
    """One named statement: as text in the dialect of its file, with the way to the same one in another dialect.

    A store runs a statement in its own dialect, whichever the caller has loaded. A file ``sql/<dialect>/<name>.sql``
    has its like under the same name in the folder of each dialect.
    """

    __slots__ = ("name", "package", "path")
    package: str
    path: str
    name: str

    @classmethod
    def of(cls, text: str, package: str, path: str, name: str) -> Self:
        """Return *text* as the statement *name* of a file."""
        statement = cls(text)
        statement.package, statement.path, statement.name = package, path, name
        return statement

    def in_dialect(self, dialect: str) -> Statement:
        """Return the statement of this name in *dialect*, one of `DIALECTS`.

        Raises:
            LookupError: Nobody has written it.
        """
        folder, _, file = self.path.removeprefix("sql/").partition("/")
        if folder == dialect:
            return self
        try:
            return statements(self.package, f"sql/{dialect}/{file}")[self.name]
        except (FileNotFoundError, KeyError) as error:
            raise LookupError(f"{self.package}/sql/{dialect}/{file} has no statement {self.name}") from error


@cache
def statements(package: str, path: str) -> dict[str, Statement]:
    """Return the statements of *path* (such as ``sql/sqlite/queue.sql``) in *package* by name."""
    text = files(package).joinpath(path).read_text(encoding="utf-8")
    parts = _HEADING.split(text)[1:]
    return {
        name: Statement.of(body.strip().rstrip(";"), package, path, name)
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
