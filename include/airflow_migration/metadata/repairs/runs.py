"""Dag runs without a run_id, which can be completed and stay."""

from __future__ import annotations

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.postgres.address import Session

LISTED = 100

NAMELESS_RUN = "t.run_id IS NULL AND t.dag_id IS NOT NULL AND t.execution_date IS NOT NULL"

# As 1.10 itself names a run that a person triggers: manual__ and the execution date in ISO format.
_NAME_RUNS = r"""
WITH nameless AS (
    SELECT t.id, t.dag_id, 'manual__'
           || to_char(t.execution_date AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
           || CASE WHEN date_part('microseconds', t.execution_date)::bigint % 1000000 = 0 THEN ''
                   ELSE to_char(t.execution_date, '.US') END || '+00:00' AS run_id
      FROM dag_run t WHERE {condition}),
free AS (
    SELECT n.id, n.run_id || CASE WHEN EXISTS (SELECT FROM dag_run o WHERE o.dag_id = n.dag_id
           AND o.run_id = n.run_id) THEN '__' || n.id ELSE '' END AS run_id FROM nameless n)
UPDATE dag_run r SET run_id = f.run_id FROM free f WHERE f.id = r.id
RETURNING r.id, r.dag_id, r.run_id
""".replace("{condition}", NAMELESS_RUN)


def name_runs(conn: Session, entry: Entry, tables: Tables) -> tuple[int, tuple[str, ...]]:
    """Give each dag run without a run_id one, so that it and its task instances stay.

    2.11.2's `check_run_id_null` would move the run away and then all that belongs to it.

    :returns: how many runs, and a sentence for each of the first hundred
    """
    if not {"id", "dag_id", "execution_date", "run_id"} <= tables.get("dag_run", {}).keys():
        return 0, ()
    keep_originals(
        conn, entry, table="dag_run", columns=("run_id",), condition=sql.SQL(NAMELESS_RUN), reason="it had no run_id"
    )
    named = sorted(conn.execute(_NAME_RUNS).fetchall(), key=lambda row: int(str(row[0])))
    details = [f"dag run {row} of {dag_id} had no run_id, now {run_id}" for row, dag_id, run_id in named[:LISTED]]
    if len(named) > LISTED:
        details.append(f"and {len(named) - LISTED} more dag runs had no run_id")
    return len(named), tuple(details)
