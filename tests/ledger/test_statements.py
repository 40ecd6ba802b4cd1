"""Named SQL statements: one name, one meaning, in every dialect that a store speaks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger import Ledger, copying, deliveries
from ledger.postgres import PostgresStore
from ledger.postgres_unit import adapted
from ledger.statements import DIALECTS, statements
from ledger.testing import memory_ledger
from projections import queue

ROOT = Path(__file__).parents[2]
PACKAGES = ("ledger", "projections", "runner")
FILES = sorted(
    (package, path.name)
    for package in PACKAGES
    for dialect in DIALECTS
    for path in (ROOT / package / "sql" / dialect).glob("*.sql")
)
OF_ONE_DIALECT = {
    ("ledger", "roles.sql"): "only a server has roles",
    ("ledger", "events.sql"): "each store has its own log, whose statements only it runs",
    ("ledger", "caller.sql"): "it is said over the caller's connection, by the module of its store",
    ("ledger", "waypoints.sql"): "the file of copies is SQLite's, whatever keeps the log",
    ("projections", "sharing.sql"): "only where workers share the queue do they ask how it stands",
    ("projections", "tasks.sql"): "its text is the same on every database",
}


@pytest.mark.parametrize(("package", "file"), sorted(set(FILES) - OF_ONE_DIALECT.keys()))
def test_dialects_have_the_same_statements(package: str, file: str) -> None:
    """A file of statements exists in the folder of every dialect, with the same names: none is missed at run time."""
    names = [set(statements(package, f"sql/{dialect}/{file}")) for dialect in DIALECTS]

    assert all(found == names[0] for found in names)


def test_dialects_answer_with_the_same_columns(postgres_url: str) -> None:
    """Each question has as many columns in every dialect, so that what is added in one is not forgotten in another."""
    store = PostgresStore(postgres_url)
    ledgers = [memory_ledger(), Ledger(postgres_url)]
    for ledger in ledgers:
        deliveries_of(ledger)
    with ledgers[0].store.write() as unit, store.transactions.begun("BEGIN") as (connection, _):
        lite = unit._connection  # type: ignore[attr-defined]
        for package, file in sorted(set(FILES) - OF_ONE_DIALECT.keys()):
            for name, statement in statements(package, f"sql/sqlite/{file}").items():
                if not re.search(r"^(SELECT|WITH)", statement, re.MULTILINE):
                    continue
                numbers = dict.fromkeys(re.findall(r":(\w+)", statement), 0) or (0,) * count_parameters(statement)
                columns = len(lite.execute(statement, numbers).description)
                text, _ = adapted(statement, dict.fromkeys(re.findall(r"(?<!:):([a-z_]+)", statement), 0) or ())
                connection.pgconn.prepare(b"", text.encode())
                assert (name, connection.pgconn.describe_prepared(b"").nfields) == (name, columns)
    store.close()
    for ledger in ledgers:
        ledger.close()


def deliveries_of(ledger: Ledger) -> None:
    """Make all tables that a ledger ever has."""
    queue.catch_up_all(ledger)
    with ledger.store.write() as unit:
        deliveries.begin(unit, ["hook"])
        unit.run(copying.SQL["create_copied"])


def count_parameters(statement: str) -> int:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    return max(numbered) if numbered else statement.count("?")


def test_a_statement_is_its_text_and_knows_its_place() -> None:
    """A statement is used as the text it is; in its own dialect it is itself, in one without it an error says where."""
    statement = statements("ledger", "sql/sqlite/output.sql")["chunks"]

    assert statement == "SELECT chunk, body FROM output WHERE task_id = ? AND attempt = ? AND chunk > ? ORDER BY chunk"
    assert (statement.package, statement.path, statement.name) == ("ledger", "sql/sqlite/output.sql", "chunks")
    assert statement.in_dialect("sqlite") is statement
    with pytest.raises(LookupError, match=r"ledger/sql/cuneiform/output\.sql has no statement chunks"):
        statement.in_dialect("cuneiform")
