"""Let attempts print, and keep what they print, without a worker: for tests of what happens to kept output."""

from __future__ import annotations

from typing import Any

from ledger import Ledger
from ledger import commands as c
from ledger.acts import act_on
from ledger.output import Printed, put
from ledger.task import TaskState
from runner.recorder import Recorder


def begin(ledger: Ledger, name: str, text: str, **options: Any) -> tuple[TaskState, Printed]:
    """Queue and claim a task of *name* now, and let it print *text*, which is stored; it still runs."""
    function = ledger.functions.get(name) or ledger.task(name=name)(lambda: None)
    task = function.using(**options).enqueue()
    with ledger.store.write() as unit:
        state = act_on(unit, task.id, c.Claim(worker="w", seen=0), ledger.act(unit))
        recorder = Recorder(1 << 20, ledger.clock)
        recorder.write("stdout", text)
        printed = recorder.close(is_kept=True)
        assert printed is not None
        put(unit, [(state, printed)])
    return state, printed


def end(ledger: Ledger, state: TaskState, printed: Printed) -> None:
    """Let a begun attempt succeed."""
    now = ledger.clock.now()
    done = c.Succeed(
        attempt=1, worker="w", started_at=now, finished_at=now, result=None, output=printed.digest, usage=None
    )
    with ledger.store.write() as unit:
        act_on(unit, state.task_id, done, ledger.act(unit))
