"""How long preflight looks at a large source, beside what a person would run by hand, one after the other in one run.

    .venv/bin/python -m benchmarks.preflight --task-instances 3000000 --xcoms 1000000

Takes the database that a real release has written, fills it with runs of ten task instances each, XComs, confs and
audit rows, and makes the plan of a migration to 3.3.2: every check, on a server of its own. By hand are: counting the
four large tables, and trying the cast of each XCom in a function that catches the error. Times are for a warm cache.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql
from tests.conftest import DATABASES, FERNET_KEY, load_dump, run_on

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.metadata.checks import checks_for
from airflow_migration.metadata.checks.check import Examination, within_limits
from airflow_migration.metadata.releases import newest, read_head
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.planning.options import Options
from airflow_migration.planning.preflight import ControlRun, make_plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from demo.server import EmbeddedServer

TASKS = 10
DAGS = 200
SLOWEST = 8
START = "'2024-01-01T00:00:00Z'::timestamptz"
RUN_ID = "'scheduled__' || to_char(date, 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')"

# One run in three has a conf of its own: {'a': '00000001'}, pickled.
FILL = f"""
CREATE TEMP TABLE run AS SELECT n, 'dag_' || n % {DAGS} AS dag_id, {START} + n * interval '1 minute' AS date,
       CASE WHEN n % 3 = 0 THEN '\\x80037d710058010000006171015808000000'::bytea
            || convert_to(lpad(n::text, 8, '0'), 'UTF8') || '\\x7102732e'::bytea END AS conf
  FROM generate_series(1, {{runs}}) n;
INSERT INTO dag_run (dag_id, run_id, execution_date, state, start_date, end_date, conf {{of_run}})
SELECT dag_id, {RUN_ID}, date, 'success', date, date + interval '50 s', conf {{run}} FROM run;
INSERT INTO task_instance (dag_id, task_id, {{key}}, start_date, end_date, duration, state, try_number, max_tries,
    hostname, unixname, pool, pool_slots, queue, priority_weight, operator, queued_dttm, pid, executor_config)
SELECT dag_id, 'task_' || t, {{value}}, date, date + interval '4 s', 4, 'success', 1, 0, 'worker-' || t, 'airflow',
       'default_pool', 1, 'default', 1, 'BashOperator', date, 4711, '\\x80047d942e'
  FROM run, generate_series(1, {TASKS}) t;
INSERT INTO xcom (dag_id, task_id, {{key}}, key, value, timestamp {{of_xcom}})
SELECT dag_id, 'task_' || 1 + x % {TASKS}, {{value}}, 'key_' || x / {TASKS},
       convert_to(json_build_object('rows', n, 'path', md5(n::text), 'ok', true)::text, 'UTF8'), date {{xcom}}
  FROM run, generate_series(0, {{xcoms}} / {{runs}} - (n > {{xcoms}} % {{runs}})::int) x;
INSERT INTO log (dttm, dag_id, task_id, event, execution_date, owner, extra)
SELECT date, dag_id, 'task_' || t, 'running', date, 'airflow', '{{{{"host_name": "worker-1"}}}}'
  FROM run, generate_series(1, {TASKS}) t;
"""

HAND_MADE_PROBE = """
CREATE FUNCTION pg_temp.castable(value bytea) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM convert_from(value, 'UTF8')::jsonb;
    RETURN true;
EXCEPTION WHEN others THEN
    RETURN false;
END $$
"""
LARGE_TABLES = ("task_instance", "xcom", "dag_run", "log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task-instances", type=int, default=300_000)
    parser.add_argument("--xcoms", type=int, default=100_000)
    parser.add_argument("--source", choices=["1.10.15", "2.10.5"], default="2.10.5")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            address = server.start()
            source = make_source(address, given.source, given.task_instances, given.xcoms)
            print(json.dumps(measure(source), indent=2))
        finally:
            server.remove()


def make_source(server: DatabaseAddress, release: str, task_instances: int, xcoms: int) -> DatabaseAddress:
    """A release's own database, mended by hand where the real one has faults that block, and filled."""
    run_on(server, "CREATE DATABASE {}", "source")
    source = server.on("source")
    load_dump(source, DATABASES / f"airflow-{release}.sql.gz")
    runs = task_instances // TASKS
    old = release.startswith("1.")
    text = FILL.format(
        runs=runs,
        of_run="" if old else ", run_type",
        run="" if old else ", 'scheduled'",
        key="execution_date" if old else "run_id, map_index",
        value="date" if old else f"{RUN_ID}, -1",
        xcoms=xcoms,
        of_xcom="" if old else ", dag_run_id",
        xcom="" if old else ", (SELECT id FROM dag_run r WHERE r.dag_id = run.dag_id AND r.execution_date = run.date)",
    )
    with source.connect(read_only=False) as conn:
        conn.execute(sql.SQL(text.replace("{", "{{").replace("}", "}}")).format())
    run_on(source, "VACUUM ANALYZE")
    run_on(source, "CHECKPOINT")
    return source


def measure(source: DatabaseAddress) -> dict[str, object]:
    """Seconds of both, and the memory of a process that does nothing but preflight."""
    rows = by_hand(source)  # warms the cache
    started = time.monotonic()
    by_hand(source)
    counting = time.monotonic() - started
    probing = timed(lambda: probe_by_hand(source))
    where = (source.host, source.port, source.user, source.password.reveal())
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, findings, memory = pool.submit(preflight, *where).result()
        slowest = pool.submit(each_check, *where).result()
    return {
        "rows": rows,
        "seconds": {
            "preflight, all of it": round(seconds, 1),
            "by hand: count(*) of the four tables": round(counting, 1),
            "by hand: cast of every XCom": round(probing, 1),
        },
        "preflight, of both by hand": round(seconds / (counting + probing), 2),
        "findings": findings,
        "peak memory of preflight, MB": round(memory),
        "slowest checks, seconds": slowest,
    }


def by_hand(source: DatabaseAddress) -> dict[str, int]:
    with source.connect() as conn:
        counted = {}
        for table in LARGE_TABLES:
            row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            assert row is not None
            counted[table] = int(str(row[0]))
        return counted


def probe_by_hand(source: DatabaseAddress) -> None:
    with source.connect(read_only=False) as conn:
        conn.execute(HAND_MADE_PROBE)
        conn.execute("SELECT count(*) FROM xcom WHERE NOT pg_temp.castable(value)")


def timed(call: Callable[[], None]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def address_of(host: str, port: int, user: str, password: str) -> DatabaseAddress:
    """Between two processes, as a Secret cannot be serialized."""
    return DatabaseAddress(host=host, port=port, user=user, password=Secret(password), database="source")


def preflight(*where: Any) -> tuple[float, int, float]:
    """Seconds, findings, and megabytes at most."""
    source = address_of(*where)
    there = Deployment(address=source, fernet_keys=Secret(FERNET_KEY), runtime={"kind": "venv"})
    here = Deployment(address=source.on("target"), runtime={"kind": "venv"})
    started = time.monotonic()
    plan = make_plan(
        options=Options(),
        migration_id="benchmark",
        control_run=ControlRun(dag_id="migrate_airflow", run_id="benchmark"),
        source=there,
        target=here,
        bin_path=None,
        listener=lambda message: None,
    )
    seconds = time.monotonic() - started
    return seconds, len(plan.findings), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def each_check(*where: Any) -> dict[str, float]:
    """Seconds of the checks of the rows that took longest."""
    with address_of(*where).connect() as conn:
        head, target_head = read_head(conn), newest().head
        crossing = Crossing.between(head, target_head)
        tables = read_tables(conn)
        look = Examination(conn=conn, tables=tables, crossing=crossing, head=head, target_head=target_head)
        seconds: dict[str, float] = {}
        for check in checks_for(tables):
            if check.concerns(crossing):
                started = time.monotonic()
                within_limits(conn, check.ids[0], partial(check.ask, look))
                taken = time.monotonic() - started
                seconds[check.ids[0]] = round(seconds.get(check.ids[0], 0.0) + taken, 2)
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1])[:SLOWEST])


if __name__ == "__main__":
    main()
