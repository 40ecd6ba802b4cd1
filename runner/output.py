"""Pass on what tasks print, and stop an attempt that prints without end."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from ledger.current import current_or_none
from ledger.signals import OutputLimit

MOST_OUTPUT = 256 * 1024 * 1024


class LimitedStream:
    """A text stream that counts what the attempt of this context writes to it."""

    def __init__(self, stream: TextIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def write(self, text: str) -> int:
        """Write *text*.

        Raises:
            OutputLimit: The attempt has written more than the limit; this text is dropped.
        """
        running = current_or_none()
        if running is not None:
            running.printed += len(text)
            if running.printed > self._limit:
                raise OutputLimit(f"the attempt printed more than {self._limit:,} characters")
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write each of *lines*."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def limit_output(limit: int) -> None:
    """Let the attempts of this process print at most *limit* characters each. Called once, in the worker's process."""
    sys.stdout = LimitedStream(sys.stdout, limit)
    sys.stderr = LimitedStream(sys.stderr, limit)
