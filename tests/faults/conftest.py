"""Give each fault test a site of its own, and end afterwards whatever it left running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.setup import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A ledger in a file."""
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture
def each_site(tmp_path: Path, url: str) -> Iterator[Site]:
    """A ledger on each kind of database."""
    site = Site(tmp_path, url=url)
    yield site
    site.close()
