"""Offer the command that deletes old output: `prune`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ledger.errors import InvalidOption
from ledger.values import counted
from runner.parameters import Form
from runner.prune import Rules, prune, would_prune
from runner.render import Output, clean, print_line, print_object
from runner.session import Session


def prune_output(
    context: typer.Context,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Output of attempts that began longer ago.")
    ] = None,
    keep_runs: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of each task name all but the newest N attempts' output.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the log. Needed but with --dry-run.")] = None,
    output: Form = Output.table,
) -> None:
    """Delete what attempts printed by age, by number, or both; without either by prune_days and prune_runs.

    What runs is left alone, and no event is deleted: each attempt's outcome keeps the digest of its output, and the
    log says what was deleted, when, by whom, why and under which rule.

    Example: workledger prune --older-than 7 --keep-runs 100 --reason "disk is filling up"
    """
    session: Session = context.obj
    if older_than is None and keep_runs is None:
        older_than, keep_runs = session.settings.prune_days, session.settings.prune_runs
    rules = Rules(days=older_than, runs=keep_runs)
    if reason is None and not dry:
        raise InvalidOption("prune needs a --reason, which is kept in the log, or --dry-run")
    ledger = session.existing()
    done = would_prune(ledger, rules) if dry else prune(ledger, rules, reason=str(reason), actor=session.actor)
    attempts, size = sum(one.attempts for one in done), sum(one.bytes for one in done)
    if output is not Output.table:
        found = [asdict(one) for one in done]
        print_object({"dry_run": dry, "attempts": attempts, "bytes": size, "pruned": found}, output)
        return
    for one in done:
        print_line(f"{clean(one.name)}: {counted(one.attempts, 'attempt')}, {counted(one.bytes, 'byte')}, {one.cause}")
    print_line(f"{counted(attempts, 'attempt')}, {counted(size, 'byte')} {'would be' if dry else 'were'} deleted")
