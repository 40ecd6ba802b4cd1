"""Reports of a ledger on either kind of database tell the same, in a file beside it or in a schema beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import InvalidOption, Ledger
from ledger.transfer import digest_of, take_in
from projections import ready
from projections.history import Asked, history
from projections.reports import Reports
from projections.statistics import By, statistics
from tests.invoking import invoke
from tests.projections.everything import fill, ledger_of


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger to which everything has happened, on each kind of database."""
    ledger = ledger_of(url)
    fill(ledger)
    yield ledger
    ledger.close()


def test_reports_tell_of_a_ledger_wherever_it_is(ledger: Ledger, tmp_path: Path) -> None:
    """Every view equals the fold, each look gives what the log has, and the log can be carried into a file whole."""
    reports = Reports(ledger)
    assert reports.verify() == []
    with ledger.store.read() as snapshot:
        log = Counter(raw[3].removesuffix(".v1") for raw in snapshot.events_after(0, 10_000))
    claims = log["TaskClaimed"]
    assert len(list(history(reports, Asked(limit=1_000)))) == claims > 60
    assert sum(total.started for total in statistics(reports, By.day)) == claims
    with reports.read() as unit:
        assert dict(unit.rows("SELECT type, count(*) FROM report_v1.events GROUP BY type")) == dict(log)
        assert all(unit.rows(ready.query(name)[1]) for name in ready.QUERIES)
    words = ["export", "events", "--with-hidden", "--reason", "to a file", "--to", str(tmp_path / "log.jsonl")]
    done = invoke(["--url", ledger.url, *words])
    assert done.exit_code == 0, done.output
    copy = Ledger(f"sqlite:///{tmp_path}/copy.db")
    copy.store.prepare()
    with (tmp_path / "log.jsonl").open("rb") as lines:
        taken = take_in(copy.store, lines)
    assert (taken.count, taken.hexdigest()) == (digest_of(ledger.store).count, digest_of(ledger.store).hexdigest())
    copy.close()


def test_a_log_is_taken_into_a_file_only(postgres_url: str) -> None:
    """A server numbers its positions itself: the import is refused before anything is stored, and says what to do."""
    ledger = Ledger(postgres_url)
    ledger.store.prepare()
    with pytest.raises(InvalidOption, match="a log is imported into a SQLite file"):
        take_in(ledger.store, [])
    done = invoke(["--url", postgres_url, "import", "events", "-"], stdin="")
    assert (done.exit_code, done.output.startswith("error: a log is imported into a SQLite file")) == (2, True)
    ledger.close()
