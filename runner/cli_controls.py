"""Offer the commands that govern the running of tasks: limits, pauses, disabled runners, stop, recycle."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger.api import Ledger
from ledger.control_rules import LimitState
from ledger.controls import WAIT_SECONDS
from ledger.errors import InvalidOption
from ledger.limits import MOST, Running, check_scope, configured
from ledger.values import counted
from projections.control_fold import SQL as CONTROL_SQL
from projections.queue import SQL, catch_up_all
from runner.at import At, past_of
from runner.control_rows import LIMIT_COLUMNS, limit_row
from runner.parameters import Form, Reason
from runner.past_rows import limit_rows
from runner.render import Output, clean, print_line, print_list, print_object
from runner.session import Session

limits = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Say how many tasks may run at once.")
runners = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Disable and enable all runners.")

Scope = Annotated[str, typer.Argument(metavar="SCOPE", help="ledger, queue:NAME, task:NAME or key:KEY; * is anything.")]
QueueName = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@limits.command("list")
def limit_list(context: typer.Context, at: At = None, output: Form = Output.table) -> None:
    """List the limits: in force, by whom, how many run, and what code, hand and configuration each say.

    Of a scope with * the most that run of any one queue, task or key are shown.

    Example: workledger limit list
    """
    if at is not None:
        rows = limit_rows(past_of(context.obj, at))
    else:
        ledger = context.obj.existing()
        catch_up_all(ledger)
        with ledger.store.read() as snapshot:
            running = Running(snapshot.rows(SQL["running_counts"]))
            states = [LimitState._make(row) for row in snapshot.rows(CONTROL_SQL["all_limits"])]
        rows = [limit_row(state, running) for state in states]
    if output is Output.table:
        rows = [{**row, "most": "none" if row["most"] is None else row["most"]} for row in rows]
    print_list(rows, LIMIT_COLUMNS, output, "no limits")


@limits.command("set")
def limit_set(
    context: typer.Context,
    scope: Scope,
    most: Annotated[str, typer.Argument(metavar="N", help="At most so many at once; none: any number.")],
    reason: Reason,
    output: Form = Output.table,
) -> None:
    """Let at most N tasks of a scope run at once, over all workers; what runs is not stopped.

    Example: workledger limit set task:send_digest 3 --reason "the mail server asked for it"
    """
    session: Session = context.obj
    check_scope(scope)
    ledger = session.existing()
    state = ledger.controls.set_limit(scope, _most(most), reason=reason, actor=session.actor)
    _print_limit(state, output)


@limits.command("reset")
def limit_reset(context: typer.Context, scope: Scope, reason: Reason, output: Form = Output.table) -> None:
    """Take back a limit that was set by hand: that of the code counts again, where there is one.

    Example: workledger limit reset task:send_digest --reason "the mail server is a new one"
    """
    session: Session = context.obj
    check_scope(scope)
    ledger = session.existing()
    state = ledger.controls.reset_limit(scope, reason=reason, actor=session.actor)
    _print_limit(state, output)


@limits.command("sync")
def limit_sync(
    context: typer.Context,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the log.")] = None,
    output: Form = Output.table,
) -> None:
    """Bring the ledger to the limits of the app's code and of the settings, as each start of `run` does.

    Example: workledger --app tasks:ledger limit sync --reason "release 7"
    """
    session: Session = context.obj
    ledger = session.app_ledger()
    said = configured(session.settings.limits)
    changed = ledger.controls.register(app=session.app or "", configuration=said, actor=session.actor, reason=reason)
    if output is not Output.table:
        print_object({"changed": changed}, output)
        return
    print_line(f"{counted(len(changed), 'limit')} changed" if changed else "nothing has changed")
    for scope in changed:
        print_line(f"  {clean(scope)}")


def _most(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise InvalidOption(f"a limit is {text!r}; allowed is a whole number from 1 to {MOST:,}, or none") from None


def _print_limit(state: LimitState, output: Output) -> None:
    if output is not Output.table:
        print_object(limit_row(state, Running()), output)
        return
    force = state.in_force
    if force is None:
        print_line(clean(f"{state.scope} has no limit"))
    else:
        most = "no limit" if force.most is None else f"a limit of {force.most}"
        print_line(clean(f"{state.scope} has {most}, by {force.source}"))


def queue_pause(context: typer.Context, queue: QueueName, reason: Reason) -> None:
    """Claim nothing of a queue until it is resumed; what runs may finish.

    Example: workledger queue pause mail --reason "mail server moves"
    """
    session: Session = context.obj
    ledger = session.existing()
    is_news = ledger.controls.pause(queue, reason=reason, actor=session.actor)
    waiting, running = _count(ledger, queue)
    print_line(clean(f"queue {queue} {'is' if is_news else 'was'} paused; {waiting} wait in it, {running} still run"))


def queue_resume(context: typer.Context, queue: QueueName, reason: Reason) -> None:
    """Claim tasks of a queue again.

    Example: workledger queue resume mail --reason "mail server has moved"
    """
    session: Session = context.obj
    ledger = session.existing()
    is_news = ledger.controls.resume(queue, reason=reason, actor=session.actor)
    waiting, running = _count(ledger, queue)
    said = "is resumed" if is_news else "was not paused"
    print_line(clean(f"queue {queue} {said}; {waiting} wait in it, {running} run"))


def _count(ledger: Ledger, queue: str) -> tuple[int, int]:
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        found = dict(snapshot.rows(SQL["counts_of_queue"], (queue,)))
    return found.get("waiting", 0), found.get("running", 0)


@runners.command("disable")
def runners_disable(
    context: typer.Context,
    reason: Reason,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what runs; exit 1 if it still does then.")] = False,
    seconds: Annotated[float | None, typer.Argument(metavar="[SECONDS]", help="With --wait: so long; 600.")] = None,
) -> None:
    """Claim nothing and fire no schedule until they are enabled; workers stay, what runs may finish.

    Example: workledger runners disable --wait 60 --reason "backup"
    """
    session: Session = context.obj
    if seconds is not None and not wait:
        raise InvalidOption("SECONDS says how long to wait, and needs --wait")
    ledger = session.existing()
    is_news = ledger.controls.disable_runners(reason=reason, actor=session.actor)
    print_line(f"runners {'are' if is_news else 'were'} disabled")
    if wait and (left := ledger.controls.wait_until_idle(WAIT_SECONDS if seconds is None else seconds)):
        print_line(f"{left} {'task still runs' if left == 1 else 'tasks still run'}")
        raise typer.Exit(1)
    if wait:
        print_line("nothing runs")


@runners.command("enable")
def runners_enable(context: typer.Context, reason: Reason) -> None:
    """Claim tasks and fire schedules again.

    Example: workledger runners enable --reason "backup is done"
    """
    session: Session = context.obj
    is_news = session.existing().controls.enable_runners(reason=reason, actor=session.actor)
    print_line(f"runners {'are' if is_news else 'were'} enabled")


def stop(context: typer.Context, reason: Reason) -> None:
    """End every `run` that has begun by now, on every host: each finishes what it runs; its exit code is 0.

    Example: workledger stop --reason "release 7"
    """
    session: Session = context.obj
    ledger = session.existing()
    told = _told(ledger)
    ledger.controls.stop(reason=reason, actor=session.actor)
    print_line(f"{told} told to finish and leave; `workledger now` shows who is still there")


def recycle(context: typer.Context, reason: Reason) -> None:
    """Replace every worker that has started by now, on every host, by a new process when it has finished what it runs.

    Example: workledger recycle --reason "the currency rates have changed"
    """
    session: Session = context.obj
    ledger = session.existing()
    told = _told(ledger)
    ledger.controls.clear_caches(reason=reason, actor=session.actor)
    print_line(f"{told} told to make place for new ones; `workledger now` shows who is still there")


def _told(ledger: Ledger) -> str:
    """Say how many workers there are: before they are told, since some leave within milliseconds."""
    catch_up_all(ledger)
    with ledger.store.read() as snapshot:
        rows: list[Any] = snapshot.rows(SQL["all_workers"])
    return f"{len(rows)} {'worker was' if len(rows) == 1 else 'workers were'}"
