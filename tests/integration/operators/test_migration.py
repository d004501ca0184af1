"""Whole migrations by the DAG's own tasks: on one server, across two, and stopped by what does not verify."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from psycopg import sql

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.metadata.users_schema import TABLES
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import database_exists
from airflow_migration.postgres.ownership import hand_over
from airflow_migration.postgres.schemas import move_schema, move_tables, schema_exists
from airflow_migration.secret import Secret

DAG_FILE = Path(__file__).parents[3] / "dags" / "migrate_airflow.py"
ODD = 'the "old" Äirflow %s'
TRAPS = ("search_path = airflow_migration", "statement_timeout = '400ms'", "default_transaction_read_only = on")


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


def on_server(server: DatabaseAddress, statement: str, *names: str) -> None:
    with server.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def new_login(server: DatabaseAddress, role: str, *settings: str) -> DatabaseAddress:
    """A role that is no superuser and may create databases; its own settings are traps."""
    password = Secret("a $tring: with % \"quotes\" & 'signs'")
    name = sql.Identifier(role)
    with server.connect(read_only=False, autocommit=True) as session:
        session.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(name, sql.Literal(password.reveal()))
        )
        for setting in settings:
            session.execute(sql.SQL("ALTER ROLE {} SET " + setting).format(name))
    return replace(server, user=role, password=password)


def own(server: DatabaseAddress, address: DatabaseAddress, role: str, *settings: str) -> DatabaseAddress:
    """Give a database with all that is in it to a new role."""
    login = new_login(server, role, *settings)
    on_server(server, "ALTER DATABASE {} OWNER TO {}", address.database, role)
    with address.connect(read_only=False) as session:
        hand_over(session, role)
    return login.on(address.database)


def content_of(address: DatabaseAddress) -> dict[str, str]:
    """A digest of every table of a source, without what a migration may change there."""
    with address.connect() as session:
        tables = session.execute(
            "SELECT schemaname::text, relname::text FROM pg_stat_user_tables WHERE schemaname <> 'airflow_migration'"
        ).fetchall()
        digests = {}
        for schema, table in tables:
            row = "to_jsonb(t) - 'is_paused'" if table == "dag" else "to_jsonb(t)"
            found = session.execute(
                sql.SQL(
                    "SELECT md5(coalesce(string_agg(({row})::text, '|' ORDER BY ({row})::text), '')) FROM {t} t"
                ).format(row=sql.SQL(row), t=sql.Identifier(str(schema), str(table)))
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


def longest(start: str) -> str:
    """A name of the 63 bytes that Postgres allows."""
    name = f"{start} \"q\" 'q' $x %s \\ "
    while len((name + "é").encode()) <= 63:
        name += "é"
    return name + "x" * (63 - len(name.encode()))


def test_longest_names_two_roles_other_schemas_and_users_in_their_own(
    new_run: Any,
    connect: Any,
    runbook: list[Any],
    newer_server: DatabaseAddress,
    load_database: Callable[[DatabaseAddress, str], None],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
) -> None:
    """Everything odd at once, cloned on one server of another major version; pgcrypto is off the path."""
    database, schema = newer_server.on(longest("database")), longest("schema")
    on_server(newer_server, "CREATE DATABASE {}", database.database)
    load_database(database, "2.10.5")
    with database.connect(read_only=False) as session:
        session.execute("CREATE SCHEMA fab")
        move_tables(session, TABLES, "public", "fab")
        move_schema(session, "public", schema)
        # A server without it has nothing that the upgrade could miss.
        if session.execute("SELECT FROM pg_available_extensions WHERE name = 'pgcrypto'").fetchone() is not None:
            session.execute("CREATE EXTENSION pgcrypto SCHEMA public")
    source = replace(own(newer_server, database, longest("source"), *TRAPS), schema=schema)
    theirs = new_login(newer_server, longest("target"), "statement_timeout = '400ms'")
    on_server(newer_server, "GRANT {} TO {}", theirs.user, source.user)
    target = replace(theirs, database=longest("target"), schema="airflow")
    before = content_of(source)
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal(), metadata_schema=schema)
    connect(
        "migration_target",
        target,
        metadata_schema="airflow",
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": {"3.3.2": str(runtimes.prepare("3.3.2", lambda line: None))}},
    )
    done = go(new_run(), runbook)
    plan = done["preflight"]
    assert (plan["transfer"], plan["users_schema"]) == ("clone", "fab")
    assert done["verify"]["verified"] is True
    assert content_of(source) == before
    with source.on(plan["frozen_database"]).connect() as frozen:
        users = frozen.execute("SELECT count(*) FROM fab.ab_user").fetchone()
    # As the target's own Airflow comes in, with nothing but its connection string.
    password = target.password.reveal()
    with psycopg.connect(
        host=target.host, port=target.port, user=target.user, password=password, dbname=target.database
    ) as session:
        assert session.execute("SELECT count(*) FROM ab_user").fetchone() == users
        active = session.execute("SELECT count(*) FROM dag WHERE NOT is_paused").fetchone()
        assert active == (plan["active_dags"],)
        assert not schema_exists(session, schema)


def test_two_servers_by_dump_into_another_schema(
    new_run: Any,
    connect: Any,
    runbook: list[Any],
    newer_server: DatabaseAddress,
    postgres_server: DatabaseAddress,
    new_database: Any,
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
    target_env: Path,
    runtimes: Any,
) -> None:
    source = own(
        postgres_server, new_database(longest("dumped"), template=corpus("2.10.5").database), longest("dumper")
    )
    theirs = new_login(newer_server, longest("restorer"), *TRAPS)
    schema = longest("restored")
    connect("migration_source", source, secret_fernet_key=fernet_key.reveal())
    connect(
        "migration_target",
        theirs.on(longest("restored")),
        metadata_schema=schema,
        control={"kind": "env_file", "path": str(target_env)},
        runtime={"kind": "venv", "environments": {"3.3.2": str(runtimes.prepare("3.3.2", lambda line: None))}},
    )
    done = go(new_run(transfer="dump", backup=False), runbook)
    assert done["verify"]["verified"] is True
    with newer_server.on(longest("restored")).connect() as session:
        homes = session.execute("SELECT DISTINCT schemaname::text FROM pg_stat_user_tables ORDER BY 1").fetchall()
    assert homes == [("airflow_migration",), (schema,)]
