"""Hold the rules of one uniqueness key: which task holds it, decided from the key stream's last event. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from ledger import events as e
from ledger.commands import Act, next_envelope
from ledger.errors import Conflict
from ledger.hidden import digested

KEY_PREFIX = "key:"


def key_of_call(name: str, args: dict[str, Any], run_as: str, hidden: Iterable[str] = ()) -> str:
    """Return the key text of ``unique=True``: task name, arguments in canonical form and run_as.

    Of *hidden* arguments it has digests.
    """
    args = digested(args, hidden) if hidden else args
    canonical = orjson.dumps([args, run_as], option=orjson.OPT_SORT_KEYS).decode()
    return f"{name}({canonical})"


def key_stream(name: str, key: str) -> str:
    """Return the stream of *key* within the task *name*. The text may be long, so the stream is named by its digest."""
    framed = f"{len(name)}:{name}{key}".encode()
    return KEY_PREFIX + hashlib.sha256(framed).hexdigest()[:40]


def holder(last: e.Event | None) -> str | None:
    """Return the id of the task that holds the key whose stream ends with *last*, or None if it is free."""
    return last.task if isinstance(last, e.KeyReserved) else None


def reserve(stream: str, last: e.Event | None, task_id: str, key: str, act: Act) -> e.KeyReserved:
    """Return the event by which *task_id* takes a free key.

    Raises:
        Conflict: Another task holds it.
    """
    held_by = holder(last)
    if held_by is not None:
        raise Conflict(f"key {key!r} is held by task {held_by}; it frees when that task ends")
    return e.KeyReserved(**next_envelope(stream, last, act), task=task_id, key=key)


def release(stream: str, last: e.Event | None, task_id: str, act: Act) -> e.KeyReleased | None:
    """Return the event by which *task_id* frees its key, or None if it does not hold it."""
    if holder(last) != task_id:
        return None
    return e.KeyReleased(**next_envelope(stream, last, act), task=task_id)
