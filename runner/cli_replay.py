"""Offer the command that runs a recorded attempt again and tells what differs: `task replay`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ledger import reads
from ledger.output import Stream
from runner.parameters import Form, TaskId
from runner.render import Output, clean, print_line, print_list, print_object, to_json
from runner.replay import Came, Replayed, replay
from runner.session import Session

_COLUMNS = ("what", "is_same", "recorded", "here")


def replay_task(
    context: typer.Context,
    task_id: TaskId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Its number; by default the newest.")] = None,
    debugger: Annotated[bool, typer.Option("--debugger", help="Stop in pdb at the failure.")] = False,
    output: Form = Output.table,
) -> None:
    """Run a recorded attempt again, here and now, and show what differs from the record; exit 1 if anything does.

    It gets the recorded arguments, identity, time and random numbers. Nothing is written to the ledger: tasks that it
    queues are only told. What else it does in the world it does again, unless it asks `current().is_replay`.

    Example: workledger --app tasks:ledger task replay 01890a5d-ac96-774b-bcce-b302099a8057 --attempt 2
    """
    from runner.code_version import code_version  # the other commands need none of it
    from runner.output import catch_output

    session: Session = context.obj
    ledger, settings = session.app_ledger(), session.settings
    out = sys.stdout

    def show(stream: Stream, text: str) -> None:
        for line in text.splitlines():
            out.write(f"{'!' if stream == 'stderr' else '|'} {clean(line)}\n")

    ledger.get(task_id)
    session.note_read(ledger, [task_id], reads.ARGUMENTS, reads.RESULT, reads.OUTPUT)
    catch_output(settings.output_limit)
    found = replay(
        ledger,
        task_id,
        attempt,
        mode=settings.output,
        keep_bytes=settings.output_keep,
        echo=show if output is Output.table else None,
    )
    _print(found, settings.code_version or code_version(session.app), output)
    if debugger:
        _debug(found)
    raise typer.Exit(1 if found.differences else 0)


def _print(found: Replayed, code_here: str | None, output: Output) -> None:
    differing = {one.what for one in found.differences}
    rows = [
        {"what": what, "is_same": what not in differing, "recorded": recorded, "here": here}
        for what, recorded, here in _pairs(found)
    ]
    would = [
        {"type": type(event).__name__, "name": getattr(event, "name", None), "stream": event.originator_id}
        for event in found.would
    ]
    if output is not Output.table:
        codes = {"code_version": found.code_version, "code_version_here": code_here}
        heading = {"id": found.task_id, "name": found.name, "attempt": found.attempt, **codes}
        compared = {"is_same": not differing if found.is_comparable else None, "compared": rows}
        print_object({**heading, **compared, "output_diff": found.output_diff, "would_write": would}, output)
        return
    if not found.is_comparable:
        print_line(
            f"attempt {found.attempt} is recorded as {found.recorded.outcome}: there is no outcome to compare with"
        )
        rows = [{**row, "is_same": None} for row in rows]
    print_list([{**row, "is_same": _SAME[row["is_same"]]} for row in rows], _COLUMNS, output, "")
    for line in found.output_diff:
        print_line(clean(line))
    for one in would:
        print_line(clean(f"not written: {one['type']} {one['name'] or ''} ({one['stream']})"))
    if found.code_version != code_here:
        print_line(clean(f"the code differs: {found.code_version or 'unknown'} then, {code_here or 'unknown'} here"))


_SAME = {True: "same", False: "differs", None: ""}


def _pairs(found: Replayed) -> list[tuple[str, Any, Any]]:
    def of(came: Came) -> dict[str, Any]:
        error = None if came.error is None else f"{came.error.get('type')}: {came.error.get('message')}"
        result = to_json(came.result) if came.outcome == "succeeded" else None
        output = None if came.output is None else f"sha256 {came.output[:12]}"
        return {"outcome": came.outcome, "result": result, "error": error, "delay": came.seconds, "output": output}

    was, here = of(found.recorded), of(found.here)
    return [(what, was[what], here[what]) for what in was if was[what] is not None or here[what] is not None]


def _debug(found: Replayed) -> None:
    """Stop where the function raised."""
    if found.raised is None:
        print_line("it did not fail here: there is nothing to stop at")
        return
    import pdb

    print_line(clean(f"{type(found.raised).__name__}: {found.raised}"))
    pdb.post_mortem(found.raised.__traceback__)
