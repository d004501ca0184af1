"""The demo is the promise to a newcomer: one real migration, in a real Airflow, that leaks nothing."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from tests.polling import until

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.postgres.address import DatabaseAddress
from demo.deployments import FACTS, TARGET_DATABASE
from demo.leaks import Arguments, Search, logs_and_reports
from demo.stage import CONTROL_DATABASE, DAG_ID, RUN_ID, SOURCE_DATABASE, Stage

DEADLINE_SECONDS = 400.0


@dataclass(frozen=True)
class Demo:
    """A finished demo.

    :param arguments: arguments of every process that was seen during the run
    :param shown: what stood in the terminal
    """

    stage: Stage
    report: dict[str, Any]
    arguments: set[str]
    shown: str
    secrets: dict[str, str]

    def database(self, name: str) -> DatabaseAddress:
        return self.stage.server.address.on(name)


@pytest.fixture(scope="module")
def demo(stage: Stage) -> Demo:
    secrets = _secrets(stage)
    with Arguments() as arguments:
        report = stage.migrate()
    stage.console.file.flush()
    terminal = Path(stage.console.file.name).read_text()
    return Demo(stage=stage, report=report, arguments=arguments.seen, shown=terminal, secrets=secrets | _secrets(stage))


def _secrets(stage: Stage) -> dict[str, str]:
    """Every secret of both sides, by a name that may be shown."""
    facts = json.loads(FACTS.read_text())
    target = EnvFile(str(stage.folder / "target" / "airflow.env"))
    found = {"the source's fernet key": facts["fernet_key"], "the target's fernet key": target.fernet_keys().reveal()}
    found["the superuser's password"] = stage.server.address.password.reveal()
    login = str(target.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")).partition("@")[0].rpartition(":")[2]
    found["the deployments' database password"] = login
    # Every password, extra and variable of the shipped database that is secret begins so.
    found["a secret of the source"] = facts["secret_prefix"]
    return found


def test_the_run_is_green_and_verified(demo: Demo) -> None:
    assert demo.report["verified"] is True, demo.report["verification"]
    assert demo.report["status"] == "success"
    assert [hop["release"] for hop in demo.report["plan"]["hops"]] == ["2.11.2", "3.3.2"]
    with demo.stage.control.client() as api:
        assert api.get(f"/dags/{DAG_ID}/dagRuns/{RUN_ID}").json()["state"] == "success"


def test_what_a_hop_said_while_it_ran_can_be_asked_of_the_api(demo: Demo) -> None:
    entries = f"/dags/{DAG_ID}/dagRuns/{RUN_ID}/taskInstances/upgrade_1/xcomEntries"
    with demo.stage.control.client() as api:
        progress = api.get(f"{entries}/progress").json()["value"]
        assert 0 <= progress["done"] <= progress["total"]
        assert progress["unit"] == "revisions"
        assert api.get(f"{entries}/said").status_code == 200


def test_the_shipped_database_has_secrets_to_leak(demo: Demo) -> None:
    facts = json.loads(FACTS.read_text())
    with demo.database(SOURCE_DATABASE).connect() as source:
        row = source.execute(
            "SELECT count(*) FROM connection WHERE position(%s in password) > 0", (facts["secret_prefix"],)
        )
        assert row.fetchone() == (facts["counts"]["plaintext_passwords"],)


def test_exactly_the_dags_that_were_active_are_active_again(demo: Demo) -> None:
    query = "SELECT dag_id FROM airflow_migration.paused_dag WHERE was_paused IS NOT TRUE ORDER BY dag_id"
    with demo.database(SOURCE_DATABASE).connect() as source, demo.database(TARGET_DATABASE).connect() as target:
        before = source.execute(query).fetchall()
        after = target.execute("SELECT dag_id FROM dag WHERE NOT is_paused ORDER BY dag_id").fetchall()
        still = source.execute("SELECT count(*) FROM dag WHERE is_paused IS NOT TRUE").fetchone()
    assert before
    assert after == before
    assert still == (0,)


def test_the_history_is_complete(demo: Demo) -> None:
    facts = json.loads(FACTS.read_text())
    with demo.database(TARGET_DATABASE).connect() as target:
        for table in ("dag_run", "variable", "connection"):
            row = target.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            assert row is not None
            assert row[0] == facts["tables"][table], table


def test_pickled_xcoms_are_json_and_only_those_with_bytes_are_in_airflow_s_archive(demo: Demo) -> None:
    queries = (
        "SELECT DISTINCT value ->> '__classname__' FROM xcom WHERE key = 'watermark'",
        "SELECT DISTINCT value ->> '__classname__' FROM xcom WHERE key = 'regions'",
        "SELECT DISTINCT task_id FROM _xcom_archive",
        "SELECT count(*) = (SELECT count(*) FROM airflow_migration.changed_xcom) FROM xcom",
    )
    with demo.database(TARGET_DATABASE).connect() as target:
        answers = [target.execute(query).fetchall() for query in queries]
    assert answers == [[("datetime.datetime",)], [("builtins.set",)], [("train",)], [(True,)]]


def test_the_source_is_fenced_and_its_copy_is_kept(demo: Demo) -> None:
    frozen = demo.report["plan"]["frozen_database"]
    import psycopg

    for name in (SOURCE_DATABASE, frozen):
        with (
            psycopg.connect(
                host="127.0.0.1",
                port=demo.stage.server.address.port,
                user="postgres",
                password=demo.stage.server.address.password.reveal(),
                dbname=name,
            ) as session,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            session.execute("CREATE TABLE not_allowed (id int)")


def test_no_secret_is_in_any_file_that_others_may_read_or_that_is_a_log_or_report(demo: Demo) -> None:
    home = demo.stage.control.home
    # Dumps hold everything; nobody else gets into their folder.
    dumps = home / "migration-dumps"
    assert stat.S_IMODE(dumps.stat().st_mode) == 0o700
    search = Search(demo.secrets)
    search.files(logs_and_reports(demo.stage.control))
    for path in demo.stage.folder.rglob("*"):
        elsewhere = not {demo.stage.server.directory, dumps} & {*path.parents}
        if elsewhere and path.is_file() and path.stat().st_mode & stat.S_IROTH:
            search.files([path])
    assert search.looked > len(demo.report["steps"])
    assert search.leaks == []


def test_no_secret_is_in_the_control_airflows_database(demo: Demo) -> None:
    """XComs, rendered fields, the audit log and all the rest; its own connections are encrypted there."""
    search = Search(demo.secrets)
    search.database(demo.database(CONTROL_DATABASE))
    assert search.looked > len(demo.report["steps"])
    assert search.leaks == []


def test_no_secret_was_in_the_arguments_of_a_process_or_in_the_terminal(demo: Demo) -> None:
    assert any("pg_dump" in each for each in demo.arguments)
    assert any("db migrate" in each for each in demo.arguments)
    search = Search(demo.secrets)
    search.texts(demo.arguments, "arguments of a process")
    search.text(demo.shown, "the terminal")
    assert search.leaks == []


def test_no_secret_is_in_what_the_rest_api_answers(demo: Demo) -> None:
    search = Search(demo.secrets)
    with demo.stage.control.client() as api:
        search.answers(api, DAG_ID, RUN_ID)
    assert search.looked > len(demo.report["steps"])
    assert search.leaks == []


def test_tasks_lead_to_the_console_and_those_at_the_end_to_the_report(demo: Demo) -> None:
    console = f"/dags/{DAG_ID}/runs/{RUN_ID}/plugin/migration"
    with demo.stage.control.client() as api:
        run = f"/dags/{DAG_ID}/dagRuns/{RUN_ID}/taskInstances"
        shown = {
            name: api.get(f"{run}/{name}/links").json()["extra_links"] for name in ("upgrade_1", "verify", "report")
        }
        assert shown["upgrade_1"] == {"Console": console}
        assert shown["verify"] == shown["report"]
        page = api.get(f"{demo.stage.control.url}{shown['report'].pop('Report')}")
        assert shown["report"] == {"Console": console}
    assert page.status_code == 200
    assert "Migrated, and every row is accounted for" in page.text


def test_a_rejected_plan_fails_the_run_at_once_and_touches_nothing(demo: Demo) -> None:
    run_id = "rejected"
    before = _active_dags_of_the_source(demo)
    conf = {"target_database": "never_made"}
    with demo.stage.control.client() as api:
        run = f"/dags/{DAG_ID}/dagRuns/{run_id}"
        api.post(f"/dags/{DAG_ID}/dagRuns", json={"dag_run_id": run_id, "logical_date": None, "conf": conf})
        asked = f"{run}/taskInstances/approve_plan/-1/hitlDetails"
        # 3.3.2 tries a task again whose answer comes before the scheduler has seen its process end.
        parked = re.compile(rf"task_id=approve_plan, run_id={run_id}, .*state=awaiting_input")
        until(
            lambda: demo.stage.control.log.read_text(errors="replace"),
            parked.search,
            seconds=DEADLINE_SECONDS,
            pause=0.5,
            told=lambda: api.get(f"{run}/taskInstances/approve_plan").text,
        )
        plan = api.get(asked).json()
        assert "never_made" in plan["body"]
        assert "1.10.15 → 3.3.2" in plan["subject"]
        assert "never rehearsed" in plan["body"]
        search = Search(demo.secrets)
        search.text(str(plan), "the plan in words")
        assert search.leaks == []
        assert [*api.get(f"{run}/taskInstances/approve_plan/links").json()["extra_links"]] == ["Console"]
        answer = api.patch(asked, json={"chosen_options": ["Reject"], "params_input": {}})
        assert answer.status_code == 200, answer.text
        until(lambda: api.get(run).json()["state"], "failed".__eq__, seconds=DEADLINE_SECONDS, pause=0.5)
        states = {each["task_id"]: each for each in api.get(f"{run}/taskInstances").json()["task_instances"]}
    assert states["approve_plan"]["state"] == "failed"
    assert states["approve_plan"]["try_number"] == 1
    assert states["pause_dags"]["state"] == "upstream_failed"
    assert states["report"]["state"] == "success"
    report = json.loads((demo.stage.control.home / "migration-reports" / run_id / "report.json").read_text())
    assert {step["task_id"]: step["error"]["problem"] for step in report["steps"] if step["error"]} == {
        "approve_plan": "the plan was rejected"
    }
    assert _active_dags_of_the_source(demo) == before
    with demo.database(SOURCE_DATABASE).connect() as source:
        row = source.execute("SELECT count(*) FROM airflow_migration.migration WHERE migration_id = %s", (run_id,))
        assert row.fetchone() == (0,)


def _active_dags_of_the_source(demo: Demo) -> list[tuple[object, ...]]:
    with demo.database(SOURCE_DATABASE).connect() as source:
        return source.execute("SELECT dag_id, is_paused FROM dag ORDER BY dag_id").fetchall()


def test_no_temporary_file_is_left_by_the_releases(demo: Demo, temporary: Path) -> None:
    assert not [*temporary.glob("airflow-migration-*")]
    search = Search(demo.secrets)
    search.files([temporary])
    assert search.leaks == []
