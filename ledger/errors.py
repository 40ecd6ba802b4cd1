"""Name every refusal of the ledger: one small family, each says what was wrong and what is allowed."""

from __future__ import annotations


class LedgerError(Exception):
    """The base of every error that the ledger raises on purpose."""

    exit_code = 1


class InvalidInput(LedgerError, ValueError):
    """The request can never be carried out as written; nothing was stored."""

    exit_code = 2


class InvalidValue(InvalidInput):
    """An argument or result is not a JSON value the ledger can keep."""


class InvalidArguments(InvalidInput, TypeError):
    """The arguments do not fit the signature of the task's function."""


class InvalidOption(InvalidInput):
    """An option of a task, queue, worker or setting is outside what is allowed."""


class InvalidSchedule(InvalidInput):
    """A schedule's field, expression or time zone cannot be used as written."""


class NeverFires(InvalidSchedule):
    """Every field of the schedule is allowed, but no day has them all: the 30th of February."""


class NotRegistered(InvalidInput, LookupError):
    """No function is registered under this task name."""


class NotFound(LedgerError, LookupError):
    """No such task, queue or worker in this ledger."""

    exit_code = 3


class IdentityNotFound(NotFound):
    """The identity that a task shall run as does not exist, or is not active."""


class NotTakenIn(LedgerError):
    """The task was queued in a caller's transaction, and its row cannot be taken into the log; it was set aside."""

    exit_code = 4


class IdentityUnavailable(LedgerError):
    """The identity exists, but cannot be taken on here: a thread cannot change its user, nor a process without the right."""


class CapabilityMissing(LedgerError, PermissionError):
    """The identity that acts here may not do this."""


class Conflict(LedgerError):
    """The state does not allow the command, or somebody else changed it first."""

    exit_code = 4


class StorageUnavailable(LedgerError):
    """The database cannot be used now; nothing of the transaction was stored."""

    exit_code = 5


class StorageFull(StorageUnavailable):
    """The disk is full; nothing of the transaction was stored, and work goes on when space returns."""


class CorruptEvent(LedgerError):
    """A stored event cannot be read: unknown topic, unknown version or damaged bytes."""


class ResultTimeout(LedgerError, TimeoutError):
    """The task had not ended when the time given to wait for it was over."""


class TaskEnded(LedgerError):
    """A result was asked of a task that ended without one (failed or cancelled)."""


class NotInTask(LedgerError, LookupError):
    """`ledger.current()` was called outside a running task."""


class TransactionLeftOpen(LedgerError):
    """A task ended inside a transaction of the ledger that it had begun; it was rolled back."""
