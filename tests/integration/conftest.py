"""Roles, sessions and deployments beyond those of the superuser."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.planning.options import Options
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.preflight import ControlRun, make_plan
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.ownership import hand_over
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from airflow_migration.steps.migration import Migration, Workshop

NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]

CONTROL_RUN = ControlRun(dag_id="migrate_airflow", run_id="manual__of_the_tests")


@pytest.fixture(scope="session")
def runtimes(warm_runtimes: VenvRuntime) -> VenvRuntime:
    """Each release is imported once; the tests of the runtimes alone start it as users do."""
    return warm_runtimes


@pytest.fixture(scope="session")
def new_role(postgres_server: DatabaseAddress) -> NewRole:
    """Makes a login that is no superuser, under a name and with a password that need quoting."""
    numbers = itertools.count(1)

    def create(options: str = "CREATEDB") -> DatabaseAddress:
        number = next(numbers)
        name, password = f'Ann "{number}" Ü', f"p' w\\{number}-never-shown"
        with postgres_server.connect(read_only=False, autocommit=True) as session:
            session.execute(
                psycopg.sql.SQL("CREATE ROLE {} LOGIN " + options + " PASSWORD {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.Literal(password)
                )
            )
        return replace(postgres_server, user=name, password=Secret(password))

    return create


@pytest.fixture(scope="session")
def owned() -> Owned:
    """Gives a database with all that it holds to a role; returns the role's own way in."""

    def give(database: DatabaseAddress, role: DatabaseAddress) -> DatabaseAddress:
        with database.connect(read_only=False) as session:
            hand_over(session, role.user)
            session.execute(
                psycopg.sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                    psycopg.sql.Identifier(database.database), psycopg.sql.Identifier(role.user)
                )
            )
        return role.on(database.database)

    return give


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Opens a session as an application does, and closes what is left of it afterwards."""
    sessions: list[Session] = []

    def open_session(address: DatabaseAddress) -> Session:
        session: Session = psycopg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password.reveal(),
            dbname=address.database,
            application_name="somebody else",
        )
        session.execute("SELECT 1")
        sessions.append(session)
        return session

    yield open_session
    for session in sessions:
        session.close()


@pytest.fixture
def busy(hold: Hold) -> Iterator[Callable[[DatabaseAddress], None]]:
    """Has six threads keep transactions open in a database and come back at once when they are ended."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def work(address: DatabaseAddress, connected: threading.Semaphore) -> None:
        while not stop.is_set():
            try:
                session = hold(address)
                connected.release()
                while not stop.wait(0.02):
                    session.execute("SELECT count(*) FROM pg_class")
            except psycopg.OperationalError:
                continue

    def start(address: DatabaseAddress) -> None:
        connected = threading.Semaphore(0)
        for _ in range(6):
            thread = threading.Thread(target=work, args=(address, connected), daemon=True)
            thread.start()
            threads.append(thread)
        for _ in range(6):
            assert connected.acquire(timeout=60)

    yield start
    stop.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def deployment() -> Callable[..., Deployment]:
    """What a connection says of a deployment."""

    def describe(address: DatabaseAddress, **fields: Any) -> Deployment:
        return Deployment(address=address, **({"runtime": {"kind": "venv"}} | fields))

    return describe


@pytest.fixture
def plan_for() -> Callable[..., Plan]:
    """Runs the preflight of one migration."""

    def make(
        source: Deployment,
        target: Deployment,
        *,
        migration_id: str = "run 1",
        heard: list[str] | None = None,
        **options: Any,
    ) -> Plan:
        return make_plan(
            options=Options(**({"require_approval": False} | options)),
            migration_id=migration_id,
            control_run=CONTROL_RUN,
            source=source,
            target=target,
            bin_path=None,
            listener=lambda message: None if heard is None else heard.append(str(message)),
        )

    return make


@pytest.fixture
def migration_of(plan_for: Callable[..., Plan], tmp_path: Path) -> Callable[..., Migration]:
    """A migration that has passed preflight; the plan went through JSON, as between two tasks."""

    def make(source: Deployment, target: Deployment, **options: Any) -> Migration:
        plan = plan_for(source, target, **options)
        return Migration(
            plan=Plan.from_json(json.loads(json.dumps(plan.to_json()))),
            source=source,
            target=target,
            workshop=Workshop(
                runtimes_path=tmp_path / "runtimes", dumps_path=tmp_path / "dumps", reports_path=str(tmp_path)
            ),
        )

    return make
