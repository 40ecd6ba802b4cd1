"""Queue tasks one after the other, and go on when the ledger refuses them for want of space.

Called as ``python -m tests.faults.persist``; goes on until there is a file ``stop``. What was acknowledged is in
``persist.acknowledged``, what was refused, with the error, in ``persist.refused``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ledger.errors import StorageUnavailable
from tests.faults.app import append, ledger


def persist() -> None:
    """Queue tasks until told to stop."""
    work: Any = ledger.functions["work"]
    while not Path("stop").exists():
        try:
            append("persist.acknowledged", *({"id": task.id} for task in ledger.enqueue_many([work.call(0)] * 5)))
        except StorageUnavailable as error:
            append("persist.refused", {"type": type(error).__name__, "text": str(error)})
        time.sleep(0.01)


if __name__ == "__main__":
    persist()
