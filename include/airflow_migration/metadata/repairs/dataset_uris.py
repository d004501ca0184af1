"""Datasets whose URI is too long for the index over name and uri that 3.0.0 makes."""

from __future__ import annotations

from psycopg import errors, sql

from airflow_migration.metadata.repairs.faults import Fault
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.metadata.repairs.moving import move_rows
from airflow_migration.postgres.address import Session

NOT_INDEXABLE = Fault(  # name and uri are the same text then; a B-tree takes 2704 bytes, compressed where that helps
    id="dataset_uri_not_indexable",
    table="dataset",
    columns=("id", "uri"),
    condition="length(t.uri) <= 1500 AND octet_length(t.uri) > 1340",
    reason="'3.0 indexes the URI twice, which is longer than the index takes'",
    key="left(t.uri, 80)",
    revision="0d9e73a75ee4",
    summary="{count} dataset(s) have a URI so long that 3.0's index may not take it twice (2704 bytes)",
    remedy="Each is tried; those that the index does not take are moved to schema airflow_migration, with what hangs on"
    " them",
)

_TRIAL = """
CREATE TEMP TABLE airflow_migration_uri (name varchar(1500), uri varchar(1500)) ON COMMIT DROP;
CREATE UNIQUE INDEX ON airflow_migration_uri (name, uri);
"""


def move_unindexable(conn: Session, entry: Entry) -> int:
    """Try the index on each of them, and move those that it does not take; the caller commits.

    :returns: how many
    """
    suspects = [int(str(row)) for (row,) in conn.execute(sql.SQL("SELECT t.id {}").format(NOT_INDEXABLE.rows()))]
    if not suspects:
        return 0
    conn.execute(_TRIAL)
    unfit = [row for row in suspects if not _fits(conn, row)]
    if not unfit:
        return 0
    condition = f"t.id IN ({', '.join(map(str, unfit))})"
    return move_rows(conn, entry, table="dataset", condition=condition, reason=NOT_INDEXABLE.reason)


def _fits(conn: Session, row: int) -> bool:
    try:
        with conn.transaction():
            conn.execute("INSERT INTO airflow_migration_uri SELECT uri, uri FROM dataset WHERE id = %s", (row,))
    except errors.ProgramLimitExceeded:
        return False
    return True
