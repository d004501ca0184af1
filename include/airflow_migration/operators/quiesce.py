"""Pause and drain the source, and undo it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_migration.metadata.draining import DrainResult
from airflow_migration.operators.base import MigrationOperator
from airflow_migration.steps import quiesce
from airflow_migration.triggers.drain import DrainTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class PauseDagsOperator(MigrationOperator):
    """Pauses every DAG of the source and records in the same transaction which were active."""

    step = staticmethod(quiesce.pause_dags)


class DrainRunningTasksOperator(MigrationOperator):
    """Waits in the triggerer until nothing runs on the source any more.

    :param poll_interval: seconds between two looks
    """

    def __init__(self, *, poll_interval: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.poll_interval = poll_interval

    def execute(self, context: Context) -> dict[str, Any]:
        return self._look(context, {"started": datetime.now(timezone.utc).isoformat(), "timed_out": False})

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Called with what the trigger saw last."""
        return self._look(context, event)

    def _look(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        started = datetime.fromisoformat(event["started"])
        result = self.carry_out(context, lambda: self._decide(context, event, started), started=started)
        self.log.info("Drained after %s s", result["seconds"])
        return result

    def _decide(self, context: Context, event: dict[str, Any], started: datetime) -> DrainResult:
        migration = self.migration(context)
        seen = quiesce.settle(migration, self.listen)
        if not seen.drained and not event["timed_out"]:
            self._wait(migration.plan.options, started)
        return quiesce.end_drain(migration, seen, timed_out=not seen.drained, started=started)

    def _wait(self, options: Any, started: datetime) -> None:
        self.defer(
            trigger=DrainTrigger(
                source_conn_id=options.source_conn_id,
                started=started.isoformat(),
                deadline=(started + timedelta(seconds=options.drain_timeout)).isoformat(),
                poll_interval=self.poll_interval,
            ),
            method_name="execute_complete",
        )


class ResumeSourceOperator(MigrationOperator):
    """Unpauses exactly what was active, when the migration was given up before the source was cloned.

    :param clone_task_id: the source is not resumed once this task has a result
    """

    step = staticmethod(quiesce.resume_source)

    def __init__(self, *, clone_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clone_task_id = clone_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        if not context["ti"].xcom_pull(task_ids=self.plan_task_id):
            raise AirflowSkipException("Preflight did not pass, so the source was not touched")
        if context["ti"].xcom_pull(task_ids=self.clone_task_id):
            raise AirflowSkipException("The source is cloned; its DAGs stay paused")
        return super().execute(context)
