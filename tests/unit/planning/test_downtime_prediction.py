"""How long the cut-over will take: never from nothing, and wider the less is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.planning.rehearsed import (
    DAY,
    GAP,
    MB,
    MIGRATION_SECONDS,
    at_other_release,
    migration,
    plan_of,
    record,
    rehearsal,
)

from airflow_migration.planning.downtime_prediction import GAPS, USUALLY, Wanted, predict_downtime
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.run_records import RunRecord


def predict(
    plan: Plan, *rehearsals: dict[str, Any], migrations: Sequence[dict[str, Any]] = ()
) -> dict[str, Any] | None:
    newest_first = [record(each) for each in reversed(rehearsals)]
    made = predict_downtime(
        Wanted.by(plan.to_json()), rehearsals=newest_first, migrations=[record(each) for each in migrations]
    )
    assert json.loads(json.dumps(made)) == made
    return made


def told(plan: Plan, *rehearsals: dict[str, Any], migrations: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    made = predict(plan, *rehearsals, migrations=migrations)
    assert made is not None
    assert made["low"] <= made["seconds"] <= made["high"]
    for part in made["parts"]:
        assert part["low"] <= part["seconds"] <= part["high"], part
        assert part["from"]
    return made


def parts(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["step"]: part for part in made["parts"]}


def test_what_was_not_rehearsed_is_not_predicted() -> None:
    assert predict(plan_of()) is None
    assert predict(plan_of(), rehearsal(verified=False)) is None
    assert predict(plan_of(history_days=30), rehearsal()) is None
    assert predict(at_other_release(plan_of()), rehearsal()) is None
    assert predict(replace(plan_of(), source_head="of another release"), rehearsal()) is None
    assert predict(replace(plan_of(), transfer="data_only"), rehearsal()) is None


def test_the_parts_are_the_steps_of_the_cut_over_and_add_up() -> None:
    made = told(plan_of(), rehearsal())
    skipped = {"drain_running_tasks", *(name for name, seconds in MIGRATION_SECONDS.items() if seconds is None)}
    assert set(parts(made)) == {*MIGRATION_SECONDS, "between_tasks"} - skipped
    assert made["seconds"] == pytest.approx(sum(part["seconds"] for part in made["parts"]), abs=0.1)
    assert parts(made)["upgrade_2"]["seconds"] == 50.0
    assert parts(made)["between_tasks"]["seconds"] == pytest.approx(GAPS * GAP)


def test_the_dag_has_as_many_tasks_as_are_reckoned_with() -> None:
    lines = (Path(__file__).parents[3] / "dags" / "migrate_airflow.py").read_text()
    chain = lines.partition("runbook = [")[2].partition("]")[0].replace("*hops", "1, 2, 3, 4, 5, 6")
    names = [name.strip() for name in chain.split(",") if name.strip()]
    assert len(names) - names.index("pause_dags") - 1 == GAPS


def test_what_grows_is_scaled_by_size_and_the_start_of_airflow_is_not() -> None:
    made = parts(told(plan_of(size=2000 * MB), rehearsal()))
    assert made["upgrade_2"]["seconds"] == pytest.approx(10.0 + 2 * 40.0)
    assert made["verify"]["seconds"] == pytest.approx(2 * 20.0)
    assert made["clone_database"]["seconds"] == pytest.approx(2 * 8.0)
    assert made["verify"]["low"] < 20.0, "it may not grow at all"


def test_a_step_that_found_its_work_done_by_an_earlier_try_measures_nothing() -> None:
    retried = rehearsal(2)
    steps = {step["task_id"]: step for step in retried["steps"]}
    steps["upgrade_1"]["result"]["revisions"] = []
    steps["restore_database"]["result"]["reused"] = True
    steps["upgrade_1"]["seconds"] = steps["restore_database"]["seconds"] = 0.1
    larger = plan_of(2000 * MB)
    made, alone = parts(told(larger, rehearsal(1), retried)), parts(told(larger, rehearsal(1)))
    for step in ("restore_database", "upgrade_1", "upgrade_2"):
        assert made[step]["seconds"] == alone[step]["seconds"], step
    assert "upgrade_1" not in parts(told(larger, retried))


def test_one_slow_rehearsal_makes_the_range_wider_and_not_the_prediction_longer() -> None:
    slow_once = rehearsal(1), rehearsal(2), rehearsal(3, upgrade_2=200.0)
    part = parts(told(plan_of(), *slow_once))["upgrade_2"]
    assert part["seconds"] == 50.0
    assert part["high"] >= 200.0


def test_the_range_gets_narrower_with_each_rehearsal() -> None:
    weeks = [rehearsal(number) for number in range(1, 9)]
    widths = []
    for number in (1, 2, 3):
        made = told(plan_of(), *weeks[:number])
        widths.append(made["high"] - made["low"])
    assert widths[0] > widths[1] > widths[2]
    assert len(told(plan_of(), *weeks)["based_on"]) == 5, "older ones do not count"


def test_acts_on_the_deployment_are_as_the_last_migrations_were() -> None:
    usual = parts(told(plan_of(), rehearsal()))["unpause_dags"]
    low, seconds, high = USUALLY["unpause_dags"]
    assert (usual["low"], usual["seconds"], usual["high"]) == (low, seconds, high)
    done = [migration(day=DAY - timedelta(days=day), unpause_dags=30.0) for day in (1, 2)]
    part = parts(told(plan_of(), rehearsal(), migrations=done))["unpause_dags"]
    assert part["seconds"] == 30.0
    assert 30.0 < part["high"] < high, "both were shorter than is usual"
    elsewhere = [migration(replace(plan_of(), target_database="another"), unpause_dags=30.0)]
    part = parts(told(plan_of(), rehearsal(), migrations=elsewhere))["unpause_dags"]
    assert (part["seconds"], part["high"]) == (30.0, high), "this target may still be as slow as any"


def test_to_rewrite_what_is_encrypted_takes_what_it_took_and_a_key_alone_what_is_usual() -> None:
    swapped = parts(told(plan_of(), rehearsal()))["swap_fernet_key"]
    assert (swapped["low"], swapped["seconds"], swapped["high"]) == USUALLY["swap_fernet_key"]
    rewritten = parts(told(plan_of(size=2000 * MB), rehearsal(swap_fernet_key=40.0)))["swap_fernet_key"]
    assert rewritten["seconds"] == pytest.approx(80.0)


def test_a_dump_takes_what_it_took_or_a_share_of_the_copy() -> None:
    by_copy = parts(told(plan_of(), rehearsal()))["dump_database"]
    assert 0 < by_copy["seconds"] < 60.0
    done = parts(told(plan_of(size=2000 * MB), rehearsal(), migrations=[migration()]))["dump_database"]
    assert done["seconds"] == pytest.approx(2 * 15.0)
    assert "dump_database" not in parts(told(plan_of(backup=False), rehearsal()))
    two_servers = replace(plan_of(backup=False), transfer="dump")
    made = parts(told(two_servers, rehearsal()))
    assert made["restore_database"]["high"] > made["dump_database"]["seconds"] > 0


def test_other_choices_are_told_where_they_were_rehearsed() -> None:
    short = rehearsal(1, plan_of(history_days=30), upgrade_2=20.0, verify=5.0)
    made = told(plan_of(), short, rehearsal(2))
    assert made["based_on"] == ["week 2"]
    choices = {(each["history_days"], each["backup"]): each for each in made["choices"]}
    assert set(choices) == {(None, False), (30, True)}
    assert choices[30, True]["based_on"] == ["week 1"]
    assert choices[30, True]["seconds"] < made["seconds"]
    assert choices[None, False]["seconds"] < made["seconds"]


def test_a_migration_as_it_was_lies_in_the_range_that_its_rehearsal_gave() -> None:
    truth: RunRecord = record(migration())
    made = told(plan_of(), rehearsal(1), rehearsal(2))
    assert truth.downtime is not None
    assert made["low"] < truth.downtime < made["high"]
