"""Offer what reporting tools can be given ready-made: queries, metadata for Datasette, a dashboard for Grafana."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import orjson

from ledger.errors import InvalidOption
from projections.report_store import SCHEMA
from projections.report_views import VIEWS, meanings

QUERIES = ("slowest_tasks", "failure_rate", "longest_waits", "retries_that_helped", "operator_actions")
_FOLDER = "reporting"
_SQLITE_SOURCE, _POSTGRES_SOURCE = "frser-sqlite-datasource", "grafana-postgresql-datasource"
_EPOCH = ("CAST(strftime('%s', hour) AS INTEGER)", "CAST(hour AS timestamptz)")
"""How a panel's SQL says a moment to each of the two."""


def _text(name: str) -> str:
    return files("projections").joinpath(_FOLDER, name).read_text(encoding="utf-8")


def query(name: str, schema: str = SCHEMA) -> tuple[str, str]:
    """Return what the ready query *name* tells, and its SQL, which names the views by their *schema*.

    Raises:
        InvalidOption: There is none of this name.
    """
    if name not in QUERIES:
        raise InvalidOption(f"there is no ready query {name!r}; there are: {', '.join(QUERIES)}")
    first, _, sql = _text(f"{name}.sql").partition("\n")
    return first.removeprefix("-- "), sql.strip().rstrip(";").replace(f"{SCHEMA}.", f"{schema}.")


def grafana(dialect: str = "sqlite", schema: str = SCHEMA) -> str:
    """Return a dashboard for Grafana as JSON, with its data source for SQLite or with that for PostgreSQL."""
    text = _text("grafana.json")
    if dialect == "sqlite":
        return text
    dashboard = orjson.loads(text.replace(_SQLITE_SOURCE, _POSTGRES_SOURCE))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            sql = target.pop("queryText").replace(*_EPOCH)
            form = target.pop("queryType").replace(" ", "_")
            target.pop("timeColumns", None)
            target |= {"rawQuery": True, "format": form, "rawSql": re.sub(r"\bFROM (\w+)", rf"FROM {schema}.\1", sql)}
    return orjson.dumps(dashboard, option=orjson.OPT_INDENT_2).decode() + "\n"


def datasette(database: str) -> str:
    """Return metadata for Datasette, as JSON: what each table and column is, and the ready queries.

    *database* is the name that Datasette gives the report file: its name without the last suffix.
    """
    tables: dict[str, Any] = {}
    for name in [table.name for view in VIEWS for table in view.tables] + ["meta"]:
        is_internal = name == "schedule_runs"
        tables[name] = {"hidden": True} if is_internal else {"columns": meanings(name)}
    tables["meta_building"] = {"hidden": True}
    queries = {}
    for name in QUERIES:
        said, sql = query(name)
        queries[name] = {"title": said, "sql": sql.replace(f"{SCHEMA}.", "")}
    metadata = {
        "title": "Workledger",
        "description": "Reports of a ledger of background tasks. Times are UTC, durations milliseconds.",
        "databases": {database: {"tables": tables, "queries": queries}},
    }
    return orjson.dumps(metadata, option=orjson.OPT_INDENT_2).decode()
