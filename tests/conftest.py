"""Keep the tests to themselves: no setting of whoever runs them reaches a ledger, a worker or a command of theirs."""

from __future__ import annotations

import os

import pytest

from tests.databases import (
    GIVEN,
    PASSED_ON,
    make_ledger,
    module_url,
    own_server,
    postgres_database,
    postgres_ledgers,
    postgres_server,
    postgres_url,
    url,
)

for name in [name for name in os.environ if name.startswith("WORKLEDGER_")]:
    del os.environ[name]

if GIVEN:
    os.environ[PASSED_ON] = GIVEN

os.environ["WORKLEDGER_PRUNE"] = "false"  # else a test that counts what ran may meet the minute of the daily pruning


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What lies beside a ledger that is no file goes to a directory of this run, also from processes it starts."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


__all__ = [
    "make_ledger",
    "module_url",
    "own_server",
    "postgres_database",
    "postgres_ledgers",
    "postgres_server",
    "postgres_url",
    "url",
]
