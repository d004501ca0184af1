"""Check everything and make the plan, before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import MigrationError, PreflightError
from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.records import earlier_runs
from airflow_migration.planning import approval_text
from airflow_migration.planning.last_rehearsal import consult
from airflow_migration.planning.options import Options
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.preflight import ControlRun, make_plan
from airflow_migration.planning.record_report import pair_of
from airflow_migration.planning.samples import is_asked
from airflow_migration.settings import settings
from airflow_migration.steps.migration import build_runtime

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

WORDS_KEY = "plan_in_words"
SUBJECT_KEY = "approval_subject"
FINDINGS_KEY = "findings"
"""What a preflight has found that ended with a blocker; otherwise that is in the plan."""


class PreflightOperator(MigrationOperator):
    """Makes the plan of the run from its params, and gets ready the releases that it needs.

    Nothing of source and target is changed. XCom ``plan_in_words`` is the plan as Markdown, with
    what rehearsals have said of it, and ``approval_subject`` the same in one line.

    :param migration_id: id of the migration, templated
    """

    template_fields: Sequence[str] = ("migration_id",)

    def __init__(self, *, migration_id: str = "{{ run_id }}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.migration_id = migration_id

    def execute(self, context: Context) -> dict[str, Any]:
        return self.carry_out(context, lambda: self.make_plan(context).to_json())

    def fail(self, context: Context, err: MigrationError) -> NoReturn:
        if isinstance(err, PreflightError):
            context["ti"].xcom_push(key=FINDINGS_KEY, value=list(err.findings))
        super().fail(context, err)

    def make_plan(self, context: Context) -> Plan:
        """Run every check and decide."""
        run = context["dag_run"]
        options = Options.from_params(context["params"], given=tuple(run.conf or {}))
        target = DeploymentHook(deployment_conn_id=options.target_conn_id).deployment()
        plan = make_plan(
            options=options,
            migration_id=self.migration_id,
            control_run=ControlRun(dag_id=run.dag_id, run_id=run.run_id),
            source=DeploymentHook(deployment_conn_id=options.source_conn_id).deployment(),
            target=target,
            bin_path=settings().bin_path,
            listener=self.listen,
            dumps_path=settings().dumps_path,
        )
        self.prepare(plan, target)
        plan = self._consult(plan)
        context["ti"].xcom_push(key=WORDS_KEY, value=approval_text.body(plan))
        context["ti"].xcom_push(key=SUBJECT_KEY, value=approval_text.subject(plan))
        return plan

    def prepare(self, plan: Plan, target: Deployment) -> None:
        """Get ready the releases that the plan needs."""
        runtime = build_runtime(target, settings())
        self._running.add(runtime.stop)
        target_itself = [plan.target_release] if is_asked(plan.target_release) else []
        for release in dict.fromkeys([*(hop.release for hop in plan.hops), *target_itself]):
            runtime.prepare(release, self.listen)

    def _consult(self, plan: Plan) -> Plan:
        """Add what rehearsals have said of it."""
        earlier = earlier_runs(settings().reports_path, pair_of(plan.to_json()), self.listen)
        consulted = consult(plan, rehearsals=earlier.rehearsals, migrations=earlier.migrations)
        for finding in consulted.findings[len(plan.findings) :]:
            self.listen(f"{finding.severity}: {finding.summary}")
        return consulted
