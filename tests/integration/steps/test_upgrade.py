"""The target's key is the source's, or stays its own where the source has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.secret import Secret
from airflow_migration.steps import quiesce, upgrade
from airflow_migration.steps.migration import Migration

OWN = Secret("b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=")


@pytest.mark.parametrize("source_has_a_key", [True, False])
def test_a_target_keeps_its_key_where_the_source_has_none(
    migration: Callable[..., Migration], tmp_path: Path, fernet_key: Secret, source_has_a_key: bool
) -> None:
    path = tmp_path / "airflow.env"
    path.write_text(f"AIRFLOW__CORE__FERNET_KEY={OWN.reveal()}\n")
    made = migration(control={"kind": "env_file", "path": str(path)})
    quiesce.pause_dags(made, lambda message: None)
    if not source_has_a_key:
        made = replace(made, source=replace(made.source, fernet_keys=Secret("")))
    result = upgrade.swap_fernet_key(made, lambda message: None)
    assert bool(result.changed) is source_has_a_key
    assert EnvFile(str(path)).fernet_keys() == (fernet_key if source_has_a_key else OWN)
