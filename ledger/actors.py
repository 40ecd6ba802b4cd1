"""Say who asks: the operating system's user, or inside a task its worker."""

from __future__ import annotations

import getpass
import os

from ledger.current import current_or_none
from ledger.values import check_name


def operating_system_user() -> str:
    """Return ``user:<name>`` of the operating system's user that runs this process."""
    try:
        return "user:" + getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user:{os.getuid()}"


def actor_text(actor: str | None) -> str:
    """Return *actor* as events keep it: with its kind, ``user:`` where none is given."""
    if actor is None:
        running = current_or_none()
        return "worker:" + running.worker if running else operating_system_user()
    check_name(actor, "actor")
    return actor if actor.startswith(("user:", "worker:", "system:")) else "user:" + actor
