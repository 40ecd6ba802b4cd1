"""Offer the commands on the database itself: make, upgrade, check and back it up."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.errors import InvalidOption
from ledger.sqlite import SqliteStore
from ledger.store import Store
from projections import queue as queue_view
from projections.reports import Reports
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_object
from runner.session import Session

MOST_SHOWN = 20

database = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make, upgrade, check and back up the database."
)


@database.command("init")
def init(context: typer.Context) -> None:
    """Make the ledger's database and its views; what exists is left as it is.

    Example: workledger --url sqlite:///work.db db init
    """
    store = _prepare(context.obj)
    print_line(f"{clean(store.shown)} is ready, schema {store.schema_version}")


@database.command("upgrade")
def upgrade(context: typer.Context) -> None:
    """Bring an existing database to this version's schema and views.

    Example: workledger --url sqlite:///work.db db upgrade
    """
    context.obj.existing()
    store = _prepare(context.obj)
    print_line(f"{clean(store.shown)} has schema {store.schema_version}")


@database.command("check")
def check(
    context: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also positions, streams, states, keys, and every view against the log.")
    ] = False,
    output: Form = Output.table,
) -> None:
    """Check the database file, read every event and compare kept output with it; exit 1 if something is damaged.

    Example: workledger --url sqlite:///work.db db check --deep
    """
    from runner.check import check as find  # the other commands need none of it

    found = find(context.obj.existing(), is_deep=deep)
    if output is Output.table:
        for problem in found.problems[:MOST_SHOWN]:
            print_line(clean(problem))
        if len(found.problems) > MOST_SHOWN:
            print_line(f"… and {len(found.problems) - MOST_SHOWN:,} more; -o json has them all")
        print_line(f"{found.events} events read, {len(found.problems)} problems")
    else:
        print_object({"events": found.events, "problems": found.problems}, output)
    if found.problems:
        raise typer.Exit(1)


@database.command("backup")
def backup(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write the copy.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    output: Form = Output.table,
) -> None:
    """Copy the ledger to a file while workers go on; the copy is compared with the ledger before it gets its name.

    The copy has everything up to one moment: log, queue, schedules and output. Reports are not in it; they are built
    again from the log. To restore it, stop all workers and put it in the place of the ledger's file.

    Example: workledger --url sqlite:///work.db db backup backups/work.db --force
    """
    from ledger.sqlite_backup import back_up  # the other commands need none of it

    store = context.obj.existing().store
    if not isinstance(store, SqliteStore):
        raise InvalidOption(
            "db backup copies a SQLite file; a ledger on PostgreSQL is backed up by its server (pg_dump)"
        )
    done = back_up(store, file, force=force)
    if output is Output.table:
        print_line(
            f"{clean(done.path)}: {done.events:,} events, {done.bytes:,} bytes, SHA-256 of the log {done.sha256}"
        )
    else:
        print_object({"path": done.path, "events": done.events, "bytes": done.bytes, "sha256": done.sha256}, output)


def _prepare(session: Session) -> Store:
    ledger = session.ledger()
    ledger.store.prepare()
    queue_view.catch_up_all(ledger)
    Reports(ledger).catch_up()
    return ledger.store
