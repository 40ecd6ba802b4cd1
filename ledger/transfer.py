"""Carry a whole log from one ledger to another: its digest, its lines, and how they are taken into an empty ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from ledger.errors import Conflict, CorruptEvent, InvalidOption, InvalidValue
from ledger.hidden import masked
from ledger.sqlite import SqliteStore
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot, Store

SQL = statements("ledger", "sql/sqlite/events.sql")
BATCH = 5_000
_FIELDS = {"position": int, "stream": str, "version": int, "topic": str, "state": str}


class Digest:
    """SHA-256 over events in order: position, stream, version, topic and state bytes, each with its length before it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, raw: RawEvent) -> None:
        """Take one event in."""
        position, stream, version, topic, state = raw
        for part in (str(position).encode(), stream.encode(), str(version).encode(), topic.encode(), bytes(state)):
            self._hash.update(len(part).to_bytes(8, "big") + part)
        self.count += 1

    def hexdigest(self) -> str:
        """Return it as hexadecimal digits."""
        return self._hash.hexdigest()


def all_raw(store: Store, after: int = 0) -> Iterator[RawEvent]:
    """Yield the stored events after position *after* that are there now, in order; each batch is a read of its own."""
    with store.read() as snapshot:
        head = snapshot.head()
    while after < head:
        with store.read() as snapshot:
            raws = [raw for raw in snapshot.events_after(after, BATCH) if raw[0] <= head]
        if not raws:
            return
        yield from raws
        after = raws[-1][0]


def digest_of(store: Store) -> Digest:
    """Return the digest of the whole log."""
    digest = Digest()
    for raw in all_raw(store):
        digest.add(raw)
    return digest


def to_line(raw: RawEvent, *, with_hidden: bool = False) -> bytes:
    """Return a stored event as one line of JSON; its state is a text of JSON, byte for byte what is stored.

    Without *with_hidden* hidden arguments are shown as hidden, and the line says so: it cannot be imported.
    """
    position, stream, version, topic, state = raw
    line: dict[str, Any] = {"position": position, "stream": stream, "version": version, "topic": topic}
    data = orjson.loads(state) if not with_hidden and b'"hidden"' in state else {}
    if data.get("hidden"):
        data["args"] = masked(data.get("args", {}), data["hidden"])
        line |= {"state": orjson.dumps(data).decode(), "masked": data["hidden"]}
    else:
        line["state"] = bytes(state).decode()
    return orjson.dumps(line) + b"\n"


def from_line(line: bytes, number: int) -> RawEvent:
    """Return the stored event of line *number*.

    Raises:
        InvalidValue: It is no line of an export, or one of which something is hidden.
    """
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidValue(f"line {number} is no JSON: {error}") from None
    if not isinstance(data, dict) or any(type(data.get(name)) is not kind for name, kind in _FIELDS.items()):
        raise InvalidValue(f"line {number} is no event: it needs position, stream, version, topic and state")
    if data.get("masked"):
        raise InvalidValue(
            f"line {number} has hidden arguments ({', '.join(map(str, data['masked']))}), so it is not the event itself; "
            "export with --with-hidden to import"
        )
    return data["position"], data["stream"], data["version"], data["topic"], data["state"].encode()


def take_in(store: Store, lines: Iterable[bytes]) -> Digest:
    """Store the events of *lines* in an empty log, all of them or none, and return their digest.

    Raises:
        InvalidOption: The store is no SQLite file: a server numbers positions itself, so the log would not be the same.

        Conflict: The log is not empty.

        InvalidValue: A line is no event, or positions or versions do not follow each other from 1 on.

        CorruptEvent: An event cannot be read.
    """
    if not isinstance(store, SqliteStore):
        raise InvalidOption(
            "a log is imported into a SQLite file (--url sqlite:///…); a server numbers positions itself"
        )
    digest = Digest()
    newest: dict[str, int] = {}
    with store.write() as unit:
        if unit.head():
            raise Conflict(f"the ledger has {unit.head()} events; a log is imported into an empty one")
        batch: list[RawEvent] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            raw = from_line(line, number)
            _check(unit, raw, digest.count + 1, newest.get(raw[1], 0) + 1, number)
            newest[raw[1]] = raw[2]
            digest.add(raw)
            batch.append(raw)
            if len(batch) == BATCH:
                unit.insert_many(SQL["insert_event"], batch)
                batch = []
        unit.insert_many(SQL["insert_event"], batch)
    return digest


def _check(snapshot: Snapshot, raw: RawEvent, position: int, version: int, number: int) -> None:
    if raw[0] != position:
        raise InvalidValue(f"line {number} has position {raw[0]}; {position} is next: an import needs the whole log")
    if raw[2] != version:
        raise InvalidValue(f"line {number} is version {raw[2]} of {raw[1]}; {version} is next")
    try:
        snapshot.decode(raw)
    except CorruptEvent as error:
        raise CorruptEvent(f"line {number}: {error}") from error
