"""Name what a task may raise, or see raised in it, to steer its own attempt."""

from __future__ import annotations

from ledger.errors import InvalidOption
from ledger.values import is_number, shown

MAX_DELAY_SECONDS = 31_536_000.0
DEFAULT_DELAY_SECONDS = 60.0


class Delay(Exception):
    """Raise in a task to run it again in *seconds* (60 by default): a soft retry, which is no failure.

    It uses an attempt; on the last one it ends the task.

    Raises:
        InvalidOption: *seconds* is not a number above 0 and at most a year.
    """

    def __init__(self, seconds: float = DEFAULT_DELAY_SECONDS) -> None:
        if not is_number(seconds) or not 0 < seconds <= MAX_DELAY_SECONDS:
            allowed = f"a number of seconds, above 0 and at most {MAX_DELAY_SECONDS:.0f}"
            raise InvalidOption(f"delay is {shown(seconds)}; allowed is {allowed}")
        super().__init__(f"run again in {seconds:g} s")
        self.seconds = float(seconds)


class Fail(Exception):
    """Raise in a task to end it as failed at once, whatever attempts are left."""


class TimeLimit(Exception):
    """Raised inside a task when its `timeout` is over; `kill_after` seconds later its process is ended."""

    def __init__(self, message: str = "the task ran longer than its timeout") -> None:
        super().__init__(message)


class CpuLimit(Exception):
    """Raised inside a task that has a process of its own and has used more than its `cpu_limit`; later it is ended."""


class OutputLimit(Exception):
    """Raised inside a task that has printed more than any attempt may; each further print raises it again."""
