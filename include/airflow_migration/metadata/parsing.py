"""See whether a deployment's DAGs are parsed, and whether anybody parses them."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_migration.postgres.address import Session

HEARTBEAT_SECONDS = 60
"""Twice the longest interval between heartbeats of a DAG processor (`[scheduler] scheduler_heartbeat_sec` is 5 s)."""


def somebody_parses(conn: Session) -> bool:
    """Whether a process that parses DAG files is alive.

    Up to 2.2 the scheduler always does it; 3.x needs a DAG processor; in between either may.
    """
    parsers = ["DagProcessorJob"] if _is_version_3(conn) else ["DagProcessorJob", "SchedulerJob"]
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM job WHERE job_type = ANY(%s) AND state = 'running'"
        " AND latest_heartbeat > now() - make_interval(secs => %s))",
        (parsers, HEARTBEAT_SECONDS),
    ).fetchone()
    return bool(row and row[0])


def read_unparsed(conn: Session, dag_ids: Sequence[str]) -> tuple[str, ...]:
    """Those of the DAGs that nobody has parsed since the upgrade, in order.

    The hop to 3.x empties `serialized_dag`, and so does every `db migrate` of 2.x that re-serializes.
    """
    rows = conn.execute(
        "SELECT wanted FROM unnest(%s::text[]) wanted WHERE NOT EXISTS"
        " (SELECT FROM serialized_dag s WHERE s.dag_id = wanted) ORDER BY wanted",
        (list(dag_ids),),
    ).fetchall()
    return tuple(str(dag_id) for (dag_id,) in rows)


def _is_version_3(conn: Session) -> bool:
    row = conn.execute("SELECT to_regclass('dag_version') IS NOT NULL").fetchone()
    return bool(row and row[0])
