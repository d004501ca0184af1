"""Keep rows as they were before a repair gives them other values, in schema airflow_migration."""

from __future__ import annotations

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA, ChangedRows, Entry, changed_rows, record_changed
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


def note_new_values(conn: Session, entry: Entry) -> None:
    """Write beside each original what its columns say now, so that a later change is noticed; the caller commits.

    Only of rows that have an id. Bytes are left out: what was written for them is computed again from the original.
    """
    tables = read_tables(conn)
    for changed in changed_rows(conn, entry.migration_id):
        columns = tables.get(changed.origin, {})
        of_this = (changed.repair, changed.head) == (entry.repair_id, entry.head)
        if not of_this or "id" not in columns or any(columns[name].type == "bytea" for name in changed.columns):
            continue
        values = sql.SQL(", ").join(
            sql.SQL("{}::text, t.{}").format(sql.Literal(name), sql.Identifier(name)) for name in changed.columns
        )
        conn.execute(
            sql.SQL(
                "UPDATE {} c SET became = jsonb_build_object({}) FROM {} t WHERE t.id = c.id AND c.became IS NULL"
                " AND c.migration_id = {} AND c.repair_id = {} AND c.changed_columns = {}::text[]"
            ).format(
                sql.Identifier(*changed.kept_in.split(".", 1)),
                values,
                sql.Identifier(changed.origin),
                sql.Literal(entry.migration_id),
                sql.Literal(entry.repair_id),
                sql.Literal(list(changed.columns)),
            )
        )
