"""Offer the command on the settings: `config show` tells what each is and where it came from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import typer

from ledger.settings import PREFIX, Settings
from runner.parameters import Form
from runner.render import Output, clean, print_list, to_json
from runner.session import Session

_PASSWORD = re.compile(r"(://[^/@:]*):[^/@]*@")
_NO_SETTINGS = frozenset({"WORKLEDGER_TASK", "WORKLEDGER_TOKEN", "WORKLEDGER_SMTP_PASSWORD"})
"""Variables that a command run as a task has, and a password that is kept out of files."""

configuration = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the settings.")


@configuration.callback()
def group() -> None:
    """Look at the settings."""


@configuration.command("show")
def show(context: typer.Context, output: Form = Output.table) -> None:
    """Tell what each setting is here and where that came from: a flag, a variable, a file, or its default.

    Passwords are not shown. A variable that looks like a setting and is none is named on standard error.

    Example: workledger config show -o json
    """
    session: Session = context.obj
    rows = rows_of(session.settings, session.origins)
    if output is Output.table:
        rows = [{**row, "value": to_json(row["value"])} for row in rows]
    print_list(rows, ("setting", "value", "origin"), output, "")
    for name in unknown_variables(os.environ):
        print(f"note: the variable {clean(name)} is set, but there is no such setting", file=sys.stderr)


def rows_of(settings: Settings, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return name, value and origin of each setting, secrets masked."""
    values = settings.model_dump(mode="json")
    return [{"setting": name, "value": _masked(value), "origin": origins[name]} for name, value in values.items()]


def _masked(value: Any) -> Any:
    return _PASSWORD.sub(r"\1:**********@", value) if isinstance(value, str) else value


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that begin like a setting's and belong to none."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _NO_SETTINGS
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)
