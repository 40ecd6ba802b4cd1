"""Read the filter language, ``state:failed name:mail.* args.user_id:5 since:24h``, into SQL with bound parameters. Pure.

A filter is a list of terms that must all hold. A term is ``field:value``; ``field:a,b`` means either; ``-`` before it
means not; a value with spaces or commas stands in double quotes; ``*`` in a text means anything. Numbers, durations
and moments may be compared: ``run:>1.5s``, ``attempts:>=3``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from ledger.errors import InvalidOption
from ledger.postgres_arrays import array
from ledger.statements import statements
from ledger.values import shown
from projections.tasks import stamp

Kind = Literal["text", "number", "duration", "label", "since", "until", "json"]
_TERM = re.compile(r'(?P<sign>-?)(?P<field>[A-Za-z_]+(?:\.[^\s:"]+)?):(?P<value>(?:"(?:[^"\\]|\\.)*"|[^\s"])*)')
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^,"]+')
_COMPARED = re.compile(r"(<=|>=|<|>|=)?(.*)", re.DOTALL)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


class Field(NamedTuple):
    """What a field of the language is in a view: how it is read, and its column."""

    kind: Kind
    column: str
    via: str | None = None
    """The statement that finds it in another view, around the condition; see `report/filters.sql`."""


class Where(NamedTuple):
    """A condition in SQL with its parameters; of an empty filter one that always holds."""

    sql: str = "1 = 1"
    parameters: tuple[Any, ...] = ()

    def named(self, prefix: str = "where") -> tuple[str, dict[str, Any]]:
        """Return it with named parameters, for statements that have others by name."""
        parts = self.sql.split("?")  # no text of a filter is in the SQL: every ? is a parameter
        names = [f"{prefix}_{number}" for number in range(len(self.parameters))]
        sql = "".join(part + (f":{name}" if name else "") for part, name in zip(parts, [*names, ""], strict=True))
        return sql, dict(zip(names, self.parameters, strict=True))


@dataclass(frozen=True, slots=True)
class _Term:
    column: int
    """In the text, from 1."""
    is_not: bool
    field: str
    path: str | None
    value: str


_BOTH = {
    "id": Field("text", "task_id"),
    "name": Field("text", "name"),
    "queue": Field("text", "queue"),
    "run_as": Field("text", "run_as"),
    "worker": Field("text", "worker"),
    "error": Field("text", "error_type"),
    "message": Field("text", "error_message"),
    "run": Field("duration", "run_ms"),
    "wait": Field("duration", "wait_ms"),
}
FIELDS: dict[str, dict[str, Field]] = {
    "tasks": {
        **_BOTH,
        "state": Field("text", "state"),
        "actor": Field("text", "actor"),
        "reason": Field("text", "reason"),
        "key": Field("text", "unique_key"),
        "parent": Field("text", "parent"),
        "label": Field("label", "labels"),
        "args": Field("json", "args"),
        "result": Field("json", "result"),
        "priority": Field("number", "priority"),
        "attempts": Field("number", "attempt"),
        "lost": Field("number", "lost_attempts"),
        "since": Field("since", "queued_at"),
        "until": Field("until", "queued_at"),
    },
    "attempts": {
        **_BOTH,
        "outcome": Field("text", "outcome"),
        "cause": Field("text", "cause"),
        "attempt": Field("number", "attempt"),
        "cpu": Field("duration", "cpu_ms"),
        "since": Field("since", "claimed_at"),
        "until": Field("until", "claimed_at"),
    },
    "events": {
        "id": Field("text", "task_id"),
        "type": Field("text", "type"),
        "stream": Field("text", "stream"),
        "actor": Field("text", "actor"),
        "reason": Field("text", "reason"),
        "command": Field("text", "command"),
        "data": Field("json", "data"),
        "position": Field("number", "position"),
        "since": Field("since", "at"),
        "until": Field("until", "at"),
    },
    "history": {
        "id": Field("text", "a.task_id"),
        "name": Field("text", "a.name"),
        "queue": Field("text", "a.queue"),
        "outcome": Field("text", "a.outcome"),
        "state": Field("text", "t.state"),
        "attempt": Field("number", "a.attempt"),
        "run_as": Field("text", "a.run_as"),
        "actor": Field("text", "t.actor"),
        "worker": Field("text", "a.worker"),
        "host": Field("text", "host", "of_host"),
        "component": Field("text", "s.component", "of_component"),
        "schedule": Field("text", "schedule", "of_schedule"),
        "label": Field("label", "t.labels"),
        "args": Field("json", "t.args"),
        "result": Field("json", "t.result"),
        "error": Field("text", "a.error_type"),
        "message": Field("text", "a.error_message"),
        "cause": Field("text", "a.cause"),
        "run": Field("duration", "a.run_ms"),
        "wait": Field("duration", "a.wait_ms"),
        "cpu": Field("duration", "a.cpu_ms"),
        "since": Field("since", "a.claimed_at"),
        "until": Field("until", "a.claimed_at"),
    },
    "hourly": {
        "name": Field("text", "name"),
        "queue": Field("text", "queue"),
        "since": Field("since", "hour"),
        "until": Field("until", "hour"),
    },
}
"""By what is asked: a view, or attempts with their tasks (``history``)."""


def words_of(dialect: str) -> Mapping[str, str]:
    """Return what conditions are made of in *dialect*; see `report/filters.sql`."""
    return statements("projections", f"sql/{dialect}/report/filters.sql")


def where(text: str, view: str, now: datetime, dialect: str = "sqlite") -> Where:
    """Return the condition in *dialect* that *text* asks of rows of *view*; ages in it count back from *now*.

    Raises:
        InvalidOption: It is no filter; the message names the column of the text, from 1, and what is allowed there.
    """
    if "\x00" in text:
        raise _wrong(text.index("\x00") + 1, "a NUL character is in no text that databases keep")
    conditions: list[str] = []
    parameters: list[Any] = []
    for term in _terms(text):
        condition, values = _condition(term, view, _Asked(now, dialect))
        conditions.append(f"NOT coalesce(({condition}), 0 = 1)" if term.is_not else f"({condition})")
        parameters += values
    return Where(" AND ".join(conditions), tuple(parameters)) if conditions else Where()


def _terms(text: str) -> list[_Term]:
    found = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TERM.match(text, position)
        rest = "" if match is None else text[match.end() : match.end() + 1].strip()
        if match is None or rest or not match["value"]:
            word = text[position:].split(maxsplit=1)[0]
            at = match.end() + 1 if match is not None and rest else position + 1
            raise _wrong(at, f"{shown(word)} is no term; one is field:value, a value with spaces in double quotes")
        field, _, path = match["field"].partition(".")
        found.append(_Term(position + 1, bool(match["sign"]), field, path or None, match["value"]))
        position = match.end()
    return found


def _condition(term: _Term, view: str, asked: _Asked) -> tuple[str, list[Any]]:
    field = FIELDS[view].get(term.field)
    at = term.column + term.is_not
    if field is None:
        raise _wrong(at, f"there is no field {shown(term.field)}; there are: {', '.join(sorted(FIELDS[view]))}")
    if (term.path is None) == (field.kind == "json"):
        hint = f"{term.field}.NAME:value" if field.kind == "json" else f"{term.field}:value"
        raise _wrong(at, f"{term.field} is asked for as {hint}")
    at += len(term.field) + 1 + (0 if term.path is None else len(term.path) + 1)
    conditions, parameters = [], []
    for part in _PART.finditer(term.value):
        condition, values = _one(field, term, part[0], _Place(at + part.start(), asked))
        conditions.append(condition if field.via is None else asked.words[field.via].format(condition=condition))
        parameters += values
    if not conditions:
        raise _wrong(at, f"{term.field} needs a value")
    return " OR ".join(conditions), parameters


class _Asked(NamedTuple):
    now: datetime
    dialect: str

    @property
    def words(self) -> Mapping[str, str]:
        return words_of(self.dialect)


class _Place(NamedTuple):
    column: int
    asked: _Asked


def _one(field: Field, term: _Term, written: str, place: _Place) -> tuple[str, list[Any]]:
    is_quoted = written.startswith('"')
    value = re.sub(r"\\(.)", r"\1", written[1:-1]) if is_quoted else written
    reader = _READERS[field.kind]
    return reader(field.column, value, _Said(term, is_quoted, place))


class _Said(NamedTuple):
    term: _Term
    is_quoted: bool
    place: _Place

    @property
    def words(self) -> Mapping[str, str]:
        return self.place.asked.words

    def wrong(self, said: str) -> InvalidOption:
        return _wrong(self.place.column, said)


def _text(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    if "*" in value and not said.is_quoted:
        escaped = re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%")
        return said.words["like"].format(column=column), [escaped]
    return f"{column} = ?", [value]


def _number(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    match = _COMPARED.fullmatch(value)
    assert match is not None, "it matches everything"
    try:
        number = int(match[2]) if re.fullmatch(r"-?\d{1,18}", match[2]) else float(match[2])
    except ValueError:
        raise said.wrong(f"{shown(value)} is no number; allowed are 5, >5, >=5, <5, <=5") from None
    return f"{column} {match[1] or '='} ?", [number]


def _duration(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    match = _COMPARED.fullmatch(value)
    span = None if match is None else _SPAN.fullmatch(match[2])
    if match is None or span is None:
        raise said.wrong(f"{shown(value)} is no duration; allowed are >500ms, <=2s, >1.5h; without a unit seconds")
    return f"{column} {match[1] or '='} ?", [float(span[1]) * _SECONDS[span[2] or "s"] * 1000]


def _label(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    condition, values = _text("value", value, said)
    return said.words["label"].format(column=column, condition=condition), values


def _moment(value: str, said: _Said) -> str:
    span = _SPAN.fullmatch(value)
    try:
        if span is not None and span[2] is not None:
            return stamp(said.place.asked.now - timedelta(seconds=float(span[1]) * _SECONDS[span[2]]))
        moment = datetime.fromisoformat(value)
        return stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        allowed = 'an age such as 24h, 7d, 90s, or an ISO 8601 time, without a zone UTC: 2031-05-01, "2031-05-01 12:00"'
        raise said.wrong(f"{shown(value)} is no moment; allowed are {allowed}") from None


def _since(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    return f"{column} >= ?", [_moment(value, said)]


def _until(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    return f"{column} < ?", [_moment(value, said)]


def _json(column: str, value: str, said: _Said) -> tuple[str, list[Any]]:
    parts = (said.term.path or "").split(".")
    path = array(parts) if said.place.asked.dialect == "postgres" else "$" + "".join(map(_step, parts))
    if value in ("true", "false", "null") and not said.is_quoted:
        return said.words["json_type"].format(column=column), [path, value]
    condition, values = _text(said.words["json_text"].format(column=column), value, said)
    return condition, [path, *values]


def _step(part: str) -> str:
    return f"[{part}]" if part.isdigit() else '."' + part.replace('"', "") + '"'


_READERS: dict[Kind, Callable[[str, str, _Said], tuple[str, list[Any]]]] = {
    "text": _text,
    "number": _number,
    "duration": _duration,
    "label": _label,
    "since": _since,
    "until": _until,
    "json": _json,
}


def _wrong(column: int, said: str) -> InvalidOption:
    return InvalidOption(f"filter, column {column}: {said}")
