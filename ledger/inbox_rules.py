"""Say whether a TaskQueued that came by a row of the inbox is one that the ledger itself could have made. Pure.

Anybody who may insert rows can write them by hand; what is in the log is for ever, and every view must be able to fold it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from ledger import keys
from ledger.errors import InvalidInput, InvalidOption
from ledger.events import TaskQueued
from ledger.options import Options
from ledger.retry import Retry
from ledger.values import check_name, check_reason, copy_json, shown


def require_sound(event: TaskQueued) -> None:
    """Return if every field is within what `Ledger.enqueue` would have allowed.

    Raises:
        InvalidInput: One is not; the message says which.
    """
    check_name(event.originator_id, "the stream")
    check_name(event.name, "task name")
    check_name(event.command, "the act")
    check_name(event.actor, "actor")
    check_reason(event.reason)
    if not isinstance(event.args, dict):
        raise InvalidOption(f"args are {shown(event.args)}; they must be an object")
    copy_json(event.args, "the arguments")
    for name in ("at", "due_at", "expires_at"):
        moment = getattr(event, name)
        if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
            raise InvalidOption(f"{name} is {shown(moment)}; it must be a time with its zone")
    if event.schedule is not None or event.slot is not None:
        raise InvalidOption("it is a run of a schedule; only the ledger itself queues those")
    if event.hidden is not None and not _is_texts(event.hidden):
        raise InvalidOption(f"hidden is {shown(event.hidden)}; it must be a list of names")
    _require_options(event)
    _require_key(event)


def _require_options(event: TaskQueued) -> None:
    if not isinstance(event.labels, list):
        raise InvalidOption(f"labels are {shown(event.labels)}; they must be a list")
    Options(
        queue=event.queue,
        priority=event.priority,
        run_after=event.due_at,
        max_attempts=event.max_attempts,
        timeout=event.timeout,
        kill_after=event.kill_after,
        run_as=event.run_as,
        unique_until=cast(Any, event.unique_until),
        labels=tuple(event.labels),
        expires=event.expires_at,
        concurrency_key=event.concurrency_key,
    )
    if event.parent is not None:
        check_name(event.parent, "parent")
    retry = event.retry
    if not isinstance(retry, dict) or retry.keys() != Retry().stored().keys() or not _is_texts(retry["never_on"]):
        raise InvalidOption(f"retry is {shown(retry)}; it must have first, factor, cap, jitter and never_on")
    Retry(first=retry["first"], factor=retry["factor"], cap=retry["cap"], jitter=retry["jitter"])


def _require_key(event: TaskQueued) -> None:
    key = event.unique_key
    if key is not None and (not isinstance(key, str) or not key):
        raise InvalidOption(f"unique_key is {shown(key)}; it must be text")
    if event.key_stream != (None if key is None else keys.key_stream(event.name, key)):
        raise InvalidInput(f"key_stream is {shown(event.key_stream)}; it is not that of the key {shown(key)}")


def _is_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) and one.isprintable() for one in values)
