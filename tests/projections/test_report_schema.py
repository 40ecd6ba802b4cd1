"""The schema of the reports on a server that others use too: what they rest on it, hold open or have there is respected."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from ledger import Ledger, StorageUnavailable
from ledger.postgres import PostgresStore
from ledger.shadow import ShadowStore
from projections.following import Keeper
from projections.report_schema import ReportSchema, schema_of
from projections.report_views import VIEWS
from projections.reports import Reports
from tests.databases import by_driver
from tests.projections.everything import fill, ledger_of


@pytest.fixture
def reports(postgres_url: str) -> Iterator[Reports]:
    """The reports of a ledger to which everything has happened, at the head."""
    ledger = ledger_of(postgres_url)
    fill(ledger, 6)
    reports = Reports(ledger)
    reports.catch_up()
    yield reports
    ledger.close()


@pytest.mark.parametrize(
    ("ledger", "reports"),
    [
        ("workledger", "report_v1"),
        ("mail", "mail_report_v1"),
        ("x" * 53, "x" * 53 + "_report_v1"),
        ("report_v1", "report_v1_report_v1"),
    ],
)
def test_each_ledger_of_a_database_has_reports_of_its_own(ledger: str, reports: str) -> None:
    """The default schema has the name that reporting SQL uses; others are named after their ledger's."""
    assert schema_of(ledger) == reports


def test_long_names_do_not_meet() -> None:
    """Of schemas whose names are too long to be gone on with, each has another name, which PostgreSQL takes whole."""
    names = {schema_of("x" * 62 + end) for end in "abc"}
    assert len(names) == 3
    assert {len(name) for name in names} == {63}


def test_two_ledgers_of_one_database_do_not_mix(reports: Reports, postgres_database: str) -> None:
    """Each has the rows of its own log, in the schemas that each says."""
    other = Ledger(f"{postgres_database}&schema=workledger")
    other.task(name="alone")(lambda: None)
    task = other.enqueue(other.functions["alone"].call())
    others = Reports(other)
    others.catch_up()
    with psycopg.connect(**_store(other).address.parameters) as connection:
        assert connection.execute("SELECT task_id FROM report_v1.tasks").fetchall() == [(task.id,)]
    assert reports.verify() == others.verify() == []
    other.close()


def _store(ledger: Ledger) -> PostgresStore:
    assert isinstance(ledger.store, PostgresStore)
    return ledger.store


def test_a_view_of_somebodys_own_outlives_a_rebuild(reports: Reports) -> None:
    """A view that rests on a report view has the rows of the new fold, and those of what follows."""
    with by_driver(reports.ledger, of_reports=True) as ask:
        ask("CREATE VIEW failing AS SELECT name, sum(failed) AS failed FROM hourly GROUP BY name")
        before = sorted(ask("SELECT * FROM failing"))
        ask("UPDATE hourly SET failed = failed + 1")
    reports.rebuild(["hourly", "tasks"])
    with by_driver(reports.ledger, of_reports=True) as ask:
        assert sorted(ask("SELECT * FROM failing")) == before
    reports.ledger.enqueue(reports.ledger.functions["measured"].call())
    assert reports.verify() == []
    assert {row.generation for row in reports.state() if row.view == "hourly"} == {2}


def test_a_right_that_was_given_by_hand_outlives_a_rebuild(reports: Reports) -> None:
    """Everybody who could read a view can read the one that takes its place."""
    with by_driver(reports.ledger, of_reports=True) as ask:
        ask("GRANT SELECT ON tasks TO PUBLIC")
    reports.rebuild(["tasks"])
    with by_driver(reports.ledger, of_reports=True) as ask:
        assert ask("SELECT grantee = 0 FROM pg_class, aclexplode(relacl) WHERE oid = 'tasks'::regclass AND grantee = 0")


def test_a_transaction_left_open_holds_up_a_swap_and_nothing_else(reports: Reports) -> None:
    """The rebuild says what it waits for; the views go on, and the next try ends what it began."""
    connection = psycopg.connect(**_store(reports.ledger).address.parameters)
    connection.execute(f"SELECT count(*) FROM {reports.file.schema}.hourly")
    with pytest.raises(StorageUnavailable, match="a transaction that was left open"):
        reports.rebuild(["hourly"])
    assert len(connection.execute(f"SELECT * FROM {reports.file.schema}.hourly").fetchall()) > 0
    connection.close()
    reports.catch_up()
    assert {row.generation for row in reports.state() if row.view == "hourly"} == {2}
    assert reports.verify() == []


def test_tables_of_others_are_left_alone(postgres_url: str) -> None:
    """What somebody else has in the schema stays, whatever becomes of the reports; one named like a view is refused."""
    ledger = ledger_of(postgres_url)
    ledger.enqueue(ledger.functions["measured"].call())
    reports = Reports(ledger)
    schema = reports.file.schema
    with by_driver(ledger) as ask:
        ask(f"CREATE SCHEMA {schema}")
        ask(f"CREATE TABLE {schema}.mine AS SELECT 7 AS n")
        ask(f"CREATE TABLE {schema}.hourly AS SELECT 8 AS n")
    with pytest.raises(StorageUnavailable, match="is none of ours"):
        reports.catch_up()
    with by_driver(ledger, of_reports=True) as ask:
        assert ask("SELECT n FROM hourly") == [(8,)]
        ask("DROP TABLE hourly")
    reports.catch_up()
    reports.file.delete()
    reports.catch_up()
    assert reports.verify() == []
    with by_driver(ledger, of_reports=True) as ask:
        assert ask("SELECT n FROM mine") == [(7,)]
    ledger.close()


def test_the_database_says_what_columns_mean(reports: Reports) -> None:
    """Every column of every view has its meaning as a comment, in a table that was built anew too."""
    reports.rebuild(["tasks"])
    sql = (
        "SELECT c.relname, a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
        " AND c.relname <> 'meta_building' AND col_description(c.oid, a.attnum) IS NULL"
    )
    with by_driver(reports.ledger, of_reports=True) as ask:
        assert ask(sql) == []
        [(said,)] = ask("SELECT obj_description('tasks'::regclass)")
    assert said.startswith("Workledger: ")


def test_of_a_replay_the_reports_are_those_of_the_ledger(reports: Reports) -> None:
    """The store that a replay has in the ledger's place leads to the same schema."""
    shadow = ReportSchema(ShadowStore(reports.ledger.store))
    keeper = Keeper(reports.ledger.store, shadow, VIEWS)
    assert (shadow.schema, keeper.checkpoint()) == (reports.file.schema, reports.checkpoint())
