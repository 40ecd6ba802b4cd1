"""State what keeps the rows of the report views: a file beside the ledger, or a schema of its PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ledger.errors import StorageUnavailable
from ledger.store import Store
from ledger.stores import POSTGRES_SCHEMES
from projections.views import Row

SCHEMA = "report_v1"
"""The name under which reporting SQL finds the views, on each kind of database."""


class DamagedReports(StorageUnavailable):
    """What keeps the reports is damaged; the ledger is not touched by that."""


class ReportUnit(Protocol):
    """One open transaction on the reports. Parameters of SQL are ``?``, or names such as ``:limit``.

    A named statement is run as the file of this dialect has it, else as it is.
    """

    dialect: str
    """One of `ledger.statements.DIALECTS`."""

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return all rows of a query."""

    def stream(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[Row]:
        """Return the rows of a query one after the other, within this transaction."""

    def columns(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> tuple[str, ...]:
        """Return the names of what a query gives."""

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute one statement."""

    def run_many(self, sql: str, rows: Iterable[Row]) -> None:
        """Execute one statement for each of *rows*."""

    def tables(self) -> list[str]:
        """Return the names of the tables that were made by `make`, sorted."""

    def columns_of(self, table: str) -> tuple[str, ...]:
        """Return the columns of a table in their order; of none, none."""

    def make(self, create: str) -> None:
        """Make a table by a statement whose columns have the types TEXT, INTEGER and REAL: any text, 64 bits, a double."""

    def put_in_place(self, new: str, name: str) -> None:
        """Put the table *new* in the place of the one called *name*, if there is one."""


class ReportStore(Protocol):
    """What keeps the reports; an object belongs to one thread."""

    dialect: str
    """See `ReportUnit`."""
    path: str
    """Where that is, as it may be shown to anybody."""
    schema: str
    """The schema that tools find the views in; of a file the name it is to be attached under."""
    look_seconds: float
    """How long who follows waits between two looks at whether somebody has committed."""
    rest: float
    """How long it rests after a batch while others commit, as a multiple of what the batch took."""

    def write(self) -> AbstractContextManager[ReportUnit]:
        """Begin a transaction that may write, in its turn among all processes: all of it is stored, or nothing.

        Raises:
            StorageUnavailable: The reports cannot be used now.

            DamagedReports: They are damaged.
        """

    def read(self, tables: Sequence[str] = ()) -> AbstractContextManager[ReportUnit]:
        """Begin a transaction that only reads; each statement is of one moment. Errors as of `write`.

        *tables* are what several statements are asked of: all of them see one moment then.
        """

    def as_schema(self) -> AbstractContextManager[ReportUnit]:
        """Open the views only to read them, under the name `SCHEMA` as reporting SQL has it.

        Raises:
            StorageUnavailable: They cannot be read, or the SQL of the caller is wrong; the message is the database's.
        """

    def turn(self) -> AbstractContextManager[bool]:
        """Hold the place of the one that follows; False if another process has it. Only a courtesy: all may follow."""

    def exists(self) -> bool:
        """Return whether there is anything yet."""

    def close(self) -> None:
        """Close what this object alone has open; the next use opens it again."""

    def delete(self) -> None:
        """Delete all that is kept."""


def reports_of(store: Store) -> ReportStore:
    """Return what keeps the reports of the ledger in *store*; no I/O is done."""
    if store.url.startswith(POSTGRES_SCHEMES):
        from projections.report_schema import ReportSchema  # its driver is an extra

        return ReportSchema(store)
    from projections.report_file import ReportFile, report_path

    return ReportFile(report_path(store.path))
