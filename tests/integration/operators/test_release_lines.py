"""Of all pairs of releases, those with something that no other test here has; the rest are in tests/matrix."""

from __future__ import annotations

from collections.abc import Callable

from tests.matrix.migrating import Outcome, migrate

__all__ = ["migrate"]


def test_a_3_0_source_arrives(migrate: Callable[[str, str], Outcome]) -> None:
    assert migrate("3.0.6", "3.3.2").hops == ("3.3.2",)


def test_a_2_0_target_that_shows_no_run_without_its_dags_file_is_verified(
    migrate: Callable[[str, str], Outcome],
) -> None:
    assert "fab_id_default" in migrate("1.10.10", "2.0.2").repairs
