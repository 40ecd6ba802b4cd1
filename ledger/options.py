"""Check and merge the options of a task: what the decorator sets and a call may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ledger.acts import OnDuplicate
from ledger.clock import Clock
from ledger.current import Current
from ledger.errors import InvalidOption
from ledger.identities import Identities
from ledger.limits import check_most
from ledger.output import OUTPUT_MODES, OutputMode
from ledger.retry import DEFAULT_MAX_ATTEMPTS, Retry
from ledger.values import check_name, check_reason, is_number, shown

if TYPE_CHECKING:
    from ledger.clock import Clock
    from ledger.identities import Identities

MAX_SECONDS = 31_536_000
MAX_DELAY = timedelta(days=3_660)
MAX_MEMORY = 2**46
SYSTEM_IDENTITY = "system"
ISOLATIONS = ("thread", "process")

Around = Callable[[Current], AbstractContextManager[object]]
"""Makes the context manager that is entered around an attempt; see `Ledger.around`."""


class LedgerOptions(TypedDict, total=False):
    """What a ledger takes beside its URL; see `Ledger`."""

    clock: Clock | None
    name: str
    limits: Mapping[str, int | None] | None
    identities: Identities | None
    system_identity: str
    around: Around | Sequence[Around]


class RunOptions(TypedDict, total=False):
    """What may be said of the runs of a schedule; each means what the field of `Options` or `Traits` does."""

    queue: str
    priority: int
    max_attempts: int | None
    retry: Retry | Literal[False]
    timeout: float | None
    kill_after: float
    run_as: str
    labels: Sequence[str]
    expires: datetime | timedelta | None
    concurrency_key: str | None
    aliases: Sequence[str]
    hide: Sequence[str]
    output: OutputMode | None
    isolation: Literal["thread", "process"]
    memory_limit: int | None
    cpu_limit: int | None
    around: Around | Sequence[Around]


class TaskOptions(RunOptions, total=False):
    """What ``@ledger.task`` may say of a task; each means what the field of `Options` or `Traits` does."""

    unique: bool | str | None
    unique_until: Literal["end", "start"]
    limit: int | None


class CallOptions(TypedDict, total=False):
    """What one call may say, over what the decorator said; each means what the field of `Options` does."""

    queue: str
    priority: int
    run_after: datetime | timedelta | None
    max_attempts: int | None
    retry: Retry | Literal[False]
    timeout: float | None
    kill_after: float
    run_as: str
    unique: bool | str | None
    unique_until: Literal["end", "start"]
    labels: Sequence[str]
    expires: datetime | timedelta | None
    reason: str | None
    actor: str | None
    on_duplicate: OnDuplicate
    with_outcome: bool
    concurrency_key: str | None
    connection: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a task's function brings with it, the same for all its calls; nothing of it is stored. Checked when made.

    Raises:
        InvalidOption: A value is outside what is allowed; the message says what is.
    """

    output: OutputMode | None = None
    """Which attempts' output is kept, where the worker's setting `output` does not suit this task."""
    limit: int | None = None
    """How many of its calls may run at once, over all workers; the name of the task is the scope."""
    isolation: Literal["thread", "process"] = "thread"
    """Where an attempt runs: on a thread of its worker, or in a fresh process of its own."""
    memory_limit: int | None = None
    """Bytes of address space that an attempt may take beyond what its own process begins with."""
    cpu_limit: int | None = None
    """Seconds of CPU that an attempt's own process may use."""
    around: tuple[Around, ...] = ()
    """What is entered around each attempt, inside of what the ledger has around all of them."""
    aliases: tuple[str, ...] = ()
    """Older names of the task: what was queued under one of them runs by this function."""
    hide: tuple[str, ...] = ()
    """Parameters whose values are shown as hidden."""

    def __post_init__(self) -> None:
        _check_names("aliases", self.aliases, "an alias")
        _check_names("hide", self.hide, "a name in hide")
        if self.output is not None:
            one_of("output", self.output, OUTPUT_MODES)
        check_most(self.limit)
        one_of("isolation", self.isolation, ISOLATIONS)
        for name, most in (("memory_limit", MAX_MEMORY), ("cpu_limit", MAX_SECONDS)):
            value = getattr(self, name)
            if value is not None:
                _whole(name, value, 1, most, or_none=True)
                if self.isolation != "process":
                    raise InvalidOption(f"{name} needs isolation='process': it is the limit of a process")
        object.__setattr__(self, "around", hooks(self.around))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything about a task but its function and arguments; checked when made.

    Raises:
        InvalidOption: A value is outside what is allowed; the message says what is.
    """

    queue: str = "default"
    priority: int = 0
    """−100…100, higher first."""
    run_after: datetime | timedelta | None = None
    """Not before this aware moment, or so long after it was queued."""
    max_attempts: int | None = DEFAULT_MAX_ATTEMPTS
    """Attempts that may be used, the first included; None never gives up."""
    retry: Retry | Literal[False] = field(default_factory=Retry)
    timeout: float | None = None
    """Seconds until `TimeLimit` is raised in the task."""
    kill_after: float = 30.0
    """Seconds after the timeout until the task's process is ended."""
    run_as: str = SYSTEM_IDENTITY
    unique: bool | str | None = None
    unique_until: Literal["end", "start"] = "end"
    labels: tuple[str, ...] = ()
    expires: datetime | timedelta | None = None
    """If it has not begun by this aware moment, or so long after it was due, it is cancelled."""
    reason: str | None = None
    actor: str | None = None
    on_duplicate: OnDuplicate = "return"
    with_outcome: bool = False
    concurrency_key: str | None = None
    """Limits may bound how many tasks of one key run at once, whatever their names."""
    connection: Any = field(default=None, repr=False, compare=False)
    """The caller's own, in whose transaction the call is queued; see `ledger.callers`."""

    def __post_init__(self) -> None:
        check_name(self.queue, "queue")
        check_name(self.run_as, "run_as")
        if self.actor is not None:
            check_name(self.actor, "actor")
        check_reason(self.reason)
        _whole("priority", self.priority, -100, 100)
        if self.max_attempts is not None:
            _whole("max_attempts", self.max_attempts, 1, 1_000_000, or_none=True)
        if self.retry is not False and not isinstance(self.retry, Retry):
            raise InvalidOption(f"retry is {shown(self.retry)}; allowed is a Retry(…) or False for one attempt only")
        if self.timeout is not None:
            _seconds("timeout", self.timeout, above_zero=True)
        _seconds("kill_after", self.kill_after)
        one_of("unique_until", self.unique_until, ("end", "start"))
        one_of("on_duplicate", self.on_duplicate, ("return", "reschedule"))
        _check_unique(self.unique)
        if self.concurrency_key is not None:
            check_name(self.concurrency_key, "concurrency_key")
        _check_names("labels", self.labels, "a label")
        _check_moment("run_after", self.run_after)
        _check_moment("expires", self.expires)
        if self.expires == timedelta(0):
            raise InvalidOption("expires is 0: it could never begin; allowed is a longer time after it is due")

    def merged(self, given: Mapping[str, Any]) -> Options:
        """Return these options with those *given* over them.

        Raises:
            InvalidOption: There is no such option, or a value is outside what is allowed.
        """
        if not given:
            return self
        allowed = _names(CallOptions)
        for name in given:
            if name not in allowed:
                raise InvalidOption(f"{shown(name)} is no option of a call; there are: {', '.join(sorted(allowed))}")
        return replace(self, **_frozen(given))

    @property
    def attempts(self) -> int | None:
        """The attempts that may be used: one without retry."""
        return 1 if self.retry is False else self.max_attempts


def split(given: Mapping[str, Any], kind: type = TaskOptions) -> tuple[Options, Traits]:
    """Return the options and the traits that a decorator is *given*, of those that *kind* has.

    Raises:
        InvalidOption: There is no such option, or a value is outside what is allowed.
    """
    allowed = _names(kind)
    for name in given:
        if name not in allowed:
            raise InvalidOption(f"{shown(name)} is no option of a task; there are: {', '.join(sorted(allowed))}")
    own = {field.name for field in fields(Traits)}
    traits = Traits(**_frozen({name: value for name, value in given.items() if name in own}))
    return Options().merged({name: value for name, value in given.items() if name not in own}), traits


def hooks(around: object) -> tuple[Around, ...]:
    """Return *around*, one function or several, as a tuple.

    Raises:
        InvalidOption: It is none.
    """
    several = tuple(around) if isinstance(around, list | tuple) else (around,)
    for hook in several:
        if not callable(hook):
            raise InvalidOption(
                f"around is {shown(hook)}; allowed is a function of the attempt that makes a context manager"
            )
    return several


def _frozen(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _names(kind: type) -> frozenset[str]:
    return frozenset(kind.__annotations__)


def _whole(name: str, value: object, low: int, high: int, *, or_none: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        none = ", or None" if or_none else ""
        raise InvalidOption(f"{name} is {shown(value)}; allowed is a whole number from {low} to {high}{none}")


def _seconds(name: str, value: object, *, above_zero: bool = False) -> None:
    if not is_number(value) or not (value > 0 if above_zero else value >= 0) or value > MAX_SECONDS:
        least = "above 0 and at most" if above_zero else "0 to"
        raise InvalidOption(f"{name} is {shown(value)}; allowed is a number of seconds, {least} {MAX_SECONDS}")


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise `InvalidOption` unless *value* is one of *allowed*."""
    if value not in allowed:
        raise InvalidOption(f"{name} is {shown(value)}; allowed is {' or '.join(map(repr, allowed))}")


def _check_unique(unique: object) -> None:
    if unique is None or isinstance(unique, bool):
        return
    check_name(unique, "unique")


def _check_names(name: str, names: object, each: str) -> None:
    if not isinstance(names, tuple) or len(names) > 20:
        raise InvalidOption(f"{name} is {shown(names)}; allowed is a list of at most 20 texts")
    for one in names:
        check_name(one, each)


def _check_moment(name: str, moment: object) -> None:
    if moment is None:
        return
    if isinstance(moment, timedelta):
        if not timedelta(0) <= moment <= MAX_DELAY:
            raise InvalidOption(f"{name} is {moment}; allowed is 0 to {MAX_DELAY.days} days")
    elif not isinstance(moment, datetime):
        raise InvalidOption(f"{name} is {shown(moment)}; allowed is an aware datetime or a timedelta")
    elif moment.tzinfo is None:
        raise InvalidOption(f"{name} is {moment}, which has no time zone; use an aware datetime")
    elif not 1970 < moment.year < 9000:
        raise InvalidOption(f"{name} is {moment}; allowed are the years 1971 to 8999")
