"""Hold what an import found in a file: the schedules it can take, and of every line what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.cron import Fields, Rule, resolve
from ledger.errors import InvalidInput
from ledger.values import check_name


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line as cron would run it: by *shell* with *environment*, *stdin* on its standard input."""

    text: str
    stdin: str | None = None
    shell: str = "/bin/sh"
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One schedule that a file has, its fields as written and checked."""

    line: int
    name: str
    fields: Fields
    timezone: str = ""
    """Empty where the file names none: the installation's."""
    enabled: bool = True
    description: str | None = None
    command: Command | None = None
    """None where a task of the schedule's own name is to run."""
    run_as: str | None = None
    component: str | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of one line of the file, or of one task in it, counted from 1."""

    line: int
    taken: bool
    what: str
    """The schedule's name, or what the line is otherwise."""
    schedule: bool = False
    """Whether it is a schedule that was taken."""
    why: str = ""
    """Why it was not taken, or what was left out of it."""


@dataclass(frozen=True)
class Found:
    """All that a file has: the schedules in its order, and a report with one `Line` for each line that says anything."""

    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]


def check(entry: Entry) -> str | None:
    """Return why the schedule cannot be declared as it is written, None if it can."""
    try:
        check_name(entry.name, "schedule name")
        # Which value R takes does not matter here: it is one that every month has.
        Rule(resolve(entry.fields, entry.name, lambda low, high: low), entry.timezone or "UTC")
    except InvalidInput as error:
        return str(error)
    return None
