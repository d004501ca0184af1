from __future__ import annotations

import pytest

from airflow_migration.planning.report_folders import DAG_IDS, folder_name, folder_pattern


@pytest.mark.parametrize(
    "run_id", ["..", ".", "../..", "/etc", "a/../../b", "..\\..", "*", "[a-z]?", "manual__2026+00:00"]
)
def test_no_run_id_leaves_its_folder_or_matches_another(run_id: str) -> None:
    name = folder_name(run_id)
    assert name not in (".", "..")
    assert not set(name) & set("/\\*?[]:")


def test_the_folders_of_two_dags_are_never_the_same() -> None:
    assert len({folder_pattern(dag_id, "manual__1") for dag_id in DAG_IDS}) == len(DAG_IDS)
