"""Reckon with ranges of positions: which ones a view has passed, which are left to be read, where a gap may fill. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]
"""First and last position, both within."""
NEWEST = 2**63 - 1


def ranges_of(positions: Iterable[int]) -> list[Range]:
    """Return ascending *positions* as ranges, as few as there can be."""
    found: list[Range] = []
    for position in positions:
        if found and found[-1][1] == position - 1:
            found[-1] = found[-1][0], position
        else:
            found.append((position, position))
    return found


def between(ranges: Sequence[Range], after: int, upto: int = NEWEST) -> list[Range]:
    """Return what of the positions after *after* up to *upto* lies in none of *ranges*, which ascend."""
    found = []
    for first, last in ranges:
        if first > upto:
            break
        if first > after + 1:
            found.append((after + 1, first - 1))
        after = max(after, last)
    if after < upto:
        found.append((after + 1, upto))
    return found


def is_whole(ranges: Sequence[Range], positions: Sequence[int], after: int, upto: int) -> bool:
    """Return whether *positions*, which lie in none of *ranges*, and the *ranges* are all there is after *after*."""
    within = sum(
        min(last, upto) - max(first, after + 1) + 1 for first, last in ranges if first <= upto and last > after
    )
    return within + len(positions) == upto - after
