"""Let the tests of the API run on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api import setup
from tests.databases import in_memory


@pytest.fixture(scope="module", params=["memory", "postgres"])
def each_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever `new_ledger` makes in this module is in memory, then on PostgreSQL."""
    if request.param == "postgres":
        setup.make = request.getfixturevalue("postgres_ledgers")
    yield
    setup.make = in_memory
