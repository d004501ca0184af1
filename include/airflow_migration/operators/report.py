"""Write the report, whatever happened."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_migration.links.console import ConsoleLink
from airflow_migration.links.report import ReportLink
from airflow_migration.operators.base import MigrationOperator, errors_of, fail_with_the_run
from airflow_migration.operators.preflight import FINDINGS_KEY
from airflow_migration.operators.records import earlier_runs, keep_record
from airflow_migration.planning.record_report import pair_of
from airflow_migration.planning.rehearsal_report import look_back
from airflow_migration.planning.report import MIGRATION, REHEARSAL, ReportedRun, build_report
from airflow_migration.planning.report_folders import REHEARSALS, folder_name
from airflow_migration.planning.report_page import page_of, plain_page
from airflow_migration.settings import settings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

PAGE = "report.html"
log = logging.getLogger(__name__)

FOLDERS = {MIGRATION: (), REHEARSAL: (REHEARSALS,)}


class ReportOperator(MigrationOperator):
    """Collects what every step left and writes ``report.json`` and ``report.html``.

    The XCom is the report's path and verdict.

    :param step_task_ids: the steps in their order
    :param approval_task_id: the one of them that asks a person; told of where it has ended the run
    :param last_task_id: the migration is complete when this task has a result
    :param completion_task_id: is skipped only where somebody has set the run to failed
    :param kind: ``migration`` or ``rehearsal``
    :param migration_id: id of the migration, templated
    """

    template_fields: Sequence[str] = ("migration_id",)
    operator_extra_links = (ReportLink(), ConsoleLink())

    def __init__(
        self,
        *,
        step_task_ids: Sequence[str],
        last_task_id: str,
        completion_task_id: str,
        approval_task_id: str | None = None,
        kind: Literal["migration", "rehearsal"] = MIGRATION,
        migration_id: str = "{{ run_id }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step_task_ids = step_task_ids
        self.last_task_id = last_task_id
        self.completion_task_id = completion_task_id
        self.approval_task_id = approval_task_id
        self.kind = kind
        self.migration_id = migration_id

    def execute(self, context: Context) -> dict[str, Any]:
        ti = context["ti"]
        steps, errors = read_steps(context, self.step_task_ids, self.approval_task_id)
        plan = steps.get(self.plan_task_id)
        report = build_report(
            run=reported_run(context, self.kind),
            migration_id=self.migration_id,
            plan=plan["result"] if plan else None,
            blocked_by=ti.xcom_pull(task_ids=self.plan_task_id, key=FINDINGS_KEY) or (),
            # The plan has a place of its own in the report.
            steps=steps | ({self.plan_task_id: plan | {"result": None}} if plan else {}),
            errors=errors,
            complete=bool(steps.get(self.last_task_id)),
        )
        self._look_back(report)
        path = write_report(report, *FOLDERS[self.kind], self.migration_id)
        keep_record(settings().reports_path, report)
        self.log.info("Report: %s (%s, verified: %s)", path, report["status"], report["verified"])
        told = {
            "path": str(path),
            "page": str(path.with_name(PAGE)),
            "status": report["status"],
            "verified": report["verified"],
            "downtime": report["downtime"],
        }
        fail_with_the_run(context, self.completion_task_id, told)
        return told

    def _look_back(self, report: dict[str, Any]) -> None:
        """A rehearsal's report says what is new since the one before, and how long the cut-over would take."""
        if self.kind == REHEARSAL and report["plan"]:
            earlier = earlier_runs(settings().reports_path, pair_of(report["plan"]), self.listen, but=report["run_id"])
            report |= look_back(report, rehearsals=earlier.rehearsals, migrations=earlier.migrations)
            for sentence in (report["comparison"] or {"words": ()})["words"]:
                self.log.info("%s", sentence)


def read_steps(
    context: Context, task_ids: Sequence[str], approval_task_id: str | None
) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """What each step has left, and the errors.

    :param approval_task_id: its answer is nobody's result, so without an error it is left out
    """
    ti, errors = context["ti"], errors_of(context, task_ids)
    told = [name for name in task_ids if name != approval_task_id or name in errors]
    return {name: None if name == approval_task_id else ti.xcom_pull(task_ids=name) for name in told}, errors


def reported_run(context: Context, kind: Literal["migration", "rehearsal", "roll_back"]) -> ReportedRun:
    """The run of this task, until now."""
    run, now = context["dag_run"], datetime.now(timezone.utc)
    return ReportedRun(
        kind=kind,
        dag_id=run.dag_id,
        run_id=run.run_id,
        started=(run.start_date or now).isoformat(),
        finished=now.isoformat(),
    )


def write_report(report: Mapping[str, Any], *folders: str) -> ObjectStoragePath:
    """Write ``report.json``, and ``report.html`` beside it, below the reports' path.

    :param folders: run ids that name them
    """
    folder = report_folder(*folders)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False))
    path.with_name(PAGE).write_text(_page(report))
    return path


def _page(report: Mapping[str, Any]) -> str:
    try:
        return page_of(report)
    # Whatever is odd about a report must not turn a run red that went well.
    except Exception:
        log.exception("report.html is plain: its parts could not be laid out")
        return plain_page(report)


def report_folder(*folders: str) -> ObjectStoragePath:
    """Where the report of a run is, or will be.

    :param folders: run ids that name it
    """
    return ObjectStoragePath(settings().reports_path).joinpath(*map(folder_name, folders))
