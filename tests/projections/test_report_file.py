"""A file of reports is made by whoever comes first, and by several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

from projections.report_file import ReportFile

ROUNDS, AT_ONCE = 50, 4


def test_several_may_make_the_file_at_once(tmp_path: Path) -> None:
    """SQLite refuses all but one of those who give a new file its write-ahead log at once; each comes to write all the same."""
    barrier = Barrier(AT_ONCE)

    def begin(number: int) -> int:
        barrier.wait()
        with closing(ReportFile(f"{tmp_path}/{number}.reports.db")) as file, file.write() as unit:
            unit.run("CREATE TABLE IF NOT EXISTS made (by INTEGER)")
            unit.run("INSERT INTO made VALUES (1)")
        with closing(ReportFile(f"{tmp_path}/{number}.reports.db")) as file, file.read() as unit:
            return len(unit.rows("SELECT 1 FROM made"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(ROUNDS):
            assert max(pool.map(begin, [number] * AT_ONCE)) == AT_ONCE
