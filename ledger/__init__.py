"""Keep what happened to background tasks in an immutable log: declare them, queue them, ask about them."""

from ledger.api import Ledger
from ledger.commands import Act
from ledger.current import Current, current
from ledger.errors import (
    Conflict,
    CorruptEvent,
    InvalidArguments,
    InvalidInput,
    InvalidOption,
    InvalidValue,
    LedgerError,
    NotFound,
    NotInTask,
    NotRegistered,
    ResultTimeout,
    StorageFull,
    StorageUnavailable,
    TaskEnded,
)
from ledger.functions import Call
from ledger.handle import Task
from ledger.notices import Notice
from ledger.progress import Progress
from ledger.record import AttemptRecord, TaskRecord
from ledger.retry import Retry
from ledger.signals import Delay, Fail, OutputLimit, TimeLimit

__all__ = [
    "Act",
    "AttemptRecord",
    "Call",
    "Conflict",
    "CorruptEvent",
    "Current",
    "Delay",
    "Fail",
    "InvalidArguments",
    "InvalidInput",
    "InvalidOption",
    "InvalidValue",
    "Ledger",
    "LedgerError",
    "NotFound",
    "NotInTask",
    "NotRegistered",
    "Notice",
    "OutputLimit",
    "Progress",
    "ResultTimeout",
    "Retry",
    "StorageFull",
    "StorageUnavailable",
    "Task",
    "TaskEnded",
    "TaskRecord",
    "TimeLimit",
    "current",
]
