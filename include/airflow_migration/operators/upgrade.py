"""Key, repairs, hops and mending of the working database."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.by_hand import ByHandOperator
from airflow_migration.steps import upgrade

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


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
        call = partial(type(self).step, self.migration(context), self.hop, self.listen)
        return self.carry_out(context, call)


class RepairOperator(HopOperator):
    """Repairs what the hop's migrations would stumble over."""

    step = staticmethod(upgrade.repair_before_hop)


class UpgradeOperator(HopOperator):
    """Runs the hop's own `airflow db upgrade` or `db migrate`."""

    step = staticmethod(upgrade.upgrade_by_hop)


class MendSchedulesOperator(MigrationOperator):
    """Mends what the official upgrades leave broken for the target's scheduler."""

    step = staticmethod(upgrade.mend_schedules)
