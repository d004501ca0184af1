"""The report of a run: also of one that failed, and never better than what happened."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from airflow_migration.metadata.findings import Finding
from airflow_migration.planning.report import MIGRATION, ReportedRun, build_report, downtime
from airflow_migration.planning.report_page import page_of


def step(result: Any, started: str = "02:00:00", finished: str = "02:00:01", seconds: float = 1.0) -> dict[str, Any]:
    day = "2026-11-22T"
    return {
        "started": f"{day}{started}+00:00", "finished": f"{day}{finished}+00:00", "seconds": seconds, "result": result
    }  # fmt: skip


LEDGER = [
    {
        "table": "task <fail>",
        "table_after": None,
        "rows_in": 1234,
        "rows_out": 0,
        "causes": [{"cause": "dropped, kept in airflow_migration.moved_task_fail", "rows": 1234}],
        "changed": [{"cause": "conn_id repaired", "rows": 2}],
        "nulled": [],
        "unaccounted": 0,
    },
    {
        "table": "quiet",
        "table_after": "quiet",
        "rows_in": 3,
        "rows_out": 3,
        "causes": [],
        "changed": [],
        "nulled": [],
        "unaccounted": 0,
    },
]
STEPS: dict[str, dict[str, Any] | None] = {
    "pause_dags": step({"active": 3, "paused_now": 3}),
    "drain_running_tasks": step({"left_running": 0}, "02:00:05", "02:05:05", 300.0),
    "clone_database": step({"bytes": 1}),
    "dump_database": None,
    "repair_1": step({"repairs": [{"id": "conn_type", "count": 2, "details": ["a"]}]}),
    "repair_2": step({"repairs": []}),
    "repair_3": None,
    "verify": step({"verified": True, "ledger": LEDGER, "problems": []}),
    "point_target": step({"control": {"instructions": ["set it"]}, "set_aside_as": None}),
    "restart_target": step({"instructions": ["restart it", "set it"]}),
    "unpause_dags": step({"unpaused": 3, "warnings": ["not parsed"]}, "02:09:00", "02:10:00", 60.0),
    "allow_connections": step(False),
}
FINDING = Finding(check="a", severity="warning", summary="two rows")
PLAN = {"findings": [json.loads(json.dumps(asdict(FINDING)))], "migration_id": "run 1"}
RUN = ReportedRun(
    kind=MIGRATION, dag_id="migrate_airflow", run_id="run 1", started="2026-11-22T01:00:00+00:00",
    finished="2026-11-22T02:11:00+00:00",
)  # fmt: skip


def report(steps: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"run": RUN, "migration_id": "run 1", "plan": PLAN, "errors": {}, "complete": True}
    made = build_report(**(given | changes), steps=STEPS if steps is None else steps)
    assert json.loads(json.dumps(made)) == made
    return made


def test_a_run_that_went_well_says_so() -> None:
    made = report()
    assert made["status"] == "success"
    assert made["verified"] is True
    assert made["schema_version"] == 2
    assert {name: made[name] for name in asdict(RUN)} == asdict(RUN)
    assert made["findings"] == PLAN["findings"]
    assert made["verification"]["verified"] is True
    assert made["ledger"] == LEDGER


def test_the_downtime_that_the_plan_told_stands_beside_the_one_that_was() -> None:
    told = {"seconds": 250.0, "low": 200.0, "high": 320.0, "parts": []}
    plan = PLAN | {"prediction": told, "last_rehearsal": {"run_id": "rehearsed"}}
    made = report(plan=plan)
    measured = made["downtime"]["seconds"]
    assert made["prediction_and_truth"] == {"predicted": 250.0, "low": 200.0, "high": 320.0, "measured": measured}
    assert made["rehearsal"] == {"run_id": "rehearsed"}
    assert report({}, plan=plan)["prediction_and_truth"]["measured"] is None, "it never came so far"
    assert report()["prediction_and_truth"] is None, "nothing was told"


@pytest.mark.parametrize(
    "steps",
    [
        STEPS | {"verify": None},
        STEPS | {"verify": step({"verified": False})},
        {},
    ],
)
def test_verified_is_never_assumed(steps: dict[str, Any]) -> None:
    made = report(steps)
    assert made["verified"] is False
    assert made["status"] == "failed"


def test_a_verified_run_that_did_not_end_well_has_failed() -> None:
    made = report(complete=False, errors={"unpause_dags": {"problem": "p", "where": "w", "remedy": "r"}})
    assert made["status"] == "failed"
    assert made["verified"] is True
    assert next(one for one in made["steps"] if one["task_id"] == "unpause_dags")["error"]["problem"] == "p"


def test_a_run_that_preflight_refused_is_reported() -> None:
    errors = {"preflight": {"problem": "no", "where": "preflight", "remedy": "mend"}}
    found = [{"check": "a", "severity": "blocker"}]
    made = report(dict.fromkeys(STEPS), plan=None, errors=errors, complete=False, blocked_by=found)
    assert made["plan"] is None
    assert made["findings"] == found
    assert made["downtime"] is None
    assert {one["result"] for one in made["steps"]} == {None}


def test_the_downtime_is_the_cut_over_less_the_drain() -> None:
    assert report()["downtime"] == {"seconds": 300.0, "cut_over_seconds": 600.0, "drain_seconds": 300.0}


@pytest.mark.parametrize("missing", ["pause_dags", "unpause_dags"])
def test_there_is_no_downtime_before_the_end(missing: str) -> None:
    assert downtime({name: one for name, one in STEPS.items() if one and name != missing}) is None


def test_a_drain_that_was_not_needed_counts_nothing() -> None:
    seen = downtime({name: one for name, one in STEPS.items() if one and name != "drain_running_tasks"})
    assert seen
    assert seen["drain_seconds"] == 0.0


def test_steps_keep_their_order_and_repairs_their_hop() -> None:
    made = report()
    assert [one["task_id"] for one in made["steps"]] == list(STEPS)
    assert made["repairs"] == [{"before_hop": "1", "id": "conn_type", "count": 2, "details": ["a"]}]


def test_what_was_cleared_before_the_first_hop_is_among_the_repairs() -> None:
    cleared = {"id": "quarantine_undecryptable", "count": 1, "details": ["connection x (password) is cleared"]}
    made = report(STEPS | {"repair_1": None, "swap_fernet_key": step({"fernet": "swap", "repairs": [cleared]})})
    assert made["repairs"] == [{"before_hop": "1"} | cleared]


def test_what_is_left_to_do_is_said_once() -> None:
    assert report()["left_to_do"] == ["set it", "restart it", "not parsed"]


def test_the_forecast_is_found_without_looking_for_its_step() -> None:
    forecast = {"at": "2026-11-22T02:10:00+00:00", "dags": []}
    unpaused = step({"unpaused": 3, "warnings": [], "forecast": forecast})
    assert report(STEPS | {"unpause_dags": unpaused})["forecast"] == forecast
    assert report(STEPS | {"unpause_dags": None}, complete=False)["forecast"] is None


def test_the_page_has_the_ledger_and_takes_nothing_for_markup() -> None:
    page = page_of(report())
    assert "<script" not in page
    assert "task &lt;fail&gt;" in page
    assert "1,234" in page
    assert "dropped, kept in airflow_migration.moved_task_fail" in page
    assert "conn_id repaired" in page
    assert "quiet" in page


def test_the_page_of_a_run_that_failed_says_why() -> None:
    steps = STEPS | {"verify": step({"verified": False, "ledger": LEDGER, "problems": ["dag: 1 row(s) differ"]})}
    errors = {"verify": {"problem": "one <unexplained>", "where": "verification", "remedy": "look"}}
    page = page_of(report(steps, errors=errors, complete=False))
    assert "dag: 1 row(s) differ" in page
    assert "one &lt;unexplained&gt;" in page
    assert "Stopped: the upgraded database does not hold what the source held" in page
    assert page_of(report({}, plan=None, complete=False))


def test_what_was_found_in_files_is_told_once_and_among_the_findings() -> None:
    found = {"release": "3.3.2", "findings": [{"check": "dag_files_removed", "severity": "warning", "summary": "one"}]}
    made = report(STEPS | {"check_dag_files": step(found)})
    assert made["dag_files"] == {"release": "3.3.2"}
    assert made["findings"] == [*PLAN["findings"], *found["findings"]]
    assert next(each for each in made["steps"] if each["task_id"] == "check_dag_files")["result"] is None
    assert report()["dag_files"] is None
