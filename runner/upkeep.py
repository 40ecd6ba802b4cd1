"""Declare the schedules that a ledger has of itself: at present one, which prunes output every day.

They belong to no application: every `workledger run` on a ledger brings them to its settings, whatever its app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger import schedule_acts
from ledger import schedule_commands as sc
from ledger.api import Ledger
from ledger.cron import Fields
from ledger.current import current
from ledger.declarations import Declaration, definition, register
from ledger.options import Options
from ledger.schedule import DECLARED
from ledger.settings import Settings
from runner.prune import Rules, prune

APP = "workledger"
PRUNE = "workledger.prune"
DAILY = Fields(minute="R", hour="R")
"""At a time of day that is drawn once for this ledger."""


def bring_up(ledger: Ledger, settings: Settings, *, actor: str | None = None) -> None:
    """Register the built-in tasks with *ledger*, and bring its log to what the settings say of their schedules."""
    if PRUNE not in ledger.functions:
        ledger.task(name=PRUNE)(_pruning(ledger))
    reason = f"setting prune is {str(settings.prune).lower()}"
    with ledger.store.write() as unit:
        act = ledger.act(unit, actor, reason)
        if settings.prune:
            register(unit, [_daily(settings)], act, app=APP, timezone=settings.timezone, is_sync=True)
            return
        state = schedule_acts.load_or_new(unit, PRUNE)
        if state.status == DECLARED and state.app == APP:
            schedule_acts.carry_out(unit, state, sc.Retire(), act)


def _daily(settings: Settings) -> Declaration:
    args = {"days": settings.prune_days, "runs": settings.prune_runs}
    wanted = definition(
        name=PRUNE,
        task=PRUNE,
        fields=DAILY,
        timezone=None,
        options=Options(max_attempts=None),
        args=args,
        component=APP,
        description="Delete old output of attempts, the rules are its arguments.",
    )
    return Declaration(name=PRUNE, definition=wanted)


def _pruning(ledger: Ledger) -> Callable[..., dict[str, Any]]:
    def prune_output(days: float, runs: int) -> dict[str, Any]:
        done = prune(ledger, Rules(days=days, runs=runs), reason=f"schedule {PRUNE}")
        for one in done:
            current().trace(f"{one.name}: {one.attempts:,} attempts, {one.bytes:,} bytes, {one.cause}")
        return {"attempts": sum(one.attempts for one in done), "bytes": sum(one.bytes for one in done)}

    return prune_output
