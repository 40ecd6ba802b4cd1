"""Offer the commands for reporting: ready queries and their results, and what Datasette and Grafana are set up with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.errors import InvalidOption
from projections import ready
from projections.reports import Reports
from runner.parameters import Form
from runner.render import Output, print_line, print_list
from runner.session import Session

report = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run ready queries; set up reporting tools.")

QueryName = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(ready.QUERIES)}.")]


@report.command("list")
def list_(output: Form = Output.table) -> None:
    """List the ready queries.

    Example: workledger report list
    """
    rows = [{"query": name, "tells": ready.query(name)[0]} for name in ready.QUERIES]
    if output is Output.table:
        for row in rows:
            print_line(f"{row['query']:<20} {row['tells']}")
    else:
        print_list(rows, ("query", "tells"), output, "")


@report.command("query")
def query(context: typer.Context, name: QueryName, output: Form = Output.table) -> None:
    """Run a ready query on the reports.

    Example: workledger report query slowest_tasks
    """
    _, sql = ready.query(name)
    session: Session = context.obj
    reports = Reports(session.existing())
    reports.catch_up()
    with reports.read() as unit:
        columns = unit.columns(sql)
        rows = [dict(zip(columns, row, strict=True)) for row in unit.rows(sql)]
    print_list(rows, columns, output, "nothing to tell")


@report.command("sql")
def sql(context: typer.Context, name: QueryName) -> None:
    """Show the SQL of a ready query.

    Example: workledger report sql slowest_tasks
    """
    said, text = ready.query(name, Reports(context.obj.ledger()).file.schema)
    print(f"-- {said}\n{text};")


@report.command("datasette")
def datasette(context: typer.Context) -> None:
    """Print metadata for Datasette: what tables and columns mean, and the ready queries.

    Example: workledger report datasette
    """
    reports = Reports(context.obj.ledger())
    if reports.dialect != "sqlite":
        raise InvalidOption("Datasette reads SQLite files; of a ledger on PostgreSQL a tool reads the views by SQL")
    print(ready.datasette(Path(reports.path).stem))


@report.command("grafana")
def grafana(context: typer.Context) -> None:
    """Print a dashboard for Grafana, with its data source for SQLite or PostgreSQL as the ledger is on either.

    Example: workledger report grafana
    """
    file = Reports(context.obj.ledger()).file
    print(ready.grafana(file.dialect, file.schema), end="")
