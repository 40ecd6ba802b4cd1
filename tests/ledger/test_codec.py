"""The stored form: closed, total over what was ever released, loud about everything else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from eventsourcing.persistence import StoredEvent

from ledger.codec import EventMapper, EventTable
from ledger.errors import CorruptEvent
from ledger.events import EVENT_CLASSES, KeyReleased

CORPUS = Path(__file__).parent.parent / "frozen" / "events_v1.jsonl"


def corpus() -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in CORPUS.read_text().splitlines()]


@pytest.mark.parametrize("stored", corpus(), ids=lambda stored: stored["topic"])
def test_every_released_event_replays_to_the_same_bytes(stored: dict[str, Any]) -> None:
    """A stored event of any release decodes, and encodes to the bytes it was stored as."""
    mapper = EventMapper()
    event = mapper.decode(stored["stream"], stored["version"], stored["topic"], stored["state"].encode())

    assert mapper.encode(event) == (stored["stream"], stored["version"], stored["topic"], stored["state"].encode())


def test_the_corpus_has_every_topic() -> None:
    """No event class is released without a frozen example."""
    assert {stored["topic"] for stored in corpus()} >= {cls.TOPIC for cls in EVENT_CLASSES}


@pytest.mark.parametrize("topic", ["os:system", "antigravity", "TaskQueued.v999", "", "ledger.events:TaskQueued"])
def test_an_unknown_topic_is_refused_and_imports_nothing(topic: str) -> None:
    """A topic outside the closed table is a named error that tells the position."""
    before = set(sys.modules)

    with pytest.raises(CorruptEvent, match=r"not one this version.*position 7"):
        EventMapper().decode("task:1", 1, topic, b"{}", 7)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "state", [b"", b"{", b"[]", b"null", b"{}", b'{"command":"c","at":"soon","actor":"a","task":"t"}']
)
def test_damaged_bytes_are_refused(state: bytes) -> None:
    """Bytes that are no such event are a named error that tells stream and position."""
    with pytest.raises(CorruptEvent, match="stream key:1 version 3, position 9"):
        EventMapper().decode("key:1", 3, KeyReleased.TOPIC, state, 9)


def test_an_older_shape_is_upcast_through_a_chain() -> None:
    """An event stored under an older topic arrives in its newest shape."""
    table = EventTable(
        upcasts={
            "KeyReleased.v0": ("KeyReleased.v0b", lambda state: {**state, "task": state["id"]}),
            "KeyReleased.v0b": ("KeyReleased.v1", lambda state: {k: v for k, v in state.items() if k != "id"}),
        }
    )
    state = b'{"command":"c","at":"2026-01-01T00:00:00Z","actor":"user:a","id":"t9"}'
    event = EventMapper(table).decode("key:1", 1, "KeyReleased.v0", state)

    assert isinstance(event, KeyReleased)
    assert event.task == "t9"


def test_the_library_contract_is_kept() -> None:
    """The mapper serves the library's StoredEvent both ways."""
    stored = corpus()[0]
    mapper = EventMapper()
    library_form = StoredEvent(
        originator_id=stored["stream"],
        originator_version=stored["version"],
        topic=stored["topic"],
        state=stored["state"].encode(),
    )

    assert mapper.to_stored_event(mapper.to_domain_event(library_form)) == library_form
