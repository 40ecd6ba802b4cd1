"""Tables on a terminal: they fit its width where anything makes them, and what is typed into the next command stays whole."""

from __future__ import annotations

import os
import pty
import struct
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ledger import Ledger
from runner.fitting import NARROWEST, Fitted, fit
from tests.processes import ROOT, Command

ID = "01a20e9b-943b-70aa-b46e-4692ddc295da"
HEADINGS = ("id", "name", "queue", "state", "attempt", "due at", "actor", "run as", "error")
ROW = (ID, "send_digest", "default", "succeeded", "2", "2026-11-24T17:30:09.389427Z", "user:root", "system", "")
OTHER = (ID, "tidy", "mail", "waiting", "0", "2026-11-24T18:00:00Z", "user:ann", "system", "")


def width_of(found: Fitted) -> int:
    return sum(found.widths) + found.gap * (len(found.widths) - 1)


def test_where_there_is_room_only_fractions_and_empty_columns_go() -> None:
    """A wide terminal shows everything in its place; times are shown to the second."""
    found = fit(HEADINGS, [ROW, OTHER], 150)

    assert found.headings == list(HEADINGS[:-1]) and found.below == "" and found.gap == 2
    assert found.rows[0] == [*ROW[:5], "2026-11-24T17:30:09Z", *ROW[6:8]]


def test_where_there_is_little_what_is_the_same_is_said_once() -> None:
    """The day of all times is in the heading, and what every row has below the table; ids and states stay whole."""
    found = fit(HEADINGS, [ROW, OTHER], 104)

    assert "due at 2026-11-24" in found.headings and "17:30:09Z" in found.rows[0]
    assert found.below == "in every row: run as system" and "run as" not in found.headings
    assert width_of(found) <= 104
    assert all(ID in row and row[found.headings.index("state")] in ("succeeded", "waiting") for row in found.rows)


def test_times_of_several_days_keep_their_days() -> None:
    """The day stands in the heading only where it is that of all."""
    found = fit(("id", "at"), [(ID, "2026-11-24T17:30:09Z"), (ID, "2026-11-25T17:30:09Z")], 58)
    assert found.headings == ["id", "at"] and found.rows[1][1] == "2026-11-25T17:30:09Z"


def test_where_nothing_else_helps_columns_are_left_out_and_named() -> None:
    """A very narrow terminal has the id, the name, the state and what went wrong, and is told what it has not."""
    rows = [(*ROW[:-1], "ConnectionError: the mail server is down"), (*OTHER[:7], "bob", "")]
    found = fit(HEADINGS, rows, 72)

    assert width_of(found) <= 72
    assert {"id", "name", "state", "error"} <= set(found.headings)
    assert found.below.startswith("for want of width without: ") and "run as" in found.below
    assert set(found.below.partition(": ")[2].split(", ")) | set(found.headings) == set(HEADINGS)


def test_an_hour_is_told_whole() -> None:
    """What statistics are added up by is not cut: all its rows would look alike."""
    found = fit(("hour", *"abcdef"), [("2026-11-24T19:00Z", *["25874.005"] * 6)], 70)
    assert found.rows[0][0] == "2026-11-24T19:00Z" and found.widths[0] == 17


TEXT = st.text(st.characters(exclude_categories=("C",)), max_size=30)


@given(st.lists(st.tuples(*[TEXT] * 5), min_size=1, max_size=4), st.integers(20, 200))
def test_any_table_has_its_rows_and_no_more_than_the_width(rows: list[tuple[str, ...]], width: int) -> None:
    """Whatever the cells hold: as many rows, a width for each column, and only an id, a name or an error beyond all bounds."""
    found = fit(("id", "name", "a", "error", "b"), rows, width)

    assert len(found.rows) == len(rows)
    assert len(found.headings) == len(found.widths) >= 1
    assert all(len(row) == len(found.widths) for row in found.rows)
    narrowest = max(cell_len(row[0]) for row in rows) + 2 * NARROWEST + 2
    assert width_of(found) <= max(width, narrowest)
    said = " ".join((*found.headings, found.below))
    columns = zip(("id", "name", "a", "error", "b"), *rows, strict=True)
    assert all(heading in said for heading, *cells in columns if any(cells))


@pytest.mark.parametrize("width", [80, 100, 132])
def test_a_list_on_a_terminal_has_lines_of_its_width(tmp_path: Path, width: int) -> None:
    """`task list` on a terminal of a usual width: no line is longer, no id is cut, and no heading breaks within a word."""
    ledger = Ledger(f"sqlite:///{tmp_path}/work.db")
    ids = [ledger.task(name=name)(lambda: None).enqueue().id for name in ("send_digest", "nightly_cleanup")]
    ledger.close()
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    words = ["--url", f"sqlite:///{tmp_path}/work.db", "task", "list"]
    with Command(words, env=environment, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs) as command:
        assert command.wait(60) == 0
        seen = os.read(ours, 65_536).decode()
    os.close(ours)
    os.close(theirs)

    assert all(len(line) <= width for line in seen.splitlines())
    assert all(one in seen for one in (*ids, "send_digest", "nightly_cleanup", "state", "waiting"))
