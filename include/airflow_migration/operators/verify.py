"""Verify the working database; what is not proven stops the migration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_migration.exceptions import VerificationError
from airflow_migration.links.console import ConsoleLink
from airflow_migration.links.report import ReportLink
from airflow_migration.operators.base import MigrationOperator
from airflow_migration.steps import verify

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class VerifyOperator(MigrationOperator):
    """Compares both copies; a difference that nothing explains fails the run before anything is unpaused.

    The comparison is in XCom also when it fails.
    """

    operator_extra_links = (ReportLink(), ConsoleLink())
    step = staticmethod(verify.verify_working_database)

    def execute(self, context: Context) -> dict[str, Any]:
        envelope = super().execute(context)
        result = envelope["result"]
        if not result["verified"]:
            context["ti"].xcom_push(key="return_value", value=envelope)
            self.fail(
                context,
                VerificationError(
                    f"{len(result['problems'])} unexplained difference(s): {'; '.join(result['problems'][:10])}",
                    where="verification",
                    remedy="Nothing was unpaused and the source's copy is untouched; look at the report",
                ),
            )
        return envelope
