"""Fence the source, point and restart the target, unpause its DAGs."""

from __future__ import annotations

from datetime import timedelta

from airflow_migration.deployments.kubernetes.options import LONGEST_WAIT
from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.by_hand import ByHandOperator
from airflow_migration.steps import cutover, unpausing

PODS = timedelta(seconds=LONGEST_WAIT) + timedelta(minutes=15)
"""For tasks that wait for pods: `ready_timeout` ends that wait first, with the pods' reasons."""


class FenceSourceOperator(MigrationOperator):
    """Closes the journal and leaves the source readable but unable to schedule."""

    step = staticmethod(cutover.fence_source)


class PointTargetOperator(ByHandOperator):
    """Renames the working database into place and tells the target where it differs."""

    step = staticmethod(cutover.point_target)


class RestartTargetOperator(ByHandOperator):
    """Restarts the target's processes, or has a person do it."""

    step = staticmethod(cutover.restart_target)


class UnpauseDagsOperator(MigrationOperator):
    """Unpauses on the target exactly what was active on the source."""

    step = staticmethod(unpausing.unpause_dags)
