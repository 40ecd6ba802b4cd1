"""Keep what happened to background tasks in an immutable log: declare them, queue them, ask about them."""

from ledger.api import Ledger
from ledger.commands import Act
from ledger.current import Current, acting_as, current, require_capability
from ledger.errors import (
    CapabilityMissing,
    Conflict,
    CorruptEvent,
    IdentityNotFound,
    IdentityUnavailable,
    InvalidArguments,
    InvalidInput,
    InvalidOption,
    InvalidValue,
    LedgerError,
    NotFound,
    NotInTask,
    NotRegistered,
    NotTakenIn,
    ResultTimeout,
    StorageFull,
    StorageUnavailable,
    TaskEnded,
    TransactionLeftOpen,
)
from ledger.functions import Call
from ledger.handle import Task
from ledger.identities import Identities, PlainIdentities
from ledger.notices import Notice
from ledger.os_users import OSUsers
from ledger.progress import Progress
from ledger.projection import Table
from ledger.record import AttemptRecord, TaskRecord
from ledger.retry import Retry
from ledger.signals import CpuLimit, Delay, Fail, OutputLimit, TimeLimit

__all__ = [
    "Act",
    "AttemptRecord",
    "Call",
    "CapabilityMissing",
    "Conflict",
    "CorruptEvent",
    "CpuLimit",
    "Current",
    "Delay",
    "Fail",
    "Identities",
    "IdentityNotFound",
    "IdentityUnavailable",
    "InvalidArguments",
    "InvalidInput",
    "InvalidOption",
    "InvalidValue",
    "Ledger",
    "LedgerError",
    "NotFound",
    "NotInTask",
    "NotRegistered",
    "NotTakenIn",
    "Notice",
    "OSUsers",
    "OutputLimit",
    "PlainIdentities",
    "Progress",
    "ResultTimeout",
    "Retry",
    "StorageFull",
    "StorageUnavailable",
    "Table",
    "Task",
    "TaskEnded",
    "TaskRecord",
    "TimeLimit",
    "TransactionLeftOpen",
    "acting_as",
    "current",
    "require_capability",
]
