"""Rows of both sides are paired by the hashes of their keys, whatever there is of each."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_migration.planning.row_matching import EXAMPLES, Found, groups, match, side_by_side

Rows = Sequence[tuple[int | None, ...]]


def compare(before: Rows, after: Rows, grows: bool = False) -> Found:
    found = Found(grows=grows)
    for key, here, there in side_by_side(groups(before), groups(after)):
        match(found, key, here, there)
    return found


def test_rows_are_missing_added_and_changed() -> None:
    found = compare([(1, 10), (2, 20), (3, 30), (9, 90)], [(2, 20), (3, 31), (4, 40), (9, 90)])
    assert (found.missing, found.changed, found.added, found.filled) == (1, 1, 1, 0)
    assert found.first == [(1, "missing"), (3, "changed"), (4, "added")]


def test_only_what_was_null_may_be_filled() -> None:
    assert compare([(1, 10, None, None)], [(1, 10, 5, None)]) == Found(filled=1)
    assert compare([(1, 10, 5)], [(1, 10, None)]).changed == 1
    assert compare([(1, 10, None)], [(1, 11, 5)]).changed == 1


def test_rows_of_one_key_are_paired_however_many_there_are() -> None:
    many = 200_000
    found = compare([(1, 10)] * many + [(1, 11)], [(1, 10)] * (many - 1) + [(1, 11)])
    assert (found.missing, found.changed, found.added) == (1, 0, 0)


def test_the_first_twenty_are_remembered_and_all_are_counted() -> None:
    found = compare([], [(key, 0) for key in range(100)])
    assert (found.added, len(found.first)) == (100, EXAMPLES)
    assert compare([(3, 0)], [(key, 0) for key in range(4, 100)], grows=True).first == [(3, "missing")]
