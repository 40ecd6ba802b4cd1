"""Offer the commands that change schedules and components; each has an actor and a reason, which the log keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ledger.api import Ledger
from ledger.declarations import Registered
from ledger.values import counted
from projections.queue import catch_up_all
from projections.schedules import all_states, live_runs
from runner import completion, upkeep
from runner.at import At, past_of
from runner.parameters import Form, Reason
from runner.render import Output, clean, print_line, print_list, print_object
from runner.schedule_rows import next_run, row_of
from runner.session import Session

components = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Switch groups of schedules on and off.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", autocompletion=completion.schedules)]
Component = Annotated[
    str,
    typer.Argument(
        metavar="COMPONENT",
        help="The component that schedules were declared with.",
        autocompletion=completion.components,
    ),
]


def add_to(schedules: typer.Typer) -> None:
    """Add the commands of this module to the group ``schedule``."""
    commands: dict[str, Callable[..., None]] = {
        "set": set_,
        "reset": reset,
        "enable": enable,
        "disable": disable,
        "run-now": run_now,
        "run-asap": run_asap,
        "clear-delay": clear_delay,
        "sync": sync,
    }
    for name, command in commands.items():
        schedules.command(name)(command)


def set_(
    context: typer.Context,
    name: Name,
    reason: Reason,
    expression: Annotated[str | None, typer.Argument(metavar="EXPR", help="minute hour day month dayofweek")] = None,
    minute: Annotated[str | None, typer.Option(help="0-59")] = None,
    hour: Annotated[str | None, typer.Option(help="0-23")] = None,
    day: Annotated[str | None, typer.Option(help="1-31")] = None,
    month: Annotated[str | None, typer.Option(help="1-12 or jan-dec")] = None,
    dayofweek: Annotated[str | None, typer.Option(help="0-7 or sun-sat")] = None,
    timezone: Annotated[str | None, typer.Option(metavar="AREA/CITY", help="The clock it goes by.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Whether its slots are fired.")] = None,
    output: Form = Output.table,
) -> None:
    """Customise a schedule: all five fields or some of them, its time zone, whether it is enabled.

    Example: workledger schedule set nightly_cleanup --hour 4 --minute 30 --reason "after the backup"
    """
    session: Session = context.obj
    ledger = _unlocked(session)
    given = {"minute": minute, "hour": hour, "day": day, "month": month, "dayofweek": dayofweek}
    ledger.schedules.set(
        name, expression, **given, timezone=timezone, enabled=enabled, reason=reason, actor=session.actor
    )
    _print_after(ledger, name, "is customised", output)


def reset(context: typer.Context, name: Name, reason: Reason, output: Form = Output.table) -> None:
    """Return a schedule to the default of its code.

    Example: workledger schedule reset nightly_cleanup --reason "the backup has moved"
    """
    session: Session = context.obj
    ledger = _unlocked(session)
    ledger.schedules.reset(name, reason=reason, actor=session.actor)
    _print_after(ledger, name, "is as its code declares it", output)


def enable(context: typer.Context, name: Name, reason: Reason, output: Form = Output.table) -> None:
    """Fire the slots of a schedule from now on.

    Example: workledger schedule enable nightly_cleanup --reason "disk is replaced"
    """
    session: Session = context.obj
    ledger = _unlocked(session)
    ledger.schedules.enable(name, reason=reason, actor=session.actor)
    _print_after(ledger, name, "is enabled", output)


def disable(context: typer.Context, name: Name, reason: Reason, output: Form = Output.table) -> None:
    """Fire no slot of a schedule, and give up a run that waits; a running one may finish.

    Example: workledger schedule disable nightly_cleanup --reason "disk is full"
    """
    session: Session = context.obj
    ledger = _unlocked(session)
    ledger.schedules.disable(name, reason=reason, actor=session.actor)
    _print_after(ledger, name, "is disabled", output)


def run_now(context: typer.Context, name: Name, reason: Reason, output: Form = Output.table) -> None:
    """Queue a run at once, or make a run that waits due now; refused beside a running one.

    Example: workledger schedule run-now nightly_cleanup --reason "needed before the audit"
    """
    session: Session = context.obj
    ledger = session.existing()
    state = ledger.schedules.run_now(name, reason=reason, actor=session.actor)
    _print_after(ledger, name, f"has a run that is due now: task {state.run_id}", output)


def run_asap(context: typer.Context, name: Name, reason: Reason, output: Form = Output.table) -> None:
    """Let the next worker that looks fire a schedule.

    Example: workledger schedule run-asap nightly_cleanup --reason "new data"
    """
    session: Session = context.obj
    ledger = session.existing()
    ledger.schedules.run_asap(name, reason=reason, actor=session.actor)
    _print_after(ledger, name, "will be fired by the next worker that looks", output)


def clear_delay(context: typer.Context, name: Name, reason: Reason, output: Form = Output.table) -> None:
    """Give up a run that waits for its retry; the schedule goes on with its next slot.

    Example: workledger schedule clear-delay nightly_cleanup --reason "cause is mended"
    """
    session: Session = context.obj
    ledger = session.existing()
    ledger.schedules.clear_delay(name, reason=reason, actor=session.actor)
    _print_after(ledger, name, "has no retry waiting any more", output)


def sync(
    context: typer.Context,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the log.")] = None,
    output: Form = Output.table,
) -> None:
    """Bring the ledger to the schedules that the app declares and to the overrides of the configuration file.

    Only this retires schedules that the app no longer declares, goes back to an older default, and takes over what
    another app declared.

    Example: workledger --app tasks:ledger schedule sync --reason "release 7"
    """
    session: Session = context.obj
    ledger = session.app_ledger()
    settings = session.settings
    done = ledger.schedules.sync(
        app=session.app,
        timezone=settings.timezone,
        overrides=settings.schedule_overrides,
        actor=session.actor,
        reason=reason,
    )
    upkeep.bring_up(ledger, settings, actor=session.actor)
    _print_registered(done, len(ledger.schedules.declarations), output)


def _print_registered(done: Registered, count: int, output: Output) -> None:
    kinds = ("declared", "updated", "back", "retired", "overridden")
    if output is not Output.table:
        changed = {kind: list(getattr(done, kind)) for kind in kinds}
        print_object({**changed, "left_alone": dict(done.left_alone or {})}, output)
        return
    said = [f"{len(names)} {kind}" for kind in kinds if (names := getattr(done, kind))]
    print_line(f"{counted(count, 'schedule')} in the app: {', '.join(said) or 'nothing has changed'}")
    for kind in kinds:
        for name in getattr(done, kind):
            print_line(f"  {kind}: {clean(name)}")
    for name, why in (done.left_alone or {}).items():
        print_line(f"  left alone: {clean(name)}: {clean(why)}")


@components.command("list")
def component_list(context: typer.Context, at: At = None, output: Form = Output.table) -> None:
    """List the components that schedules belong to, and whether they are disabled.

    Example: workledger component list
    """
    if at is not None:
        past = past_of(context.obj, at)
        states, disabled = past.schedules(), past.world.components.keys()
    else:
        ledger = context.obj.existing()
        catch_up_all(ledger)
        with ledger.store.read() as snapshot:
            states = list(all_states(snapshot))
        disabled = ledger.schedules.disabled_components()
    rows = [
        {
            "component": component,
            "state": "disabled" if component in disabled else "enabled",
            "schedules": sum(state.component == component for state in states),
            "run_always": sum(state.component == component and bool(state.always) for state in states),
        }
        for component in sorted({state.component for state in states if state.component is not None})
    ]
    print_list(rows, ("component", "state", "schedules", "run_always"), output, "no components")


@components.command("disable")
def component_disable(context: typer.Context, component: Component, reason: Reason) -> None:
    """Fire no schedule of a component, but those that are declared to run always.

    Example: workledger component disable mail --reason "mail server moves"
    """
    _switch(context.obj, component, reason, enabled=False)


@components.command("enable")
def component_enable(context: typer.Context, component: Component, reason: Reason) -> None:
    """Fire the schedules of a component from now on.

    Example: workledger component enable mail --reason "mail server has moved"
    """
    _switch(context.obj, component, reason, enabled=True)


def _switch(session: Session, component: str, reason: str, *, enabled: bool) -> None:
    schedules = _unlocked(session).schedules
    change = schedules.enable_component if enabled else schedules.disable_component
    is_changed = change(component, reason=reason, actor=session.actor)
    print_line(f"component {clean(component)} {'is' if is_changed else 'was'} {'enabled' if enabled else 'disabled'}")


def _unlocked(session: Session) -> Ledger:
    """Return the ledger; it refuses changes where the settings of this call lock the schedules."""
    ledger = session.existing()
    ledger.schedules.is_locked = session.settings.schedules_locked
    return ledger


def _print_after(ledger: Ledger, name: str, what: str, output: Output) -> None:
    catch_up_all(ledger)
    state = ledger.schedules.get(name)
    with ledger.store.read() as snapshot:
        run, now = live_runs(snapshot).get(name), snapshot.now
    row: dict[str, Any] = row_of(state, run, now)
    if output is Output.table:
        print_line(clean(f"schedule {name} {what}; next run: {next_run(state, run, now)}"))
    else:
        print_object(row, output)
