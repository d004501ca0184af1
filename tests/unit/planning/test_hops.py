"""The planner finds a way where there is one, and names what can be done where there is none."""

from __future__ import annotations

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import Release, known_releases, release
from airflow_migration.planning.hops import MAX_HOPS, Hop, plan_hops


def path(source: str, target: str) -> list[str]:
    return [hop.release for hop in plan_hops(release(source).head, target)]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("1.10.15", "3.3.2", ["2.11.2", "3.3.2"]),
        ("1.10.4", "3.0.0", ["2.11.2", "3.0.0"]),
        ("2.2.5", "3.3.2", ["2.11.2", "3.3.2"]),
        ("2.6.3", "3.3.2", ["2.11.2", "3.3.2"]),
        ("2.6.3", "3.1.8", ["2.11.2", "3.1.8"]),
        ("2.7.0", "3.0.6", ["3.0.6"]),
        ("2.7.0", "3.3.2", ["3.3.2"]),
        ("2.10.5", "3.3.2", ["3.3.2"]),
        ("3.0.6", "3.3.2", ["3.3.2"]),
        ("1.10.0", "2.11.2", ["2.11.2"]),
        ("1.10.15", "2.0.2", ["2.0.2"]),
    ],
)
def test_the_way_between_releases(source: str, target: str, expected: list[str]) -> None:
    assert path(source, target) == expected


def test_hops_say_which_head_comes_before_and_after() -> None:
    assert plan_hops("03afc6b6f902", "3.3.2") == (
        Hop(number=1, from_head="03afc6b6f902", release="2.11.2", head="5f2621c13b39"),
        Hop(number=2, from_head="5f2621c13b39", release="3.3.2", head="d2f4e1b3c5a7"),
    )


def test_a_database_at_the_targets_head_needs_no_hop() -> None:
    assert plan_hops(release("2.10.3").head, "2.11.2") == ()
    assert plan_hops(release("2.11.2").head, "2.10.3") == ()
    assert plan_hops(release("3.3.2").head, "3.3.2") == ()


@pytest.mark.parametrize("target", known_releases(), ids=str)
def test_every_pair_of_releases_is_planned_or_refused(target: Release) -> None:
    for source in known_releases():
        if target.number < source.number and target.head != source.head:
            with pytest.raises(InvalidInputError):
                plan_hops(source.head, target.version)
        else:
            check_path(source, target, plan_hops(source.head, target.version))


def check_path(source: Release, target: Release, hops: tuple[Hop, ...]) -> None:
    assert len(hops) <= MAX_HOPS
    assert (hops == ()) == (source.head == target.head)
    assert [hop.number for hop in hops] == list(range(1, len(hops) + 1))
    heads = [source.head, *(hop.head for hop in hops)]
    assert [hop.from_head for hop in hops] == heads[:-1]
    assert heads[-1] == target.head
    numbers = [source.number, *(release(hop.release).number for hop in hops)]
    assert numbers == sorted(numbers)
    for before, hop in zip(numbers, hops, strict=False):
        assert before >= (2, 7, 0) or not hop.release.startswith("3.")


def test_a_downgrade_is_refused_and_the_lowest_target_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_hops(release("3.3.2").head, "2.11.2")
    assert "3.3.0" in caught.value.remedy


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_hops(release("2.2.5").head, "2.11.99")
    assert "2.11.99" in caught.value.problem


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_hops("deadbeef0000", "3.3.2")
    assert "deadbeef0000" in caught.value.problem


def test_a_half_upgraded_source_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_hops("9fc3fc5de720", "3.3.2")
    assert "2.11.2" in caught.value.problem
    assert "3.0.0" in caught.value.problem


def test_more_upgrades_than_can_be_run_are_refused_with_a_halfway_house() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_hops(release("1.10.15").head, "3.3.2", limit=1)
    assert "2.11.2" in caught.value.remedy
