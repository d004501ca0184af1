"""Bad input gets one clear sentence before anything is changed, and is not tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from tests.unit.planning.rehearsed import steps_of

from airflow_migration.operators.preflight import FINDINGS_KEY, SUBJECT_KEY, WORDS_KEY, PreflightOperator
from airflow_migration.operators.report import ReportOperator
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.report import REHEARSAL
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

OTHER_KEY = "b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA="


@pytest.fixture
def preflight() -> PreflightOperator:
    return PreflightOperator(task_id="preflight")


@pytest.fixture
def source(corpus: Callable[[str], DatabaseAddress]) -> DatabaseAddress:
    return corpus("1.10.15")


@pytest.fixture
def deployments(
    connect: Any, source: DatabaseAddress, fernet_key: Secret, target_env: Path, tmp_path: Path, runtimes: Any
) -> Callable[..., None]:
    """Describes both; an argument says what is wrong with one of them."""

    def describe(*, source_of: dict[str, Any] | None = None, target_of: dict[str, Any] | None = None) -> None:
        there = {"address": source, "secret_fernet_key": fernet_key.reveal()} | (source_of or {})
        control = {"kind": "env_file", "path": str(target_env)}
        environments = {release: str(runtimes.prepare(release, lambda line: None)) for release in ("2.11.2", "3.3.2")}
        here = {
            "address": source.on(f"new {tmp_path.name}"),
            "control": control,
            "runtime": {"kind": "venv", "environments": environments},
        } | (target_of or {})
        connect("migration_source", **_arguments(there))
        connect("migration_target", **_arguments(here))

    return describe


def _arguments(described: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if value is not None}


def test_a_good_plan_is_in_xcom_and_in_words(deployments: Any, new_run: Any, preflight: PreflightOperator) -> None:
    deployments()
    run = new_run()
    plan = run.execute(preflight)["result"]
    assert [hop["release"] for hop in plan["hops"]] == ["2.11.2", "3.3.2"]
    assert plan["transfer"] == "clone"
    assert plan["working_database"] in run.task.xcom_pull(task_ids="preflight", key=WORDS_KEY)


def test_a_rehearsal_s_report_is_compared_with_the_one_before_and_told_by_the_next_preflight(
    deployments: Any, new_run: Any, preflight: PreflightOperator
) -> None:
    deployments()
    first = new_run().execute(preflight)["result"]
    assert _of_rehearsals(first)["severity"] == "warning"
    assert first["prediction"] is None
    _rehearse(new_run(run_id="week 1"), first, days_ago=8)
    made = _rehearse(new_run(run_id="week 2"), first, days_ago=1, upgrade_2=100.0)
    assert made["comparison"]["run_id"] == "week 1"
    assert any("upgrade_2" in sentence for sentence in made["comparison"]["words"])
    run = new_run()
    plan = run.execute(preflight)["result"]
    found = _of_rehearsals(plan)
    assert found["severity"] == "info"
    assert "week 2" in found["summary"]
    assert plan["prediction"]["based_on"] == ["week 2", "week 1"]
    assert "about" in run.task.xcom_pull(task_ids="preflight", key=SUBJECT_KEY)
    assert "week 2" in run.task.xcom_pull(task_ids="preflight", key=WORDS_KEY)


def _of_rehearsals(plan: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each for each in plan["findings"] if each["check"] == "rehearsal")
    return dict(found)


def _rehearse(run: Any, plan: dict[str, Any], *, days_ago: int, **seconds: float) -> dict[str, Any]:
    """The report of a rehearsal whose tasks have left what they leave."""
    run.start_date = datetime.now(timezone.utc) - timedelta(days=days_ago)
    steps = steps_of(REHEARSAL, Plan.from_json(plan), run.start_date, changed=seconds)
    steps["preflight"] = {"started": "", "finished": "", "seconds": 1.0, "result": plan}
    for name, step in steps.items():
        run.task.xcoms[name, "return_value"] = step
    report = ReportOperator(
        task_id="report",
        kind="rehearsal",
        step_task_ids=list(steps),
        last_task_id="verify",
        completion_task_id="rehearsal_complete",
    )
    made: dict[str, Any] = json.loads(Path(run.execute(report)["path"]).read_text())
    assert (made["kind"], made["verified"]) == ("rehearsal", True)
    return made


def _refuse(run: Any, preflight: PreflightOperator, *named: str) -> None:
    with pytest.raises(AirflowFailException) as caught:
        run.execute(preflight)
    error = run.error("preflight")
    assert error["remedy"]
    for name in named:
        assert name in str(caught.value)


def test_a_missing_connection(monkeypatch: pytest.MonkeyPatch, new_run: Any, preflight: PreflightOperator) -> None:
    _refuse(new_run(source_conn_id="nobody_made_it", target_conn_id="nor_this"), preflight, "nor_this")


def test_a_wrong_password(
    deployments: Any, new_run: Any, preflight: PreflightOperator, source: DatabaseAddress
) -> None:
    deployments(source_of={"password": "not-the-password"})
    _refuse(new_run(), preflight, source.user, "password")


def test_no_airflow_database(deployments: Any, new_run: Any, preflight: PreflightOperator, new_database: Any) -> None:
    empty = new_database()
    deployments(source_of={"address": empty})
    _refuse(new_run(), preflight, empty.database, "not Airflow's metadata database")


def test_a_target_database_that_is_in_use(
    deployments: Any, new_run: Any, preflight: PreflightOperator, corpus: Any
) -> None:
    used = corpus("2.10.5")
    deployments(target_of={"address": used})
    _refuse(new_run(), preflight, used.database, "runs of its own")


def test_an_unknown_param(deployments: Any, new_run: Any, preflight: PreflightOperator) -> None:
    deployments()
    _refuse(new_run(transferr="clone"), preflight, "transferr")


@pytest.mark.parametrize("key", [OTHER_KEY, None])
def test_a_wrong_or_missing_fernet_key(
    deployments: Any, new_run: Any, preflight: PreflightOperator, key: str | None, source: DatabaseAddress
) -> None:
    deployments(source_of={"secret_fernet_key": key})
    run = new_run()
    _refuse(run, preflight, "fernet key")
    assert OTHER_KEY not in str(run.task.xcoms)
    found = {each["check"]: each["severity"] for each in run.task.xcom_pull(task_ids="preflight", key=FINDINGS_KEY)}
    assert "blocker" in found.values()
    assert found["connection_type"] == "warning", "what is no blocker is told as well"
    with source.connect() as session:
        assert session.execute("SELECT to_regnamespace('airflow_migration')").fetchone() == (None,)


def test_source_and_target_are_one_database(
    deployments: Any, new_run: Any, preflight: PreflightOperator, source: DatabaseAddress
) -> None:
    deployments(target_of={"address": source})
    _refuse(new_run(), preflight, source.database)


def test_the_source_is_the_control_airflows_own_database(
    deployments: Any, new_run: Any, preflight: PreflightOperator, source: DatabaseAddress
) -> None:
    with source.connect(read_only=False) as session:
        session.execute(
            "INSERT INTO dag_run (dag_id, run_id, execution_date, state)"
            " VALUES ('migrate_airflow', 'manual__operators', now(), 'running')"
        )
    deployments()
    _refuse(new_run(), preflight, "control Airflow")


def test_a_1_10_target_needs_no_airflow_1_10_here(
    deployments: Any, new_run: Any, preflight: PreflightOperator, tmp_path: Path
) -> None:
    absent = {"kind": "venv", "environments": {"1.10.15": str(tmp_path / "absent")}}
    deployments(target_of={"airflow_version": "1.10.15", "runtime": absent})
    assert new_run().execute(preflight)["result"]["hops"] == ()
