"""The run's state is the migration's: every shape of plan and every failing task, decided by Airflow's scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jsonschema
import pytest

from airflow_migration.metadata.repairs.registry import REPAIRS

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG

Run = Callable[..., tuple[str, dict[str, str | None]]]

RUNBOOK = [
    "preflight",
    "approve_plan",
    "pause_dags",
    "drain_running_tasks",
    "clone_database",
    "dump_database",
    "quiet_target",
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
HOPS = tuple(f"{step}_{number}" for step in ("repair", "upgrade") for number in (1, 2, 3))
SKIPPED_BY_SHAPE: dict[str, tuple[str, ...]] = {
    "three hops, approval, backup": ("quiet_target",),
    "two hops without approval": ("approve_plan", "quiet_target", "repair_3", "upgrade_3"),
    "one hop, no dump": ("dump_database", "quiet_target", "repair_2", "upgrade_2", "repair_3", "upgrade_3"),
    "same release": ("quiet_target", *HOPS),
    "rows alone": HOPS,
}


@pytest.fixture(scope="module")
def dag(serialized_dag: Callable[[str], SerializedDAG]) -> SerializedDAG:
    return serialized_dag("migrate_airflow")


@pytest.mark.parametrize("chosen", ["safe", "all", [], ["connection_id", "quarantine_undecryptable"]])
def test_the_form_takes_repairs_that_there_are(dag: SerializedDAG, chosen: object) -> None:
    jsonschema.validate(chosen, dag.params.get_param("repairs").schema)


@pytest.mark.parametrize("chosen", ["none", ["no_such_repair"], None])
def test_the_form_refuses_others(dag: SerializedDAG, chosen: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(chosen, dag.params.get_param("repairs").schema)


def test_the_form_says_what_each_repair_does(dag: SerializedDAG) -> None:
    param = dag.params.get_param("repairs")
    assert param.value == "safe"
    for each in REPAIRS.values():
        assert f"`{each.id}`: {each.does}" in param.schema["description_md"]


def test_the_test_knows_every_task(dag: SerializedDAG) -> None:
    assert set(dag.task_ids) == {*RUNBOOK, *UNDOING}


@pytest.mark.parametrize("shape", SKIPPED_BY_SHAPE)
def test_a_good_run_is_green_and_skips_take_nothing_with_them(run: Run, dag: SerializedDAG, shape: str) -> None:
    skipped = {*SKIPPED_BY_SHAPE[shape], "resume_source"}
    state, states = run(dag, dict.fromkeys(skipped, "skipped"))
    assert state == "success"
    assert {name for name, each in states.items() if each == "skipped"} == skipped
    assert {each for name, each in states.items() if name not in skipped} == {"success"}


@pytest.mark.parametrize(
    ("shape", "failing"),
    [
        (shape, step)
        for shape in ("two hops without approval", "three hops, approval, backup", "rows alone")
        for step in RUNBOOK
        if step not in SKIPPED_BY_SHAPE[shape]
    ],
)
def test_a_failing_step_fails_the_run_stops_what_follows_and_still_undoes_and_reports(
    run: Run, dag: SerializedDAG, shape: str, failing: str
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
def test_a_failing_undo_or_report_fails_the_run(run: Run, dag: SerializedDAG, failing: str) -> None:
    state, states = run(dag, {failing: "failed"})
    assert state == "failed"
    assert states["unpause_dags"] == "success"


def test_a_run_that_somebody_sets_to_failed_is_no_success(run: Run, dag: SerializedDAG) -> None:
    """The report's task fails where it sees this: see fail_with_the_run."""
    state, states = run(dag, {"report": "failed"}, set_failed_at="upgrade_1")
    assert (state, states["upgrade_1"], states["migration_complete"]) == ("failed", "failed", "skipped")
