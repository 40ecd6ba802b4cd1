"""Deliver notices to the hooks that want them: beside the queue, at least once each, by one worker at a time."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ledger import deliveries
from ledger import notices as n
from ledger.api import Ledger
from ledger.errors import LedgerError, StorageUnavailable
from ledger.notices import Notice
from ledger.store import Unit
from runner.logs import Log
from runner.mail import MailServer, send
from runner.options import RunOptions
from runner.overdue import OverdueWatch
from runner.render import to_json

COMMAND_SECONDS = 30.0
FINISH_SECONDS = 10.0
"""How long a worker that leaves waits for the delivery of what was raised at the end."""
MOST_IN_A_MAIL = 1_000
MOST_SAID = 500


class Hook(NamedTuple):
    """Something that is given notices: at most *most* at a time; what it raises is a failed delivery."""

    name: str
    give: Callable[[Sequence[Notice]], None]
    most: int = 1


class CommandFailed(Exception):
    """The command for notices did not end with exit code 0."""


def hooks_of(ledger: Ledger, options: RunOptions | None = None) -> list[Hook]:
    """Return the hooks that the code of the *ledger* and the settings name, each by a name that outlives restarts."""
    hooks = [Hook(f"python:{name}", partial(_call, hook)) for name, hook in ledger.notice_hooks.items()]
    if options is not None and options.notice_command:
        hooks.append(Hook("command", partial(_run, options.notice_command)))
    if options is not None and options.smtp_host is not None:
        server = MailServer(
            host=options.smtp_host,
            port=options.smtp_port,
            sender=options.smtp_from or "",
            to=options.smtp_to,
            starttls=options.smtp_starttls,
            user=options.smtp_user,
        )
        hooks.append(Hook("smtp", partial(send, server, url=ledger.url), MOST_IN_A_MAIL))
    return hooks


def _call(hook: n.Hook, notices: Sequence[Notice]) -> None:
    for notice in notices:
        hook(notice)


def _run(argv: Sequence[str], notices: Sequence[Notice]) -> None:
    """Run the command for each notice, which it gets as one JSON object on its standard input."""
    for notice in notices:
        done = subprocess.run(
            list(argv),
            input=to_json(notice.summary()).encode() + b"\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip()[-MOST_SAID:]
            raise CommandFailed(f"{argv[0]} ended with {done.returncode}" + (f": {said}" if said else ""))


def deliver(ledger: Ledger, hooks: Sequence[Hook], worker: str, log: Log) -> dict[str, int]:
    """Give each hook what it has not been given yet, outside of any transaction; failures are noted and logged.

    Returns how many notices each hook took.

    Raises:
        StorageUnavailable: The database cannot be used now; what was given meanwhile may be given again.
    """
    taken: dict[str, int] = {}
    for hook in hooks:
        while count := _deliver_some(ledger, hook, worker, log):
            taken[hook.name] = taken.get(hook.name, 0) + count
    return taken


def _deliver_some(ledger: Ledger, hook: Hook, worker: str, log: Log) -> int:
    with ledger.store.read() as snapshot:
        if not deliveries.is_due(snapshot, hook.name):
            return 0
    with ledger.store.write() as unit:
        notices, version = deliveries.take(unit, hook.name, worker, hook.most)
    if not notices:
        return 0
    try:
        hook.give(notices)
    except BaseException as error:  # a hook is the user's: whatever it raises is its failure
        said = f"{type(error).__name__}: {error}"
        with ledger.store.write() as unit:
            seconds = deliveries.failed(unit, hook.name, worker, said)
        log.warning("notice_hook_failed", hook=hook.name, error=said[:MOST_SAID], again_in_seconds=seconds)
        return 0
    with ledger.store.write() as unit:
        deliveries.done(unit, hook.name, version)
    return len(notices)


class Notices:
    """A worker's share in notices: it looks for overdue schedules, and has a thread that gives hooks what is raised."""

    def __init__(self, ledger: Ledger, options: RunOptions, worker: str, log: Log) -> None:
        self._ledger = ledger
        self._worker = worker
        self._log = log
        self._hooks = hooks_of(ledger, options)
        self._overdue = OverdueWatch(ledger, "worker:" + worker, options.notice_intervals)
        self._wanted = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._deliver, daemon=True)

    def register(self, unit: Unit) -> None:
        """Let the hooks begin, those that are new with the notices of from now on."""
        if self._hooks:
            deliveries.begin(unit, [hook.name for hook in self._hooks])

    def look(self) -> None:
        """Find overdue schedules, and have the hooks given what is new; called with every heartbeat."""
        for name in self._overdue.look_if_due():
            self._log.warning("schedule_overdue", schedule=name)
        if self._hooks:
            self._start().set()

    def finish(self) -> None:
        """Give the hooks what the last attempts raised; what takes too long or fails is another worker's."""
        if self._hooks:
            self._is_over = True
            self._start().set()
            self._thread.join(FINISH_SECONDS)

    def _start(self) -> threading.Event:
        """Return what wakes the thread, which is started here: a worker that has no hooks has none."""
        if self._thread.ident is None:
            self._thread.start()
        return self._wanted

    def _deliver(self) -> None:
        is_last = False
        while not is_last:
            self._wanted.wait()
            self._wanted.clear()
            is_last = self._is_over
            try:
                for hook, count in deliver(self._ledger, self._hooks, self._worker, self._log).items():
                    self._log.info("notices_delivered", hook=hook, count=count)
            except StorageUnavailable:
                pass  # the worker says so itself; the next look tries again
            except LedgerError as error:
                self._log.warning("notice_hook_failed", hook="all", error=str(error)[:MOST_SAID])
