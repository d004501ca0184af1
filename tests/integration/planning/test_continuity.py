"""Preflight tells how the DAGs will go on: what catches up, what is left open, what a logical date will mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.metadata.findings import Finding
from airflow_migration.planning.cron_timetables import CRON_SETTING, DELTA_SETTING, read_naming
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]
PlanFor = Callable[..., Plan]


def finding(plan: Plan, check: str) -> Finding | None:
    return next((one for one in plan.findings if one.check == check), None)


def change(address: DatabaseAddress, *statements: str) -> None:
    with address.connect(read_only=False) as session:
        for statement in statements:
            session.execute(statement.encode())


@pytest.fixture
def plan_from(
    deployment: Callable[..., Deployment], plan_for: PlanFor, fernet_key: Secret, tmp_path: Path
) -> Callable[..., Plan]:
    """The plan for a source, to a target with an env file of these lines, or with none."""

    def make(
        source: DatabaseAddress, *lines: str, by_hand: bool = False, release: str = "3.3.2", **options: Any
    ) -> Plan:
        path = tmp_path / "airflow.env"
        path.write_text("\n".join(["AIRFLOW__CORE__FERNET_KEY=x", *lines]) + "\n")
        control = None if by_hand else {"kind": "env_file", "path": str(path)}
        target = deployment(source.on(source.database + " target"), control=control, airflow_version=release)
        return plan_for(deployment(source, fernet_keys=fernet_key), target, **options)

    return make


def test_dags_that_catch_up_are_counted(corpus: Corpus, plan_from: Callable[..., Plan]) -> None:
    source = corpus("2.10.5")
    # Now, and not when the tests began: it may be tomorrow.
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    last = (today - timedelta(days=10)).isoformat()
    change(
        source,
        "UPDATE dag SET is_paused = false WHERE dag_id = 'etl_daily'",
        "UPDATE serialized_dag SET data = jsonb_set(data::jsonb, '{dag,catchup}', 'true')::json",
        f"UPDATE dag_run SET execution_date = '{last}', data_interval_start = '{last}',"
        f" data_interval_end = '{(today - timedelta(days=9)).isoformat()}' WHERE id = (SELECT max(id) FROM dag_run"
        " WHERE dag_id = 'etl_daily')",
    )
    found = finding(plan_from(source), "catch_up")
    assert found
    assert (found.severity, found.count) == ("warning", 9)
    assert found.evidence == (f"etl_daily: 9 from {(today - timedelta(days=9)).isoformat()}",)
    nothing = finding(plan_from(source, unpause="none"), "catch_up")
    assert nothing
    assert nothing.severity == "ok"


def test_a_paused_dag_that_is_asked_for_is_counted_too(corpus: Corpus, plan_from: Callable[..., Plan]) -> None:
    source = corpus("2.10.5")
    change(source, "UPDATE serialized_dag SET data = jsonb_set(data::jsonb, '{dag,catchup}', 'true')::json")
    found = finding(plan_from(source, unpause=("etl_daily",)), "catch_up")
    assert found
    assert found.count >= 1000
    assert "or more" in found.summary


def test_what_is_left_open_is_told(corpus: Corpus, plan_from: Callable[..., Plan]) -> None:
    source = corpus("2.10.5")
    change(
        source,
        "INSERT INTO trigger (id, classpath, kwargs, created_date) VALUES (7, 'a.Trigger', '{}', now())",
        "UPDATE task_instance SET state = 'deferred', trigger_id = 7 WHERE dag_id = 'fails_daily'",
        "UPDATE dag_run SET state = 'running' WHERE dag_id = 'fails_daily'",
    )
    plan = plan_from(source)
    deferred, backfills = finding(plan, "deferred_task_instances"), finding(plan, "unfinished_backfills")
    assert deferred
    assert deferred.evidence == (f"{deferred.count} a.Trigger",)
    assert backfills
    assert backfills.evidence == ("fails_daily",)


@pytest.mark.parametrize(
    ("lines", "choice", "settings", "severity"),
    [
        ((), "data_interval", {CRON_SETTING: "True", DELTA_SETTING: "True"}, "warning"),
        ((f"{CRON_SETTING}=True", f"{DELTA_SETTING}=true"), "data_interval", {}, "ok"),
        ((), "trigger", {}, "ok"),
        ((f"{CRON_SETTING}=True",), "trigger", {CRON_SETTING: "False"}, "warning"),
    ],
)
def test_the_plan_sets_what_the_choice_needs(
    corpus: Corpus,
    plan_from: Callable[..., Plan],
    lines: tuple[str, ...],
    choice: str,
    settings: dict[str, str],
    severity: str,
) -> None:
    plan = plan_from(corpus("2.10.5"), *lines, cron_timetable=choice)
    assert (plan.settings, plan.cron_data_intervals) == (settings, choice == "data_interval")
    found = finding(plan, "cron_timetable")
    assert found
    assert found.severity == severity


def test_a_person_is_told_to_set_it(corpus: Corpus, plan_from: Callable[..., Plan]) -> None:
    plan = plan_from(corpus("2.10.5"), by_hand=True)
    found = finding(plan, "cron_timetable")
    assert found
    assert (found.severity, plan.settings) == ("warning", {CRON_SETTING: "True", DELTA_SETTING: "True"})


def test_a_target_of_2_needs_no_setting(corpus: Corpus, plan_from: Callable[..., Plan]) -> None:
    plan = plan_from(corpus("1.10.15"), release="2.11.2")
    assert (plan.settings, plan.cron_data_intervals, finding(plan, "cron_timetable")) == ({}, None, None)


@pytest.mark.parametrize(
    ("timetables", "naming"),
    [
        (["trigger.CronTriggerTimetable"] * 2, "moment of start"),
        (["interval.CronDataIntervalTimetable"] * 2, "start of interval"),
        (["interval.CronDataIntervalTimetable", "trigger.CronTriggerTimetable"], "both"),
        (["simple.NullTimetable"] * 2, "unknown"),
    ],
)
def test_a_source_of_3_keeps_what_its_dags_show(corpus: Corpus, timetables: list[str], naming: str) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as session:
        dags = session.execute("SELECT dag_id FROM serialized_dag ORDER BY 1").fetchall()
        for (dag_id,), timetable in zip(dags, timetables, strict=True):
            value = {"__type": f"airflow.timetables.{timetable}", "__var": {"expression": "@daily", "timezone": "UTC"}}
            put = "UPDATE serialized_dag SET data = jsonb_set(data::jsonb, '{dag,timetable}', %s)::json"
            session.execute(put.encode() + b" WHERE dag_id = %s", (json.dumps(value), dag_id))
    with source.connect() as session:
        assert read_naming(session, "d2f4e1b3c5a7") == naming
        assert read_naming(session, "5f2621c13b39") == "start of interval"
