"""Say the statements that fit every table of a report view, under the name that it has now, in each dialect. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from ledger.statements import statements
from projections.views import Table

_TYPED = re.compile(r'"?(\w+)"? (TEXT|INTEGER|REAL)\b')
_ARRAYS = {"TEXT": "text[]", "INTEGER": "bigint[]", "REAL": "float8[]"}


class TableSql(NamedTuple):
    """The statements of one table, under the name it has now."""

    row: str
    all_rows: str
    put_row: str
    delete_row: str
    rows_of: str


@cache
def sql_of(table: Table, name: str, dialect: str) -> TableSql:
    """Return the statements of *table* where it is called *name*."""
    sql = statements("projections", f"sql/{dialect}/report/meta.sql")
    columns = [f'"{column}"' for column in table.columns]
    keys, rest = columns[: table.key], columns[table.key :]
    arrays = _arrays(table)
    words = {
        "table": f'"{name}"',
        "columns": ", ".join(columns),
        "marks": ", ".join("?" * len(columns)),
        "arrays": ", ".join(arrays),
        "key_arrays": ", ".join(arrays[: table.key]),
        "key": " AND ".join(f"{column} = ?" for column in keys),
        "first": keys[0],
        "order": ", ".join(keys),
        "changes": ", ".join(f"{column} = excluded.{column}" for column in rest),
    }
    return TableSql(*(sql[statement].format(**words) for statement in TableSql._fields))


def _arrays(table: Table) -> list[str]:
    """Return a mark for each column as an array, of which PostgreSQL has to be told the type."""
    types = dict(_TYPED.findall(re.sub("--.*", "", table.create)))
    return [f"CAST(? AS {_ARRAYS[types[column]]})" for column in table.columns]
