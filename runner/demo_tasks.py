"""Be the demo's application: one task that reads a source file, counts it and checks its syntax."""

from __future__ import annotations

import hashlib
import io
import sys
import tokenize
import warnings
from pathlib import Path

from ledger import Ledger, Retry
from runner.options import RunOptions
from runner.supervisor import run

RETRY = Retry(first=0.5, factor=2, cap=2)
MAX_ATTEMPTS = 3


def declare(ledger: Ledger) -> None:
    """Register the demo's task with *ledger*."""
    ledger.task(name="check_file", retry=RETRY, max_attempts=MAX_ATTEMPTS, timeout=60)(check_file)


def check_file(path: str) -> dict[str, int | str]:
    """Return checksum, line count and token count of a Python file.

    Raises:
        SyntaxError: The file does not parse (or names an unknown encoding).

        UnicodeDecodeError: Its bytes are not in its encoding.
    """
    data = Path(path).read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = data.decode(encoding)
    compile(text, path, "exec", dont_inherit=True)
    tokens = sum(1 for _ in tokenize.generate_tokens(io.StringIO(text).readline))
    return {"sha256": hashlib.sha256(data).hexdigest(), "lines": text.count("\n"), "tokens": tokens}


def main(url: str, workers: int) -> int:
    """Work the demo's queue until a signal ends it."""
    warnings.simplefilter("ignore")  # old test files of the standard library are full of invalid escapes
    ledger = Ledger(url)
    declare(ledger)
    return run(ledger, RunOptions(app="runner.demo_tasks", workers=workers, threads=2, name="demo", log_format="json"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
