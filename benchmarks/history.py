"""How much of an upgrade's time is saved by leaving old history behind: both ways, one after the other, in one run.

    .venv/bin/python -m benchmarks.history --task-instances 300000 --share 10

Takes the database that 2.10.5 has written, adds runs of ten task instances with all that hangs on them, and
upgrades two clones of it to 3.3.2 by that release's own `airflow db migrate`: one whole, one filtered.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tests.conftest import DATABASES, FERNET_KEY, load_dump, run_on
from tests.integration.metadata.old_runs import OldRun, add_runs

from airflow_migration.metadata.history import filter_history
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from demo.server import EmbeddedServer

TASKS = 10
DAGS = 50
TARGET = "3.3.2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task-instances", type=int, default=300_000)
    parser.add_argument("--share", type=int, default=10, help="percent of the runs that are new enough to travel")
    given = parser.parse_args()
    runtime = VenvRuntime(root=Path("build/runtimes"))
    runtime.prepare(TARGET, lambda line: None)
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            print(json.dumps(measure(server.start(), runtime, given.task_instances, given.share), indent=2))
        finally:
            server.remove()


def measure(server: DatabaseAddress, runtime: VenvRuntime, task_instances: int, share: int) -> dict[str, object]:
    """Seconds of each part, and what the filtered way takes of the whole one."""
    source, cutoff = make_source(server, task_instances, share)
    whole, clone_seconds = clone(server, source, "whole")
    whole_seconds = upgrade(runtime, whole)
    run_on(server, "DROP DATABASE {}", whole.database)
    newest, _ = clone(server, source, "newest")
    with newest.connect(read_only=False) as conn:
        before = time.monotonic()
        result = filter_history(conn, cutoff, "benchmark", lambda message: None)
        filter_seconds = time.monotonic() - before
    newest_seconds = upgrade(runtime, newest)
    return {
        "task_instances": task_instances,
        "percent_that_travels": share,
        "rows_that_stay": result.rows,
        "seconds": {
            "template clone": round(clone_seconds, 1),
            "upgrade of all": round(whole_seconds, 1),
            "filter": round(filter_seconds, 1),
            "upgrade of the rest": round(newest_seconds, 1),
        },
        "filter and upgrade, of the upgrade of all": round((filter_seconds + newest_seconds) / whole_seconds, 3),
    }


def make_source(server: DatabaseAddress, task_instances: int, share: int) -> tuple[DatabaseAddress, datetime]:
    """The database, and the moment since which its newest runs are."""
    run_on(server, "CREATE DATABASE {}", "source")
    source = server.on("source")
    load_dump(source, DATABASES / "airflow-2.10.5.sql.gz")
    number = task_instances // TASKS
    start = datetime(2025, 1, 1, tzinfo=timezone.utc)
    moments = [start + timedelta(minutes=minute) for minute in range(number)]
    runs = [
        OldRun(dag_id=f"dag {place % DAGS}", run_id=f"scheduled__{moment.isoformat()}", date=moment.isoformat())
        for place, moment in enumerate(moments)
    ]
    with source.connect(read_only=False) as conn:
        add_runs(conn, runs, tasks=TASKS)
    run_on(source, "VACUUM ANALYZE")
    run_on(source, "CHECKPOINT")
    return source, moments[number - number * share // 100]


def clone(server: DatabaseAddress, source: DatabaseAddress, name: str) -> tuple[DatabaseAddress, float]:
    started = time.monotonic()
    run_on(server, "CREATE DATABASE {} TEMPLATE {}", name, source.database)
    return server.on(name), time.monotonic() - started


def upgrade(runtime: VenvRuntime, address: DatabaseAddress) -> float:
    started = time.monotonic()
    runtime.upgrade(TARGET, address, Secret(FERNET_KEY), lambda message: None)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
