"""Show the main job on real input: a tree of source files queued, worked, killed halfway, retried and explained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ledger import Ledger
from ledger.errors import InvalidOption, LedgerError
from ledger.task import ENDED, WAITING
from projections import queue
from projections.reports import Reports
from runner import demo_schedules
from runner.demo_schedules import print_commands
from runner.demo_tasks import declare

LOOK_SECONDS = 0.25
MOST_SECONDS = 300
MOST_SHOWN = 12
WIDEST_FILE = 40


@dataclass(slots=True)
class Seen:
    """What the demo itself saw happen, beside what the ledger tells."""

    seconds: float = 0.0
    killed: int | None = None


def main(path: str | None = None, workers: int = 2, keep: str | None = None) -> int:
    """Run the demo over the tree at *path* (the standard library by default); return the exit code.

    *keep* is the file to leave the ledger in; otherwise it lies in a new temporary directory, which is named.

    Raises:
        InvalidOption: There is no Python file under *path*, or *keep* exists already.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    files = _files(path)
    database = Path(keep) if keep else Path(tempfile.mkdtemp(prefix="workledger-demo-")) / "demo.db"
    if database.exists():
        raise InvalidOption(f"{database} exists; the demo begins with a new ledger, name another file")
    ledger = Ledger(f"sqlite:///{database.absolute()}")
    declare(ledger)
    started = time.monotonic()
    ledger.enqueue_many(
        (ledger.functions["check_file"].call(path=str(file)) for file in files), reason="demo: check every file"
    )
    console.print(
        f"Queued {len(files):,} tasks, one per file, in one commit ({time.monotonic() - started:.2f} s):\n  {database}",
        soft_wrap=True,
    )
    reports = Reports(ledger)
    seen = _work(console, ledger, reports, workers=workers, total=len(files), database=database)
    exit_code = _summary(console, ledger, reports, seen, database)
    demo_schedules.show(console, database)
    return exit_code


def _files(path: str | None) -> list[Path]:
    root = Path(path or sysconfig.get_path("stdlib"))
    files = sorted(file for file in root.rglob("*.py") if "site-packages" not in file.parts and file.is_file())
    if not files:
        raise InvalidOption(f"there is no Python file under {root}; name a directory with --path")
    return files


def _work(console: Console, ledger: Ledger, reports: Reports, *, workers: int, total: int, database: Path) -> Seen:
    """Run the workers in a process of their own, kill one halfway, and return when every task has ended."""
    seen = Seen()
    log_path = database.with_suffix(".log")
    command = [sys.executable, "-m", "runner.demo_tasks", ledger.url, str(workers)]
    started = time.monotonic()
    with log_path.open("wb") as log:
        supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _follow(console, reports, supervisor, total, seen)
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(timeout=60)
    seen.seconds = time.monotonic() - started
    return seen


def _follow(console: Console, reports: Reports, supervisor: subprocess.Popen[bytes], total: int, seen: Seen) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + MOST_SECONDS
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("checking files", total=total)
        while time.monotonic() < deadline and supervisor.poll() is None:
            reports.catch_up()
            counts = reports.counts_per_state()
            ended = sum(count for state, count in counts.items() if state in ENDED)
            progress.update(bar, completed=ended)
            if seen.killed is None and ended >= total / 2:
                seen.killed = _kill_one(supervisor)
                progress.console.print(f"Halfway: killed worker process {seen.killed} with SIGKILL; the run goes on")
            if ended >= total:
                return
            time.sleep(LOOK_SECONDS)
    raise LedgerError(f"the workers ended early or took over {MOST_SECONDS} s; their log lies beside the ledger")


def _kill_one(supervisor: subprocess.Popen[bytes]) -> int | None:
    own = psutil.Process().nice()
    workers = [child.pid for child in psutil.Process(supervisor.pid).children() if child.nice() <= own]
    if not workers:  # what runs at a lower priority keeps the reports
        return None
    os.kill(workers[0], signal.SIGKILL)
    return workers[0]


def _summary(console: Console, ledger: Ledger, reports: Reports, seen: Seen, database: Path) -> int:
    reports.catch_up()
    counts = reports.counts_per_state()
    total = sum(counts.values())
    console.print(f"\n[bold]{total:,} tasks in {seen.seconds:.1f} s[/bold] ({total / seen.seconds:.0f} tasks/s)")
    for state, count in sorted(counts.items()):
        console.print(f"  {state:10} {count:6,}")
    _slowest(console, reports)
    _failures(console, reports)
    _lost(console, reports, seen)
    differences = [*queue.verify(ledger), *reports.verify()]
    for difference in differences:
        console.print(f"[red]{difference}[/red]", markup=True)
    verdict = "every view equals the fold of the log" if not differences else f"{len(differences)} differences"
    console.print(f"\nprojection verify: {verdict}")
    _next_commands(console, reports, database)
    return 1 if differences else 0


def _slowest(console: Console, reports: Reports) -> None:
    table = _table("Slowest tasks", "run ms", "file")
    for row in reports.slowest(5):
        table.add_row(f"{row.run_ms or 0:,.0f}", _file_of(row.args))
    console.print(table)


def _failures(console: Console, reports: Reports) -> None:
    failures = reports.failures(MOST_SHOWN)
    if not failures:
        console.print("No file of this tree fails: each one decodes and parses.")
        return
    table = _table(f"Failures (the newest {len(failures)})", "attempts", "next retry", "file", "error")
    for row in failures:
        retry = f"{row.due_at[11:19]} UTC" if row.state == WAITING else "no more"
        error = Text(f"{row.error_type}: {row.error_message or ''}", overflow="ellipsis")
        table.add_row(f"{row.attempts_used} of {row.max_attempts}", retry, _file_of(row.args), error)
    console.print(table)


def _lost(console: Console, reports: Reports, seen: Seen) -> None:
    lost = reports.lost(1_000)
    if seen.killed is None:
        console.print("\nNo worker was there to kill at halftime.")
        return
    console.print(f"\nAttempts lost to the kill of process {seen.killed}: {sum(row.lost_attempts for row in lost)}")
    for row in lost[:MOST_SHOWN]:
        console.print(Text("  ").append_text(_file_of(row.args)), f"{row.state} after {row.attempt} attempts")
    if len(lost) > MOST_SHOWN:
        console.print(f"  … and {len(lost) - MOST_SHOWN} more")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        widest = WIDEST_FILE if column == "file" else None
        narrowest = {"next retry": 10, "file": WIDEST_FILE}.get(column, 8)
        table.add_column(column, no_wrap=True, min_width=narrowest, max_width=widest)
    return table


def _file_of(args: str | None) -> Text:
    path = Path(orjson.loads(args or "{}").get("path", "?"))
    name = "/".join(path.parts[-2:])
    return Text(name if len(name) <= WIDEST_FILE else "…" + name[1 - WIDEST_FILE :])  # its end tells files apart


def _next_commands(console: Console, reports: Reports, database: Path) -> None:
    shown = [one.task_id for one in reports.failures(1) or reports.slowest(1)]
    commands = [
        "task list --state failed" if reports.failures(1) else "task list",
        *(f"{verb} {one}" for one in shown for verb in ("task events", "why")),
    ]
    console.print("\nNext, type:")
    print_commands(console, database, *commands, "projection verify")
