"""The tasks that only `rehearse_migration` has; the others are those of `migrate_airflow`."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, ObjectStoragePath

from airflow_migration.assets import REHEARSAL
from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.preflight import PreflightOperator
from airflow_migration.operators.report import report_folder
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.preflight import ControlRun
from airflow_migration.planning.rehearsal import plan_rehearsal
from airflow_migration.planning.rehearsal_event import event_of
from airflow_migration.planning.rehearsal_options import RehearsalOptions
from airflow_migration.planning.report_folders import REHEARSALS
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.settings import settings
from airflow_migration.steps import rehearsal, scratch

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def rehearsal_folder(rehearsal_id: str) -> ObjectStoragePath:
    """Where a rehearsal's report is, and the record of its scratch databases while there are any."""
    return report_folder(REHEARSALS, rehearsal_id)


def _address_of(conn_id: str) -> DatabaseAddress:
    return DeploymentHook(deployment_conn_id=conn_id).deployment().address


class PreflightRehearsalOperator(PreflightOperator):
    """Drops what dead rehearsals have left, runs every check, makes the plan, and gets the releases ready.

    Findings that stand in the way of the migration only are in the report and do not end the rehearsal.
    """

    def make_plan(self, context: Context) -> Plan:
        run = context["dag_run"]
        options = RehearsalOptions.from_params(context["params"], given=tuple(run.conf or {}))
        scratch.sweep(report_folder(REHEARSALS), self.migration_id, _address_of, self.listen)
        target = DeploymentHook(deployment_conn_id=options.target_conn_id).deployment()
        plan = plan_rehearsal(
            options=options,
            rehearsal_id=self.migration_id,
            control_run=ControlRun(dag_id=run.dag_id, run_id=run.run_id),
            source=DeploymentHook(deployment_conn_id=options.source_conn_id).deployment(),
            target=target,
            scratch=_address_of(options.scratch),
            bin_path=settings().bin_path,
            listener=self.listen,
            dumps_path=settings().dumps_path,
        )
        self.prepare(plan, target)
        return plan


class CopySourceOperator(MigrationOperator):
    """Copies the source, which goes on, to a scratch database."""

    def execute(self, context: Context) -> dict[str, Any]:
        migration = self.migration(context)
        folder = rehearsal_folder(migration.id)
        return self.carry_out(context, partial(rehearsal.copy_source, migration, folder, self.listen))


class RestoreScratchOperator(MigrationOperator):
    """Makes the working database of the copy; without old history if so asked."""

    step = staticmethod(rehearsal.make_working_database)


class RehearsalCompleteOperator(MigrationOperator):
    """Ends a rehearsal in which every step went well, and tells others of it by the asset.

    :param report_task_id: task that has written the report
    """

    def __init__(self, *, report_task_id: str = "report", **kwargs: Any) -> None:
        super().__init__(outlets=[REHEARSAL], **kwargs)
        self.report_task_id = report_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        path = context["ti"].xcom_pull(task_ids=self.report_task_id)["path"]
        event = event_of(json.loads(ObjectStoragePath(path).read_text()), path)
        context["outlet_events"][REHEARSAL].extra = event
        return self.carry_out(context, lambda: event)


class DropScratchOperator(MigrationOperator):
    """Drops the rehearsal's databases, whatever happened."""

    def execute(self, context: Context) -> dict[str, Any]:
        folder = rehearsal_folder(context["dag_run"].run_id)
        record = scratch.read_record(folder)
        if record is None:
            raise AirflowSkipException("No scratch database was made")
        return self.carry_out(context, lambda: scratch.drop_recorded(folder, _address_of(record.conn_id), self.listen))
