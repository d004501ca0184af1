"""The release table agrees with itself and with what was read in Airflow's own files."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata import releases

MEASURED = {
    "1.10.10": "952da73b5eff",
    "1.10.15": "03afc6b6f902",
    "2.0.2": "2e42bb497a22",
    "2.2.5": "587bdf053233",
    "2.6.3": "c804e5c76e3e",
    "2.7.3": "405de8318b3a",
    "2.10.5": "5f2621c13b39",
    "2.11.2": "5f2621c13b39",
    "3.0.6": "fe199e1abd77",
    "3.1.8": "509b94a1042d",
    "3.3.2": "d2f4e1b3c5a7",
}


@pytest.mark.parametrize(("version", "head"), MEASURED.items())
def test_a_release_has_the_head_that_its_own_airflow_writes(version: str, head: str) -> None:
    assert releases.release(version).head == head
    assert version in [each.version for each in releases.releases_at(head)]


def test_releases_are_in_order_and_complete_within_each_line() -> None:
    known = releases.known_releases()
    numbers = [each.number for each in known]
    assert numbers == sorted(set(numbers))
    for before, after in pairwise(numbers):
        assert after[:2] != before[:2] or after[2] == before[2] + 1
    assert (known[0].version, releases.newest().version) == ("1.10.0", known[-1].version)


def test_each_release_has_a_date_and_a_python() -> None:
    for each in releases.known_releases():
        assert date(2018, 8, 1) < date.fromisoformat(each.released)
        assert each.pythons


def test_each_head_is_made_of_known_revisions_and_stands_on_all_before_it() -> None:
    known = {each.id for each in releases.revisions()}
    behind: frozenset[str] = frozenset()
    for each in releases.known_releases():
        assert set(each.head.split(",")) <= known
        applied = releases.applied_revisions(each.head)
        assert behind <= applied, each
        behind = applied
    assert behind == known


def test_revisions_stand_after_their_parents() -> None:
    seen: set[str] = set()
    for each in releases.revisions():
        assert set(each.parents) <= seen
        seen.add(each.id)


def test_revisions_between_heads_are_those_an_upgrade_applies() -> None:
    between = releases.revisions_between(releases.release("2.10.5").head, releases.release("3.3.2").head)
    assert len(between) == 96  # as `airflow db migrate` of 3.3.2 printed
    assert between[-1] == releases.release("3.3.2").head
    assert releases.revisions_between(releases.release("2.11.2").head, releases.release("2.10.5").head) == ()


def test_rows_of_several_heads_are_read_in_any_order() -> None:
    found = releases.releases_at("a56c9515abdc,74effc47d867, 004c1210f153")
    assert [each.version for each in found] == ["1.10.5", "1.10.6"]


def test_a_half_applied_upgrade_is_recognised_and_placed() -> None:
    with pytest.raises(InvalidInputError) as caught:
        releases.require_release_head("3c20cacc0044")
    assert "1.10.15" in caught.value.problem
    assert "2.0.0" in caught.value.problem
    before, after = releases.surrounding_releases("9fc3fc5de720")
    assert (str(before), str(after)) == ("2.11.2", "3.0.0")


def test_part_of_several_heads_lies_between_releases() -> None:
    before, after = releases.surrounding_releases("939bb1e647c8")
    assert (str(before), str(after)) == ("1.10.2", "1.10.3")


def test_a_database_older_than_any_release_known_says_so() -> None:
    with pytest.raises(InvalidInputError) as caught:
        releases.require_release_head("e3a246e0dc1")
    assert "1.10.15" in caught.value.remedy


@pytest.mark.parametrize("head", ["deadbeef0000", "", "d2f4e1b3c5a7,deadbeef0000"])
def test_an_unknown_head_is_an_error(head: str) -> None:
    with pytest.raises(InvalidInputError):
        releases.require_release_head(head)


@pytest.mark.parametrize("version", ["2.11.99", "3.0.0b1", "", "latest", "9"])
def test_an_unknown_release_is_an_error(version: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        releases.release(version)
    assert releases.newest().version in caught.value.remedy
