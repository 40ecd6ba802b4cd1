"""Copy a log into another store, event by event at the same positions, and what is kept beside it; resumable, proved."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ledger import deliveries, inbox
from ledger.errors import Conflict
from ledger.output import PRUNING_SQL
from ledger.output import SQL as OUTPUT_SQL
from ledger.statements import statements
from ledger.store import RawEvent, Snapshot, Store, Unit
from ledger.transfer import BATCH, Digest

SQL = statements("ledger", "sql/sqlite/copying.sql")
Attempt = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What both logs have: the count and the digest (see `Digest`) of all events up to *position*."""

    events: int
    position: int
    sha256: str


def compare(source: Store, destination: Store) -> Copied:
    """Return how far the destination has come; an empty one has come to position 0.

    Raises:
        Conflict: It has an event that the source does not have there.
    """
    digest, position = Digest(), 0
    while theirs := _after(destination, position):
        ours = _after(source, position)
        for mine, copy in zip(ours, theirs, strict=False):
            if _plain(mine) != _plain(copy):
                raise Conflict(
                    f"{destination.shown} is no copy of {source.shown}: position {copy[0]} there is {copy[1]} version "
                    f"{copy[2]}, the source goes on with position {mine[0]}, {mine[1]} version {mine[2]}; copy into an "
                    "empty ledger or one that was copied from this source"
                )
            digest.add(copy)
        if len(theirs) > len(ours):
            raise Conflict(
                f"{destination.shown} has events after position {theirs[len(ours) - 1][0] if ours else position}, where "
                f"{source.shown} ends; it has been worked on since it was copied, or is no copy"
            )
        position = theirs[-1][0]
    return Copied(events=digest.count, position=position, sha256=digest.hexdigest())


def _after(store: Store, position: int) -> list[RawEvent]:
    with store.read() as snapshot:
        return snapshot.events_after(position, BATCH)


def _plain(raw: RawEvent) -> RawEvent:
    return raw[0], raw[1], raw[2], raw[3], bytes(raw[4])


def copy_events(source: Store, destination: Store, position: int) -> int:
    """Append what the source has after *position*, where the destination ends; return where it ends then.

    Each batch is a commit: a copy that is cut short goes on from there.

    Raises:
        Conflict: Somebody else appends to the destination.
    """
    with source.read() as snapshot:
        snapshot.head()
        is_arriving = inbox.counts(snapshot)[0] > 0
    if is_arriving:
        with source.write() as unit:
            while not inbox.take_in(unit):
                pass
    while raws := _after(source, position):
        with destination.write() as unit:
            if unit.head() != position:
                raise Conflict(f"somebody else writes to {destination.shown}; stop its workers while it is copied to")
            if not unit.rows(SQL["has_copied"]):
                unit.run(SQL["create_copied"])
            unit.insert_many(SQL["place_event"], [_plain(raw) for raw in raws])
            position = raws[-1][0]
            unit.run(SQL["note_copied"], (position,))
            unit.rows(SQL["go_on_after"], (position,))
    return position


def copied_upto(snapshot: Snapshot) -> int:
    """Return up to which position the log is a copy, where positions may be missing; 0 if it is none."""
    return int(snapshot.rows(SQL["copied_upto"])[0][0]) if snapshot.rows(SQL["has_copied"]) else 0


def copy_beside(source: Store, destination: Store, running: Collection[str]) -> int:
    """Bring kept output, and what hooks for notices were given, to what the source has; return the attempts written.

    Output is compared by its size, that of *running* tasks is copied in any case.
    """
    with source.read() as snapshot:
        snapshot.head()
        ours, listed = _sizes(snapshot), set(snapshot.rows(SQL["all_attempts"]))
        given = snapshot.rows(SQL["deliveries"]) if snapshot.rows(deliveries.SQL["has_deliveries"]) else []
        with destination.write() as unit:
            theirs, known = _sizes(unit), set(unit.rows(SQL["all_attempts"]))
            for attempt in theirs.keys() - ours.keys():
                unit.run(OUTPUT_SQL["drop_attempt"], attempt)
            for row in known - listed:
                unit.run(PRUNING_SQL["forget_attempt"], row)
            unit.insert_many(PRUNING_SQL["put_attempt"], sorted(listed - known))
            if given and not unit.rows(deliveries.SQL["has_deliveries"]):
                unit.run(deliveries.SQL["create_deliveries"])
            for row in given:
                unit.run(SQL["put_delivery"], row)
        changed = [one for one in sorted(ours) if ours[one] != theirs.get(one) or one[0] in running]
        for attempt in changed:
            _copy_output(snapshot, destination, attempt)
    return len(changed)


def _copy_output(snapshot: Snapshot, destination: Store, attempt: Attempt) -> None:
    rows = [(*attempt, number, bytes(body)) for number, body in snapshot.rows(OUTPUT_SQL["chunks"], (*attempt, -1))]
    with destination.write() as unit:
        unit.run(OUTPUT_SQL["drop_attempt"], attempt)
        unit.insert_many(OUTPUT_SQL["put_chunk"], rows)


def _sizes(snapshot: Snapshot | Unit) -> dict[Attempt, tuple[int, int]]:
    return {(row[0], int(row[1])): (int(row[2]), int(row[3])) for row in snapshot.rows(SQL["output_sizes"])}
