"""Write exported rows in the forms that other programs read: CSV, lines of JSON, CloudEvents, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from ledger.errors import InvalidOption
from projections.exporting import Page, columns_of
from projections.report_views import VIEWS
from projections.views import Row

JSON_COLUMNS = frozenset(("args", "labels", "result", "data"))
"""Text that is JSON: in lines of JSON it is a value."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula."""
MOMENT = ("at", "hour")
"""Columns with these names or endings are times."""


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: text that could be a formula has an apostrophe before it."""
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA) else value


def csv_header(columns: Sequence[str]) -> bytes:
    """Return the first line of a CSV file."""
    return _csv([tuple(columns)])


def csv_lines(page: Page) -> bytes:
    """Return rows as CSV (RFC 4180, UTF-8); NULL is empty."""
    return _csv(tuple(map(safe_cell, row)) for row in page.rows)


def _csv(rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def json_lines(columns: Sequence[str], page: Page) -> bytes:
    """Return rows as lines of JSON."""
    return b"".join(orjson.dumps(_object(columns, row)) + b"\n" for row in page.rows)


def _object(columns: Sequence[str], row: Row) -> dict[str, Any]:
    return {
        name: orjson.loads(value) if name in JSON_COLUMNS and value is not None else value
        for name, value in zip(columns, row, strict=True)
    }


def cloud_events(columns: Sequence[str], page: Page, source: str) -> bytes:
    """Return rows of the view `events` as CloudEvents 1.0, one a line; *source* names the ledger."""
    found: Iterator[dict[str, Any]] = (_object(columns, row) for row in page.rows)
    return b"".join(orjson.dumps(_cloud_event(event, source)) + b"\n" for event in found)


def _cloud_event(event: dict[str, Any], source: str) -> dict[str, Any]:
    more = {name: event[name] for name in ("version", "actor", "reason", "command") if event[name] is not None}
    return {
        "specversion": "1.0",
        "id": str(event["position"]),
        "source": source,
        "type": f"workledger.{event['type']}",
        "subject": event["stream"],
        "time": event["at"],
        "datacontenttype": "application/json",
        "sequence": f"{event['position']:020}",
        "partitionkey": event["stream"],
        "data": {**more, **event["data"]},
    }


class ParquetFile:
    """A Parquet file that grows page by page. Needs pyarrow: ``pip install workledger[parquet]``.

    Raises:
        InvalidOption: It is not installed.
    """

    def __init__(self, path: Path, view: str) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise InvalidOption("Parquet needs pyarrow; pip install 'workledger[parquet]' brings it") from error
        self._arrow: Any = pyarrow
        [table] = next(one for one in VIEWS if one.name == view).tables
        declared = dict(zip(table.columns, _types(table.create), strict=True))
        fields = [(name, self._type(name, declared[name])) for name in columns_of(view)]
        self._schema = pyarrow.schema(fields)
        self._writer: Any = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")

    def _type(self, name: str, declared: str) -> Any:
        if name in MOMENT or name.endswith("_at"):
            return self._arrow.timestamp("us", tz="UTC")
        return {"INTEGER": self._arrow.int64(), "REAL": self._arrow.float64()}.get(declared, self._arrow.string())

    def write(self, page: Page) -> None:
        """Append rows."""
        arrays = []
        for field, values in zip(self._schema, zip(*page.rows, strict=True), strict=True):
            is_moment = self._arrow.types.is_timestamp(field.type)
            array = self._arrow.array(values, self._arrow.string() if is_moment else field.type)
            arrays.append(array.cast(field.type) if is_moment else array)
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Write what stands at the end of the file; without it nothing can be read."""
        self._writer.close()


def _types(create: str) -> list[str]:
    """Return the declared types of the columns in a statement that makes a table."""
    lines = [line.split() for line in create.splitlines()[1:] if line.startswith("    ")]
    return [words[1].rstrip(",") for words in lines if words[0] not in ("PRIMARY",)]
