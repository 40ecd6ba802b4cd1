"""Read a crontab, a user's or the system's, as cron reads it.

Sources of the rules: crontab(5) of Vixie cron, Debian and cronie. An entry is five fields or a name such as ``@daily``,
in a system's crontab the user, and the command, in which an unescaped ``%`` ends a line: what follows the first is the
command's standard input. Lines ``NAME=value`` set the environment of the entries after them; ``CRON_TZ`` their time
zone. Comments right above an entry describe it.

Where cron would fire at other times than this ledger, the entry is not taken and the report says why.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace

from ledger.cron import Fields, field_values, parse_expression
from ledger.errors import InvalidSchedule
from ledger.zones import zone_named
from runner.imports.found import Command, Entry, Found, Line, check

_SETTING = re.compile(r"""\s*(?P<name>[A-Za-z_]\w*|"[^"]+"|'[^']+')\s*=\s*(?P<value>.*?)\s*""", re.ASCII)
_ENTRY = re.compile(r"\s*(?P<when>@\S+|(?:\S+[ \t]+){4}\S+)[ \t]+(?P<rest>\S.*)", re.ASCII)
_WORD = re.compile(r"[\w.-]+", re.ASCII)
_NOT_KEPT = {
    "MAILTO": "no mail is sent; what a command prints is kept with its attempt",
    "MAILFROM": "no mail is sent; what a command prints is kept with its attempt",
    "CONTENT_TYPE": "no mail is sent",
    "CONTENT_TRANSFER_ENCODING": "no mail is sent",
    "RANDOM_DELAY": "no delay is added; use the option jitter of a schedule",
}
_HEADING = re.compile(r"(m|min|minute)\s+(h|hour)\b", re.IGNORECASE | re.ASCII)
_ODD_ITEM = re.compile(r",([0-9a-zA-Z]+/[0-9]+),")
"""A single value with a step: to some programs a range to the end of the field, to others the value, or an error."""
_RANGE = re.compile(r"([0-9]+)-([0-9]+)")
_BOTH = "here it would run on days that have either"
MOST_DESCRIPTION = 1_000


@dataclass(frozen=True)
class _Place:
    """What the lines read so far say about the entries that follow."""

    timezone: str = ""
    shell: str = "/bin/sh"
    environment: dict[str, str] = field(default_factory=dict)
    comments: tuple[str, ...] = ()
    """Those of the lines right above."""
    broken: str = ""
    """Why no entry can be taken until the time zone is set again."""


def read(text: str, *, system: bool = False, prefix: str = "cron") -> Found:
    """Return the schedules of a crontab; with *system* each entry has a user before its command.

    The name of a schedule follows from *prefix*, the command and the user, not from its time, so that an entry whose
    time is changed is the same schedule; equal commands are numbered in their order.
    """
    entries: list[Entry] = []
    lines: list[Line] = []
    place = _Place()
    for number, raw in enumerate(re.split("\r?\n", text), 1):
        line = raw.strip(" \t")
        if not line:
            place = replace(place, comments=())
            continue
        if line.startswith("#"):
            place, reported = _read_comment(number, line, place)
        elif setting := _SETTING.fullmatch(line):
            place, reported = _read_setting(number, setting["name"].strip("\"'"), setting["value"], place)
        else:
            reported = _read_entry(number, line, place, entries, system=system, prefix=prefix)
            place = replace(place, comments=())
        lines += [reported] if reported else []
    return Found(tuple(entries), tuple(lines))


def _read_comment(number: int, line: str, place: _Place) -> tuple[_Place, Line | None]:
    """Keep a comment for the entry below it; report one that is an entry, and begin anew."""
    comment = line.lstrip("#").strip()
    entry = _ENTRY.fullmatch(comment)
    if entry and _fields(entry["when"])[1] == "":
        return replace(place, comments=()), Line(line=number, taken=False, what=comment, why="it is a comment")
    if not comment or _HEADING.match(comment):
        return place, None
    return replace(place, comments=(*place.comments, comment)), None


def _read_setting(number: int, name: str, value: str, place: _Place) -> tuple[_Place, Line]:
    """Take over a line ``NAME=value`` for the entries after it."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    place = replace(place, comments=())
    if name in _NOT_KEPT:
        return place, Line(line=number, taken=False, what=name, why=_NOT_KEPT[name])
    if name == "SHELL":
        return replace(place, shell=value), Line(line=number, taken=True, what=name)
    if name != "CRON_TZ":
        note = "it is the commands' own; when they run is said by CRON_TZ" if name == "TZ" else ""
        environment = {**place.environment, name: value}
        return replace(place, environment=environment), Line(line=number, taken=True, what=name, why=note)
    try:
        if value:
            zone_named(value)
    except InvalidSchedule as error:
        broken = f"its time zone, of line {number}, cannot be used"
        return replace(place, broken=broken), Line(line=number, taken=False, what=name, why=str(error))
    return replace(place, timezone=value, broken=""), Line(line=number, taken=True, what=name)


def _read_entry(number: int, line: str, place: _Place, entries: list[Entry], *, system: bool, prefix: str) -> Line:
    """Add the schedule of an entry's *line* to *entries* if it can be taken; return what became of it."""
    found = _ENTRY.fullmatch(line)
    words = re.split(r"[ \t]+", found["rest"], maxsplit=1) if found else []
    user, rest = (words[0], "".join(words[1:])) if system and words else ("", found["rest"] if found else "")
    if found is None or not rest or "\0" in rest:
        wanted = "five fields or a name such as @daily" + (", a user" if system else "") + " and a command"
        return Line(line=number, taken=False, what=line, why=f"an entry is {wanted}")
    fields, why = _fields(found["when"])
    text, stdin = split_command(rest)
    entry = Entry(
        line=number,
        name=_name(prefix, text, user, stdin, entries),
        fields=fields,
        timezone=place.timezone,
        description="\n".join(place.comments)[:MOST_DESCRIPTION] or None,
        command=Command(text=text, stdin=stdin, shell=place.shell, environment=place.environment),
        run_as=user or None,
    )
    why = why or place.broken or check(entry) or ""
    if why:
        return Line(line=number, taken=False, what=line, why=why)
    entries.append(entry)
    note = f"it runs as the worker's user of the system; run_as says {user}" if user else ""
    return Line(line=number, taken=True, what=entry.name, schedule=True, why=note)


def _fields(when: str) -> tuple[Fields, str]:
    """Return the fields of an entry, and why they cannot be taken: empty if they can."""
    if when.lower() == "@reboot":
        return Fields(), "it names no time: cron runs it when the machine starts"
    try:
        fields = parse_expression(when)
        for name, text in zip(Fields._fields, fields, strict=True):
            field_values(name, text)
            if any(int(first) > int(last) for first, last in _RANGE.findall(text)):
                return fields, f"{name} is {text!r}: cron refuses a range that runs backwards"
            if odd := _ODD_ITEM.search(f",{text},"):
                return (
                    fields,
                    f"{name} is {text!r}: cron programs do not agree on {odd[1]}; write it as a range or a list",
                )
    except InvalidSchedule as error:
        return Fields(), str(error)
    for one, other in ((fields.day, fields.dayofweek), (fields.dayofweek, fields.day)):
        if one.startswith("*") and one != "*" and other != "*":
            return (
                fields,
                f"cron runs it on days that have both, day {fields.day} and weekday {fields.dayofweek}; " + _BOTH,
            )
    return fields, ""


def split_command(text: str) -> tuple[str, str | None]:
    """Return the command of an entry and its standard input, as cron parts them at the first ``%`` without backslash.

    A backslash before ``%`` goes away. In the input every other ``%`` ends a line, and so does the end of the text.
    """
    parts, part, escaped = [], "", False
    for letter in text:
        if escaped:
            part += letter if letter == "%" else "\\" + letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "%":
            parts.append(part)
            part = ""
        else:
            part += letter
    command, *lines = [*parts, part + "\\" * escaped]
    if not lines:
        return command, None
    stdin = "\n".join(lines)
    return command, stdin + "\n" if stdin and not stdin.endswith("\n") else stdin


def _name(prefix: str, command: str, user: str, stdin: str | None, entries: list[Entry]) -> str:
    """Return a name that stays the same while the command does: its program, and a hash of it all."""
    words = [word for word in command.split() if "=" not in word] or ["command"]
    program = "".join(_WORD.findall(words[0].rpartition("/")[2])) or "command"
    digest = hashlib.sha256("\0".join((user, command, stdin or "")).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = f"{prefix}.{program[:60]}-{digest}"
    same = sum(entry.name == name or entry.name.startswith(f"{name}-") for entry in entries)
    return f"{name}-{same + 1}" if same else name
