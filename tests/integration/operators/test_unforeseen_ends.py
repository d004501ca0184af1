"""A step that ends as nobody foresaw says so in the report all the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, timeout

from airflow_migration.operators.base import MigrationOperator
from airflow_migration.operators.report import ReportOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

SECRET = "postgresql://airflow:never-told@db/airflow"


class Step(MigrationOperator):
    """:param call: what it does"""

    def __init__(self, *, call: Callable[[], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.call = call

    def execute(self, context: Context) -> dict[str, Any]:
        return self.carry_out(context, self.call)


pytestmark = pytest.mark.usefixtures("reports_path")


def report() -> ReportOperator:
    return ReportOperator(
        task_id="report",
        step_task_ids=["preflight", "clone_database"],
        last_task_id="unpause_dags",
        completion_task_id="migration_complete",
    )


def full_disk() -> None:
    raise OSError(28, SECRET)


def killed() -> None:
    """As by the kernel: nothing is left to say anything."""
    raise SystemExit(137)


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    [
        (full_disk, OSError, "unexpected OSError"),
        (killed, SystemExit, "it left no reason: its process was killed, or somebody has set it to failed"),
        (threading.Event().wait, AirflowTaskTimeout, "not done within 0:00:00.200000"),
    ],
)
def test_it_is_the_step_at_which_the_run_stopped(
    new_run: Any, call: Callable[[], Any], kind: type[BaseException], problem: str
) -> None:
    run, limit = new_run(), timedelta(seconds=0.2)
    with pytest.raises(kind), timeout(limit.total_seconds()):  # type: ignore[no-untyped-call]
        run.execute(Step(task_id="clone_database", call=call, execution_timeout=limit))
    path = Path(run.execute(report())["path"].removeprefix("file://"))
    error = json.loads(path.read_text())["steps"][1]["error"]
    assert (error["problem"], error["where"]) == (problem, "clone_database")
    assert SECRET not in path.read_text()
    assert "The migration stopped at clone_database" in path.with_name("report.html").read_text()


def test_a_run_that_was_set_to_failed_has_its_report_and_stays_failed(new_run: Any) -> None:
    run = new_run()
    run.task.states |= {"clone_database": "failed", "migration_complete": "skipped"}
    with pytest.raises(AirflowFailException, match="set the run to failed"):
        run.execute(report())
    told = run.task.xcom_pull(task_ids="report")
    error = json.loads(Path(told["path"].removeprefix("file://")).read_text())["steps"][1]["error"]
    assert "somebody has set it to failed" in error["problem"]
