"""Know what all commands of one call share: its global options, the settings beneath them, the ledger and the actor."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger import reads
from ledger.actors import operating_system_user
from ledger.api import DEFAULT_URL, Ledger
from ledger.errors import InvalidOption
from ledger.settings import Settings, load
from ledger.values import check_name


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one call of the command, over the settings of the installation."""

    settings: Settings
    actor_name: str | None = None
    config: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where each setting came from."""
    opened: list[Ledger] = field(default_factory=list)
    """What the command has used, to be closed when it ends."""

    @property
    def url(self) -> str | None:
        """The ledger that flag, environment or file name; None: the app's own."""
        return self.settings.url

    @property
    def app(self) -> str | None:
        """Where the tasks are declared."""
        return self.settings.app

    def with_flags(self, **flags: Any) -> Settings:
        """Return the settings with these *flags* over them, those that are None left out."""
        return load({"url": self.url, "app": self.app, **flags}, self.config)

    @property
    def actor(self) -> str | None:
        """Who asks, as events keep it: always with the operating system's user; None means only that one."""
        if self.actor_name is None:
            return None
        check_name(self.actor_name, "--actor")
        return f"{operating_system_user()}({self.actor_name})"

    def note_read(self, ledger: Ledger, tasks: Iterable[str], *what: str) -> None:
        """Record that *what* of *tasks* is about to be shown, where the setting ``audit_reads`` asks for that.

        Raises:
            StorageUnavailable: It could not be recorded, so that nothing may be shown.
        """
        if self.settings.audit_reads and (found := list(tasks)):
            reads.record(ledger, found, what, actor=self.actor)

    def app_ledger(self) -> Ledger:
        """Return the ledger that --app names, with its functions, on the database of --url if that is given.

        Raises:
            InvalidOption: There is no --app, or it names no ledger.
        """
        if not self.app:
            raise InvalidOption("this command needs --app module:ledger (or WORKLEDGER_APP), which has the tasks")
        self.opened.append(ledger := _import_ledger(self.app))
        if self.url is not None:
            ledger.move_to(self.url)
        return ledger

    def ledger(self) -> Ledger:
        """Return the ledger of --url, else that of --app, else the default one; it need not exist yet."""
        if self.url is None and self.app:
            return self.app_ledger()
        self.opened.append(ledger := Ledger(self.url or DEFAULT_URL))
        return ledger

    def existing(self) -> Ledger:
        """Return the ledger as `ledger` does.

        Raises:
            StorageUnavailable: It does not exist; nothing was made.
        """
        ledger = self.ledger()
        with ledger.store.read():
            return ledger

    def close(self) -> None:
        """Close the ledgers that the command has used."""
        for ledger in self.opened:
            ledger.close()


def _import_ledger(app: str) -> Ledger:
    module_name, _, attribute = app.partition(":")
    if not module_name or not attribute:
        raise InvalidOption(f"--app is {app!r}; it has the form module:ledger")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the module is the user's: whatever it raises, it cannot be used
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f" (line {frame.lineno} of {frame.filename})"
        said = f"importing {module_name} raised {type(error).__name__}: {error}{where}"
        raise InvalidOption(f"--app {app}: {said}") from error
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Ledger):
        raise InvalidOption(f"--app {app}: {attribute} in {module_name} is no Ledger")
    return found
