"""Key, repairs, hops and mending of the working database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.exceptions import ToolError
from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.by_hand import ByHandOperator
from airflow_migration.runtimes.runtime import UpgradeResult
from airflow_migration.steps import upgrade
from airflow_migration.steps.migration import Migration
from airflow_migration.triggers.upgrade_pod import UpgradePodTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

TRIGGERER_GRACE = timedelta(minutes=5)


class SwapFernetKeyOperator(ByHandOperator):
    """Gives the target the source's fernet key, or rewrites what is encrypted with the target's."""

    step = staticmethod(upgrade.swap_fernet_key)


class HopOperator(MigrationOperator):
    """One task of one hop; skipped when the plan has fewer hops.

    :param hop: number of the hop, from 1
    """

    def __init__(self, *, hop: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hop = hop

    def execute(self, context: Context) -> dict[str, Any]:
        hops = self.plan(context).hops
        if self.hop > len(hops):
            raise AirflowSkipException(f"The plan has {len(hops)} hop(s)")
        return self.carry_out(context, lambda: self.take(context, self.migration(context)))

    def take(self, context: Context, migration: Migration) -> Any:
        """Take the hop's step."""
        return type(self).step(migration, self.hop, self.listen)


class RepairOperator(HopOperator):
    """Repairs what the hop's migrations would stumble over."""

    step = staticmethod(upgrade.repair_before_hop)


class UpgradeOperator(HopOperator):
    """Runs the hop's own `airflow db upgrade` or `db migrate`; where that is in a pod, waits in the triggerer.

    :param poll_interval: seconds between two looks at a pod
    """

    step = staticmethod(upgrade.upgrade_by_hop)

    def __init__(self, *, poll_interval: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_interval = poll_interval

    def take(self, context: Context, migration: Migration) -> UpgradeResult:
        """Begin the upgrade, and wait for it here or in the triggerer."""
        started = datetime.now(timezone.utc)
        detached = upgrade.detached_upgrade_by_hop(migration, self.hop, self.listen)
        if detached is None:
            return upgrade.upgrade_by_hop(migration, self.hop, self.listen)
        return detached.begin() or self._wait(context, started)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Called once there is nothing to wait for any more."""
        started = datetime.fromisoformat(event["started"])
        return self.carry_out(context, lambda: self._end(context, event["timed_out"]), started=started)

    def _wait(self, context: Context, started: datetime) -> NoReturn:
        deadline = started + self.execution_timeout if self.execution_timeout else None
        plan = context["ti"].xcom_pull(task_ids=self.plan_task_id)["result"]
        self.defer(
            trigger=UpgradePodTrigger(
                plan=plan | {"findings": []},
                hop=self.hop,
                started=started.isoformat(),
                deadline=deadline.isoformat() if deadline else None,
                poll_interval=self.poll_interval,
            ),
            method_name="execute_complete",
            # The trigger keeps the deadline, unless no triggerer is there.
            timeout=deadline - datetime.now(timezone.utc) + TRIGGERER_GRACE if deadline else None,
        )

    def _end(self, context: Context, timed_out: bool) -> UpgradeResult:
        migration = self.migration(context)
        detached = upgrade.detached_upgrade_by_hop(migration, self.hop, self.listen)
        if detached is None:
            return upgrade.upgrade_by_hop(migration, self.hop, self.listen)
        if not timed_out:
            return detached.finish(patience=0)
        detached.stop()
        raise ToolError(
            f"the upgrade was not done within {self.execution_timeout}, and its pod was removed",
            where=f"{self.task_id} of {migration.working}",
            remedy="Raise the task's execution_timeout; a retry goes on where it stopped",
        )


class MendSchedulesOperator(MigrationOperator):
    """Mends what the official upgrades leave broken for the target's scheduler."""

    step = staticmethod(upgrade.mend_schedules)
