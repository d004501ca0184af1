"""One whole migration by the DAG's own tasks, from a database that a release has written to another release."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from tests.integration.operators.conftest import Run

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.counts import count_tables
from airflow_migration.metadata.encryption import read_values
from airflow_migration.metadata.releases import read_head
from airflow_migration.planning.hops import plan_hops
from airflow_migration.planning.report import MIGRATION, ReportedRun, build_report
from airflow_migration.planning.samples import is_asked
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

DAG_FILE = Path(__file__).parents[2] / "dags" / "migrate_airflow.py"
KNOWN = {("connection", "pg_dwh", "password"): "s3cret", ("variable", "token", "val"): "t0k"}
"""In every database of tests/databases."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one migration, out of its report.

    :param repairs: repair → rows
    :param downtime: seconds
    """

    hops: tuple[str, ...]
    verified: bool
    repairs: dict[str, int]
    downtime: float


@pytest.fixture
def migrate(
    new_run: Callable[..., Run],
    connect: Callable[..., None],
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
) -> Callable[[str, str], Outcome]:
    """Migrates the database of one release to another on the same server, and looks at what arrived."""

    def run_all(release: str, target: str) -> Outcome:
        source = corpus(release)
        active, moved = activate(source), source.on(f"{source.database} moved")
        connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
        connect(
            "migration_target",
            moved,
            airflow_version=target,
            control={"kind": "env_file", "path": str(target_env)},
            runtime={"kind": "venv", "environments": environments(runtimes, source, target)},
        )
        results = go(new_run(), load_runbook())
        assert_accounted_for(results["verify"]["result"], source)
        assert active_dags(moved) == active
        with moved.connect() as session:
            values = {(value.table, value.name, value.column): value for value in read_values(session, fernet_key)}
            assert read_head(session) == results["preflight"]["result"]["target_head"]
        assert {key: values[key].value.reveal() for key in KNOWN} == KNOWN
        assert {value.condition for value in values.values()} <= {"readable", "plain"}
        return outcome_of(results)

    return run_all


NOT_COMPARED = frozenset(
    {
        "alembic_version",
        "alembic_version_fab",
        "callback_request",
        "dag_code",
        "dag_priority_parsing_request",
        "dag_stats",
        "import_error",
        "kube_resource_version",
        "kube_worker_uuid",
        "serialized_dag",
    }
)
"""Tables that upgrades drop or empty, and that hold nothing which is not written anew."""


def assert_accounted_for(result: dict[str, Any], source: DatabaseAddress) -> None:
    """Each row of the source is in the target or under a named cause, and says what it said."""
    assert list(result["problems"]) == []
    assert result["verified"] is True
    with source.connect() as session:
        rows_in = count_tables(session)
    assert {entry["table"]: entry["rows_in"] for entry in result["ledger"]} == rows_in
    for entry in result["ledger"]:
        assert entry["rows_in"] == entry["rows_out"] + sum(cause["rows"] for cause in entry["causes"])
        assert entry["unaccounted"] == 0
    compared = {content["table"]: content for content in result["contents"]}
    assert {table for table, rows in rows_in.items() if rows} - compared.keys() <= NOT_COMPARED
    assert not any(content["missing"] or content["changed"] for content in compared.values() if not content["cause"])
    assert compared["task_instance"]["rows"] == rows_in["task_instance"]
    assert {"state", "start_date", "end_date"} <= set(compared["task_instance"]["compared"])
    assert {"state", "conf"} <= set(compared["dag_run"]["compared"])
    assert "is_paused" in compared["dag"]["compared"]


def activate(source: DatabaseAddress) -> set[str]:
    """The active DAGs of a source; where somebody has paused them all, two are made active."""
    if not active_dags(source):
        with source.connect(read_only=False) as session:
            session.execute(
                "UPDATE dag SET is_paused = false WHERE dag_id IN"
                " (SELECT dag_id FROM dag_run GROUP BY dag_id ORDER BY count(*) DESC, dag_id LIMIT 2)"
            )
    active = active_dags(source)
    assert active
    return active


def active_dags(address: DatabaseAddress) -> set[str]:
    with address.connect() as session:
        return {str(row[0]) for row in session.execute("SELECT dag_id FROM dag WHERE NOT is_paused")}


def environments(runtimes: Any, source: DatabaseAddress, target: str) -> dict[str, str]:
    """The releases that the migration runs, built where they are not there yet."""
    with source.connect() as session:
        hops = [hop.release for hop in plan_hops(read_head(session), target)]
    found = {}
    for release in {*hops, target}:
        if not is_asked(release):
            continue
        try:
            found[release] = str(runtimes.prepare(release, lambda line: None))
        except InvalidInputError as err:
            pytest.skip(str(err))
    return found


def load_runbook() -> list[Any]:
    """The DAG's tasks in their order."""
    spec = importlib.util.spec_from_file_location("migrate_airflow_of_the_matrix", DAG_FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [*module.runbook, module.migration_complete]


def go(run: Any, tasks: list[Any]) -> dict[str, Any]:
    """Run the tasks one after the other; what each left, the skipped ones left out."""
    results: dict[str, Any] = {}
    for task in tasks:
        try:
            results[task.task_id] = run.execute(task)
        except AirflowSkipException:
            continue
    return results


def report_of(results: dict[str, Any]) -> dict[str, Any]:
    """The report of a run that has ended well."""
    steps = {name: result for name, result in results.items() if name != "preflight"}
    plan = results["preflight"]["result"]
    run = ReportedRun(kind=MIGRATION, dag_id="migrate_airflow", run_id="matrix", started="", finished="")
    report = build_report(run=run, migration_id="matrix", plan=plan, steps=steps, errors={}, complete=True)
    assert json.dumps(report)
    return report


def outcome_of(results: dict[str, Any]) -> Outcome:
    """What a run's report says of it."""
    report = report_of(results)
    plan = report["plan"]
    repairs: dict[str, int] = {}
    for each in report["repairs"]:
        repairs[each["id"]] = repairs.get(each["id"], 0) + each["count"]
    return Outcome(
        hops=tuple(hop["release"] for hop in plan["hops"]),
        verified=report["verified"],
        repairs=repairs,
        downtime=report["downtime"]["seconds"],
    )
