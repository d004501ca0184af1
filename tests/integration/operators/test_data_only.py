"""Rows alone by the DAG's own tasks: values rewritten with the target's key, and a roll back by the other DAG's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from tests.integration.operators.conftest import Run
from tests.integration.steps.fresh_targets import create, forget_everything, own, rows

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.metadata.encryption import read_values
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

ROLL_BACK = Path(__file__).parents[3] / "dags" / "roll_back_migration.py"


def go_back(run: Run) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("roll_back_dag", ROLL_BACK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = {}
    for task in module.dag.topological_sort():
        with suppress(AirflowSkipException):
            results[task.task_id] = run.execute(task)
    return results


@pytest.mark.parametrize("fernet", ["swap", "reencrypt"])
def test_the_newest_release_reads_what_arrived_and_has_its_own_again_afterwards(
    migrate: Callable[[Run], dict[str, Any]],
    new_run: Callable[..., Run],
    new_roll_back: Callable[..., Run],
    connect: Callable[..., None],
    corpus: Callable[[str], DatabaseAddress],
    newer_server: DatabaseAddress,
    load_database: Callable[[DatabaseAddress, str], None],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
    fernet: str,
) -> None:
    source = corpus("3.3.2")
    with source.connect(read_only=False) as conn:
        conn.execute("UPDATE dag SET is_paused = true")
        conn.execute("UPDATE dag SET is_paused = false WHERE dag_id = (SELECT min(dag_id) FROM dag_run)")
    target = newer_server.on(f"{source.database} {fernet}")
    create(newer_server, target.database)
    load_database(target, "3.3.2")
    forget_everything(target)
    target = own(newer_server, target)
    before, settings = rows(target), target_env.read_text()
    own_key = EnvFile(str(target_env)).get("AIRFLOW__CORE__FERNET_KEY") or ""
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    environment = str(runtimes.prepare("3.3.2", lambda line: None))
    connect(
        "migration_target",
        target,
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": {"3.3.2": environment}},
    )
    run = new_run(transfer="data_only", fernet=fernet)
    done = migrate(run)
    assert done["verify"]["verified"]
    assert all(sample["matches"] for sample in done["verify"]["samples"])
    assert any(sample["command"].startswith("connections get") for sample in done["verify"]["samples"])
    assert done["quiet_target"]["instructions"] == ()
    assert done["unpause_dags"]["unpaused"] == 1
    key = own_key if fernet == "reencrypt" else fernet_key.reveal()
    assert EnvFile(str(target_env)).get("AIRFLOW__CORE__FERNET_KEY") == key
    with target.connect() as conn:
        values = {(value.table, value.name): value for value in read_values(conn, Secret(key))}
    assert values["variable", "token"].value.reveal() == "t0k"
    assert values["variable", "token"].condition == "readable"

    back = new_roll_back(migration_id=run.run_id)
    go_back(back)
    assert rows(target) == before
    assert target_env.read_text() == settings
    with source.connect() as conn:
        assert conn.execute("SELECT count(*) FROM dag WHERE NOT is_paused").fetchone() == (1,)
