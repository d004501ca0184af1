"""Dag runs that share the date or the run_id of an earlier one, where the unique constraints were missing."""

from __future__ import annotations

from psycopg import sql

from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.faults import RUN_KEY, Fault
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.metadata.repairs.moving import move_rows
from airflow_migration.postgres.address import Session

LISTED = 100


def _later(column: str) -> str:
    """The runs `t` that have the `column` of a run of their DAG with a lower id."""
    return f"""t.id IN (SELECT d.id FROM (SELECT r.id,
        row_number() OVER (PARTITION BY r.dag_id, r.{column} ORDER BY r.id) AS place FROM dag_run r
        WHERE r.dag_id IS NOT NULL AND r.execution_date IS NOT NULL AND r.run_id IS NOT NULL) d
        WHERE d.place > 1)"""  # noqa: S608


SAME_DATE, SAME_RUN_ID = _later("execution_date"), _later("run_id")

RUN_DUPLICATE = Fault(
    id="run_duplicate",
    table="dag_run",
    columns=("id", "dag_id", "execution_date", "run_id"),
    condition=f"({SAME_DATE} OR {SAME_RUN_ID})",
    reason="'an earlier run of its DAG has the same execution date'",
    key="concat_ws(' ', 'id', t.id, t.dag_id, t.run_id)",
    revision=RUN_KEY,
    also=("686269002441", "1cdc775ca98f"),
    summary="{count} dag run(s) have the execution date or run_id of an earlier run of their DAG",
    remedy="Later ones of the same date are moved to schema airflow_migration, with what hangs on them; those of"
    " another date get a run_id of their own",
)

_RENAME = """
UPDATE dag_run t SET run_id = left(t.run_id, 230) || '__' || t.id WHERE {condition} RETURNING t.id, t.dag_id, t.run_id
"""


def separate_runs(conn: Session, entry: Entry) -> tuple[int, tuple[str, ...]]:
    """Leave each DAG one run for each date, and one for each run_id; the caller commits.

    Two runs of one run_id share their task instances from 2.2 on: these stay with the earlier. Before, they belong to
    the date, so that each run keeps its own.

    :returns: how many runs, and a sentence for each of the first hundred that were renamed
    """
    moved = move_rows(conn, entry, table="dag_run", condition=SAME_DATE, reason=RUN_DUPLICATE.reason)
    keep_originals(
        conn,
        entry,
        table="dag_run",
        columns=("run_id",),
        condition=sql.SQL(SAME_RUN_ID),
        reason="an earlier run of its DAG has the same run_id",
    )
    renamed = sorted(
        conn.execute(sql.SQL(_RENAME).format(condition=sql.SQL(SAME_RUN_ID))).fetchall(),
        key=lambda row: int(str(row[0])),
    )
    details = [f"dag run {row} of {dag_id} shared its run_id, now {run_id}" for row, dag_id, run_id in renamed[:LISTED]]
    if len(renamed) > LISTED:
        details.append(f"and {len(renamed) - LISTED} more dag runs shared their run_id")
    return moved + len(renamed), tuple(details)
