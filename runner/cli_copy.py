"""Offer the command that copies a ledger between SQLite and PostgreSQL."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from ledger.api import Ledger
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_object


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="URL of the ledger to copy.")],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="URL of an empty ledger, or of a copy begun before.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on copying what is added, until SIGINT or SIGTERM.")
    ] = False,
    output: Form = Output.table,
) -> None:
    """Copy a ledger to another database: each event at its position, and kept output; then prove that both are equal.

    SQLite and PostgreSQL, in either direction. The source may be worked on meanwhile, the destination not. Cut short, the
    same command goes on where it stopped.

    Example: workledger db copy sqlite:///work.db postgresql:///work --follow
    """
    from runner.copying import copy as run  # the other commands need none of it

    stop = threading.Event()
    if follow:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    ledgers = Ledger(source), Ledger(destination)
    try:
        done = run(*ledgers, (lambda seconds: not stop.wait(seconds)) if follow else None)
    finally:
        for ledger in ledgers:
            ledger.close()
    copied = done.copied
    if output is Output.table:
        print_line(
            f"{clean(ledgers[1].store.shown)} has all {copied.events:,} events up to position {copied.position:,}, "
            f"SHA-256 of both logs {copied.sha256}"
        )
        if done.left_behind:
            print_line(f"{done.left_behind:,} rows of the inbox that were set aside stay behind: workledger inbox list")
    else:
        found = {"events": copied.events, "position": copied.position, "sha256": copied.sha256}
        print_object({**found, "left_behind": done.left_behind}, output)
