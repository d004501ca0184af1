"""A real PostgreSQL server, real metadata databases and real Airflow releases for every test that asks."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg import sql
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.postgres.tools import find_tool, program_folders, program_version
from airflow_migration.secret import Secret
from demo.server import EmbeddedServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from airflow_migration.runtimes.venv import VenvRuntime

REPOSITORY = Path(__file__).parent.parent
DATABASES = Path(__file__).parent / "databases"
FERNET_KEY = "NGruYyy37OF0S2tre8fC_toNoHN9rWXIrxq2TAcT3zs="
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_prepared_transactions": "4",
}

# Airflow reads these once, at its first import, which a test module may bring.
_airflow_home = tempfile.TemporaryDirectory(prefix="airflow-migration-tests-")
os.environ["AIRFLOW_HOME"] = _airflow_home.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

NewDatabase = Callable[..., DatabaseAddress]
Corpus = Callable[[str], DatabaseAddress]

TOGETHER = dict.fromkeys(
    (
        "tests/end_to_end/test_by_hand.py",
        "tests/end_to_end/test_console.py",
        "tests/end_to_end/test_console_access.py",
        "tests/end_to_end/test_leaks.py",
    ),
    "tests/end_to_end/test_demo.py",
) | {
    "tests/end_to_end/test_kubernetes_target.py": "tests/end_to_end/test_data_only.py",
    "tests/integration/dags/test_notifications.py": "tests/integration/dags/test_rehearse_migration_states.py",
}
"""Files that share what is dear to set up with another one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="make docs/images and docs/rehearsals anew")


class Schedule(LoadFileScheduling):
    """Where several processes share the work, the tests of a file stay together."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def pytest_xdist_auto_num_workers() -> int:
    """One more process than there are cores: much of its time a test waits for an Airflow's next look."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule:
    """Used instead of what ``--dist`` names."""
    return Schedule(config, log)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseAddress]:
    """The superuser in the maintenance database of a server that lives as long as the tests."""
    server = EmbeddedServer(tmp_path_factory.mktemp("postgres"), settings=SETTINGS)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def new_database(postgres_server: DatabaseAddress) -> NewDatabase:
    """Makes a database, empty or from a template, under a given or a new name; it goes with the server."""
    numbers = itertools.count(1)

    def create(name: str | None = None, template: str = "template0") -> DatabaseAddress:
        name = name or f"test {next(numbers)}"  # a name that needs quoting, always
        run_on(postgres_server, "CREATE DATABASE {} TEMPLATE {}", name, template)
        return postgres_server.on(name)

    return create


@pytest.fixture(scope="session")
def corpus(postgres_server: DatabaseAddress, new_database: NewDatabase) -> Corpus:
    """Makes a database that a real release wrote: ``corpus("1.10.15")``."""

    @cache
    def load(release: str) -> str:
        template = new_database(f"corpus {release}")
        load_dump(template, DATABASES / f"airflow-{release}.sql.gz")
        return template.database

    return lambda release: new_database(template=load(release))


@pytest.fixture(scope="session")
def load_database() -> Callable[[DatabaseAddress, str], None]:
    """Fills an empty database of whichever server with what a real release wrote."""
    return lambda address, release: load_dump(address, DATABASES / f"airflow-{release}.sql.gz")


@pytest.fixture(scope="session")
def runtimes() -> Iterator[VenvRuntime]:
    """Builds and runs other releases; what it has built stays for the next time."""
    from airflow_migration.runtimes.venv import VenvRuntime

    runtime = VenvRuntime(root=REPOSITORY / "build" / "runtimes")
    yield runtime
    runtime.stop()


@pytest.fixture(scope="session")
def warm_runtimes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VenvRuntime]:
    """The same releases, whose commands start at once, for tests of something else than the runtime."""
    from tests.warm import WarmRuntime

    in_one_of_many = "PYTEST_XDIST_WORKER" in os.environ
    temporary = tmp_path_factory.getbasetemp()
    runtime = WarmRuntime(
        REPOSITORY / "build" / "runtimes",
        folder=(temporary.parent if in_one_of_many else temporary) / "warm",
        owner=os.getppid() if in_one_of_many else os.getpid(),
    )
    yield runtime
    runtime.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium; for one module, as asyncio can be used by no test until it ends."""
    from tests.browser import MISSING, PROGRAM, chromium

    if PROGRAM is None:
        pytest.skip(MISSING)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> Path | None:
    """Where the documentation has its pictures, when they are to be taken."""
    return REPOSITORY / "docs" / "images" if request.config.getoption("--screenshots") else None


@pytest.fixture
def reports_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where reports go in this test."""
    from airflow_migration.settings import settings  # imports Airflow, which most tests do without

    monkeypatch.setenv("AIRFLOW__AIRFLOW_MIGRATION__REPORTS_PATH", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture(scope="session")
def fernet_key() -> Secret:
    """The key with which the databases in tests/databases are encrypted."""
    return Secret(FERNET_KEY)


def run_on(address: DatabaseAddress, statement: str, *names: str) -> None:
    """Run one statement in a session of its own, with names in place of its braces."""
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def load_dump(address: DatabaseAddress, path: Path) -> None:
    """Run a gzipped plain dump in one transaction."""
    with address.connect() as session:
        psql = find_tool("psql", session.info.server_version)
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        # \restrict is unknown to every psql before August 2025.
        text = "".join(line for line in lines if not line.startswith(("\\restrict ", "\\unrestrict ")))
    done = subprocess.run(
        [psql, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-o", os.devnull],
        input=text,
        env=clean_environment() | address.environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
