"""Keep rows as they were before a repair gives them other values, in schema airflow_migration."""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA, ChangedRows, Entry, changed_rows, record_changed
from airflow_migration.metadata.repairs.side_tables import CHANGED, side_table
from airflow_migration.postgres.address import Session

CONF = ("dag_run", "conf")
XCOM = ("xcom", "value")


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
    of_them = sql.SQL("FROM {} t WHERE {}").format(sql.Identifier(table), condition)
    if conn.execute(sql.SQL("SELECT {} LIMIT 1").format(of_them)).fetchone() is None:
        return 0
    kept_in = side_table(conn, entry, table, CHANGED)
    count = conn.execute(
        sql.SQL("INSERT INTO {} SELECT t.*, {}, {}, clock_timestamp(), {}, {}::text[] {}").format(
            sql.Identifier(SCHEMA, kept_in),
            sql.Literal(reason),
            sql.Literal(entry.migration_id),
            sql.Literal(entry.repair_id),
            sql.Literal(list(columns)),
            of_them,
        )
    ).rowcount
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

    A conf is left out: what it became is computed again from the original.
    """
    tables = read_tables(conn)
    for changed in changed_rows(conn, entry.migration_id):
        columns = tables.get(changed.origin, {})
        values = [
            sql.SQL("{}::text, {}").format(sql.Literal(name), _value_now(changed.origin, name))
            for name in changed.columns
            if (changed.origin, name) != CONF
        ]
        key = row_key(conn, changed.origin, columns)
        if (changed.repair, changed.head) != (entry.repair_id, entry.head) or not values or not key:
            continue
        conn.execute(
            sql.SQL(
                "UPDATE {} c SET became = jsonb_build_object({}) FROM {} t WHERE {} AND c.became IS NULL"
                " AND c.migration_id = {} AND c.repair_id = {} AND c.changed_columns = {}::text[]"
            ).format(
                sql.Identifier(*changed.kept_in.split(".", 1)),
                sql.SQL(", ").join(values),
                sql.Identifier(changed.origin),
                same_row(key),
                sql.Literal(entry.migration_id),
                sql.Literal(entry.repair_id),
                sql.Literal(list(changed.columns)),
            )
        )


def row_key(conn: Session, table: str, columns: Collection[str]) -> tuple[str, ...]:
    """Columns that tell the rows of a table apart: its id, else its primary key; none where it has neither."""
    if "id" in columns:
        return ("id",)
    row = conn.execute(
        "SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_index i JOIN pg_attribute a"
        " ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
        " WHERE i.indisprimary AND i.indrelid = to_regclass(quote_ident(%s))",
        (table,),
    ).fetchone()
    return tuple(row[0]) if row and isinstance(row[0], list) else ()


def same_row(key: tuple[str, ...]) -> sql.Composed:
    """Whether the rows `c` and `t` have the same key."""
    return sql.SQL(" AND ").join(sql.SQL("c.{0} = t.{0}").format(sql.Identifier(name)) for name in key)


def _value_now(table: str, column: str) -> sql.Composable:
    """The value of `t`; of an XCom, which is cast from bytes to JSON later, a digest of the JSON."""
    if (table, column) == XCOM:
        return sql.SQL("md5(convert_from(t.value, 'UTF8')::jsonb::text)")
    return sql.Identifier("t", column)
