"""Offer the command `health`: whether all is well, for monitoring and for people, by exit code, text or JSON."""

from __future__ import annotations

from dataclasses import fields

import typer

from ledger.errors import InvalidOption, LedgerError
from ledger.health import EXIT_CODES, Check, Thresholds, judge, summary, unusable, worst
from ledger.settings import Settings
from runner.at import At
from runner.parameters import Form
from runner.render import Output, clean, print_line, print_list, print_object
from runner.session import Session


def health(context: typer.Context, at: At = None, output: Form = Output.table) -> None:
    """Tell whether all is well, a line a check with what is wrong and what to do. Exit 0 well, 1 warning, 2 critical.

    It reads only, and waits for no writer. Thresholds are the settings health_….

    Example: workledger health -o json
    """
    if at is not None:
        raise InvalidOption(
            "health is of the present: heartbeats, disk and lag are not in the log; of the past tell queue list, now, "
            "worker list and schedule list with --at"
        )
    session: Session = context.obj
    checks = look(session)
    state = worst(checks)
    if output is Output.json:
        print_object(summary(checks), output)
    elif output is Output.jsonl:
        print_list(summary(checks)["checks"], (), output, "")
    else:
        for check in checks:
            advice = f" -> {check.advice}" if check.advice else ""
            print_line(clean(f"{check.state:<8}  {check.check:<15}  {check.text}{advice}"))
    raise typer.Exit(EXIT_CODES[state])


def look(session: Session) -> list[Check]:
    """Return the checks of the session's ledger; of one that cannot be read, the one that says so."""
    from runner.vitals import gather  # other commands need none of it

    try:
        return judge(gather(session.existing()), thresholds(session.settings))
    except LedgerError as error:
        return [unusable(str(error))]


def thresholds(settings: Settings) -> Thresholds:
    """Return the thresholds that the settings give."""
    return Thresholds(**{field.name: getattr(settings, f"health_{field.name}") for field in fields(Thresholds)})
