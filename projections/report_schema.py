"""Own the schema of a PostgreSQL database that the report views are kept in: transactions, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from hashlib import sha256
from itertools import count
from typing import Any

import psycopg
from psycopg import errors as pg

from ledger.errors import LedgerError, StorageUnavailable
from ledger.postgres import PostgresStore
from ledger.postgres_address import DEFAULT_SCHEMA
from ledger.postgres_arrays import columns
from ledger.postgres_connection import LedgerConnection, translate
from ledger.postgres_unit import adapted, native
from ledger.shadow import ShadowStore
from ledger.statements import Statement, statements
from ledger.store import Store
from projections.report_store import SCHEMA, DamagedReports
from projections.views import Row

SQL = statements("projections", "sql/postgres/report/meta.sql")
TURN_SECONDS = 60
"""How long a writer waits for those before it."""
LOCK_SECONDS = 2
"""How long a swap waits for transactions that look at the old rows, while others wait behind it."""
IDLE_SECONDS = 60
"""A transaction in which its process does nothing for so long is ended: a frozen one must not hold up the others."""
VERIFY_SECONDS = 86_400
"""The same of one that compares all rows of a moment with the log: it holds up nobody but a swap."""
SLICE = 1_000
"""Rows a statement, and a step of a stream."""
_LONGEST = 63
_NUMERIC = 1700
_TYPES = {"TEXT": 'text COLLATE "C"', "INTEGER": "bigint", "REAL": "double precision"}
_TYPE = re.compile(r'(?<=\w|") (TEXT|INTEGER|REAL)\b')
_TABLE = re.compile(r'CREATE TABLE "?(\w+)"?')
_MEANING = re.compile(r"^    (\w+) [A-Z].*?,? -- (.*)$", re.MULTILINE)


def schema_of(ledger_schema: str) -> str:
    """Return where the reports of the ledger in *ledger_schema* are: ``report_v1``, beside others ``mail_report_v1``."""
    if ledger_schema == DEFAULT_SCHEMA:
        return SCHEMA
    name = f"{ledger_schema}_{SCHEMA}"
    if len(name) <= _LONGEST:
        return name
    digest = sha256(ledger_schema.encode()).hexdigest()[:8]
    return f"{ledger_schema[: _LONGEST - len(SCHEMA) - 10]}_{digest}_{SCHEMA}"


class SchemaUnit:
    """One open transaction in the schema of the reports (see `projections.report_store.ReportUnit`)."""

    dialect = "postgres"

    def __init__(self, connection: LedgerConnection, place: ReportSchema, *, is_writing: bool) -> None:
        self._connection = connection
        self._place = place
        self._is_writing = is_writing
        self._streams = count(1)

    def _query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), before: str = ""
    ) -> psycopg.Cursor[Any]:
        return self._execute(*adapted(before + self._native(sql), parameters))

    def _execute(self, text: str, values: Sequence[Any]) -> psycopg.Cursor[Any]:
        try:
            # A statement that was prepared may give other columns after a swap; those of writers name them.
            return self._connection.execute(text, values, prepare=None if self._is_writing else False, binary=True)
        except psycopg.Error as error:
            raise self._place.unusable(error, is_writing=self._is_writing) from error

    def _native(self, sql: str) -> str:
        text = str(sql)
        if isinstance(sql, Statement):
            try:
                text = str(sql.in_dialect(self.dialect))
            except LookupError:  # the same text will do
                pass
        schema = self._place.schema
        return text if schema == SCHEMA else text.replace(f"{SCHEMA}.", f'"{schema}".')

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return all rows of a query; sums are whole numbers or floats, as elsewhere."""
        cursor = self._query(sql, parameters)
        found: list[Row] = cursor.fetchall()
        if any(column.type_code == _NUMERIC for column in cursor.description or ()):
            return [tuple(map(_plain, row)) for row in found]
        return found

    def stream(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Iterator[Row]:
        """Return the rows of a query one after the other."""
        name = f"stream_{next(self._streams)}"
        self._query(sql, parameters, f"DECLARE {name} NO SCROLL CURSOR FOR ")
        while rows := self.rows(f"FETCH {SLICE} FROM {name}"):
            yield from rows
        self.run(f"CLOSE {name}")

    def columns(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> tuple[str, ...]:
        """Return the names of what a query gives."""
        return tuple(column.name for column in self._query(sql, parameters).description or ())

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Execute one statement."""
        self._query(sql, parameters)

    def run_many(self, sql: str, rows: Iterable[Row]) -> None:
        """Execute one statement for each of *rows*; one over ``unnest``, for a thousand a step."""
        if "unnest(" not in sql:
            for row in rows:
                self.run(sql, row)
            return
        found, text = list(rows), native(self._native(sql))
        for first in range(0, len(found), SLICE):
            self._execute(text, columns(found[first : first + SLICE]))

    def tables(self) -> list[str]:
        """Return the names of the tables that were made here; others of the schema are left alone."""
        return [row[0] for row in self.rows(SQL["all_tables"])]

    def columns_of(self, table: str) -> tuple[str, ...]:
        """Return the columns of a table in their order."""
        return tuple(row[0] for row in self.rows(SQL["columns_of"], (table,)))

    def make(self, create: str) -> None:
        """Make a table, in which text sorts by its bytes as in a file, and say in it what its columns mean."""
        [table] = _TABLE.findall(create)
        said = {f'TABLE "{table}"': "Workledger: a report view; what is changed here by hand differs from the log."}
        said |= {f'COLUMN "{table}"."{name}"': meaning for name, meaning in _MEANING.findall(create)}
        bare = re.sub("--.*", "", create)
        steps = [_TYPE.sub(lambda found: f" {_TYPES[found[1]]}", bare)]
        steps += ["COMMENT ON {} IS '{}'".format(what, text.replace("'", "''")) for what, text in said.items()]
        try:
            self._connection.execute("; ".join(steps), prepare=False)
        except psycopg.Error as error:
            raise self._place.unusable(error, is_writing=True) from error

    def put_in_place(self, new: str, name: str) -> None:
        """Put the table *new* in the place of another; what roles may do with that, they may with this.

        Where views of somebody's own rest on the other, it stays, and its rows are replaced.
        """
        columns = self.columns_of(name)
        if columns == self.columns_of(new) and self.rows(SQL["resting"], (name,)):
            listed = ", ".join(f'"{column}"' for column in columns)
            self.run(f'DELETE FROM "{name}"')
            self.run(f'INSERT INTO "{name}" ({listed}) SELECT {listed} FROM "{new}"')
            self.run(f'DROP TABLE "{new}"')
            return
        for [statement] in self.rows(SQL["grants"], (new, name)):
            self.run(statement)
        if name in self.tables():
            self.run(f'DROP TABLE "{name}"')
        self.run(f'ALTER TABLE "{new}" RENAME TO "{name}"')


class ReportSchema:
    """The schema beside a ledger's; an object belongs to one thread (see `projections.report_store.ReportStore`)."""

    dialect = SchemaUnit.dialect
    look_seconds = 1.0
    rest = 3.0  # the server gives no session a low priority

    def __init__(self, store: Store) -> None:
        store = store.beneath if isinstance(store, ShadowStore) else store
        assert isinstance(store, PostgresStore), "the URL says so"
        self._transactions = store.transactions
        self.schema = schema_of(store.schema)
        self.path = f"{store.shown} (schema {self.schema})"
        self._unit: SchemaUnit | None = None

    @contextmanager
    def write(self) -> Iterator[SchemaUnit]:
        """Begin a transaction that may write, in its turn; the schema is made where it is missing.

        Its commit does not wait for the disk: what a crash of the server takes is folded again.
        """
        steps = (
            f"SET LOCAL lock_timeout = '{TURN_SECONDS}s'",
            SQL["turn"].replace("?", f"'{self.schema}'"),
            f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'",
            "SET LOCAL synchronous_commit = off",
            *self._here(IDLE_SECONDS),
        )
        with self._begun("BEGIN", steps) as connection:
            self._as_owner(connection)
            self._unit = SchemaUnit(connection, self, is_writing=True)
            try:
                yield self._unit
            finally:
                self._unit = None
            connection.execute("COMMIT")

    @contextmanager
    def read(self, tables: Sequence[str] = ()) -> Iterator[SchemaUnit]:
        """Begin a transaction that only reads; within one of this object's, that one.

        Each statement sees one moment, and whatever view has its place then. With *tables* all see one moment, and a
        swap waits for the end: these are locked before the moment is fixed.
        """
        if self._unit is not None:
            yield self._unit
            return
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if tables else "BEGIN READ ONLY"
        steps = [*self._here(VERIFY_SECONDS if tables else IDLE_SECONDS)]
        if tables:
            steps.append("LOCK TABLE {} IN ACCESS SHARE MODE".format(", ".join(f'"{name}"' for name in tables)))
        with self._begun(begin, steps) as connection:
            self._unit = SchemaUnit(connection, self, is_writing=False)
            try:
                yield self._unit
            finally:
                self._unit = None

    as_schema = read

    @contextmanager
    def _begun(self, begin: str, steps: Iterable[str]) -> Iterator[LedgerConnection]:
        try:
            connection, _ = self._transactions.begin(begin, "; ".join(steps))
        except StorageUnavailable as error:
            if isinstance(error.__cause__, psycopg.Error):  # it was said of the ledger
                raise self.unusable(error.__cause__) from error
            raise
        try:
            yield connection
        except psycopg.Error as error:
            raise self.unusable(error) from error
        finally:
            self._transactions.end(connection)

    def _here(self, idle_seconds: int) -> tuple[str, ...]:
        return (
            f'SET LOCAL search_path = "{self.schema}", pg_temp',
            f"SET LOCAL idle_in_transaction_session_timeout = '{idle_seconds}s'",
        )

    def _as_owner(self, connection: LedgerConnection) -> None:
        """Act as who owns the schema, so that whoever makes a table, all who keep the reports may change it."""
        found = connection.execute(*adapted(str(SQL["owner"]), (self.schema,))).fetchone()
        if found is None:
            connection.execute(f'CREATE SCHEMA "{self.schema}"')
            return
        owner, is_other, is_member = found
        if is_other and is_member:
            connection.execute('SET LOCAL ROLE "{}"'.format(owner.replace('"', '""')))

    def unusable(self, error: psycopg.Error, *, is_writing: bool = False) -> LedgerError:
        """Return the ledger's error for a driver's: one who writes misses nothing but what somebody else has dropped."""
        said = " ".join(str(error).split())
        match error:
            case pg.DataCorrupted() | pg.IndexCorrupted():
                is_damaged = True
            case pg.UndefinedTable() | pg.UndefinedColumn():
                is_damaged = is_writing
            case _:
                is_damaged = False
        if is_damaged:
            return DamagedReports(
                f"{self.path} is damaged; it holds nothing but views: `projection rebuild` makes it anew ({said})"
            )
        match error:
            case pg.UndefinedTable() | pg.InvalidSchemaName():
                return StorageUnavailable(f"{self.path}: {said}; `workledger projection follow --once` makes the views")
            case pg.LockNotAvailable():
                return StorageUnavailable(
                    f"{self.path}: somebody else has held the reports for too long, such as a transaction that was left "
                    "open after it looked at a view that is to be swapped; nothing is lost, the next try goes on from here"
                )
            case pg.DependentObjectsStillExist():
                return StorageUnavailable(
                    f"{self.path}: a view of your own rests on a report view that has to be made anew; drop it, and make "
                    f"it again when that is built ({said} {error.diag.message_detail})"
                )
            case pg.DuplicateTable() | pg.WrongObjectType():
                return StorageUnavailable(
                    f"{self.path}: {said}, and it is none of ours; give it another name or schema"
                )
        return translate(error, self.path)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Leave it to `write`, where those who follow take turns by a lock that ends with each transaction."""
        yield True

    def exists(self) -> bool:
        """Return whether the views were made."""
        with self.read() as unit:
            return bool(unit.rows(SQL["exists"])[0][0])

    def close(self) -> None:
        """Do nothing: the connections are the ledger's."""

    def delete(self) -> None:
        """Delete all tables that were made here."""
        with self.write() as unit:
            for name in unit.tables():
                unit.run(f'DROP TABLE "{name}"')


def _plain(value: Any) -> Any:
    """Return a number of any size as other databases give it: a sum of whole numbers whole, what has been rounded a float."""
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    return value
