"""The DAGs as the scheduler knows them, and runs of them in which it alone decides what comes next."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG

DAGS = Path(__file__).parents[3] / "dags"


@pytest.fixture(scope="session")
def serialized_dag() -> Callable[[str], SerializedDAG]:
    """Gives a DAG by its id, from a control database of its own."""
    airflow = Path(sys.executable).with_name("airflow")
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "PYTHONPATH": str(DAGS.parent / "include")}
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([airflow, *command], env=environment, check=True, capture_output=True)
    from airflow.models.serialized_dag import SerializedDagModel

    def get(dag_id: str) -> SerializedDAG:
        serialized = SerializedDagModel.get_dag(dag_id)
        assert serialized is not None
        return serialized

    return get


@pytest.fixture(scope="session")
def run() -> Callable[..., tuple[str, dict[str, str | None]]]:
    """Runs a DAG; each task that the scheduler starts ends as it is told to, else well."""
    return let_the_scheduler_decide


def let_the_scheduler_decide(
    dag: SerializedDAG, outcome: Mapping[str, str], *, set_failed_at: str | None = None, **conf: str
) -> tuple[str, dict[str, str | None]]:
    """Let the scheduler decide what runs; each task that it starts ends as `outcome` says, else well.

    :param set_failed_at: task while which runs somebody sets the run to failed
    :returns: the run's state and each task's
    """
    from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        now = timezone.utcnow()
        dag_run = dag.create_dagrun(
            run_id=f"manual__{now.isoformat()}",
            run_after=now,
            run_type=DagRunType.MANUAL,
            state=DagRunState.RUNNING,
            triggered_by=DagRunTriggeredByType.TEST,
            conf=conf,
            session=session,
        )
        dag_run.dag = dag
        for _ in range(len(dag.task_ids) + 2):
            ready, _callbacks = dag_run.update_state(session=session)
            for instance in ready:
                instance.state = outcome.get(instance.task_id, "success")
                instance.start_date = instance.end_date = now
                if instance.task_id == set_failed_at:
                    instance.state = "running"
                    session.flush()
                    set_dag_run_state_to_failed(dag=dag, run_id=dag_run.run_id, commit=True, session=session)
            session.flush()
            if dag_run.state != DagRunState.RUNNING:
                break
        states: dict[str, Any] = {each.task_id: each.state for each in dag_run.get_task_instances(session=session)}
        return str(dag_run.state), {name: str(state) if state else None for name, state in states.items()}
