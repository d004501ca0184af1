"""Take a migration back: one operator for each act that is undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.links.console import ConsoleLink
from airflow_migration.links.report import ReportLink
from airflow_migration.operators.base import MigrationOperator, fail_with_the_run
from airflow_migration.operators.by_hand import ByHandOperator
from airflow_migration.operators.preflight import WORDS_KEY
from airflow_migration.operators.report import PAGE, read_steps, reported_run, write_report
from airflow_migration.planning.report import ROLL_BACK
from airflow_migration.planning.roll_back import RollBackOptions, RollBackPlan, make_roll_back_plan
from airflow_migration.planning.roll_back_report import build_roll_back_report
from airflow_migration.settings import settings
from airflow_migration.steps import roll_back

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

PREFLIGHT = "preflight_roll_back"


class RollBackOperator(MigrationOperator):
    """Runs one step of the plan that ``preflight_roll_back`` made."""

    def __init__(self, *, plan_task_id: str = PREFLIGHT, **kwargs: Any) -> None:
        super().__init__(plan_task_id=plan_task_id, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        return self.carry_out(context, lambda: type(self).step(self.roll_back(context), self.listen))

    def options(self, context: Context) -> RollBackOptions:
        return RollBackOptions.from_params(context["params"], given=tuple(context["dag_run"].conf or {}))

    def roll_back(self, context: Context) -> roll_back.RollBack:
        """Everything the step needs; the connections are read anew by each task."""
        plan = RollBackPlan.from_json(context["ti"].xcom_pull(task_ids=self.plan_task_id)["result"])
        return roll_back.RollBack(
            plan=plan,
            source=DeploymentHook(deployment_conn_id=plan.options.source_conn_id).deployment(),
            target=DeploymentHook(deployment_conn_id=plan.options.target_conn_id).deployment(),
            workshop=settings(),
            running=self._running,
        )


class OpenSourceOperator(RollBackOperator):
    """Lets connections to the source in again, should a killed clone have left them shut out."""

    def execute(self, context: Context) -> dict[str, Any]:
        return self.carry_out(context, lambda: self._open(self.options(context)))

    def _open(self, options: RollBackOptions) -> bool:
        source = DeploymentHook(deployment_conn_id=options.source_conn_id).deployment()
        return roll_back.allow_connections(options, source, self.listen)


class PreflightRollBackOperator(RollBackOperator):
    """Reads the source's journal and looks at the target. XCom ``plan_in_words`` is the plan as Markdown."""

    def execute(self, context: Context) -> dict[str, Any]:
        return self.carry_out(context, lambda: self._plan(context).to_json())

    def _plan(self, context: Context) -> RollBackPlan:
        options = self.options(context)
        plan = make_roll_back_plan(
            options=options,
            source=DeploymentHook(deployment_conn_id=options.source_conn_id).deployment(),
            target=DeploymentHook(deployment_conn_id=options.target_conn_id).deployment(),
            listener=self.listen,
        )
        context["ti"].xcom_push(key=WORDS_KEY, value=plan.in_words())
        return plan


class PauseTargetOperator(RollBackOperator):
    """Begins the roll back in the source's journal and pauses every DAG of the target."""

    step = staticmethod(roll_back.pause_target)


class RestoreTargetSettingsOperator(ByHandOperator, RollBackOperator):
    """Gives the target its own key and database address again, or has a person do it."""

    step = staticmethod(roll_back.restore_target_settings)


class PutBackTargetDatabaseOperator(RollBackOperator):
    """Renames the migrated database away, and the one that was set aside back."""

    step = staticmethod(roll_back.put_back_target_database)


class RestartTargetAgainOperator(ByHandOperator, RollBackOperator):
    """Restarts the target's processes, or has a person do it."""

    step = staticmethod(roll_back.restart_target)


class LiftFenceOperator(RollBackOperator):
    """Lets the source write again."""

    step = staticmethod(roll_back.lift_fence)


class ResumeSourceAgainOperator(RollBackOperator):
    """Unpauses on the source exactly what was active."""

    step = staticmethod(roll_back.resume_source)


class DropCreatedOperator(RollBackOperator):
    """Drops what the migration made; without `purge` the backup stays."""

    step = staticmethod(roll_back.drop_created)


class CloseJournalOperator(RollBackOperator):
    """Ends the migration in the source's journal: it is rolled back."""

    step = staticmethod(roll_back.close_journal)


class ReportRollBackOperator(RollBackOperator):
    """Writes ``report.json`` and ``report.html`` of the roll back into a folder of its own beside the migration's.

    :param step_task_ids: the steps in their order
    :param approval_task_id: the one of them that asks a person; told of where it has ended the run
    :param completion_task_id: is skipped only where somebody has set the run to failed
    :param roll_back_id: id of the roll back's run, templated
    """

    template_fields: Sequence[str] = ("roll_back_id",)
    operator_extra_links = (ReportLink(), ConsoleLink())

    def __init__(
        self,
        *,
        step_task_ids: Sequence[str],
        approval_task_id: str,
        completion_task_id: str,
        roll_back_id: str = "{{ run_id }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step_task_ids = step_task_ids
        self.approval_task_id = approval_task_id
        self.completion_task_id = completion_task_id
        self.roll_back_id = roll_back_id

    def execute(self, context: Context) -> dict[str, Any]:
        ti = context["ti"]
        plan = ti.xcom_pull(task_ids=self.plan_task_id)
        if not plan:
            fail_with_the_run(context, self.completion_task_id)
            raise AirflowSkipException("Preflight did not pass, so nothing was touched")
        steps, errors = read_steps(context, self.step_task_ids, self.approval_task_id)
        report = build_roll_back_report(
            run=reported_run(context, ROLL_BACK), plan=plan["result"], steps=steps, errors=errors
        )
        path = write_report(report, report["migration_id"], f"roll_back_{self.roll_back_id}")
        self.log.info("Report: %s (%s)", path, report["status"])
        for sentence in report["left_to_do"]:
            self.log.warning("Left to do: %s", sentence)
        # What every report's XCom has; nothing is compared here, and the cut-over is over.
        common = {"path": str(path), "page": str(path.with_name(PAGE)), "verified": None, "downtime": None}
        told = common | {name: report[name] for name in ("status", "lost_runs", "dropped", "kept")}
        fail_with_the_run(context, self.completion_task_id, told)
        return told
