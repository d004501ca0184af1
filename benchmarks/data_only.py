"""How long rows alone take into a fresh target, beside `pg_dump --data-only -t … | psql` by hand, in one run.

    .venv/bin/python -m benchmarks.data_only --task-instances 300000

Takes the database that 2.10.5 has written, fills it, and brings the rows of the default tables into two fresh databases
of that release on a second server: by a pipe after a TRUNCATE, and by the steps `dump_database` and `restore_database`,
which keep what the target had, read the dump through and set the sequences. Statistics are gathered in both.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.preflight import make_source
from benchmarks.two_servers import size_arguments, two_servers
from tests.conftest import DATABASES, FERNET_KEY, load_dump, run_on
from tests.integration.steps.fresh_targets import forget_everything

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.planning.options import DATA_ONLY, Options
from airflow_migration.planning.preflight import make_plan
from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.postgres.manifest import read_manifest, verify_dump
from airflow_migration.postgres.tools import find_tool
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, quiesce
from airflow_migration.steps.migration import Migration, Workshop

RELEASE = "2.10.5"


def main() -> None:
    given = size_arguments(__doc__).parse_args()
    with two_servers() as (old, new, folder):
        source = make_source(old, RELEASE, given.task_instances, given.xcoms)
        print(json.dumps(measure(source, new, folder), indent=2))


def measure(source: DatabaseAddress, server: DatabaseAddress, folder: Path) -> dict[str, object]:
    """Seconds of both ways, the one by hand before and after ours, and the ratio."""
    migration = begin(source, fresh(server, "filled"), folder)
    piped = [by_hand(migration, fresh(server, "piped before"))]
    dumped = timed(lambda: copy.dump_frozen(migration, ignore))
    verified = timed(lambda: verify_dump(migration.dump_path, 2))
    filled = timed(lambda: copy.make_working_database(migration, ignore))
    piped.append(by_hand(migration, fresh(server, "piped after")))
    manifest = read_manifest(migration.dump_path)
    return {
        "table_bytes": manifest.table_bytes,
        "dump_bytes": manifest.bytes,
        "tables": manifest.tables,
        "jobs": manifest.jobs,
        "seconds": {
            "TRUNCATE, pg_dump --data-only -t | psql, ANALYZE": piped,
            "dump_database": dumped,
            "restore_database": filled,
            "of this, reading the dump through": verified,
        },
        "dump_database and restore_database, of the pipe": round((dumped + filled) * len(piped) / sum(piped), 3),
    }


def fresh(server: DatabaseAddress, name: str) -> DatabaseAddress:
    """A target that was just set up."""
    run_on(server, "CREATE DATABASE {} TEMPLATE template0", name)
    load_dump(server.on(name), DATABASES / f"airflow-{RELEASE}.sql.gz")
    forget_everything(server.on(name))
    return server.on(name)


def begin(source: DatabaseAddress, target: DatabaseAddress, folder: Path) -> Migration:
    """A migration as far as its frozen clone."""
    there = Deployment(address=source, fernet_keys=Secret(FERNET_KEY), runtime={"kind": "venv"})
    here = Deployment(address=target, runtime={"kind": "venv"})
    plan = make_plan(
        options=Options(transfer=DATA_ONLY, require_approval=False),
        migration_id="benchmark",
        control_run=None,
        source=there,
        target=here,
        bin_path=None,
        listener=ignore,
    )
    workshop = Workshop(runtimes_path=folder, dumps_path=folder / "dumps", reports_path=str(folder))
    migration = Migration(plan=plan, source=there, target=here, workshop=workshop)
    quiesce.pause_dags(migration, ignore)
    copy.clone_source(migration, ignore)
    return migration


def by_hand(migration: Migration, there: DatabaseAddress) -> float:
    """The same rows by a pipe, from the same clone."""
    tables, clone = migration.plan.choice.travel, migration.frozen
    with clone.connect() as conn, there.connect() as other:
        version = max(conn.info.server_version, other.info.server_version)
    began = time.monotonic()
    run_on(there, f"TRUNCATE {', '.join(['{}'] * len(tables))}", *tables)
    writer = subprocess.Popen(
        [find_tool("pg_dump", version), "--data-only", *(f"--table={table}" for table in tables)],
        env=clean_environment() | clone.environment(),
        stdout=subprocess.PIPE,
    )
    subprocess.run(
        [find_tool("psql", version), "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1"],
        env=clean_environment() | there.environment(),
        stdin=writer.stdout,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    if writer.wait():
        raise SystemExit("pg_dump failed")
    run_on(there, "ANALYZE")
    return round(time.monotonic() - began, 1)


def timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return round(time.monotonic() - began, 1)


def ignore(_: object) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    main()
