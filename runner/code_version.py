"""Find which version of the app's code this is: the git revision it is checked out at, else that of its package."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

WAIT_SECONDS = 5.0
DIGITS = 12


def code_version(app: str | None) -> str | None:
    """Return the version of the module of *app* (``module:ledger``), which is imported; None where nothing tells it.

    ``git:<revision>``, with ``+`` behind it where tracked files are changed; outside a clone, or where the clone does
    not have the module's file, ``<distribution> <version>``.
    """
    name = (app or "").partition(":")[0]
    module = sys.modules.get(name)
    if module is None:
        return None
    file = getattr(module, "__file__", None)
    revision = _revision(Path(file)) if file else None
    return f"git:{revision}" if revision else _of_distribution(name.partition(".")[0])


def _revision(file: Path) -> str | None:
    """Return the revision of the clone that *file* is tracked in: one that only lies in it has a version of its own."""
    if _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--exclude=*", f"--abbrev={DIGITS}", "--dirty=+")


def _git(place: Path, *words: str) -> str | None:
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(place), *words]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):  # no git here, or one that does not answer
        return None
    return ran.stdout.strip() or None if ran.returncode == 0 else None


def _of_distribution(package: str) -> str | None:
    found = packages_distributions().get(package)
    return f"{found[0]} {version(found[0])}" if found else None
