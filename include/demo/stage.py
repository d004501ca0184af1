"""The demo's scene: a PostgreSQL, an old deployment's database, a new one's settings, a control Airflow."""

from __future__ import annotations

import gzip
import json
import secrets
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from psycopg import sql
from rich.console import Console

from airflow_migration.exceptions import MigrationError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.tools import find_tool
from airflow_migration.secret import Secret
from demo.control import ControlAirflow
from demo.deployments import connections, write_target
from demo.server import EmbeddedServer
from demo.watch import watch_run

SOURCE_DUMP = Path(__file__).parent / "source" / "airflow-1.10.15.sql.gz"
SOURCE_DATABASE, CONTROL_DATABASE = "airflow_1_10", "control"
RUN_ID = "demo"
DAG_ID = "migrate_airflow"


@dataclass(frozen=True)
class Stage:
    """Everything of one demo, in one folder.

    :param folder: made anew by `set_up`
    :param runtimes: where environments of other releases are kept from one demo to the next
    :param users: of the control Airflow, see there
    """

    folder: Path
    runtimes: Path
    console: Console
    users: str = "admin:admin"

    @cached_property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.folder / "postgres")

    @cached_property
    def control(self) -> ControlAirflow:
        return ControlAirflow(home=self.folder / "control", users=self.users)

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    def set_up(self) -> None:
        """Start everything, with both connections entered.

        :raises MigrationError: a part does not start
        """
        self.stop()
        self.server.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._tell("Starting PostgreSQL")
        superuser = self.server.start(outlive=True)
        source = create_owner_and_database(superuser, SOURCE_DATABASE)
        self._tell(f"Loading a database that Airflow 1.10.15 wrote into {source}")
        self._load(source)
        target = write_target(self.folder / "target", source)
        self._tell("Starting the control Airflow (half a minute or more)")
        self.control.start(create_owner_and_database(superuser, CONTROL_DATABASE), self.runtimes)
        self._tell(f"The control Airflow answers on {self.control.url}")
        with self.control.client() as api:
            for connection in connections(source, target):
                api.post("/connections", json=connection).raise_for_status()

    def migrate(self) -> dict[str, Any]:
        """Trigger the DAG, watch it to its end and take its report.

        :raises MigrationError: the run left no report
        """
        with self.control.client() as api:
            run = {"dag_run_id": RUN_ID, "logical_date": None, "conf": {"require_approval": False}}
            api.post(f"/dags/{DAG_ID}/dagRuns", json=run).raise_for_status()
            self._tell(f"Triggered {DAG_ID}: Airflow 1.10.15 to 3.3.2\n")
            watch_run(self.console, api, DAG_ID, RUN_ID, self.control.home / "logs")
        written = self.control.home / "migration-reports" / RUN_ID / "report.json"
        if not written.exists():
            raise MigrationError("the run left no report", where="demo", remedy=f"Look at {self.control.log}")
        shutil.copyfile(written, self.report)
        report: dict[str, Any] = json.loads(written.read_text())
        return report

    def stop(self) -> None:
        """End what runs of this demo, whichever process started it."""
        self.control.stop()
        self.server.stop()

    def _load(self, address: DatabaseAddress) -> None:
        with address.connect() as session:
            psql = find_tool("psql", session.info.server_version)
        plain = self.folder / "source.sql"
        with gzip.open(SOURCE_DUMP, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
        arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--file={plain}"]
        Client("load the source", address.environment()).run([psql, *arguments], lambda line: None)
        plain.unlink()

    def _tell(self, sentence: str) -> None:
        self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {sentence}", soft_wrap=True)


def create_owner_and_database(superuser: DatabaseAddress, name: str) -> DatabaseAddress:
    """A database with an owner of its own who may create databases, as a deployment should have."""
    password = Secret(secrets.token_urlsafe(18))
    role = sql.Identifier(name)
    with superuser.connect(read_only=False, autocommit=True) as session:
        session.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, sql.Literal(password.reveal()))
        )
        session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
    return DatabaseAddress(host=superuser.host, port=superuser.port, user=name, password=password, database=name)
