"""A migration under way, from its plan and the connections as they are now."""

from __future__ import annotations

from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.planning.plan import Plan
from airflow_migration.settings import settings
from airflow_migration.steps.migration import Migration, Running


def open_migration(plan: Plan, running: Running) -> Migration:
    """Everything that a step needs; the connections are read anew each time.

    :param running: where its child processes are noted
    :raises InvalidInputError: a connection says something that cannot be
    """
    rehearsal = plan.rehearsal
    return Migration(
        plan=plan,
        source=DeploymentHook(deployment_conn_id=plan.options.source_conn_id).deployment(),
        target=DeploymentHook(deployment_conn_id=plan.options.target_conn_id).deployment(),
        workshop=settings(),
        running=running,
        scratch=DeploymentHook(deployment_conn_id=rehearsal.scratch).deployment().address if rehearsal else None,
    )
