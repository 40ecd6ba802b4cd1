"""Keep the tests to themselves: no setting of whoever runs them reaches a ledger, a worker or a command of theirs."""

from __future__ import annotations

import os

for name in [name for name in os.environ if name.startswith("WORKLEDGER_")]:
    del os.environ[name]

os.environ["WORKLEDGER_PRUNE"] = "false"  # else a test that counts what ran may meet the minute of the daily pruning
