"""Let isolated tasks run as users of the operating system: real user, group and groups of the attempt's own process."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import sys
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from ledger.current import current
from ledger.errors import IdentityUnavailable

_SET_PARENT_DEATH_SIGNAL, _GET_PARENT_DEATH_SIGNAL = 1, 2


class _Ids(NamedTuple):
    """What the operating system knows a process by."""

    user: int
    group: int
    groups: list[int]


class OSUsers:
    """The users of the operating system as identities (see `Identities`); the system identity is the worker's own user.

    A task that runs as one of them needs ``isolation="process"`` and a worker with the right to change users. Its
    capabilities are the groups that it is in. With *users* only those are known; the user 0 must be among them to be.
    """

    def __init__(self, users: Collection[str] | None = None) -> None:
        self._users = users
        self._own_groups = os.getgroups()

    def refusal(self, user: str) -> str | None:
        """Return why nothing may run as *user*."""
        try:
            found = pwd.getpwnam(user)
        except KeyError:
            return "the operating system has no such user"
        if self._users is None:
            return "the superuser is allowed only where it is named" if found.pw_uid == 0 else None
        return None if user in self._users else "it is none of the users that are allowed"

    def has_capability(self, user: str, capability: str) -> bool:
        """Return whether *user* is in the group *capability*."""
        try:
            group, found = grp.getgrnam(capability).gr_gid, pwd.getpwnam(user)
        except KeyError:
            return False
        return group in os.getgrouplist(user, found.pw_gid)

    def activate(self, user: str) -> AbstractContextManager[object]:
        """Return what changes the user of this process: for good at its begin, `acting_as` for its block.

        Raises (when entered):
            IdentityUnavailable: The attempt has no process of its own, or the process may not change its user.
        """
        return self._activated(user)

    @contextmanager
    def _activated(self, user: str) -> Iterator[None]:
        running = current()
        is_system = user == running.principals.system
        if is_system and not running.is_acting:
            yield
            return
        if not running.is_isolated:
            raise IdentityUnavailable(
                f"a thread cannot run as the operating system's user {user!r}; the task needs isolation='process'"
            )
        if running.is_acting:
            before = _Ids(os.geteuid(), os.getegid(), os.getgroups())
            _act_as(user, _Ids(os.getuid(), os.getgid(), self._own_groups) if is_system else _ids_of(user))
            try:
                yield
            finally:
                _act_as(user, before)
            return
        _become(user)
        yield


def _ids_of(user: str) -> _Ids:
    found = pwd.getpwnam(user)
    return _Ids(found.pw_uid, found.pw_gid, os.getgrouplist(user, found.pw_gid))


def _become(user: str) -> None:
    """Give up this process's user for *user*; there is no way back."""
    ids = _ids_of(user)
    if ids.user != os.getuid():
        try:
            with _ends_with_parent():
                os.setgroups(ids.groups)
                os.setgid(ids.group)
                os.setuid(ids.user)
        except PermissionError as error:
            raise _without_right(user) from error
    os.environ.update(HOME=pwd.getpwnam(user).pw_dir, USER=user, LOGNAME=user)


def _act_as(user: str, ids: _Ids) -> None:
    """Take the effective ids of *user*; the real user stays, whose right it is to go back."""
    if ids == (os.geteuid(), os.getegid(), os.getgroups()):
        return
    try:
        with _ends_with_parent():
            os.seteuid(os.getuid())
            os.setgroups(ids.groups)
            os.setegid(ids.group)
            os.seteuid(ids.user)
    except PermissionError as error:
        raise _without_right(user) from error


@contextmanager
def _ends_with_parent() -> Iterator[None]:
    """Keep the signal that a process gets at its parent's death: Linux forgets it when the user changes (prctl(2))."""
    if sys.platform != "linux":
        yield
        return
    library, parent, number = ctypes.CDLL(None), os.getppid(), ctypes.c_int()
    library.prctl(_GET_PARENT_DEATH_SIGNAL, ctypes.byref(number))
    try:
        yield
    finally:
        library.prctl(_SET_PARENT_DEATH_SIGNAL, number.value)
        if number.value and os.getppid() != parent:
            os.kill(os.getpid(), number.value)


def _without_right(user: str) -> IdentityUnavailable:
    return IdentityUnavailable(
        f"this process (user {os.getuid()}) may not become {user!r}; its worker needs the right to change users, as root has it"
    )
