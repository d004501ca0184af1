"""Let a person approve the plan before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.standard.exceptions import HITLRejectException
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.definitions.param import ParamsDict

from airflow_migration.exceptions import MigrationError
from airflow_migration.links.console import ConsoleLink
from airflow_migration.operators.base import leave_error

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class ApprovePlanOperator(ApprovalOperator):
    """Shows the plan in words; skipped when no approval is required. A rejection fails the run, for good."""

    operator_extra_links = (ConsoleLink(),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fail_on_reject=True, **kwargs)

    def validate_params(self) -> None:
        """There is no form to fill in. On Airflow 3.1 the DAG's params would be one, refused without all defaults."""
        self.params = ParamsDict()

    def execute(self, context: Context) -> Any:
        if not context["params"]["require_approval"]:
            raise AirflowSkipException("No approval is required")
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        try:
            return super().execute_complete(context, event)
        except HITLRejectException:
            rejected = MigrationError(
                "the plan was rejected",
                where=self.task_id,
                remedy="No step of it was begun. Trigger a new run once its params are as you wish",
            )
            leave_error(context, rejected)
            raise AirflowFailException(str(rejected)) from None
