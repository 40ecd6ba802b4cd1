"""When schedules fire: the vectors of another scheduler's own test suite, through the public functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.cron import Fields, Rule, field_values
from ledger.errors import InvalidSchedule, NeverFires

VECTORS = json.loads((Path(__file__).parent / "vectors" / "schedule.json").read_text(encoding="utf-8"))


def by_id(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[vector["id"] for vector in vectors])


@by_id(VECTORS["schedule_vectors"])
def test_next_firing(vector: dict[str, Any]) -> None:
    """The first firing later than the minute that contains the given moment is the expected one, or there is none."""
    fields = Fields(*(vector[name] for name in Fields._fields))
    if vector["never"]:
        with pytest.raises(NeverFires):
            Rule(fields, vector["timezone"])
        return

    firing = Rule(fields, vector["timezone"]).next_after(datetime.fromisoformat(vector["from"]))

    assert firing == datetime.fromisoformat(vector["expected_next"])
    assert firing is not None and firing.tzinfo is UTC


@by_id(VECTORS["field_vectors"])
def test_field(vector: dict[str, Any]) -> None:
    """A field means the expected values, or is refused by its name."""
    if vector["expected"] == "error":
        with pytest.raises(InvalidSchedule, match=f"^{vector['field']} is "):
            field_values(vector["field"], vector["spec"])
    else:
        assert list(field_values(vector["field"], vector["spec"])) == vector["expected"]
