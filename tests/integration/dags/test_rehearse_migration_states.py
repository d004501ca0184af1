"""The run's state is the rehearsal's, and its databases are dropped whatever happened: decided by the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG

Run = Callable[..., tuple[str, dict[str, str | None]]]

RUNBOOK = [
    "preflight",
    "copy_source",
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
    "rehearsal_complete",
]
CHECKS = ["check_dag_files", "check_configuration"]
TEARDOWNS = ["drop_scratch", "report"]
SKIPPED = ("repair_2", "upgrade_2", "repair_3", "upgrade_3")


@pytest.fixture(scope="module")
def dag(serialized_dag: Callable[[str], SerializedDAG]) -> SerializedDAG:
    return serialized_dag("rehearse_migration")


def test_the_test_knows_every_task(dag: SerializedDAG) -> None:
    assert {*RUNBOOK, *CHECKS, *TEARDOWNS} <= set(dag.task_ids)


def test_one_runs_at_a_time_and_none_before_somebody_wants_it(dag: SerializedDAG) -> None:
    assert dag.max_active_runs == 1
    assert dag.is_paused_upon_creation
    assert not dag.catchup


def test_a_good_run_is_green(run: Run, dag: SerializedDAG) -> None:
    state, states = run(dag, dict.fromkeys(SKIPPED, "skipped"))
    assert state == "success"
    assert {states[name] for name in (*RUNBOOK, *TEARDOWNS) if name not in SKIPPED} == {"success"}


@pytest.mark.parametrize("failing", [step for step in RUNBOOK if step not in SKIPPED])
def test_a_failing_step_fails_the_run_and_its_databases_are_dropped(run: Run, dag: SerializedDAG, failing: str) -> None:
    state, states = run(dag, dict.fromkeys(SKIPPED, "skipped") | {failing: "failed"})
    assert state == "failed"
    for after in RUNBOOK[RUNBOOK.index(failing) + 1 :]:
        assert states[after] == "upstream_failed", after
    assert [states[name] for name in TEARDOWNS] == ["success", "success"]


@pytest.mark.parametrize("failing", TEARDOWNS)
def test_databases_that_stay_or_a_missing_report_fail_the_run(run: Run, dag: SerializedDAG, failing: str) -> None:
    state, states = run(dag, {failing: "failed"})
    assert state == "failed"
    assert states["verify"] == "success"
    assert states["report"] == ("failed" if failing == "report" else "success")


def test_nothing_dropped_as_nothing_was_made_leaves_the_run_as_it_is(run: Run, dag: SerializedDAG) -> None:
    state, states = run(dag, {"drop_scratch": "skipped"})
    assert state == "success"
    assert states["report"] == "success"


def test_files_that_nobody_has_named_are_not_missed(run: Run, dag: SerializedDAG) -> None:
    state, states = run(dag, dict.fromkeys(CHECKS, "skipped"))
    assert state == "success"
    assert states["rehearsal_complete"] == "success"


@pytest.mark.parametrize("failing", CHECKS)
def test_a_check_of_files_that_fails_ends_nothing_but_the_run(run: Run, dag: SerializedDAG, failing: str) -> None:
    state, states = run(dag, {failing: "failed"})
    assert state == "failed"
    assert [states[name] for name in ("verify", *TEARDOWNS)] == ["success"] * 3
    assert states["rehearsal_complete"] == "upstream_failed"
