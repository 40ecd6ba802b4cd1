"""Offer the commands that concern a ledger on PostgreSQL alone."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.errors import InvalidOption
from ledger.stores import POSTGRES_SCHEMES
from runner.session import Session


def grants(
    context: typer.Context,
    app_role: Annotated[str, typer.Option(help="The role that producers and workers connect as.")],
    report_role: Annotated[str, typer.Option(help="The role that only reads the reports.")],
) -> None:
    """Print the SQL that gives two existing roles what they need, and no right to change an event; for psql.

    Example: workledger --url postgresql:///work db grants --app-role worker --report-role auditor | psql work
    """
    session: Session = context.obj
    url = session.ledger().url
    if not url.startswith(POSTGRES_SCHEMES):
        raise InvalidOption("db grants is for a ledger on PostgreSQL (--url postgresql://…); a file has no roles")
    from ledger import postgres_roles  # its driver is an extra
    from ledger.postgres_address import address_of
    from projections.report_schema import schema_of

    schema = address_of(url).schema
    print(postgres_roles.grants(schema, schema_of(schema), app_role, report_role))
