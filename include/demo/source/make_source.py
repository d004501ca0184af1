"""Makes the demo's source: a metadata database that a real Airflow 1.10.15 has written, as a dump beside this file.

    DEMO_SOURCE_URI=postgresql://user:password@host/empty_database \\
        python include/demo/source/make_source.py --environment /path/to/1.10.15

The database must exist and be empty. The environment is a virtual environment with Python 3.7 and
``apache-airflow[postgres,crypto,password]==1.10.15`` ``sqlalchemy<1.4``. Needs ``pg_dump`` 15 on PATH or ``--pg-dump``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from demo.source import content  # noqa: E402
from demo.source.release_1_10 import FORKING_EXECUTOR, Release  # noqa: E402

Database = psycopg.Connection[tuple[object, ...]]

catalogue = SimpleNamespace(**runpy.run_path(str(HERE / "dags_1_10" / "catalogue.py")))

UNFINISHED_DAG = "finance_nightly_ledger_close"
DUMP = HERE / "airflow-1.10.15.sql.gz"
FACTS = HERE / "facts.json"
log = logging.getLogger("make_source")


def main() -> None:
    """Makes the database, the dump and the facts."""
    options = parse_arguments()
    uri = os.environ.get("DEMO_SOURCE_URI") or sys.exit("set DEMO_SOURCE_URI to an empty Postgres database")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    random_home = tempfile.mkdtemp(prefix="airflow-1.10.15-") if options.home is None else options.home
    release = Release(
        environment=options.environment.absolute(),
        home=Path(random_home).absolute(),
        uri=uri,
        reference=datetime.now(timezone.utc).replace(microsecond=0),
        fernet_key=content.FERNET_KEY,
    )
    release.home.mkdir(parents=True, exist_ok=True)
    with psycopg.connect(uri, autocommit=True, options="-c timezone=UTC") as database:
        make(release, database)
        facts = read_facts(database, measure(database))
    options.output.mkdir(parents=True, exist_ok=True)
    size = dump(options.pg_dump, uri, options.output / DUMP.name)
    (options.output / FACTS.name).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info("%s: %d bytes, %s", DUMP.name, size, facts["tables"])


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="virtual environment with Airflow 1.10.15")
    parser.add_argument(
        "--home", type=Path, help="new AIRFLOW_HOME; its path ends up in dag.fileloc (default: a temporary one)"
    )
    parser.add_argument("--pg-dump", default="pg_dump", help="pg_dump of release 15 or newer")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the dump and facts.json")
    return parser.parse_args()


def make(release: Release, database: Database) -> None:
    """Fills the empty database, first by 1.10.15 alone, then with more of the same."""
    if read(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") != [(0,)]:
        sys.exit("the database is not empty")
    release.install_files()
    log.info("initdb, users, connections, variables, pools")
    release.run([["initdb"], *user_commands()])
    release.run([*(c.argv() for c in content.CONNECTIONS if c.encrypted), *settings_commands()])
    release.run(
        [
            *(c.argv() for c in content.CONNECTIONS if not c.encrypted),
            *(["variables", "--set", key, value] for key, value in content.PLAIN_VARIABLES.items()),
        ],
        encrypted=False,
    )
    log.info("the scheduler makes the newest runs")
    with release.scheduler(history="short"):
        wait(database, "parsed", lambda: rows_of(database, "dag") >= len(catalogue.pipelines()) + 1)
        release.run(list(manual_commands(release.reference)))
        wait(database, "quiet", quiet(database))
    lengthen(release, database)
    with database.transaction():
        database.execute((HERE / "faults.sql").read_bytes())


def lengthen(release: Release, database: Database) -> None:
    """Adds backfills and older history, lets the scheduler go on with it, and ends with commands by hand."""
    log.info("backfills")
    release.run(list(backfill_commands(release.reference)), history="full", executor=FORKING_EXECUTOR)
    multiply(database)
    log.info("the scheduler goes on with the whole history and without one file")
    (release.home / "dags" / "gone.py").unlink()
    since = datetime.now(timezone.utc)
    with release.scheduler(history="full"):
        wait(database, "parsed again", lambda: parsed_since(database, since))
        wait(database, "quiet", quiet(database))
    log.info("pause, run and test by hand")
    by_hand = [
        *(["dags", "pause", p.dag_id] for p in catalogue.pipelines() if p.paused),
        *hand_commands(release.reference),
    ]
    release.run(by_hand, history="full")


def user_commands() -> Iterator[list[str]]:
    """Users of the RBAC interface; making one also makes the roles and permissions."""
    for name, role, first, last in content.USERS:
        password = content.secret(f"user_{name}")
        yield [
            "users",
            "create",
            "-u",
            name,
            "-r",
            role,
            "-f",
            first,
            "-l",
            last,
            "-e",
            f"{name}@example.com",
            "-p",
            password,
        ]


def settings_commands() -> Iterator[list[str]]:
    """Variables with a key configured, and pools."""
    for key, value in content.ENCRYPTED_VARIABLES.items():
        yield ["variables", "--set", key, value]  # `variables set` keeps only the first letter in 1.10.15
    for name, slots in content.POOLS.items():
        yield ["pool", "-s", name, str(slots), f"pool {name}"]  # `pools set` fails in 1.10.15


def manual_commands(reference: datetime) -> Iterator[list[str]]:
    """Runs that a person triggered, some with a conf."""
    for minutes, (dag_id, run_id, conf) in enumerate(content.MANUAL_RUNS, start=1):
        date = (reference - timedelta(minutes=minutes)).isoformat()
        yield [
            "dags",
            "trigger",
            dag_id,
            "-r",
            run_id,
            "-e",
            date,
            *(["-c", json.dumps(conf)] if conf is not None else []),
        ]


def backfill_commands(reference: datetime) -> Iterator[list[str]]:
    """Backfills of days before the rest of the history."""
    first = f"{reference - timedelta(days=55):%Y-%m-%d}"
    last = f"{reference - timedelta(days=54):%Y-%m-%d}"
    for dag_id in ("marketing_campaign_costs", "sales_customers", "reporting_store_traffic"):
        yield ["backfill", dag_id, "-s", first, "-e", last]


def hand_commands(reference: datetime) -> Iterator[list[str]]:
    """Tasks run and tested by hand on dates that have no run."""
    for days in range(60, 66):
        day = f"{reference - timedelta(days=days):%Y-%m-%d}"
        yield ["tasks", "run", "--local", "-A", "finance_refunds", "extract", day]
        yield ["tasks", "test", "sales_opportunities", "extract", day]
    yield [
        "tasks",
        "run",
        "--local",
        "-A",
        "platform_log_rotation",
        "work",
        f"{reference - timedelta(days=61):%Y-%m-%d}",
    ]


def quiet(database: Database) -> Callable[[], bool]:
    """Tells when every DAG has run, nothing is in flight and no run was made for twenty seconds."""
    last: dict[str, object] = {}

    def is_quiet() -> bool:
        runs = rows_of(database, "dag_run")
        if runs != last.get("runs"):
            last.update(runs=runs, at=time.monotonic())
        missing = read(
            database,
            "SELECT count(*) FROM dag WHERE is_active AND NOT is_paused AND schedule_interval <> 'null'"
            " AND NOT EXISTS (SELECT FROM dag_run r WHERE r.dag_id = dag.dag_id)",
        )
        open_runs = read(database, "SELECT DISTINCT dag_id FROM dag_run WHERE state NOT IN ('success', 'failed')")
        waiting = read(
            database,
            "SELECT dag_id, state FROM task_instance WHERE state IN ('scheduled', 'queued', 'running',"
            " 'up_for_retry', 'up_for_reschedule', 'shutdown', 'none')",
        )
        log.info(
            "%s runs, %s DAGs without, %d tasks in flight, open: %d", runs, missing[0][0], len(waiting), len(open_runs)
        )
        settled = (
            missing == [(0,)] and open_runs == [(UNFINISHED_DAG,)] and waiting == [(UNFINISHED_DAG, "up_for_retry")]
        )
        return settled and time.monotonic() - float(str(last["at"])) > 20

    return is_quiet


def parsed_since(database: Database, since: datetime) -> bool:
    """Whether the scheduler has serialized every DAG again and noticed the file that is gone."""
    stale = database.execute("SELECT count(*) FROM serialized_dag WHERE last_updated < %s", [since]).fetchone()
    gone = read(database, "SELECT is_active FROM dag WHERE dag_id = 'gone_crm_mirror'")
    return stale == (0,) and gone == [(False,)]


def wait(database: Database, name: str, condition: Callable[[], bool], seconds: float = 1200) -> None:
    """Polls until the condition holds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            sys.exit(f"not {name} after {seconds:.0f} s")
        time.sleep(5)
    log.info("%s after %.0f s", name, time.monotonic() - started)


def multiply(database: Database) -> None:
    """Repeats finished runs at earlier dates until the history is as long as the catalogue says."""
    finished = (
        "SELECT dag_id, count(*) FROM dag_run WHERE state IN ('success', 'failed')"
        " AND run_id LIKE 'scheduled\\_\\_%' GROUP BY dag_id"
    )
    counts = {str(row[0]): int(str(row[1])) for row in read(database, finished)}
    plan = []
    for pipeline in catalogue.pipelines():
        period, runs = pipeline.history
        real = counts.get(pipeline.dag_id, 0)
        if period is None or not real:
            continue
        weekdays = str(pipeline.schedule).endswith("1-5")
        monthly = period == timedelta(days=31)
        in_block = min(real, 5) if weekdays else real
        block = "7 days" if weekdays else f"{real} months" if monthly else f"{(period * real).total_seconds()} s"
        between = "1 day" if weekdays else "1 month" if monthly else f"{period.total_seconds()} s"
        plan.append((pipeline.dag_id, block, between, max(0, -(-(runs - real) // in_block))))
        if pipeline.shape == "subdag":
            plan.append((catalogue.SUBDAG, *plan[-1][1:]))
    with database.transaction(), database.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE history (dag_id text, block interval, period interval, copies int) ON COMMIT DROP"
        )
        cursor.executemany("INSERT INTO history VALUES (%s, %s, %s, %s)", plan)
        cursor.execute("SELECT setseed(0.11015)")
        cursor.execute((HERE / "multiply.sql").read_bytes())
    log.info(
        "multiplied to %d runs, %d task instances", rows_of(database, "dag_run"), rows_of(database, "task_instance")
    )


def measure(database: Database) -> dict[str, int]:
    """Counts what the database was made for, and refuses one that lacks it."""
    counts, broken = {}, []
    for name, (query, least, most) in json.loads((HERE / "promises.json").read_text(encoding="utf-8")).items():
        counts[name] = int(str(read(database, query)[0][0]))
        if counts[name] < least or (most is not None and counts[name] > most):
            broken.append(f"{name} is {counts[name]}")
    if broken:
        sys.exit("the database is not as promised: " + "; ".join(broken))
    return counts


def read_facts(database: Database, counts: dict[str, int]) -> dict[str, object]:
    """What tests may expect of the database."""
    tables = [
        str(name) for (name,) in read(database, "SELECT tablename FROM pg_tables WHERE schemaname='public' ORDER BY 1")
    ]
    dags = read(
        database,
        "SELECT dag_id, is_paused, is_active, is_subdag, owners, schedule_interval::json #>> '{}' FROM dag ORDER BY 1",
    )
    newest = read(database, "SELECT max(execution_date)::text FROM dag_run WHERE NOT external_trigger")[0][0]
    return {
        "release": "1.10.15",
        "head": read(database, "SELECT version_num FROM alembic_version")[0][0],
        "fernet_key": content.FERNET_KEY,
        "secret_prefix": "demo-secret-",
        "newest_execution_date": newest,
        "active_dag_ids": [d for d, paused, active, sub, *_ in dags if active and not paused and not sub],
        "active_dags": sum(bool(active and not paused and not sub) for _, paused, active, sub, *_ in dags),
        "unfinished_run": {"dag_id": UNFINISHED_DAG, "task_id": "settle", "state": "up_for_retry"},
        "dags": [
            dict(zip(("dag_id", "is_paused", "is_active", "is_subdag", "owners", "schedule"), row, strict=True))
            for row in dags
        ],
        "connections": [connection.facts() for connection in content.CONNECTIONS],
        "variables": {**content.ENCRYPTED_VARIABLES, **content.PLAIN_VARIABLES},
        "plain_variables": list(content.PLAIN_VARIABLES),
        "pools": {"default_pool": 128, **content.POOLS},
        "users": {name: content.secret(f"user_{name}") for name, *_ in content.USERS},
        "counts": counts,
        "tables": {name: rows_of(database, name) for name in tables},
    }


def dump(pg_dump: str, uri: str, path: Path) -> int:
    """Writes the dump; gives its size in bytes.

    pg_dump of August 2025 and later writes the psql commands restrict and unrestrict, which older psql do not know.
    """
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    target = {names[key]: str(value) for key, value in conninfo_to_dict(uri).items() if key in names}
    argv = [pg_dump, "--no-owner", "--no-privileges"]
    text = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env={**os.environ, **target}).stdout
    lines = text.splitlines(keepends=True)
    kept = b"".join(line for line in lines if not line.startswith((b"\\restrict ", b"\\unrestrict ")))
    path.write_bytes(gzip.compress(kept, 9, mtime=0))
    return path.stat().st_size


def read(database: Database, query: str) -> list[tuple[object, ...]]:
    """All rows of a fixed query."""
    return database.execute(query.encode()).fetchall()


def rows_of(database: Database, table: str) -> int:
    """How many rows a table has."""
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    row = database.execute(query).fetchone()
    return int(str(row[0])) if row else 0


if __name__ == "__main__":
    main()
