"""A rehearsal by the real DAG, beside a source that is written to by others and only read by us."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from tests.end_to_end.control import Control
from tests.end_to_end.test_data_only import connection
from tests.receiving import Received, mail_server

from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

MAIL = {"from_email": "airflow@example.org", "disable_ssl": True, "disable_tls": True}
ENV_FILE = "AIRFLOW__CORE__FERNET_KEY=b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=\n"
NEW_RUN = """
INSERT INTO dag_run SELECT (jsonb_populate_record(d, jsonb_build_object('id', nextval('dag_run_id_seq'),
       'run_id', 'scheduled__' || clock_timestamp(), 'execution_date', clock_timestamp()))).*
  FROM dag_run d ORDER BY id LIMIT 1 RETURNING dag_id, run_id
"""
NEW_TASK = """
INSERT INTO task_instance SELECT (jsonb_populate_record(t, jsonb_build_object('run_id', %s::text, 'task_id', 'written',
       'map_index', -1, 'trigger_id', NULL))).* FROM task_instance t WHERE dag_id = %s ORDER BY run_id LIMIT 1
"""
NEW_LOG = "INSERT INTO log (dttm, dag_id, event, owner) VALUES (now(), %s, 'written', 'of the tests')"

pytestmark = pytest.mark.timeout(900)


@contextmanager
def written_to(address: DatabaseAddress) -> Iterator[Callable[[], int]]:
    """Others insert task instances and logs in a loop, and are kept waiting for a lock for less than a second.

    Gives how many they have written.
    """
    stop, errors, written = threading.Event(), list[BaseException](), 0
    busy = threading.Semaphore(0)

    def write() -> None:
        nonlocal written
        try:
            with address.connect(read_only=False, lock_timeout=1.0) as conn:
                while not stop.wait(0.05):
                    ((dag_id, run_id),) = conn.execute(NEW_RUN).fetchall()
                    conn.execute(NEW_TASK, (run_id, dag_id))
                    conn.execute(NEW_LOG, (dag_id,))
                    conn.commit()
                    written += 1
                    busy.release()
        except BaseException as err:
            errors.append(err)
            busy.release()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert busy.acquire(timeout=60)
    try:
        yield lambda: written
    finally:
        stop.set()
        thread.join()
    assert not errors, errors


def reader_of(address: DatabaseAddress) -> DatabaseAddress:
    """A login that may read a database, and no more."""
    reader = replace(address, user="reader of the source", password=Secret("never shown"))
    name = sql.Identifier(reader.user)
    with address.connect(read_only=False) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'never shown'").format(name))
        for what in ("ALL TABLES", "ALL SEQUENCES"):
            conn.execute(sql.SQL(f"GRANT SELECT ON {what} IN SCHEMA public TO {{}}").format(name))
    return reader


def users_files(folder: Path) -> dict[str, Any]:
    """Params for DAG files and an airflow.cfg of somebody."""
    dags, settings = folder / "users_dags", folder / "users_airflow.cfg"
    dags.mkdir()
    (dags / "good.py").write_text("from airflow import DAG\ndag = DAG('good', schedule=None)\n")
    (dags / "old.py").write_text(
        "from airflow import DAG\nfrom airflow.operators.dummy_operator import DummyOperator\n"
    )
    (dags / "slow.py").write_text("from airflow import DAG\nimport time\ntime.sleep(600)\n")
    settings.write_text("[core]\ndag_concurrency = 16\n")
    return {"dags_folder": str(dags), "dag_parse_timeout": 5, "airflow_cfg": str(settings)}


def databases_of(*servers: DatabaseAddress) -> list[Any]:
    names = []
    for server in servers:
        with server.maintenance().connect() as conn:
            names.append(conn.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall())
    return names


def events_of(control: Control) -> list[dict[str, Any]]:
    """What the asset's events say, the oldest first."""
    query = "SELECT e.extra FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = ? ORDER BY e.id"
    with closing(sqlite3.connect(control.database)) as database:
        return [json.loads(extra) for (extra,) in database.execute(query, ("airflow_migration/rehearsal",))]


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """A mail server, and somebody who wants to be told."""
    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__NOTIFY_CONN_IDS", "mail")
    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__NOTIFY_EMAILS", "ops@example.org")
    with mail_server() as received:
        yield received


def assert_told(control: Control, mails: Received, reports: list[dict[str, Any]]) -> None:
    """Other DAGs by the asset, people by mail."""
    events = events_of(control)
    assert [event["run_id"] for event in events] == [report["run_id"] for report in reports]
    for event, report in zip(events, reports, strict=True):
        assert event["verified"]
        assert event["findings"]["blocker"] == sum(each["severity"] == "blocker" for each in report["findings"])
        assert event["source_bytes"] == report["plan"]["source_size"]
        assert event["downtime_seconds"] == report["prediction"]["seconds"]
        assert Path(event["report"]) in control.reports()
    told = [mail["Subject"].split(": ")[0] for _, mail in mails.mails]
    assert told == [f"Rehearsal {report['run_id']}" for report in reports]


def objects_of(address: DatabaseAddress) -> list[Any]:
    with address.connect() as conn:
        return conn.execute("SELECT oid, relname FROM pg_class WHERE relpersistence = 'p' ORDER BY 1").fetchall()


def keep_pages(control: Control, folder: Path, reports: dict[str, dict[str, Any]]) -> None:
    """Copy `report.html` of each to the documentation, under a name of its own."""
    for path in control.reports():
        run_id = json.loads(path.read_text())["run_id"]
        for name, report in reports.items():
            if report["run_id"] == run_id:
                page = path.with_name("report.html").read_text()
                (folder / f"{name}.html").write_text(page.replace(str(control.folder), "/opt/airflow"))


def test_a_source_that_goes_on_is_rehearsed_and_nothing_of_it_stays(
    corpus: Callable[[str], DatabaseAddress],
    newer_server: DatabaseAddress,
    load_database: Callable[[DatabaseAddress, str], None],
    fernet_key: Secret,
    control_database: Path,
    tmp_path: Path,
    mails: Received,
    pictures: Path | None,
) -> None:
    source = corpus("2.10.5")
    target = newer_server.on('the "next" Airflow')
    with newer_server.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(target.database)))
    load_database(target, "3.3.2")
    env_file = tmp_path / "airflow.env"
    env_file.write_text(ENV_FILE)
    control = Control(
        tmp_path,
        control_database,
        migration_source=connection(reader_of(source), secret_fernet_key=fernet_key.reveal()),
        migration_target=connection(target, control={"kind": "env_file", "path": str(env_file)}),
        mail={"conn_type": "smtp", "host": "127.0.0.1", "port": mails.port, "extra": MAIL},
    )
    before = databases_of(source, target), objects_of(source)
    with written_to(source) as written:
        begun = written()
        report = control.run("rehearse_migration", history_days=20000, **users_files(tmp_path))
        assert written() > begun
    assert report["kind"] == "rehearsal"
    assert report["verified"]
    assert [hop["release"] for hop in report["plan"]["hops"]] == ["3.3.2"]
    blockers = {finding["check"] for finding in report["findings"] if finding["severity"] == "blocker"}
    assert blockers == {"target_database", "privileges"}
    ledger = {entry["table"]: entry for entry in report["ledger"]}
    assert ledger["task_instance"]["rows_in"] == ledger["task_instance"]["rows_out"] > 0

    assert {file["path"]: file["trouble"] for file in report["dag_files"]["files"]} == {
        "old.py": "removed",
        "slow.py": "timed_out",
        "good.py": None,
    }
    changes = {change["before"]: change["after"] for change in report["configuration"]["changes"]}
    assert changes["[core] dag_concurrency = 16"] == "[core] max_active_tasks_per_dag = 16"
    told = {finding["check"] for finding in report["findings"]}
    assert {"dag_files_removed", "dag_files_timed_out", "configuration_required"} <= told

    assert (databases_of(source, target), objects_of(source)) == before
    assert env_file.read_text() == ENV_FILE
    assert not list((tmp_path / "reports").rglob("scratch.json"))
    assert [path.relative_to(tmp_path / "reports").parts[0] for path in control.reports()] == ["rehearsals"]

    assert report["comparison"] is None, "it is the first"
    assert report["prediction"]["based_on"] == [report["run_id"]]
    with source.connect(read_only=False) as conn:
        conn.execute("INSERT INTO dag_pickle (id, pickle) VALUES (12345, 'lost by 3.0')")
    again = control.run("rehearse_migration", history_days=20000)
    comparison = again["comparison"]
    assert (comparison["run_id"], comparison["not_comparable"]) == (report["run_id"], [])
    assert "dag_pickle_lost" in {each["check"] for each in comparison["findings"]["came"]}
    assert {"upgrade_1", "verify"} <= {each["name"] for each in comparison["steps"]}
    assert comparison["revisions"]
    prediction = again["prediction"]
    assert prediction["based_on"] == [again["run_id"], report["run_id"]]
    assert 0 < prediction["low"] < prediction["seconds"] < prediction["high"]

    assert_told(control, mails, [report, again])
    if pictures is not None:
        keep_pages(control, pictures.parent / "rehearsals", {"first": report, "second": again})
