"""Store what running attempts have printed and said of their progress: it can be followed, and outlives them."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack

from ledger.api import Ledger
from ledger.output import put
from runner.progress import due, store_progress
from runner.threads import Held


def store_news(ledger: Ledger, attempts: Collection[Held], now: float, actor: str) -> None:
    """Store what is new since the last time; *now* is monotonic. One commit, none where nothing is new."""
    said = due(attempts, now)
    with ExitStack() as stack:
        rows = []
        for held in attempts:
            if held.recorder is not None:
                printed = stack.enter_context(held.recorder.changes())
                if printed.chunks or printed.dropped:
                    rows.append((held.claimed.state, printed))
        if rows or said:
            with ledger.store.write() as unit:
                put(unit, rows)
                told = store_progress(unit, said, ledger.act(unit, actor))
            for held, state, word in told:  # committed: from now on the row stands there
                held.claimed = held.claimed._replace(state=state)
                held.progress.note(word, now)
