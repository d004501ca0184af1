"""Makes one of the databases beside this file: a metadata database that a real release of Airflow has written.

    SOURCE_URI=postgresql://user:password@host/empty_database \\
        python tests/databases/make_database.py --environment /path/to/environment --home /opt/airflow

The environment is a virtual environment with that release (README.md says how each is made). Its commands make
connections, variables, pools and users, its scheduler runs the DAGs of ``dags/``, and ``pg_dump`` writes the rest.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

HERE = Path(__file__).resolve().parent
FERNET_KEY = "NGruYyy37OF0S2tre8fC_toNoHN9rWXIrxq2TAcT3zs="
WORKER = "airflow-worker-1"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
WITHOUT_FAB = (3, 1)
"""3.1's database is of a deployment with the default SimpleAuthManager: it has no ab_* tables."""

CONNECTIONS = {
    "pg_dwh": {
        "type": "postgres", "host": "db", "schema": "dwh", "login": "u", "password": "s3cret", "port": "5432",
    },
    "http_x": {"type": "http", "host": "h", "password": "pa$$ word", "extra": '{"token": "x y"}'},
    "plain_ftp": {"type": "ftp", "host": "f", "login": "u", "password": "in the open"},
}  # fmt: skip
IN_PLAIN_TEXT = ("plain_ftp", "plain")
"""Made while no key was configured."""

Database = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One environment, its home folder and the database it writes."""

    version: str
    environment: Path
    home: Path
    uri: str
    reference: date
    port: int

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))[:2]

    def environ(self, *, encrypted: bool = True) -> dict[str, str]:
        """Everything that a command sees; one release or the other knows each of these names."""
        separator = ":" if self.number < (2, 0) else "."
        url = self.uri.replace("postgresql://", "postgresql+psycopg2://", 1)
        settings = {
            "CORE__SQL_ALCHEMY_CONN": url,
            "DATABASE__SQL_ALCHEMY_CONN": url,
            "CORE__LOAD_DEFAULT_CONNECTIONS": "False",
            "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "CORE__FERNET_KEY": FERNET_KEY if encrypted else "",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__DAGS_FOLDER": str(self.home / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__HOSTNAME_CALLABLE": f"worker{separator}name",
            "WEBSERVER__RBAC": "True",
            "SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": "c2VjcmV0LW9mLXRoZS1kYXRhYmFzZXMtb2YtdGhlLXRlc3Rz",
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
        }
        if self.number >= (3, 0) and self.number != WITHOUT_FAB:
            settings["CORE__AUTH_MANAGER"] = FAB
        return {
            "PATH": f"{self.home}/venv/bin:/usr/bin:/bin",
            "PYTHONPATH": str(self.home / "modules"),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "LOGNAME": "airflow",
            "PYTHONWARNINGS": "ignore",
            "AIRFLOW_HOME": str(self.home),
            "REFERENCE": self.reference.isoformat(),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    def airflow(self, *argv: str, encrypted: bool = True) -> None:
        """Run one command; what it prints goes to a file in the home folder."""
        print(f"{self.version}: airflow {' '.join(argv[:3])}", flush=True)
        with (self.home / "commands.log").open("ab") as log:
            subprocess.run(
                [self.home / "venv" / "bin" / "airflow", *argv],
                stdout=log,
                stderr=log,
                env=self.environ(encrypted=encrypted),
                cwd=self.home,
                check=True,
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """The real scheduler, and what else it needs, stopped by SIGTERM as an administrator does it."""
        names = ["scheduler"] if self.number < (3, 0) else ["api-server", "dag-processor", "scheduler"]
        processes = []
        for name in names:
            with (self.home / f"{name}.log").open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        [self.home / "venv" / "bin" / "airflow", name],
                        stdout=log,
                        stderr=log,
                        env=self.environ(),
                        cwd=self.home,
                        start_new_session=True,
                    )
                )
        try:
            yield
            if any(process.poll() is not None for process in processes):
                sys.exit(f"a process ended by itself, see {self.home}")
        finally:
            for process in reversed(processes):
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def main() -> None:
    """Makes one database and its dump."""
    options = parse_arguments()
    uri = os.environ.get("SOURCE_URI") or sys.exit("set SOURCE_URI to an empty Postgres database")
    home: Path = options.home.absolute()
    release = Release(
        version=installed_version(options.environment),
        environment=options.environment.absolute(),
        home=home,
        uri=uri,
        reference=date.today(),
        port=free_port(),
    )
    home.mkdir()  # its paths end up in the database, so nothing of another release may be there
    install_files(release)
    with psycopg.connect(uri, autocommit=True, options="-c timezone=UTC") as database:
        if rows(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") != 0:
            sys.exit("the database is not empty")
        fill(release)
        run_dags(release, database)
        by_hand(release)
        # Commands write the machine's name past every setting.
        database.execute("UPDATE log SET extra = replace(extra, %s, %s)", (socket.gethostname(), WORKER))
        print(json.dumps(describe(database)))
    size = dump(options.pg_dump, uri, HERE / f"airflow-{release.version}.sql.gz")
    print(f"airflow-{release.version}.sql.gz: {size} bytes")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="virtual environment with the release")
    parser.add_argument("--home", type=Path, required=True, help="AIRFLOW_HOME, a folder that does not exist yet")
    parser.add_argument("--pg-dump", default="pg_dump", help="pg_dump of release 15 or newer")
    return parser.parse_args()


def installed_version(environment: Path) -> str:
    """The release that an environment holds."""
    folders = list(environment.glob("lib/python*/site-packages/apache_airflow-*.dist-info"))
    if len(folders) != 1:
        sys.exit(f"{environment} holds no Airflow")
    return folders[0].name.removeprefix("apache_airflow-").removesuffix(".dist-info")


def install_files(release: Release) -> None:
    """Puts the DAGs, a link to the environment and the name of the worker into the home folder."""
    (release.home / "venv").symlink_to(release.environment)
    shutil.copytree(HERE / "dags", release.home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (release.home / "modules").mkdir()
    (release.home / "modules" / "worker.py").write_text(f"def name():\n    return {WORKER!r}\n", encoding="utf-8")


def fill(release: Release) -> None:
    """The schema, and what a person enters."""
    old = release.number < (2, 0)
    release.airflow(*(["initdb"] if old else ["db", "init"] if release.number < (2, 7) else ["db", "migrate"]))
    if release.number != WITHOUT_FAB:
        user = ["-u", "admin", "-r", "Admin", "-f", "A", "-l", "B", "-e", "a@b.c", "-p", "adm1n"]
        release.airflow(*(["create_user"] if old else ["users", "create"]), *user)
    for name, fields in CONNECTIONS.items():
        given = [part for field, value in fields.items() for part in (f"--conn{'_' if old else '-'}{field}", value)]
        command = ["connections", "--add", "--conn_id", name] if old else ["connections", "add", name]
        release.airflow(*command, *given, encrypted=name not in IN_PLAIN_TEXT)
    for key, value in {"token": "t0k", "settings": '{"a": [1, 2]}', "plain": "p"}.items():
        release.airflow("variables", "--set" if old else "set", key, value, encrypted=key not in IN_PLAIN_TEXT)
    release.airflow(*(["pool", "-s"] if old else ["pools", "set"]), "etl", "4", "for the warehouse")


def run_dags(release: Release, database: Database) -> None:
    """Has the scheduler run every DAG but one, and waits until what can end has ended."""
    command = [] if release.number < (2, 0) else ["dags"]
    with release.running():
        wait(database, "parsed", "SELECT count(*) = {dags} FROM dag", release)
        known = database.execute("SELECT dag_id FROM dag WHERE dag_id <> 'asleep' ORDER BY dag_id").fetchall()
        for (dag_id,) in known:
            release.airflow(*command, "unpause", str(dag_id))
        trigger = "trigger_dag" if release.number < (2, 0) else "trigger"
        release.airflow(*command, trigger, "by_hand", "-r", "the_first_one", "-c", '{"reason": "why not"}')
        wait(
            database,
            "quiet",
            "SELECT (SELECT count(DISTINCT dag_id) FROM dag_run) = {dags} - 1"
            " AND (SELECT count(*) FROM dag_run WHERE dag_id = 'etl_daily' AND state = 'success') >= 2"
            " AND NOT EXISTS (SELECT FROM dag_run WHERE state NOT IN ('success', 'failed')"
            " AND dag_id NOT IN ('retries_later', 'waits_for_2040'))"
            " AND {unfinished} = (SELECT count(*) FROM task_instance WHERE state IN ('up_for_retry', 'deferred'))",
            release,
        )


def by_hand(release: Release) -> None:
    """Runs of a paused DAG for days gone by, and before 2.2 a task without a run."""
    first, last = (f"{release.reference - timedelta(days=days)}" for days in (9, 8))
    if release.number < (3, 0):
        command = ["backfill"] if release.number < (2, 0) else ["dags", "backfill"]
        release.airflow(*command, "asleep", "-s", first, "-e", last)
    else:
        release.airflow("dags", "test", "asleep", f"{first}T00:00:00+00:00")
    if release.number < (2, 2):
        command = ["run"] if release.number < (2, 0) else ["tasks", "run"]
        release.airflow(*command, "--local", "-A", "etl_daily", "extract", f"{release.reference - timedelta(days=20)}")


def wait(database: Database, name: str, condition: str, release: Release, seconds: float = 400) -> None:
    """Polls until the condition holds."""
    started = time.monotonic()
    dags = 7 + (release.number >= (2, 2)) + (release.number >= (2, 3)) + 2 * (release.number >= (2, 4))
    query = condition.format(dags=dags, unfinished=1 + (release.number >= (2, 2)))
    while not rows(database, query):
        if time.monotonic() - started > seconds:
            sys.exit(f"not {name} after {seconds:.0f} s, see {release.home}: {describe(database)}")
        time.sleep(2)
    print(f"{release.version}: {name} after {time.monotonic() - started:.0f} s", flush=True)


def describe(database: Database) -> dict[str, object]:
    """What is in it."""
    states = (
        "SELECT dag_id || ' ' || task_id, coalesce(state, 'none'), count(*)"
        " FROM task_instance GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return {
        "dags": rows(database, "SELECT count(*) FROM dag"),
        "runs": rows(database, "SELECT count(*) FROM dag_run"),
        "xcoms": rows(database, "SELECT count(*) FROM xcom"),
        "tasks": [" ".join(map(str, row)) for row in database.execute(states.encode())],
    }


def rows(database: Database, query: str) -> object:
    """The first value of a fixed query."""
    row = database.execute(query.encode()).fetchone()
    return row[0] if row else None


def dump(pg_dump: str, uri: str, path: Path) -> int:
    """Writes the dump; gives its size in bytes.

    pg_dump of August 2025 and later writes the psql commands restrict and unrestrict, which older psql do not know.
    """
    argv: Sequence[str] = [pg_dump, "--no-owner", "--no-privileges"]
    text = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env={**os.environ, **connection(uri)}).stdout
    lines = text.splitlines(keepends=True)
    kept = b"".join(line for line in lines if not line.startswith((b"\\restrict ", b"\\unrestrict ")))
    path.write_bytes(gzip.compress(kept, 9, mtime=0))
    return path.stat().st_size


def connection(uri: str) -> dict[str, str]:
    """The same for libpq, so that no password is among the arguments of a process."""
    parts = urlsplit(uri)
    return {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    main()
