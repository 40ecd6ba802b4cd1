"""Be the command `workledger`, with each worker's cycles timed: from asking for the database to the commit."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from runner import beside, cli, supervisor, worker
from runner.cycle import Cycle


class TimedCycle(Cycle):
    """A cycle that notes how long each turn took that found work; the first one also makes tables and catches up."""

    def turn(self, *given: Any, **named: Any) -> Any:
        """Run one cycle; see `Cycle.turn`."""
        started = time.monotonic()
        turn = super().turn(*given, **named)
        if not turn.is_behind and (turn.claims or turn.recorded):
            TIMES.append(time.monotonic() - started)
        return turn


class TimedWorker(worker.Worker):
    """A worker that leaves the times of its cycles, in seconds, in a file of its own."""

    def run(self) -> Any:
        """Work; see `Worker.run`."""
        try:
            return super().run()
        finally:
            Path(os.environ["PROBE"], f"{os.getpid()}").write_text("\n".join(map(str, TIMES[1:])))


TIMES: list[float] = []

if __name__ == "__main__":
    beside.Cycle = TimedCycle  # type: ignore[misc]
    supervisor.Worker = TimedWorker  # type: ignore[misc]
    cli.main()
