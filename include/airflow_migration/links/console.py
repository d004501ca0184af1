"""From a task to its run in the console."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

from airflow_migration.links.routes import run_route

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class ConsoleLink(BaseOperatorLink):
    """The tab of the run, there as soon as a task of it has ended."""

    name = "Console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return below_base_url(run_route(ti_key.dag_id, ti_key.run_id))


def below_base_url(route: str) -> str:
    """A link without a host: people may reach Airflow under other names than its ``[api] base_url``."""
    base = urlsplit(str(conf.get("api", "base_url", fallback="") or ""))
    return base.path.rstrip("/") + route
