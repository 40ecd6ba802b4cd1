"""Word what passes between a worker and the process of an isolated attempt: packets of text and JSON, never pickles.

The process may run as another user than its worker: nothing that it sends is trusted.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, get_type_hints

import orjson

from ledger import commands as c
from ledger.acts import NewTask
from ledger.errors import LedgerError
from ledger.events import ErrorDetail
from ledger.options import one_of
from ledger.output import Stream
from ledger.progress import Word, checked, storable
from ledger.signals import Delay
from ledger.task import TaskState
from ledger.values import check_name, copy_json
from runner.cycle import Claimed, Finished

MOST_BYTES = 60_000
"""Of one packet: well below what a socket takes at once."""
MOST_OUTCOME_BYTES = 64 * 1024 * 1024
OUTPUT, PROGRESS, MORE, LAST, CANCEL, RAISED, LOST = b"o", b"p", b"m", b"l", b"c", b"t", b"x"
"""Kinds of packets: printed text; a word on progress; a part and the last part of a document; the task is to end;
`TimeLimit` was raised."""
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
PIECE_LENGTH = MOST_BYTES // 4
_KINDS: dict[str, type[c.Succeed | c.Fail | c.Delay]] = {"succeeded": c.Succeed, "failed": c.Fail, "delayed": c.Delay}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TIMES = tuple(name for name, hint in get_type_hints(c.Queue).items() if hint in (datetime, datetime | None))


class Damaged(Exception):
    """What was sent is no such document."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a connection that keeps packets whole, whoever writes to it at the same time."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_document(to: socket.socket, document: bytes) -> None:
    """Send *document* in as many packets as it takes."""
    for start in range(0, len(document), MOST_BYTES):
        kind = LAST if start + MOST_BYTES >= len(document) else MORE
        to.send(kind + document[start : start + MOST_BYTES])


def output_packets(stream: Stream, text: str) -> Iterator[bytes]:
    """Yield the packets of printed *text*, of which the first says that a mark stands for it in each pipe."""
    for start in range(0, len(text), PIECE_LENGTH):
        head = OUTPUT + bytes((STREAMS.index(stream), not start))
        yield head + text[start : start + PIECE_LENGTH].encode("utf-8", "backslashreplace")


def read_output(packet: bytes) -> tuple[Stream, bool, str]:
    """Return stream, whether it has marks, and text.

    Raises:
        Damaged: It is no such packet.
    """
    if len(packet) < 3 or packet[1] >= len(STREAMS):
        raise Damaged("a packet of output has no stream")
    return STREAMS[packet[1]], bool(packet[2]), packet[3:].decode("utf-8", "backslashreplace")


def progress_packet(word: Word) -> bytes:
    """Return the packet of what the task says of its progress."""
    return PROGRESS + orjson.dumps((*word[:2], storable(word[2])))


def read_progress(packet: bytes) -> Word:
    """Return what the task says of its progress.

    Raises:
        Damaged: It is no such packet.
    """
    try:
        done, total, message = orjson.loads(packet[1:])
        return checked(done, total, message)
    except (ValueError, TypeError) as error:
        raise Damaged(f"a word on progress is none: {error}"[:200]) from error


def request(claimed: Claimed, mark: bytes) -> bytes:
    """Return the document that asks for an attempt, which sets *mark* into its pipes."""
    return orjson.dumps([claimed.position, list(claimed.state), claimed.args, claimed.retry, mark.hex()])


def read_request(document: bytes) -> tuple[Claimed, bytes]:
    """Return the attempt that is asked for, and the mark."""
    position, state, args, retry, mark = orjson.loads(document)
    return Claimed(position, TaskState._make(state), args, retry), bytes.fromhex(mark)


class Marked:
    """The bytes of a pipe, in which marks tell where the packets stand that were sent meanwhile.

    *take* gets the bytes without the marks; those behind a mark wait until its packet has come.
    """

    def __init__(self, mark: bytes, take: Callable[[bytes], None]) -> None:
        self._mark = mark
        self._take = take
        self._waiting = b""

    def feed(self, data: bytes) -> None:
        """Take bytes from the pipe."""
        self._waiting += data
        end = self._waiting.find(self._mark)
        if end < 0:  # the beginning of a mark may be the end of what has come
            parts = range(min(len(self._mark) - 1, len(self._waiting)), 0, -1)
            end = len(self._waiting) - next((n for n in parts if self._waiting.endswith(self._mark[:n])), 0)
        if end:
            self._take(self._waiting[:end])
            self._waiting = self._waiting[end:]

    def pass_mark(self) -> bool:
        """Go on behind the next mark, whose packet has come; False if it is not there yet."""
        if not self._waiting.startswith(self._mark):
            return False
        self._waiting = self._waiting[len(self._mark) :]
        return True

    def end(self) -> None:
        """Take what waits: no packet comes any more."""
        self.feed(b"")
        while self.pass_mark():
            self.feed(b"")
        if self._waiting:
            self._take(self._waiting)


def outcome(finished: Finished) -> bytes:
    """Return the document that reports how an attempt finished."""
    command = finished.command
    assert isinstance(command, c.Succeed | c.Fail | c.Delay)
    told = (
        command._asdict()
        if isinstance(command, c.Succeed)
        else {one.name: getattr(command, one.name) for one in fields(command)}
    )
    children = [
        {"task_id": one.task_id, "on_duplicate": one.on_duplicate, "command": vars(one.command)}
        for one in finished.children
    ]
    return orjson.dumps({"kind": _NAMES[type(command)], "told": told, "children": children})


def read_outcome(document: bytes, claimed: Claimed) -> Finished:
    """Return how the attempt *claimed* finished, its usage and output still left out.

    Raises:
        Damaged: It is no such document.
    """
    try:
        found = orjson.loads(document)
        command = _command(_KINDS[found["kind"]], found["told"], claimed)
        children = [_child(one) for one in found["children"]] if isinstance(command, c.Succeed) else []
    except (LedgerError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"{type(error).__name__}: {error}"[:200]) from error
    return Finished(claimed, command, tuple(children))


def _command(kind: type[c.Succeed | c.Fail | c.Delay], told: dict[str, Any], claimed: Claimed) -> c.Outcome:
    common: dict[str, Any] = {
        "attempt": claimed.state.attempt,
        "worker": claimed.state.worker or "",
        "started_at": datetime.fromisoformat(told["started_at"]),
        "finished_at": datetime.fromisoformat(told["finished_at"]),
        "acted_as": _names(told["acted_as"]),
    }
    if kind is c.Succeed:
        return c.Succeed(**common, result=copy_json(told["result"], "the result"))
    if kind is c.Delay:
        return c.Delay(**common, seconds=Delay(told["seconds"]).seconds)
    error = told["error"]
    detail = ErrorDetail(type=str(error["type"]), message=str(error["message"]), traceback=str(error["traceback"]))
    return c.Fail(**common, error=copy_json(detail, "the error"), forever=told["forever"] is True)


def _names(found: Sequence[Any] | None) -> list[str] | None:
    return [check_name(name, "acted_as") for name in found] if found else None


def _child(found: dict[str, Any]) -> NewTask:
    told = found["command"]
    times = {name: datetime.fromisoformat(told[name]) for name in _TIMES if told[name] is not None}
    command = c.Queue(**copy_json(told, "a child") | times)
    one_of("on_duplicate", found["on_duplicate"], ("return", "reschedule"))
    return NewTask(task_id=check_name(found["task_id"], "a child"), command=command, on_duplicate=found["on_duplicate"])
