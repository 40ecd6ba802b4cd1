"""Tasks that fail, and a hook that writes down what it is told; what it does beside that says a variable."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ledger import Ledger, Notice

ledger = Ledger.from_env()
HERE = Path(os.environ.get("TEST_HERE", "."))


@ledger.task(retry=False)
def bad(word: str) -> None:
    """Fail."""
    raise ValueError(word)


@ledger.task
def good(word: str) -> str:
    """Succeed."""
    return word


def tell(notice: Notice) -> None:
    """Write down the notice, once the file `go` is there where it is waited for."""
    while os.environ.get("TEST_HOOK") == "slow" and not (HERE / "go").exists():
        time.sleep(0.01)
    with (HERE / "told.jsonl").open("a") as file:
        file.write(json.dumps({"position": notice.position, "about": notice.about, "pid": os.getpid()}) + "\n")


if "TEST_HOOK" in os.environ:
    ledger.on_notice(tell)
