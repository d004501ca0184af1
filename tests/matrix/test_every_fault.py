"""One migration of a database that has every fault which a repair mends, and its report for the guide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from tests.integration.operators.conftest import Run
from tests.matrix.every_fault import EVERY_FAULT
from tests.matrix.migrating import assert_accounted_for, environments, go, load_runbook, report_of

from airflow_migration.metadata.repairs.registry import REPAIRS
from airflow_migration.planning.report_page import page_of
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

TARGET = "3.3.2"
PAGES = Path(__file__).parents[2] / "docs" / "every-fault"
ONLY_FROM_3 = frozenset({"serialized_dag_nul"})
"""Repairs of what no database of 1.10 or 2 can have."""
TAKEN_ALONG = frozenset({"task_reschedule_without_task_instance", "permission_incomplete"})
"""From 1.10: moved with the task instances that they belong to, and deleted by 2.0 with all old permissions."""


@pytest.fixture(scope="module")
def done() -> dict[str, frozenset[str]]:
    """Source → the repairs that had something to do."""
    return {}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("release", EVERY_FAULT)
def test_every_fault_at_once_is_found_repaired_and_accounted_for(
    release: str,
    new_run: Callable[..., Run],
    connect: Callable[..., None],
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
    done: dict[str, frozenset[str]],
) -> None:
    source = corpus(release)
    with source.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(EVERY_FAULT[release]))
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    connect(
        "migration_target",
        source.on(f"{source.database} moved"),
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": environments(runtimes, source, TARGET)},
    )
    results = go(new_run(repairs="all"), load_runbook())
    assert_accounted_for(results["verify"]["result"], source)

    report = report_of(results)
    found = {finding["repair"] for finding in report["findings"] if finding["count"] and finding["repair"]}
    repaired = {repair["id"] for repair in report["repairs"] if repair["count"]}
    assert found - repaired <= TAKEN_ALONG
    done[release] = frozenset(repaired)
    PAGES.mkdir(exist_ok=True)
    page = page_of(report).replace(str(target_env.parent), "/etc/airflow")
    page = page.replace(f"{source.host}:{source.port}", "db.example.org:5432")
    (PAGES / f"{release}.html").write_text(page, encoding="utf-8")


def test_every_repair_had_something_to_do(done: dict[str, frozenset[str]]) -> None:
    if done.keys() != EVERY_FAULT.keys():
        pytest.skip("not every database was migrated")
    assert frozenset().union(*done.values()) == REPAIRS.keys() - ONLY_FROM_3
