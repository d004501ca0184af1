"""What the tests of continuity share: one migration by the library's steps, and questions to a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.planning.options import Options
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.preflight import ControlRun, make_plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, cutover, quiesce, unpausing, upgrade, verify
from airflow_migration.steps.migration import Migration, Workshop

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

TARGET = "3.3.2"
SOON = 240.0
"""Seconds within which the target's processes do what they are expected to do."""


@dataclass(frozen=True)
class Run:
    """A migration up to the target's start.

    :param results: step → what it returned
    """

    migration: Migration
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> DatabaseAddress:
        return self.migration.final

    @property
    def env_file(self) -> Path:
        control = self.migration.target.control
        assert control
        return Path(control["path"])


def plan_migration(
    source: DatabaseAddress,
    final: DatabaseAddress,
    *,
    fernet_key: Secret,
    runtimes: VenvRuntime,
    dags_folder: Path,
    folder: Path,
    cron_timetable: str = "data_interval",
) -> Run:
    """A planned migration to 3.3.2 on the same server, into a target with an env file."""
    env_file = folder / "airflow.env"
    login = f"{final.user}:{quote(final.password.reveal())}@{final.host}:{final.port}"
    env_file.write_text(
        f"AIRFLOW__CORE__FERNET_KEY=x\nAIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://{login}/elsewhere\n"
    )
    environments = {release: str(runtimes.prepare(release, lambda _: None)) for release in ("2.11.2", TARGET)}
    there = Deployment(address=source, fernet_keys=fernet_key, runtime={"kind": "venv"})
    here = Deployment(
        address=final,
        airflow_version=TARGET,
        control={"kind": "env_file", "path": str(env_file)},
        runtime={"kind": "venv", "environments": environments},
        dags_folder=str(dags_folder),
    )
    plan = make_plan(
        options=Options(backup=False, require_approval=False, cron_timetable=cron_timetable),
        migration_id="continuity",
        control_run=ControlRun(dag_id="x", run_id="x"),
        source=there,
        target=here,
        bin_path=None,
        listener=lambda _: None,
    )
    workshop = Workshop(runtimes_path=folder, dumps_path=folder, reports_path=str(folder))
    return Run(Migration(plan=Plan.from_json(plan.to_json()), source=there, target=here, workshop=workshop))


def upgrade_copy(run: Run) -> None:
    """Every step of the runbook from the pause to the last upgrade."""
    for step in (quiesce.pause_dags, quiesce.settle, copy.clone_source, copy.make_working_database):
        step(run.migration, print)
    upgrade.swap_fernet_key(run.migration, print)
    for number in range(1, len(run.migration.plan.hops) + 1):
        upgrade.repair_before_hop(run.migration, number, print)
        upgrade.upgrade_by_hop(run.migration, number, print)


def hand_over(run: Run, *, after_mending: Callable[[], None] = lambda: None) -> None:
    """Every later step of the runbook."""
    run.results["mend_schedules"] = upgrade.mend_schedules(run.migration, print)
    after_mending()
    steps: tuple[Callable[..., Any], ...] = (
        verify.verify_working_database,
        cutover.fence_source,
        cutover.point_target,
        unpausing.unpause_dags,
    )
    for step in steps:
        run.results[step.__name__] = step(run.migration, print)


def rows(address: DatabaseAddress, statement: str, *values: object) -> list[tuple[object, ...]]:
    with address.connect() as session:
        return session.execute(statement.encode(), values).fetchall()


def scheduled(address: DatabaseAddress, dag_id: str, date: str = "logical_date") -> list[datetime]:
    """Logical dates of the runs that a scheduler made, in order.

    :param date: the column, which is ``execution_date`` before 3.0
    """
    kind = "run_id LIKE 'scheduled%%'"
    found = rows(address, f"SELECT {date} FROM dag_run WHERE dag_id = %s AND {kind} ORDER BY 1", dag_id)
    return [moment for (moment,) in found if isinstance(moment, datetime)]
