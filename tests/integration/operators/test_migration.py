"""Whole migrations by the DAG's own tasks: on one server, across two, and stopped by what does not verify."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from psycopg import sql

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import database_exists
from airflow_migration.postgres.tools import program_folders, program_version
from airflow_migration.secret import Secret
from demo.server import EmbeddedServer

DAG_FILE = Path(__file__).parents[3] / "dags" / "migrate_airflow.py"
ODD = 'the "old" Äirflow %s'


@pytest.fixture(scope="module")
def runbook() -> list[Any]:
    """The DAG's tasks in their order."""
    spec = importlib.util.spec_from_file_location("migrate_airflow_dag", DAG_FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tasks: list[Any] = [*module.runbook, module.migration_complete]
    return tasks


@pytest.fixture(scope="module")
def newer_server(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: DatabaseAddress
) -> Iterator[DatabaseAddress]:
    """A second server; where the machine or a wheel has another major version, of that one."""
    with postgres_server.connect() as session:
        present = session.info.server_version // 10000
    folders = [folder for folder in program_folders() if (folder / "initdb").exists()]
    newest = max(folders, key=lambda folder: program_version(folder / "postgres") or 0)
    assert (program_version(newest / "postgres") or 0) >= present
    server = EmbeddedServer(tmp_path_factory.mktemp("newer"), settings={"fsync": "off"}, programs=newest)
    try:
        yield server.start()
    finally:
        server.remove()


def go(run: Any, tasks: list[Any]) -> dict[str, Any]:
    """Run tasks one after the other.

    :returns: task id → result; skipped ones are left out
    """
    results: dict[str, Any] = {}
    for task in tasks:
        try:
            results[task.task_id] = run.execute(task)["result"]
        except AirflowSkipException:
            continue
    return results


def own(server: DatabaseAddress, address: DatabaseAddress, role: str) -> DatabaseAddress:
    """Give a database with all that is in it to a new role that is no superuser."""
    from airflow_migration.postgres.ownership import hand_over

    password = Secret("a $tring: with % \"quotes\" & 'signs'")
    with server.connect(read_only=False, autocommit=True) as session:
        name = sql.Identifier(role)
        session.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(name, sql.Literal(password.reveal()))
        )
        session.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(address.database), name))
    with address.connect(read_only=False) as session:
        hand_over(session, role)
    return DatabaseAddress(
        host=address.host, port=address.port, user=role, password=password, database=address.database
    )


def content_of(address: DatabaseAddress) -> dict[str, str]:
    """A digest of every table of a source, without what a migration may change there."""
    with address.connect() as session:
        tables = session.execute("SELECT relname::text FROM pg_stat_user_tables WHERE schemaname = 'public'").fetchall()
        digests = {}
        for (table,) in tables:
            row = "to_jsonb(t) - 'is_paused'" if table == "dag" else "to_jsonb(t)"
            found = session.execute(
                sql.SQL(
                    "SELECT md5(coalesce(string_agg(({row})::text, '|' ORDER BY ({row})::text), '')) FROM {t} t"
                ).format(row=sql.SQL(row), t=sql.Identifier(str(table)))
            ).fetchone()
            assert found
            digests[str(table)] = str(found[0])
    return digests


def test_one_server_with_names_that_need_quoting_and_a_lost_row_that_is_noticed(
    new_run: Any,
    connect: Any,
    runbook: list[Any],
    postgres_server: DatabaseAddress,
    new_database: Any,
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
) -> None:
    source = own(postgres_server, new_database(ODD, template=corpus("2.10.5").database), 'o"wner %s')
    before = content_of(source)
    with target_env.open("a") as file:
        file.write("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql://x:y@host/somewhere%20else?sslmode=prefer\n")
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    environment = str(runtimes.prepare("3.3.2", lambda line: None))
    connect(
        "migration_target",
        source.on("new $ 'Airflow'"),
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": {"3.3.2": environment}},
    )
    run, tasks = new_run(), {task.task_id: task for task in runbook}
    names = list(tasks)
    done = go(run, [tasks[name] for name in names[: names.index("verify")]])
    plan = done["preflight"]
    assert done["pause_dags"]["active"] == plan["active_dags"]
    assert content_of(source) == before

    working = source.on(plan["working_database"])
    with working.connect(read_only=False) as session:
        (lost,) = session.execute(
            "DELETE FROM variable WHERE key = (SELECT min(key) FROM variable) RETURNING *"
        ).fetchall()
    with pytest.raises(AirflowFailException, match="variable"):
        run.execute(tasks["verify"])
    assert run.task.xcoms["verify", "return_value"]["result"]["verified"] is False
    with working.connect(read_only=False) as session:
        session.execute(sql.SQL("INSERT INTO variable VALUES ({})").format(sql.SQL(", ").join(map(sql.Literal, lost))))

    done |= go(run, [tasks[name] for name in names[names.index("verify") :]])
    assert done["verify"]["verified"] is True
    final = source.on("new $ 'Airflow'")
    with final.connect() as session:
        active = session.execute("SELECT count(*) FROM dag WHERE NOT is_paused").fetchone()
    assert active == (plan["active_dags"],)
    with postgres_server.connect() as session:
        assert not database_exists(session, plan["working_database"])
        assert database_exists(session, plan["frozen_database"])
    settings = EnvFile(str(target_env))
    assert settings.fernet_keys() == fernet_key
    assert settings.connected_database() == "new $ 'Airflow'"
    assert str(settings.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")).endswith("?sslmode=prefer")
    assert content_of(source) == before


def test_two_servers_by_dump_from_1_10_15_into_a_target_that_was_fresh(
    new_run: Any,
    connect: Any,
    runbook: list[Any],
    newer_server: DatabaseAddress,
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
) -> None:
    source = corpus("1.10.15")
    environments = {release: str(runtimes.prepare(release, lambda line: None)) for release in ("2.11.2", "3.3.2")}
    with newer_server.connect(read_only=False, autocommit=True) as session:
        session.execute("CREATE DATABASE airflow")
    target = newer_server.on("airflow")
    assert runtimes.run("3.3.2", target, fernet_key, ["db", "migrate"]).exit_code == 0
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    connect(
        "migration_target",
        target,
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": environments},
    )
    run = new_run(backup=False, fence_source=False)
    done = go(run, runbook)
    plan = done["preflight"]
    assert plan["transfer"] == "dump"
    assert done["verify"]["verified"] is True
    assert {repair["id"] for name in ("repair_1", "repair_2") for repair in done[name]["repairs"]}
    with newer_server.connect() as session:
        assert database_exists(session, plan["set_aside_as"])
    with target.connect() as session:
        row = session.execute(
            "SELECT count(*), count(*) FILTER (WHERE conn_id LIKE 'http_x%') FROM connection"
        ).fetchone()
    with source.connect() as session:
        assert row == session.execute("SELECT count(*), 2 FROM connection").fetchone()
        assert not database_exists(session, plan["frozen_database"])
    assert not Path(done["dump_database"]["path"]).exists()
    assert json.dumps(done)
