"""Tell what runs now: who holds each attempt, since when, how far it says that it is, and whether it is slow."""

from __future__ import annotations

from typing import Any

import orjson

from ledger.clock import from_us, to_us
from ledger.statements import statements
from ledger.store import Snapshot
from runner.progress import progress_of

SQL = statements("projections", "sql/sqlite/reading.sql")
COLUMNS: tuple[str, ...] = (
    "task",
    "name",
    "actor",
    "run_as",
    "worker",
    "host",
    "pid",
    "since",
    "attempt",
    "seconds",
    "slow",
    "progress",
)
_TABLE_COLUMNS = (*COLUMNS, "message")


def running_rows(snapshot: Snapshot, slow_seconds: float, stuck_seconds: float) -> list[dict[str, Any]]:
    """Return the attempts that run, the oldest first; *slow* is ``warning`` from *slow_seconds* on, then ``critical``."""
    now_us = to_us(snapshot.now)
    rows = []
    for *found, version in snapshot.rows(SQL["running_now"]):
        row = dict(zip(COLUMNS, found, strict=False))
        row["actor"] = orjson.loads(row["actor"])["actor"]  # of the stored TaskQueued
        seconds = round((now_us - row["since"]) / 1_000_000, 3)
        progress = progress_of(snapshot, row["task"], version, row["attempt"])
        slow = "critical" if seconds > stuck_seconds else "warning" if seconds > slow_seconds else None
        rows.append(
            {
                **row,
                "since": from_us(row["since"]),
                "seconds": seconds,
                "slow": slow,
                "progress": None if progress is None else {**progress.summary(), "text": progress.text},
            }
        )
    return rows


def table_rows(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return the rows as a table shows them, and its columns: those on progress and slowness only where one has any."""
    shown = []
    for row in rows:
        progress = row["progress"] or {}
        shown.append({**row, "progress": progress.get("text"), "message": progress.get("message")})
    empty = {name for name in ("slow", "progress", "message") if not any(row[name] for row in shown)}
    return shown, tuple(name for name in _TABLE_COLUMNS if name not in empty)
