"""How long the verification takes, against the time in which Postgres hashes the same rows: both in one run, in turns.

    .venv/bin/python -m benchmarks.verification --task-instances 200000 --times 5

Takes the database that 2.10.5 has written, adds runs of ten task instances with all that hangs on them, and upgrades
a clone of it to 3.3.2 by that release's own `airflow db migrate`. With `--times` the runs and task instances of both
are then copied so many times, which takes less time than to upgrade them. The yardstick is
``SELECT count(*), sum(hashtext(t::text))`` of every table that is compared, on both databases at the same time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.history import TARGET, clone, make_source, upgrade
from psycopg import sql
from tests.conftest import FERNET_KEY, run_on

from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import fix_sequences, repair
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.schedules import mend_before_start, read_schedules
from airflow_migration.planning.verification import VerificationResult, verify
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from demo.server import EmbeddedServer

MIGRATION = "benchmark"
REAL_VALUES = """
UPDATE xcom SET value = convert_to(format('{"rows": %s, "path": "s3://bucket/%s"}', length(run_id), run_id), 'UTF8')
 WHERE value = '';
UPDATE dag_run SET conf = '\\x80057d942e' WHERE conf = '';
"""
"""What tasks leave, instead of the fillers."""
AT_MOST = 4.0
"""Times as long as the yardstick."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task-instances", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    runtime = VenvRuntime(root=Path("build/runtimes"))
    runtime.prepare(TARGET, lambda line: None)
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "postgres")
        try:
            pair = make_pair(server.start(), runtime, given.task_instances)
            for address in pair:
                multiply(address, given.times)
            print(json.dumps(measure(*pair, given.turns), indent=2))
        finally:
            server.remove()


def make_pair(
    server: DatabaseAddress, runtime: VenvRuntime, task_instances: int
) -> tuple[DatabaseAddress, DatabaseAddress]:
    """A frozen clone, and what a migration makes of it."""
    source, _ = make_source(server, task_instances, share=100)
    with source.connect(read_only=False) as conn:
        conn.execute(REAL_VALUES)
    run_on(source, "VACUUM FULL ANALYZE")
    working, _ = clone(server, source, "working")
    with source.connect() as conn:
        head, recorded = read_head(conn), read_schedules(conn)
    with working.connect(read_only=False) as conn:
        repair(conn, head=head, target_head=release(TARGET).head, migration_id=MIGRATION, listener=lambda line: None)
    upgrade(runtime, working)
    with working.connect(read_only=False) as conn:
        mend_before_start(conn, source_head=head, recorded=recorded, migration_id=MIGRATION, listener=lambda line: None)
        fix_sequences(conn)
    run_on(working, "VACUUM ANALYZE")
    return source, working


def multiply(address: DatabaseAddress, times: int) -> None:
    """Runs and task instances once for each time, years apart, the same in both databases."""
    with address.connect(read_only=False) as conn:
        tables = read_tables(conn)
        for table in ("dag_run", "task_instance"):
            values = {name: sql.Identifier("t", name) for name in tables[table]}
            changed: dict[str, str] = {
                "run_id": "t.run_id || '#' || n",
                "execution_date": "t.execution_date + n * interval '20 years'",
                "logical_date": "t.logical_date + n * interval '20 years'",
                "id": "t.id + n * 10000000" if table == "dag_run" else "gen_random_uuid()",
            }
            parts = [sql.SQL(changed[name]) if name in changed else value for name, value in values.items()]
            conn.execute(
                sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} t CROSS JOIN generate_series(1, {}) n").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, values)),
                    sql.SQL(", ").join(parts),
                    sql.Identifier(table),
                    sql.Literal(times - 1),
                )
            )
        fix_sequences(conn)
    run_on(address, "VACUUM ANALYZE")


def measure(before: DatabaseAddress, after: DatabaseAddress, turns: int) -> dict[str, object]:
    """Seconds of both, and how many times as long the verification takes."""
    result = compare(before, after)
    if not result.verified:
        raise SystemExit(f"not verified: {'; '.join(result.problems)}")
    named_rows = {content.table: content.rows for content in result.contents}
    named = {entry.table: entry.table_after for entry in result.ledger}
    tables = [(content.table, named[content.table]) for content in result.contents]
    yardsticks, verifications = [], []
    for _ in range(turns):
        yardsticks.append(timed(lambda: hash_all(before, after, tables)))
        verifications.append(timed(lambda: compare(before, after)))
    ratio = statistics.median(verifications) / statistics.median(yardsticks)
    return {
        "task_instances": named_rows["task_instance"],
        "rows_compared": sum(named_rows.values()),
        "seconds, medians": {
            "hashtext of the same rows": round(statistics.median(yardsticks), 2),
            "verification": round(statistics.median(verifications), 2),
        },
        "seconds, each turn": {"hashtext": rounded(yardsticks), "verification": rounded(verifications)},
        "times as long": round(ratio, 2),
        "at most": AT_MOST,
    }


def compare(before: DatabaseAddress, after: DatabaseAddress) -> VerificationResult:
    """All that the step does but for the questions to the target's own commands."""
    key = Secret(FERNET_KEY)
    with before.connect() as one, after.connect() as other:
        return verify(
            clone=one,
            working=other,
            working_address=after,
            clone_keys=key,
            target_keys=key,
            target_release=TARGET,
            migration_id=MIGRATION,
            runtime=None,
            settings={},
            listener=lambda line: None,
        )


def hash_all(before: DatabaseAddress, after: DatabaseAddress, tables: list[tuple[str, str | None]]) -> None:
    """The yardstick."""

    def run(address: DatabaseAddress, names: list[str]) -> None:
        with address.connect() as conn:
            for name in names:
                query = sql.SQL("SELECT count(*), sum(hashtext(t::text)) FROM {} t").format(sql.Identifier(name))
                conn.execute(query).fetchone()

    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(run, before, [name for name, _ in tables])]
        sides.append(pool.submit(run, after, [name for _, name in tables if name is not None]))
        for side in sides:
            side.result()


def timed(what: Callable[[], object]) -> float:
    started = time.monotonic()
    what()
    return time.monotonic() - started


def rounded(seconds: list[float]) -> list[float]:
    return [round(each, 2) for each in seconds]


if __name__ == "__main__":
    main()
