"""The procedure of 2019 by the real DAG: 1.10.15 in schema `airflow` to a 1.10.15 that was just set up elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.schemas import move_schema
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

REPOSITORY = Path(__file__).parents[2]
RELEASE = "1.10.15"
OWN_KEY = Secret("b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=")
RUN_ID = "manual__2019"

pytestmark = pytest.mark.timeout(900)


class Control:
    """A control Airflow that runs one DAG at a time, as README's terminal does."""

    def __init__(self, folder: Path, **connections: dict[str, Any]) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "control"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__AIRFLOW_MIGRATION__RUNTIMES_PATH": str(REPOSITORY / "build" / "runtimes"),
            "AIRFLOW__AIRFLOW_MIGRATION__DUMPS_PATH": str(folder / "dumps"),
            "AIRFLOW__AIRFLOW_MIGRATION__REPORTS_PATH": str(folder / "reports"),
            "PYTHONPATH": str(REPOSITORY / "include"),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(content) for name, content in connections.items()},
        }
        for command in (["db", "migrate"], ["dags", "reserialize"]):
            self._airflow(*command)

    def run(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        """Run a DAG to its end.

        :returns: the report that it has written
        """
        before = set(self.reports())
        output = self._airflow("dags", "test", dag_id, "-c", json.dumps({"require_approval": False} | conf))
        (path,) = set(self.reports()) - before
        report: dict[str, Any] = json.loads(path.read_text())
        assert report["status"] == "success", output[-6000:]
        return report

    def reports(self) -> list[Path]:
        return list((self.folder / "reports").rglob("report.json"))

    def _airflow(self, *argv: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("airflow"), *argv],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout


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
    place: Place, newer_server: DatabaseAddress, fernet_key: Secret, tmp_path: Path
) -> None:
    control = Control(
        tmp_path,
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
