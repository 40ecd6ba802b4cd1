"""Keep the report view `tasks` in a file of its own beside the ledger, for people and their tools to query."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.api import Ledger
from ledger.errors import LedgerError, StorageUnavailable
from ledger.ids import TASK_PREFIX
from ledger.sqlite_connection import translate
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot
from projections.tasks import Folded, TaskRow, finish, fold, load

SQL = statements("projections", "sql/sqlite/tasks.sql")
VERSION = 4
BATCH = 2_000
BUSY_SECONDS = 60.0
_INDEXES = ("index_position", "index_state", "index_name")
_NEWEST = 2**63 - 1
_ANY = {"run_as": None, "actor": None, "label": None, "failed_only": False}


def report_path(store_path: str) -> str:
    """Return where the reports of the ledger file *store_path* are: ``work.db`` has ``work.reports.db``."""
    if store_path == ":memory:":
        return store_path
    path = Path(store_path)
    return str(path.with_name(f"{path.stem}.reports{path.suffix or '.db'}"))


class DamagedReports(StorageUnavailable):
    """The report file is damaged; the ledger is not touched by that."""


class Reports:
    """The report views of one ledger. All of it is derived: the file may be deleted, it is built again.

    Several processes may catch up at once; an object belongs to one thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.path = report_path(ledger.store.path)
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the report file; the next use opens it again."""
        if self._connection is not None and self.path != ":memory:":
            self._connection.close()
            self._connection = None

    def catch_up(self) -> int:
        """Fold the events after the checkpoint into rows, a batch a transaction; return the checkpoint then.

        Raises:
            CorruptEvent: An event cannot be read; the view stays before it.

            StorageUnavailable: The ledger or the report file cannot be used now.
        """
        while True:
            with self.ledger.store.read() as snapshot, self._write() as connection:
                checkpoint, origin = self._prepare(connection, snapshot)
                raws = snapshot.events_after(checkpoint, BATCH)
                if not raws:
                    return checkpoint
                self._take(connection, snapshot, raws)
                connection.execute(SQL["put_meta"], (VERSION, raws[-1][0], origin))

    def checkpoint(self) -> int:
        """Return the position up to which the report has folded, 0 where there is none; nothing is made or caught up.

        Raises:
            DamagedReports: The file cannot be read.
        """
        if self.path != ":memory:" and not Path(self.path).exists():
            return 0
        with self._read() as connection:
            has_meta = connection.execute(SQL["has_meta"]).fetchone()
            found = connection.execute(SQL["meta"]).fetchone() if has_meta else None
        return int(found[1]) if found else 0

    def rebuild(self) -> int:
        """Fold the whole log into a new table and put it in the place of the old; return the count of events folded."""
        with self.ledger.store.read() as snapshot:
            try:
                with self._write() as connection:
                    connection.execute(SQL["create_meta"])
                    return self._refill(connection, snapshot)
            except DamagedReports:
                self._delete()
            with self._write() as connection:
                connection.execute(SQL["create_meta"])
                return self._refill(connection, snapshot)

    def verify(self) -> list[str]:
        """Return how the live rows differ from a fresh fold of the log, as sentences; empty when they are equal."""
        self.catch_up()
        with self.ledger.store.read() as snapshot, self._read() as connection:
            checkpoint = int(connection.execute(SQL["meta"]).fetchone()[1])
            live = [TaskRow._make(row) for row in connection.execute(SQL["all_rows"])]
            folded: dict[str, Folded] = {}
            for raws in _batches(snapshot, checkpoint):
                _fold_all(folded, snapshot, raws)
        return list(_differences(live, {task_id: finish(task) for task_id, task in folded.items()}))

    def list_tasks(
        self,
        state: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        limit: int = 50,
        after: int | None = None,
        **having: Any,
    ) -> list[TaskRow]:
        """Return at most *limit* tasks, newest first; *after* is the `first_position` of the last one already seen.

        *having* are further fields of `projections.listing.Filter`, checked there.
        """
        statement = "list_state" if state is not None else "list_name" if name is not None else "list_all"
        parameters = {"state": state, "name": name, "queue": queue, "limit": limit, "after": after or _NEWEST}
        return self._rows(statement, _ANY | parameters | having)

    def list_oldest(self, having: Mapping[str, Any], limit: int, after: int, upto: int) -> list[TaskRow]:
        """Return at most *limit* tasks with a `first_position` after *after* and up to *upto*, oldest first."""
        return self._rows("list_oldest", {**having, "limit": limit, "after": after, "upto": upto})

    def last_position(self) -> int:
        """Return the greatest `first_position`, 0 without tasks."""
        with self._read() as connection:
            return int(connection.execute(SQL["last_position"]).fetchone()[0])

    def counts_per_state(self) -> dict[str, int]:
        """Return how many tasks are in each state that has any."""
        with self._read() as connection:
            return {str(state): int(count) for state, count in connection.execute(SQL["counts_per_state"])}

    def slowest(self, n: int) -> list[TaskRow]:
        """Return the *n* tasks whose newest ended attempt ran longest."""
        return self._rows("slowest", (n,))

    def failures(self, n: int) -> list[TaskRow]:
        """Return the *n* tasks with the newest errors: failed, or to be retried at their `due_at`."""
        return self._rows("failures", (n,))

    def lost(self, n: int) -> list[TaskRow]:
        """Return *n* tasks that lost an attempt, last changed first."""
        return self._rows("lost", (n,))

    def _rows(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[TaskRow]:
        with self._read() as connection:
            return [TaskRow._make(row) for row in connection.execute(SQL[statement], parameters)]

    def _prepare(self, connection: sqlite3.Connection, snapshot: Snapshot) -> tuple[int, str]:
        """Return (checkpoint, origin); a view of another version or of another log is built again."""
        connection.execute(SQL["create_meta"])
        found = connection.execute(SQL["meta"]).fetchone()
        origin = _origin(snapshot)
        is_ours = found is not None and found[0] == VERSION and (found[1] == 0 or found[2] == origin)
        if is_ours and found[1] <= snapshot.head():
            return int(found[1]), origin
        return self._refill(connection, snapshot), origin

    def _refill(self, connection: sqlite3.Connection, snapshot: Snapshot) -> int:
        # Readers go on with the old table until this transaction commits.
        connection.execute(SQL["drop_aside"])
        connection.execute(SQL["create_tasks"])
        connection.execute(SQL["set_aside"])
        connection.execute(SQL["create_tasks"])
        head = 0
        for raws in _batches(snapshot, snapshot.head()):
            self._take(connection, snapshot, raws)
            head = raws[-1][0]
        connection.execute(SQL["drop_aside"])  # with its indexes, whose names are then free
        for index in _INDEXES:
            connection.execute(SQL[index])
        connection.execute(SQL["put_meta"], (VERSION, head, _origin(snapshot)))
        return head

    def _take(self, connection: sqlite3.Connection, snapshot: Snapshot, raws: Sequence[RawEvent]) -> None:
        touched = {raw[1] for raw in raws if raw[1].startswith(TASK_PREFIX)}
        begun = touched - {raw[1] for raw in raws if raw[2] == 1}
        tasks: dict[str, Folded] = {}
        for stream in begun:
            task_id = stream.removeprefix(TASK_PREFIX)
            stored = connection.execute(SQL["row"], (task_id,)).fetchone()
            if stored is not None:
                tasks[task_id] = load(stored)
        _fold_all(tasks, snapshot, raws)
        connection.executemany(SQL["put_row"], [finish(task) for task in tasks.values()])

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> LedgerError:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return DamagedReports(
                f"{self.path} is no intact database; it holds nothing but views: `projection rebuild` makes it anew"
            )
        return translate(error, self.path)

    def _delete(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = NORMAL")
                except BaseException:
                    connection.close()
                    raise
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            self._connection = connection
        return self._connection


def _origin(snapshot: Snapshot) -> str:
    """Return what tells this log from another one at the same path: the stream of its first event."""
    first = snapshot.events_after(0, 1)
    return first[0][1] if first else ""


def _batches(snapshot: Snapshot, upto: int) -> Iterator[list[RawEvent]]:
    position = 0
    while position < upto:
        raws = [raw for raw in snapshot.events_after(position, BATCH) if raw[0] <= upto]
        if not raws:
            return
        yield raws
        position = raws[-1][0]


def _fold_all(tasks: dict[str, Folded], snapshot: Snapshot, raws: Iterable[RawEvent]) -> None:
    """Fold stored events in order into *tasks*, by task id."""
    for raw in raws:
        # Every event is decoded, also those of other streams: damage is never passed over in silence.
        event = snapshot.decode(raw)
        if raw[1].startswith(TASK_PREFIX):
            task_id = raw[1].removeprefix(TASK_PREFIX)
            tasks[task_id] = fold(tasks.get(task_id), task_id, raw[0], event)


def _differences(live: Iterable[TaskRow], folded: dict[str, TaskRow]) -> Iterator[str]:
    """Yield a sentence for each row that is missing, too many or different, in the order of the log."""
    rows = {row.task_id: row for row in live}
    for task_id, should in folded.items():
        row = rows.pop(task_id, None)
        if row is None:
            yield f"task {task_id}: the live row is missing"
            continue
        for column, has, gives in zip(TaskRow._fields, row, should, strict=True):
            if has != gives:
                yield f"task {task_id}: {column} is {has!r}, the fold gives {gives!r}"
    for task_id in rows:
        yield f"task {task_id}: a live row that the log does not give"
