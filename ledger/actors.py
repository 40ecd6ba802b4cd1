"""Say who asks: the operating system's user, or inside a task its worker."""

from __future__ import annotations

import os
import pwd
from functools import cache

from ledger.current import current_or_none
from ledger.values import check_name

_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def operating_system_user() -> str:
    """Return ``user:<name>`` of the operating system's user that runs this process, as `getpass.getuser` finds it."""
    for variable in _VARIABLES:
        if name := os.environ.get(variable):
            return "user:" + name
    return _registered(os.getuid())


@cache
def _registered(uid: int) -> str:
    """Return the same by the database of users: looked up once, for it is asked at every act."""
    try:
        return "user:" + pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user:{uid}"


def actor_text(actor: str | None) -> str:
    """Return *actor* as events keep it: with its kind, ``user:`` where none is given."""
    if actor is None:
        running = current_or_none()
        return "worker:" + running.worker if running else operating_system_user()
    check_name(actor, "actor")
    return actor if actor.startswith(("user:", "worker:", "system:")) else "user:" + actor
