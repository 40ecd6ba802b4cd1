"""Say who tasks may run as and what each may do: the protocol an application implements, and the plain one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ledger.errors import CapabilityMissing, IdentityNotFound, InvalidOption
from ledger.values import check_name, shown


class Identities(Protocol):
    """The users of an application, as far as its tasks are concerned. Called from any thread.

    The ledger's system identity always exists and may do everything: of it only `activate` is asked.
    """

    def refusal(self, user: str) -> str | None:
        """Return why nothing may run as *user* (``it does not exist``, ``it is suspended``), or None if it may.

        Asked when a task is queued, again when an attempt begins, and by `acting_as`.
        """

    def activate(self, user: str) -> AbstractContextManager[object]:
        """Return what makes *user* the one who acts when it is entered, and whoever acted before when it is left."""

    def has_capability(self, user: str, capability: str) -> bool:
        """Return whether *user* may do what *capability* names."""


class PlainIdentities:
    """Identities without accounts: a mapping of each user to what it may do.

    Without a mapping every name is somebody, and nobody but the system identity may do anything that is checked.
    """

    def __init__(self, users: Mapping[str, Collection[str]] | None = None) -> None:
        self.users = users
        """May change at any time: a user that is taken out is gone for what has not begun."""

    def refusal(self, user: str) -> str | None:
        """Return why nothing may run as *user*."""
        return "it does not exist" if self.users is not None and user not in self.users else None

    def activate(self, user: str) -> AbstractContextManager[object]:
        """Change nothing: there is nothing beside the name."""
        return nullcontext()

    def has_capability(self, user: str, capability: str) -> bool:
        """Return whether the mapping says so."""
        return self.users is not None and capability in self.users.get(user, ())


class Principals:
    """The identities of one ledger: those of its application, and its own system identity beside them."""

    def __init__(self, identities: Identities | None, system: str) -> None:
        self.is_plain = identities is None
        """Whether every name is somebody and taking one on changes nothing: there is nothing to ask or to do."""
        identities = identities or PlainIdentities()
        check_name(system, "system_identity")
        for method in ("refusal", "activate", "has_capability"):
            if not callable(getattr(identities, method, None)):
                raise InvalidOption(
                    f"identities is {shown(identities)}, which has no {method}(…); see ledger.Identities"
                )
        self.identities = identities
        self.system = system

    def check(self, user: str) -> None:
        """Return if something may run as *user*.

        Raises:
            IdentityNotFound: It does not exist or is not active.

            InvalidOption: It is no name at all.
        """
        check_name(user, "run_as")
        why = None if user == self.system else self.identities.refusal(user)
        if why is not None:
            raise IdentityNotFound(f"identity not found: nothing can run as {user!r}, {why}")

    def activate(self, user: str) -> AbstractContextManager[object]:
        """Return what makes *user* the one who acts while it is entered."""
        return self.identities.activate(user)

    def require(self, capability: str, user: str) -> None:
        """Return if *user* has the *capability*.

        Raises:
            CapabilityMissing: It has not. The message says no more than the two names.
        """
        check_name(capability, "capability")
        if user != self.system and not self.identities.has_capability(user, capability):
            raise CapabilityMissing(f"{user!r} lacks the capability {capability!r}")
