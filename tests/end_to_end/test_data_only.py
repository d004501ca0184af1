"""The procedure of 2019 by the real DAG: 1.10.15 in schema `airflow` to a 1.10.15 that was just set up elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql
from tests.end_to_end.control import Control

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.schemas import move_schema
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

RELEASE = "1.10.15"
OWN_KEY = Secret("b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=")

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Both deployments.

    :param own: the target's rows before anything came
    """

    source: DatabaseAddress
    target: DatabaseAddress
    env_file: Path
    runtimes: VenvRuntime
    own: dict[str, str]

    def says(self, *argv: str) -> str:
        """What the target's own `airflow` answers, with the key that its settings have."""
        key = Secret(EnvFile(str(self.env_file)).get("AIRFLOW__CORE__FERNET_KEY") or "")
        answer = self.runtimes.run(RELEASE, self.target, key, argv, NO_EXAMPLES)
        assert answer.exit_code == 0, answer.errors.reveal()[-3000:]
        return answer.output.reveal()


NO_EXAMPLES = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


@pytest.fixture
def place(
    corpus: Callable[[str], DatabaseAddress],
    newer_server: DatabaseAddress,
    runtimes: VenvRuntime,
    tmp_path: Path,
) -> Place:
    """The target's schema is made by its own `airflow initdb`, on another server, for a role that owns no more."""
    try:
        runtimes.prepare(RELEASE, lambda _: None)
    except InvalidInputError as err:
        pytest.skip(str(err))
    source = corpus(RELEASE)
    with source.connect(read_only=False) as conn:
        move_schema(conn, "public", "airflow")
        conn.execute("UPDATE airflow.dag SET is_paused = false WHERE dag_id = (SELECT min(dag_id) FROM airflow.dag)")
    name = sql.Identifier("fresh target")
    with newer_server.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'never shown'").format(name))
        conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
    target = replace(newer_server.on("fresh target"), user="fresh target", password=Secret("never shown"))
    env_file = tmp_path / "airflow.env"
    env_file.write_text(f"AIRFLOW__CORE__FERNET_KEY={OWN_KEY.reveal()}\n")
    place = Place(source=replace(source, schema="airflow"), target=target, env_file=env_file, runtimes=runtimes, own={})
    place.says("initdb")
    place.says("connections", "--add", "--conn_id", "set_up_here", "--conn_uri", "http://u:own@host")
    return replace(place, own=digests(target))


def digests(address: DatabaseAddress) -> dict[str, str]:
    """Of the tables that nobody writes by looking at them."""
    with address.connect() as conn:
        found = {}
        for table in ("connection", "variable", "slot_pool", "dag", "dag_run", "task_instance", "xcom", "job"):
            query = sql.SQL("SELECT count(*) || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {} t")
            row = conn.execute(query.format(sql.Identifier(table))).fetchone()
            found[table] = str(row[0]) if row else ""
        return found


def connection(address: DatabaseAddress, **extra: Any) -> dict[str, Any]:
    return {
        "conn_type": "airflow_deployment",
        "host": address.host,
        "port": address.port,
        "login": address.user,
        "password": address.password.reveal(),
        "schema": address.database,
        "extra": {"metadata_schema": address.schema} | extra,
    }


def test_a_fresh_deployment_takes_the_history_over_and_gives_it_back(
    place: Place, newer_server: DatabaseAddress, fernet_key: Secret, control_database: Path, tmp_path: Path
) -> None:
    control = Control(
        tmp_path,
        control_database,
        migration_source=connection(place.source, secret_fernet_key=fernet_key.reveal()),
        migration_target=connection(place.target, control={"kind": "env_file", "path": str(place.env_file)}),
    )
    report = control.run("migrate_airflow", transfer="data_only")
    assert report["verified"]
    assert report["plan"]["hops"] == []
    travelled = {entry["table"]: entry for entry in report["ledger"]}
    assert travelled["task_instance"]["rows_in"] == travelled["task_instance"]["rows_out"] > 0
    assert "users and roles" in travelled["ab_user"]["causes"][0]["cause"]

    listed = place.says("connections", "--list")
    assert "pg_dwh" in listed
    assert "set_up_here" not in listed
    assert place.says("variables", "--get", "token").strip().endswith("t0k")
    with place.target.connect() as conn:
        ((dag_id,),) = conn.execute("SELECT dag_id FROM dag_run GROUP BY 1 ORDER BY count(*) DESC LIMIT 1").fetchall()
        runs = conn.execute("SELECT run_id FROM dag_run WHERE dag_id = %s", (dag_id,)).fetchall()
        active = conn.execute("SELECT dag_id FROM dag WHERE NOT is_paused").fetchall()
    assert len(active) == 1
    # 1.10 lists the runs of a DAG that it has the file of.
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "it.py").write_text(
        f"from airflow import DAG\nfrom datetime import datetime\nit = DAG({dag_id!r}, start_date=datetime(2021, 1, 1))"
    )
    key = Secret(EnvFile(str(place.env_file)).get("AIRFLOW__CORE__FERNET_KEY") or "")
    answer = place.runtimes.run(
        RELEASE, place.target, key, ("list_dag_runs", str(dag_id)), NO_EXAMPLES, tmp_path / "dags"
    )
    said = answer.output.reveal()
    assert runs
    assert [run_id for (run_id,) in runs if str(run_id) not in said] == [], said + answer.errors.reveal()

    control.run("roll_back_migration", migration_id=report["migration_id"])
    assert digests(place.target) == place.own
    assert "set_up_here" in place.says("connections", "--list")
    assert EnvFile(str(place.env_file)).get("AIRFLOW__CORE__FERNET_KEY") == OWN_KEY.reveal()
    with place.source.connect() as conn:
        assert conn.execute("SELECT count(*) FROM dag WHERE NOT is_paused").fetchone() == (1,)
