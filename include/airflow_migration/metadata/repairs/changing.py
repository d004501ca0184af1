"""Keep rows as they were before a repair gives them other values, in schema airflow_migration."""

from __future__ import annotations

from psycopg import sql

from airflow_migration.metadata.repairs.ledger import SCHEMA, ChangedRows, Entry, record_changed
from airflow_migration.metadata.repairs.side_tables import CHANGED, side_table
from airflow_migration.postgres.address import Session


def keep_originals(
    conn: Session, entry: Entry, *, table: str, columns: tuple[str, ...], condition: sql.Composable, reason: str
) -> int:
    """Copy the rows `t` that meet `condition`, whole, before some of their columns change; the caller commits.

    Counted in the ledger under the cause and the columns, so that a comparison knows what may differ. The change
    belongs in the same transaction.

    :param columns: those that the repair changes
    :param condition: SQL over `t`
    :param reason: why they change, as a sentence
    :returns: rows copied
    """
    kept_in = side_table(conn, entry, table, CHANGED)
    count = conn.execute(
        sql.SQL("INSERT INTO {} SELECT t.*, {}, {}, clock_timestamp(), {}, {}::text[] FROM {} t WHERE {}").format(
            sql.Identifier(SCHEMA, kept_in),
            sql.Literal(reason),
            sql.Literal(entry.migration_id),
            sql.Literal(entry.repair_id),
            sql.Literal(list(columns)),
            sql.Identifier(table),
            condition,
        )
    ).rowcount
    if count:
        record_changed(
            conn,
            entry,
            ChangedRows(
                repair=entry.repair_id,
                head=entry.head,
                origin=table,
                kept_in=f"{SCHEMA}.{kept_in}",
                columns=columns,
                reason=reason,
                count=count,
            ),
        )
    return count
