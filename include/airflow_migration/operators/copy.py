"""Clone the source, dump the clone, make the working database of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.by_hand import ByHandOperator
from airflow_migration.steps import copy, cutover

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class CloneDatabaseOperator(MigrationOperator):
    """Makes the frozen clone by CREATE DATABASE … TEMPLATE."""

    step = staticmethod(copy.clone_source)


class DumpDatabaseOperator(MigrationOperator):
    """Writes the frozen clone, or with transfer ``data_only`` the chosen tables of it, to a directory by pg_dump."""

    step = staticmethod(copy.dump_frozen)

    def execute(self, context: Context) -> dict[str, Any]:
        if not self.plan(context).needs_dump:
            raise AirflowSkipException("No dump is asked for: one server, and backup is false")
        return super().execute(context)


class QuietTargetOperator(ByHandOperator):
    """Brings the target's processes to rest before its own database is filled; whatever its control, it has to be."""

    step = staticmethod(cutover.quiet_target)

    def execute(self, context: Context) -> dict[str, Any]:
        if not self.plan(context).in_place:
            raise AirflowSkipException("The target's own database is not written before it is renamed")
        return super().execute(context)

    def is_by_hand(self, control: dict[str, Any]) -> bool:
        return True


class RestoreDatabaseOperator(MigrationOperator):
    """Makes the working database of the frozen clone: by template on one server, by pg_restore across two.

    With transfer ``data_only`` it fills the target's own instead.
    """

    step = staticmethod(copy.make_working_database)


class AllowConnectionsOperator(MigrationOperator):
    """Lets connections to the source in again, should a killed clone have left them shut out."""

    step = staticmethod(copy.allow_connections)

    def execute(self, context: Context) -> dict[str, Any]:
        if not context["ti"].xcom_pull(task_ids=self.plan_task_id):
            raise AirflowSkipException("Preflight did not pass, so the source was not touched")
        return super().execute(context)


class DiscardCopiesOperator(MigrationOperator):
    """Ends a migration in which every step went well: keeps the backup, or removes it if none was wanted."""

    step = staticmethod(copy.discard_copies)
