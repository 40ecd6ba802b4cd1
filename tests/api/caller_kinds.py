"""The connections that an application may have, each with how it commits, rolls back and asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import django.db
import psycopg
import psycopg_pool
import sqlalchemy
import sqlalchemy.orm
from django.conf import settings
from django.db.utils import ConnectionHandler

from ledger.postgres_address import address_of
from ledger.sqlite import path_of

if not settings.configured:
    settings.configure(USE_TZ=True, LOGGING_CONFIG=None)
    django.setup()
_ALIASES = count(1)


@dataclass(frozen=True)
class Kind:
    """An open connection, with a table ``orders`` of the application's beside the ledger."""

    connection: Any
    commit: Callable[[], None]
    rollback: Callable[[], None]
    execute: Callable[[str], list[Any]]


def driver_connection(url: str) -> Any:
    """The driver's own connection to the database of *url*."""
    if url.startswith("sqlite"):
        return sqlite3.connect(path_of(url), timeout=10)
    return psycopg.connect(**address_of(url).parameters)


@contextmanager
def of_driver(url: str) -> Iterator[Kind]:
    with closing(driver_connection(url)) as connection:
        yield Kind(connection, connection.commit, connection.rollback, lambda sql: _rows(connection.execute(sql)))


@contextmanager
def of_pool(url: str) -> Iterator[Kind]:
    """One that psycopg's pool lends, with rows of another form."""
    options = {**address_of(url).parameters, "row_factory": psycopg.rows.dict_row}
    with psycopg_pool.ConnectionPool(kwargs=options, min_size=1, open=True) as pool, pool.connection() as connection:
        yield Kind(
            connection,
            connection.commit,
            connection.rollback,
            lambda sql: _rows(connection.cursor(row_factory=psycopg.rows.tuple_row).execute(sql)),
        )


def engine_of(url: str) -> sqlalchemy.Engine:
    name = "sqlite://" if url.startswith("sqlite") else "postgresql+psycopg://"
    return sqlalchemy.create_engine(name, creator=lambda: driver_connection(url), poolclass=sqlalchemy.pool.NullPool)


@contextmanager
def of_alchemy(url: str) -> Iterator[Kind]:
    with engine_of(url).connect() as connection:
        yield Kind(
            connection, connection.commit, connection.rollback, lambda sql: _answer(connection, sqlalchemy.text(sql))
        )


@contextmanager
def of_session(url: str) -> Iterator[Kind]:
    with sqlalchemy.orm.Session(engine_of(url)) as session:
        yield Kind(session, session.commit, session.rollback, lambda sql: _answer(session, sqlalchemy.text(sql)))


@contextmanager
def of_django(url: str) -> Iterator[Kind]:
    """One in a transaction, as `atomic` begins it."""
    with django_alias(url) as alias:
        connection = django.db.connections[alias]
        connection.set_autocommit(False)

        def execute(sql: str) -> list[Any]:
            with connection.cursor() as cursor:
                return _rows(cursor.execute(sql) or cursor)

        yield Kind(connection, connection.commit, connection.rollback, execute)
        connection.rollback()


@contextmanager
def django_alias(url: str) -> Iterator[str]:
    """The name of a database of Django's that is that of *url*."""
    alias = f"test{next(_ALIASES)}"
    if url.startswith("sqlite"):
        options = {"ENGINE": "django.db.backends.sqlite3", "NAME": path_of(url), "OPTIONS": {"timeout": 10}}
    else:
        given = address_of(url).parameters
        names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
        options = {key: given.get(name) or "" for key, name in names.items()}
        options |= {"ENGINE": "django.db.backends.postgresql"}
    django.db.connections.settings |= ConnectionHandler({"default": {}, alias: options}).settings
    yield alias
    django.db.connections[alias].close()


def _answer(connection: Any, statement: Any) -> list[Any]:
    result = connection.execute(statement)
    return [tuple(row) for row in result] if result.returns_rows else []


def _rows(cursor: Any) -> list[Any]:
    return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


OF_EACH = {"driver": of_driver, "pool": of_pool, "alchemy": of_alchemy, "session": of_session, "django": of_django}
