"""Draw how far a followed attempt is: a bar below its output, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from ledger.progress import Progress
from runner.render import clean, short

Show = Callable[[Progress | None], None]
MOST_MESSAGE = 40


@contextmanager
def bar() -> Iterator[Show]:
    """Give a function that draws the newest progress; nothing is drawn before there is any, nor to a pipe."""
    if not sys.stdout.isatty():
        yield lambda _: None
        return
    bars = Bars(
        TextColumn("{task.fields[text]}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        console=Console(),
        transient=True,
    )
    drawn: list[Progress] = []

    def show(progress: Progress | None) -> None:
        if progress is None or drawn == [progress]:
            return
        if not drawn:
            bars.start()
            bars.add_task("", total=None, text="", message="")
        drawn[:] = [progress]
        message = short(progress.message, MOST_MESSAGE)
        total = None if progress.percent is None else 100  # without a total the bar only moves
        bars.update(
            bars.task_ids[0], total=total, completed=progress.percent or 0, text=clean(progress.text), message=message
        )

    try:
        yield show
    finally:
        if drawn:
            bars.stop()
