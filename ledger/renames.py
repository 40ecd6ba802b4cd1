"""Carry a schedule over whose task was renamed: the old one is retired, what was set by hand goes to the new."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from ledger import schedule_acts
from ledger import schedule_commands as sc
from ledger.commands import Act
from ledger.schedule import DECLARED, ScheduleState, loads
from ledger.store import Unit


def carry_over(
    unit: Unit,
    to: ScheduleState,
    aliases: Iterable[str],
    act: Act,
    *,
    app: str,
    is_new: bool,
    declared: Collection[str] = (),
) -> list[str]:
    """Retire the schedules of *app* that have one of the *aliases* as their name; return their names.

    Both would fire otherwise, and both run the renamed function. Those still *declared* by the code stay. Where the
    schedule *to* is new, it takes over what was customised.
    """
    retired = []
    for name in aliases:
        old = schedule_acts.load_or_new(unit, name)
        if old.status != DECLARED or old.app != app or name in declared:
            continue
        schedule_acts.carry_out(unit, old, sc.Retire(), replace(act, reason=act.reason or f"renamed to {to.name}"))
        retired.append(name)
        if is_new and old.custom is not None:
            custom: dict[str, Any] = {
                key: tuple(v) if isinstance(v, list) else v for key, v in loads(old.custom).items()
            }
            reason = act.reason or f"customised so under its name until now, {name}"
            schedule_acts.carry_out(unit, to, sc.Customise(**custom), replace(act, reason=reason))
            is_new = False
    return retired
