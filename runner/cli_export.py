"""Offer the commands that carry history out of a ledger and into another one: export, import events, history."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer

from ledger import reads
from ledger.api import Ledger
from ledger.errors import InvalidOption
from ledger.transfer import digest_of, take_in, to_line
from ledger.values import check_reason, counted
from projections import formats
from projections.exporting import Page, Wanted, columns_of, pages, raw_events
from projections.following import origin_of
from projections.reports import Reports
from runner.render import clean, print_line
from runner.session import Session


class Kind(StrEnum):
    """What can be exported."""

    tasks = "tasks"
    attempts = "attempts"
    events = "events"


class Format(StrEnum):
    """The forms of an export."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    cloudevents = "cloudevents"


def export(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What to export.")],
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.jsonl,
    to: Annotated[str | None, typer.Option(metavar="FILE", help="Where to; by default the standard output.")] = None,
    since: Annotated[str | None, typer.Option(metavar="AGE|ISO", help="Only from then on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="AGE|ISO", help="Only before then.")] = None,
    filter_: Annotated[str, typer.Option("--filter", help="Only those: state:failed name:mail.* args.user_id:5.")] = "",
    after: Annotated[int, typer.Option(min=0, metavar="POSITION", help="Go on after the last position said.")] = 0,
    with_hidden: Annotated[
        bool, typer.Option("--with-hidden", help="Events with hidden arguments, on record.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why hidden arguments are needed; kept in the log.")] = None,
) -> None:
    """Write tasks, attempts or events for other programs, oldest first, in constant memory.

    Example: workledger export tasks --format csv --since 24h --filter state:failed --to failed.csv
    """
    session: Session = context.obj
    ledger = session.existing()
    wanted = Wanted(view=kind.value, filter=filter_, since=since, until=until, after=after)
    with ledger.store.read() as snapshot:
        wanted.condition(snapshot.now)  # refused before any file is made
    _check(kind, form, to, with_hidden=with_hidden, reason=reason)
    if with_hidden:
        reads.record(ledger, [reads.ALL], [reads.ARGUMENTS, reads.RESULT], reason=reason, actor=session.actor)
    elif kind is not Kind.attempts:
        session.note_read(ledger, [reads.ALL], reads.ARGUMENTS, reads.RESULT)
    count, last = _Export(ledger, wanted, form, with_hidden=with_hidden).run(to)
    print(f"{counted(count, kind.value[:-1])}, last position {last}" if count else f"no {kind.value}", file=sys.stderr)


def _check(kind: Kind, form: Format, to: str | None, *, with_hidden: bool, reason: str | None) -> None:
    if form is Format.cloudevents and kind is not Kind.events:
        raise InvalidOption(f"--format cloudevents is for events; for {kind.value} allowed are csv, jsonl, parquet")
    if form is Format.parquet and to is None:
        raise InvalidOption("--format parquet needs --to FILE")
    if with_hidden and (kind is not Kind.events or form is not Format.jsonl):
        raise InvalidOption("--with-hidden is for events as jsonl, the form that can be imported")
    if with_hidden and check_reason(reason) is None:
        raise InvalidOption("--with-hidden needs a --reason, which is kept in the log")


class _Export:
    """One export: how many rows it wrote, and the position of the last."""

    def __init__(self, ledger: Ledger, wanted: Wanted, form: Format, *, with_hidden: bool) -> None:
        self._ledger = ledger
        self._reports = Reports(ledger)
        self._wanted = wanted
        self._form = form
        self._with_hidden = with_hidden
        self._columns = columns_of(wanted.view)
        self._count = 0
        self._last = 0

    def run(self, to: str | None) -> tuple[int, int]:
        """Write to the file *to*, or to the standard output."""
        if self._form is Format.parquet:
            file = formats.ParquetFile(Path(to or ""), self._wanted.view)
            try:
                self._pages(file.write)
            finally:
                file.close()
        else:
            with _opened(to) as out:
                self._write(out)
        return self._count, self._last

    def _write(self, out: BinaryIO) -> None:
        if self._form is Format.jsonl and self._wanted.view == "events":
            for raw in raw_events(self._ledger, self._reports, self._wanted):
                out.write(to_line(raw, with_hidden=self._with_hidden))
                self._count, self._last = self._count + 1, raw[0]
            return
        columns = self._columns
        if self._form is Format.csv:
            out.write(formats.csv_header(columns))
            self._pages(lambda page: out.write(formats.csv_lines(page)))
        elif self._form is Format.jsonl:
            self._pages(lambda page: out.write(formats.json_lines(columns, page)))
        else:
            with self._ledger.store.read() as snapshot:
                source = "urn:workledger:" + origin_of(snapshot)
            self._pages(lambda page: out.write(formats.cloud_events(columns, page, source)))

    def _pages(self, write: Callable[[Page], Any]) -> None:
        for page in pages(self._reports, self._wanted):
            write(page)
            self._count, self._last = self._count + len(page.rows), page.position


@contextmanager
def _opened(to: str | None) -> Iterator[BinaryIO]:
    if to is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _file(to, "wb") as file:
        yield file


@contextmanager
def _file(path: str, mode: Literal["rb", "wb"]) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open(mode))
        except OSError as error:
            raise InvalidOption(f"{path}: {error.strerror}") from error
        yield file


def import_events(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Lines of `export events --with-hidden`.")],
) -> None:
    """Take a whole exported log into an empty ledger, event by event as it was; all of it or nothing.

    Example: workledger --url sqlite:///copy.db import events log.jsonl
    """
    ledger = context.obj.ledger()
    ledger.store.prepare()
    if file == "-":
        taken = take_in(ledger.store, sys.stdin.buffer)
    else:
        with _file(file, "rb") as lines:
            taken = take_in(ledger.store, lines)
    print_line(f"{taken.count} events into {clean(ledger.url)}, SHA-256 {taken.hexdigest()}")


def digest(context: typer.Context) -> None:
    """Say how many events the log has and their SHA-256: equal logs have equal ones, wherever they are kept.

    Example: workledger db digest
    """
    found = digest_of(context.obj.existing().store)
    print_line(f"{found.count} events, SHA-256 {found.hexdigest()}")
