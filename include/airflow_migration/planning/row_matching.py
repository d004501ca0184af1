"""Match the hashes of two sides' rows, both in the order of their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

EXAMPLES = 20
"""How many rows of a table are named."""
What = Literal["missing", "added", "changed"]
Hashes = tuple[int | None, ...]
"""Of one row: all columns that may not have got a value, then each that may."""


@dataclass(slots=True)
class Found:
    """What the hashes say.

    :param grows: rows that were added are not named
    """

    grows: bool = False
    missing: int = 0
    added: int = 0
    changed: int = 0
    filled: int = 0
    first: list[tuple[int, What]] = field(default_factory=list)

    def note(self, key: int, what: What, count: int) -> None:
        """Count rows of one key, and remember the first of all."""
        setattr(self, what, getattr(self, what) + count)
        if not (self.grows and what == "added"):
            self.first += [(key, what)] * min(count, EXAMPLES - len(self.first))


def groups(rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[int, list[Hashes]]]:
    """Rows that have one hash of their keys: one, where keys are unique."""
    current: int | None = None
    group: list[Hashes] = []
    for row in rows:
        key, *hashes = row
        if key != current and current is not None:
            yield current, group
            group = []
        current = key  # type: ignore[assignment]
        group.append(tuple(hashes))  # type: ignore[arg-type]
    if current is not None:
        yield current, group


def side_by_side(
    before: Iterator[tuple[int, list[Hashes]]], after: Iterator[tuple[int, list[Hashes]]]
) -> Iterator[tuple[int, list[Hashes], list[Hashes]]]:
    """Each key that one of them has, with the rows of both."""
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], one[1], []
            one = next(before, None)
        elif one is None or other[0] < one[0]:
            yield other[0], [], other[1]
            other = next(after, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(before, None), next(after, None)


def match(found: Found, key: int, before: list[Hashes], after: list[Hashes]) -> None:
    """Note how the rows of one key differ; of more than one, equal ones are paired first."""
    here, there = Counter(before), Counter(after)
    left, right = list((here - there).elements()), list((there - here).elements())
    for row in tuple(left):
        filled = next((other for other in right if _only_filled(row, other)), None)
        if filled is not None:
            found.filled += sum(old is None and new is not None for old, new in zip(row[1:], filled[1:], strict=True))
            left.remove(row)
            right.remove(filled)
    changed = min(len(left), len(right))
    found.note(key, "changed", changed)
    found.note(key, "missing", len(left) - changed)
    found.note(key, "added", len(right) - changed)


def _only_filled(before: Hashes, after: Hashes) -> bool:
    return before[0] == after[0] and all(
        old is None or old == new for old, new in zip(before[1:], after[1:], strict=True)
    )
