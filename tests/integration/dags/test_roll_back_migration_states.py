"""A roll back's run is as good as its steps, and a target that does not come up keeps no source waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG

Run = Callable[..., tuple[str, dict[str, str | None]]]
LINE = [
    "allow_connections",
    "preflight_roll_back",
    "approve_roll_back",
    "pause_target",
    "restore_target_settings",
    "put_back_target_database",
    "lift_fence",
    "resume_source",
    "drop_created",
    "roll_back_complete",
]


@pytest.fixture(scope="module")
def dag(serialized_dag: Callable[[str], SerializedDAG]) -> SerializedDAG:
    return serialized_dag("roll_back_migration")


def test_the_test_knows_every_task(dag: SerializedDAG) -> None:
    assert set(dag.task_ids) == {*LINE, "restart_target", "report_roll_back"}


@pytest.mark.parametrize("skipped", [(), ("approve_roll_back",)])
def test_a_good_run_is_green_with_and_without_approval(run: Run, dag: SerializedDAG, skipped: tuple[str, ...]) -> None:
    state, states = run(dag, dict.fromkeys(skipped, "skipped"), migration_id="x")
    assert state == "success"
    assert {name for name, each in states.items() if each != "success"} == set(skipped)


@pytest.mark.parametrize("failing", LINE)
def test_a_failing_step_fails_the_run_stops_what_follows_and_is_reported(
    run: Run, dag: SerializedDAG, failing: str
) -> None:
    state, states = run(dag, {failing: "failed"}, migration_id="x")
    assert state == "failed"
    for after in LINE[LINE.index(failing) + 1 :]:
        assert states[after] == "upstream_failed", after
    assert states["report_roll_back"] == "success"


def test_a_target_that_does_not_restart_fails_the_run_after_the_source_is_resumed(run: Run, dag: SerializedDAG) -> None:
    state, states = run(dag, {"restart_target": "failed"}, migration_id="x")
    assert state == "failed"
    assert states["resume_source"] == "success"
    assert states["drop_created"] == "upstream_failed"


def test_a_failing_report_fails_the_run(run: Run, dag: SerializedDAG) -> None:
    state, states = run(dag, {"report_roll_back": "failed"}, migration_id="x")
    assert (state, states["drop_created"]) == ("failed", "success")


def test_a_run_that_somebody_sets_to_failed_is_no_success(run: Run, dag: SerializedDAG) -> None:
    """The report's task fails where it sees this: see fail_with_the_run."""
    state, states = run(dag, {"report_roll_back": "failed"}, set_failed_at="pause_target", migration_id="x")
    assert (state, states["pause_target"], states["roll_back_complete"]) == ("failed", "failed", "skipped")
