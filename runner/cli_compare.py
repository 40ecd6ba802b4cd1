"""Offer the commands on a task and its like: `fork`, which queues a changed copy, and `compare`, two runs side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger import reads
from ledger.forks import fork as fork_task
from runner.cli_enqueue import parse_args
from runner.compare import Row, compare
from runner.parameters import Form, TaskId
from runner.render import Output, clean, print_line, print_list, print_object, to_json
from runner.session import Session

Run = Annotated[
    str, typer.Argument(metavar="ID[:ATTEMPT]", help="A task's id, and the attempt's number if not its newest.")
]


def fork(
    context: typer.Context,
    task_id: TaskId,
    args: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="Arguments that are other than the task's, as a JSON object.")
    ] = "{}",
    reason: Annotated[str | None, typer.Option(help="Why; kept in the log.")] = None,
    output: Form = Output.table,
) -> None:
    """Queue a copy of a task with other arguments, due now; both tell of each other in `task show`.

    It has the queue, priority, identity, retries, limits and labels of the original, no unique key, and never expires.

    Example: workledger --app tasks:ledger fork 01890a5d-ac96-774b-bcce-b302099a8057 --args '{"user_id": 8}'
    """
    session: Session = context.obj
    ledger = session.app_ledger()
    task = fork_task(ledger, task_id, parse_args(args), reason=reason, actor=session.actor)
    if output is Output.table:
        print_line(task.id)
    else:
        print_object({"id": task.id, "forked_from": task_id}, output)


def compare_runs(
    context: typer.Context,
    one: Run,
    other: Run,
    only_differences: Annotated[bool, typer.Option("--changed", help="Only what differs.")] = False,
    output: Form = Output.table,
) -> None:
    """Put two runs side by side, of two tasks or of one: arguments, outcome, result, duration, and what they printed.

    Example: workledger compare 01890a5d-ac96-774b-bcce-b302099a8057:1 01890a5d-ac96-774b-bcce-b302099a8057:2
    """
    session: Session = context.obj
    ledger = session.existing()
    found = compare(ledger, one, other)
    tasks = [text.partition(":")[0] for text in (one, other)]
    session.note_read(ledger, tasks, reads.ARGUMENTS, reads.RESULT, reads.OUTPUT)
    rows = [_row(row) for row in found.rows if not (only_differences and row.is_same)]
    if output is Output.table:
        rows = [{**row, "one": _cell(row["one"]), "other": _cell(row["other"])} for row in rows]
        rows = [{**row, "is_same": "" if row["is_same"] else "differs"} for row in rows]
        print_list(rows, ("what", "is_same", "one", "other"), output, "nothing differs")
        for line in found.output_diff:
            print_line(clean(line))
        return
    print_object({"rows": rows, "output_diff": found.output_diff}, output)


def _row(row: Row) -> dict[str, Any]:
    return {"what": row.what, "is_same": row.is_same, "one": row.one, "other": row.other}


def _cell(value: Any) -> Any:
    return to_json(value) if isinstance(value, dict | list | bool) else value
