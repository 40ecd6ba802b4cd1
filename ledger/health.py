"""Judge the health of an installation: numbers in, checks out. Pure; who gathers the numbers reads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ledger.values import counted

State = Literal["ok", "info", "warning", "critical"]
EXIT_CODES: dict[State, int] = {"ok": 0, "info": 0, "warning": 1, "critical": 2}
MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One judgement: what was looked at, how it is, what is wrong and what to do."""

    check: str
    state: State
    text: str
    advice: str = ""
    value: float | None = None
    """What was compared: seconds, events or bytes."""
    warning: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From which values on a check is no longer ok: seconds, events, bytes. They are exceeded, not met; disk undercut."""

    beat_warning: float
    beat_critical: float
    due_warning: float
    due_critical: float
    delay_warning: float
    delay_critical: float
    running_warning: float
    running_critical: float
    lag_warning: int
    lag_critical: int
    disk_warning: int
    disk_critical: int
    wal_warning: int
    wal_critical: int


class Named(NamedTuple):
    """A task with the seconds that count: for which it is due, delayed or running."""

    seconds: float
    task_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What is known of an installation at one moment; ages in seconds, None where there is nothing of that age."""

    alive: int = 0
    """Workers with a fresh heartbeat."""
    silent: int = 0
    last_sign: float | None = None
    """Since the last heartbeat, or the newest worker's last event; None: no worker ever ran."""
    waiting: int = 0
    due: int = 0
    """Of them those that are due, in queues that are not paused."""
    held: int = 0
    """Those that are due in paused queues: nobody is to take them."""
    paused: Sequence[str] = ()
    """The paused queues."""
    oldest_due: Named | None = None
    longest_delay: Named | None = None
    """Of the tasks that wait after a failure; those of disabled schedules left out."""
    running: int = 0
    longest_running: Sequence[Named] = ()
    """The oldest running attempts, oldest first."""
    overdue_schedules: Sequence[str] = ()
    """Those of which a notice says so."""
    failing_hooks: dict[str, str] = field(default_factory=dict)
    """Hooks for notices whose last delivery failed, and the error."""
    arriving: int = 0
    """Tasks that wait in the inbox, queued in callers' transactions; `waiting` and `due` count them too."""
    set_aside: int = 0
    """Rows of the inbox that could not be taken into the log."""
    lag: int = 0
    """Events that the views beside the log have not folded."""
    report_lag: int = 0
    disk_free: int | None = None
    disk_total: int | None = None
    wal: int | None = None


def judge(vitals: Vitals, limits: Thresholds) -> list[Check]:
    """Return every check, in the order in which somebody would look."""
    return [
        _runners(vitals),
        _heartbeat(vitals, limits),
        _oldest_due(vitals, limits),
        _retry_delay(vitals, limits),
        _long_running(vitals, limits),
        _schedules(vitals),
        _hooks(vitals),
        _inbox(vitals),
        _views(vitals, limits),
        _report(vitals, limits),
        *_storage(vitals, limits),
    ]


def worst(checks: Sequence[Check]) -> State:
    """Return the state of the worst of *checks*."""
    order: list[State] = list(EXIT_CODES)
    return max((check.state for check in checks), key=order.index, default="ok")


def unusable(problem: str) -> Check:
    """Return the one check of a ledger that cannot be read."""
    return Check(check="ledger", state="critical", text=problem)


def span(seconds: float) -> str:
    """Return a span of time as people say it."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}" if seconds < 1_000 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.3g} s"


def size(count: float) -> str:
    """Return a count of bytes as people say it."""
    for factor, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:.0f} bytes"


def _level(value: float, warning: float, critical: float, below: State = "ok") -> State:
    return "critical" if value > critical else "warning" if value > warning else below


def _graded(
    check: str, value: float, limits: tuple[float, float], text: str, advice: str, below: State = "ok"
) -> Check:
    """Return a check of a value that should be small; the advice stands only where it is not."""
    state = _level(value, *limits, below)
    advice = advice if state in ("warning", "critical") else ""
    warning, critical = limits
    return Check(check=check, state=state, text=text, advice=advice, value=value, warning=warning, critical=critical)


def _runners(vitals: Vitals) -> Check:
    silent = (
        f"; {counted(vitals.silent, 'other')} {'is' if vitals.silent == 1 else 'are'} silent" if vitals.silent else ""
    )
    if vitals.alive:
        text = f"{counted(vitals.alive, 'worker')} with a fresh heartbeat{silent}"
        return Check(check="runners", state="ok", text=text, value=vitals.alive)
    due = f", and {counted(vitals.due, 'task')} {'is' if vitals.due == 1 else 'are'} due" if vitals.due else ""
    return Check(
        check="runners",
        state="critical" if vitals.due else "warning",
        text=f"no worker has a fresh heartbeat{silent.replace('other', 'worker')}{due}",
        advice="start one: workledger --app MODULE:LEDGER run",
        value=0,
    )


def _heartbeat(vitals: Vitals, limits: Thresholds) -> Check:
    if vitals.last_sign is None:
        return Check(check="heartbeat", state="warning", text="no worker has ever run on this ledger")
    text = f"the last sign of a worker is {span(vitals.last_sign)} old"
    advice = "see what became of them: workledger worker list"
    return _graded("heartbeat", vitals.last_sign, (limits.beat_warning, limits.beat_critical), text, advice)


def _oldest_due(vitals: Vitals, limits: Thresholds) -> Check:
    bounds = limits.due_warning, limits.due_critical
    oldest = vitals.oldest_due
    held = f"; {counted(vitals.held, 'task')} due in paused queues ({_some(vitals.paused)})" if vitals.held else ""
    if oldest is None:
        later = vitals.waiting - vitals.held
        waits = (
            f"nothing is due, {later:,} wait for later" if later else "nothing is due" if held else "the queue is empty"
        )
        return _graded("oldest due", 0, bounds, waits + held, "", "info" if vitals.waiting else "ok")
    named = f"{oldest.name} ({oldest.task_id})"
    text = f"{counted(vitals.due, 'task')} due, the oldest for {span(oldest.seconds)}: {named}{held}"
    advice = f"workledger why {oldest.task_id} tells what it waits for; more workers or threads work faster"
    return _graded("oldest due", oldest.seconds, bounds, text, advice, "info")


def _retry_delay(vitals: Vitals, limits: Thresholds) -> Check:
    bounds = limits.delay_warning, limits.delay_critical
    longest = vitals.longest_delay
    if longest is None:
        return _graded("retry delay", 0, bounds, "no task waits after a failure", "")
    text = f"the longest is {span(longest.seconds)}, of {longest.name} ({longest.task_id})"
    advice = f"see why it fails: workledger task show {longest.task_id}"
    return _graded("retry delay", longest.seconds, bounds, text, advice, "info")


def _long_running(vitals: Vitals, limits: Thresholds) -> Check:
    bounds = limits.running_warning, limits.running_critical
    slow = [one for one in vitals.longest_running if one.seconds > limits.running_warning]
    if not vitals.longest_running:
        return _graded("long running", 0, bounds, "nothing is running", "")
    oldest = vitals.longest_running[0]
    named = "; ".join(f"{one.name} ({one.task_id}) for {span(one.seconds)}" for one in slow[:MOST_NAMED])
    more = f"; and {len(slow) - MOST_NAMED} more" if len(slow) > MOST_NAMED else ""
    text = f"{vitals.running:,} running, the oldest for {span(oldest.seconds)}" if not slow else named + more
    advice = f"see what it does: workledger task log {oldest.task_id} --follow; end it: workledger task cancel"
    return _graded("long running", oldest.seconds, bounds, text, advice)


def _schedules(vitals: Vitals) -> Check:
    names = vitals.overdue_schedules
    if not names:
        return Check(check="schedules", state="ok", text="no schedule is overdue", value=0)
    text = f"without success for too many of their slots: {_some(names)}"
    advice = f"see what became of its runs: workledger schedule show {names[0]}"
    return Check(check="schedules", state="warning", text=text, advice=advice, value=len(names))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _hooks(vitals: Vitals) -> Check:
    if not vitals.failing_hooks:
        return Check(check="notices", state="ok", text="no hook for notices fails", value=0)
    text = "; ".join(f"{hook} fails: {error}" for hook, error in vitals.failing_hooks.items())
    advice = "mend the hook, it is tried again; what it was not told: workledger notices"
    return Check(check="notices", state="warning", text=text, advice=advice, value=len(vitals.failing_hooks))


def _inbox(vitals: Vitals) -> Check:
    waits = f"{counted(vitals.arriving, 'task')} to be taken into the log" if vitals.arriving else "the inbox is empty"
    if not vitals.set_aside:
        return Check(check="inbox", state="info" if vitals.arriving else "ok", text=waits, value=0)
    text = f"{counted(vitals.set_aside, 'task')} could not be taken into the log"
    advice = "see why: workledger inbox list --set-aside; then workledger inbox retry, or discard"
    return Check(check="inbox", state="warning", text=text, advice=advice, value=vitals.set_aside)


def _views(vitals: Vitals, limits: Thresholds) -> Check:
    text = f"the queue and schedules views are {counted(vitals.lag, 'event')} behind the log"
    advice = "workers fold them: start some, or look at their logs for an event that cannot be read"
    return _graded("views", vitals.lag, (limits.lag_warning, limits.lag_critical), text, advice)


def _report(vitals: Vitals, limits: Thresholds) -> Check:
    """The report is caught up by who reads it: that it is behind costs the next reader time, and is never bad."""
    state: State = "info" if vitals.report_lag > limits.lag_warning else "ok"
    text = f"the tasks report is {counted(vitals.report_lag, 'event')} behind, which its next reader folds first"
    return Check(check="report", state=state, text=text, value=vitals.report_lag, warning=limits.lag_warning)


def _storage(vitals: Vitals, limits: Thresholds) -> list[Check]:
    found = []
    if vitals.disk_free is not None:
        free, total = vitals.disk_free, vitals.disk_total or vitals.disk_free
        state: State = "critical" if free < limits.disk_critical else "warning" if free < limits.disk_warning else "ok"
        found.append(
            Check(
                check="disk",
                state=state,
                text=f"{size(free)} free of {size(total)} where the database is",
                advice="" if state == "ok" else "free some space: on a full disk nothing can be queued or recorded",
                value=free,
                warning=limits.disk_warning,
                critical=limits.disk_critical,
            )
        )
    if vitals.wal is not None:
        text = f"the write-ahead log has {size(vitals.wal)}"
        advice = "a reader keeps an old snapshot open for long: find programs that have the database open"
        found.append(_graded("write-ahead log", vitals.wal, (limits.wal_warning, limits.wal_critical), text, advice))
    return found


def summary(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as one JSON object."""
    state = worst(checks)
    fields = Check.__dataclass_fields__
    rows = [{name: getattr(check, name) for name in fields} for check in checks]
    return {"state": state, "exit_code": EXIT_CODES[state], "checks": rows}
