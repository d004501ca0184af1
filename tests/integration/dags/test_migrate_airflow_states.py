"""The run's state is the migration's: every shape of plan and every failing task, decided by Airflow's scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG

DAGS = Path(__file__).parents[3] / "dags"

RUNBOOK = [
    "preflight",
    "approve_plan",
    "pause_dags",
    "drain_running_tasks",
    "clone_database",
    "dump_database",
    "restore_database",
    "swap_fernet_key",
    "repair_1",
    "upgrade_1",
    "repair_2",
    "upgrade_2",
    "repair_3",
    "upgrade_3",
    "mend_schedules",
    "verify",
    "fence_source",
    "point_target",
    "restart_target",
    "unpause_dags",
    "migration_complete",
]
UNDOING = ["allow_connections", "resume_source", "report"]
SKIPPED_BY_SHAPE = {
    "three hops, approval, backup": (),
    "two hops without approval": ("approve_plan", "repair_3", "upgrade_3"),
    "one hop, no dump": ("dump_database", "repair_2", "upgrade_2", "repair_3", "upgrade_3"),
    "same release": tuple(f"{step}_{number}" for step in ("repair", "upgrade") for number in (1, 2, 3)),
}


@pytest.fixture(scope="module")
def dag() -> SerializedDAG:
    """The DAG as the scheduler knows it, in a control database of its own."""
    airflow = Path(sys.executable).with_name("airflow")
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "PYTHONPATH": str(DAGS.parent / "include")}
    for command in (["db", "migrate"], ["dags", "reserialize"]):
        subprocess.run([airflow, *command], env=environment, check=True, capture_output=True)
    from airflow.models.serialized_dag import SerializedDagModel

    serialized = SerializedDagModel.get_dag("migrate_airflow")
    assert serialized is not None
    return serialized


def run(dag: SerializedDAG, outcome: Mapping[str, str]) -> tuple[str, dict[str, str | None]]:
    """Let the scheduler decide what runs; each task that it starts ends as `outcome` says, else well.

    :returns: the run's state and each task's
    """
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
            session=session,
        )
        dag_run.dag = dag
        for _ in range(len(RUNBOOK) + len(UNDOING) + 2):
            ready, _callbacks = dag_run.update_state(session=session)
            for instance in ready:
                instance.state = outcome.get(instance.task_id, "success")
                instance.start_date = instance.end_date = now
            session.flush()
            if dag_run.state != DagRunState.RUNNING:
                break
        states: dict[str, Any] = {each.task_id: each.state for each in dag_run.get_task_instances(session=session)}
        return str(dag_run.state), {name: str(state) if state else None for name, state in states.items()}


def test_the_test_knows_every_task(dag: SerializedDAG) -> None:
    assert set(dag.task_ids) == {*RUNBOOK, *UNDOING}


@pytest.mark.parametrize("shape", SKIPPED_BY_SHAPE)
def test_a_good_run_is_green_and_skips_take_nothing_with_them(dag: SerializedDAG, shape: str) -> None:
    skipped = {*SKIPPED_BY_SHAPE[shape], "resume_source"}
    state, states = run(dag, dict.fromkeys(skipped, "skipped"))
    assert state == "success"
    assert {name for name, each in states.items() if each == "skipped"} == skipped
    assert {each for name, each in states.items() if name not in skipped} == {"success"}


@pytest.mark.parametrize(
    ("shape", "failing"),
    [
        (shape, step)
        for shape in ("two hops without approval", "three hops, approval, backup")
        for step in RUNBOOK
        if step not in SKIPPED_BY_SHAPE[shape]
    ],
)
def test_a_failing_step_fails_the_run_stops_what_follows_and_still_undoes_and_reports(
    dag: SerializedDAG, shape: str, failing: str
) -> None:
    skipped = SKIPPED_BY_SHAPE[shape]
    outcome = dict.fromkeys(skipped, "skipped") | {failing: "failed"}
    state, states = run(dag, outcome)
    assert state == "failed"
    position = RUNBOOK.index(failing)
    assert states[failing] == "failed"
    for before in RUNBOOK[:position]:
        assert states[before] == outcome.get(before, "success"), before
    for after in RUNBOOK[position + 1 :]:
        assert states[after] == "upstream_failed", after
    for undoing in UNDOING:
        assert states[undoing] == "success", undoing


@pytest.mark.parametrize("failing", UNDOING)
def test_a_failing_undo_or_report_fails_the_run(dag: SerializedDAG, failing: str) -> None:
    state, states = run(dag, {failing: "failed"})
    assert state == "failed"
    assert states["unpause_dags"] == "success"
