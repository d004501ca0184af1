"""Look at the user's own files beside a rehearsal: they change nothing and wait for none of its databases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.operators.base import MigrationOperator
from airflow_migration.steps.configuration import check_file, file_of
from airflow_migration.steps.dag_files import check_folder, folder_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class CheckDagFilesOperator(MigrationOperator):
    """Has the target release's parser import every DAG file; skipped where none can be read."""

    def execute(self, context: Context) -> dict[str, Any]:
        migration = self.migration(context)
        if folder_of(migration) is None:
            raise AirflowSkipException("Neither param dags_folder nor the target connection says where DAG files are")
        return self.carry_out(context, partial(check_folder, migration, self.listen))


class CheckConfigurationOperator(MigrationOperator):
    """Asks the releases on the way about the settings of an airflow.cfg; skipped where none is given."""

    def execute(self, context: Context) -> dict[str, Any]:
        migration = self.migration(context)
        if file_of(migration) is None:
            raise AirflowSkipException("Param airflow_cfg is not given")
        return self.carry_out(context, partial(check_file, migration, self.listen))
