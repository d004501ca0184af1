"""Compare what the repairs have written with what the rows say now: a repair explains its own value and no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Column
from airflow_migration.metadata.repairs.changing import XCOM, row_key, same_row
from airflow_migration.metadata.repairs.ledger import ChangedRows
from airflow_migration.planning.row_comparison import RowDifference
from airflow_migration.postgres.address import Session

# The last repair of a column counts. Values of JSON are compared as text, where NULL is NULL, or the empty text that
# 888b59e02a5b (3.2.0) makes of it.
_DIFFERENT = """
SELECT {label}, array_agg(DISTINCT now.name ORDER BY now.name)
  FROM (SELECT DISTINCT ON ({key}, b.name) {key}, b.name, b.value
          FROM {kept} c CROSS JOIN LATERAL jsonb_each_text(c.became) b (name, value)
         WHERE c.migration_id = {migration}
         ORDER BY {key}, b.name, c.moved_at DESC) c
  JOIN {table} t ON {same}
 CROSS JOIN LATERAL (SELECT c.name, {value} AS value) now
 WHERE now.value IS DISTINCT FROM c.value AND NOT (c.value IS NULL AND now.value = '')
 GROUP BY {key} ORDER BY {key}
"""


def differences_from_repairs(
    conn: Session,
    table: str,
    columns: Mapping[str, Column],
    changed: Iterable[ChangedRows],
    migration_id: str,
) -> tuple[RowDifference, ...]:
    """Rows of which a column is no longer what a repair made it, each once.

    :param table: by its name now
    :param columns: that it has
    :param changed: what the repairs have written down of its rows
    """
    found: dict[str, RowDifference] = {}
    repaired = {each.kept_in: frozenset[str]() for each in changed}
    for each in changed:
        repaired[each.kept_in] |= set(each.columns)
    for kept_in, names in repaired.items():
        schema, kept = kept_in.split(".", 1)
        key = row_key(conn, table, columns)
        if not key or not set(key) <= _columns(conn, schema, kept) or not names <= columns.keys():
            continue
        for label, differ in conn.execute(_query(table, (schema, kept), key, migration_id)).fetchall():
            assert isinstance(differ, list)
            found[str(label)] = RowDifference(key=str(label), what="changed", columns=tuple(differ))
    return tuple(found.values())


def _query(table: str, kept: tuple[str, str], key: tuple[str, ...], migration_id: str) -> sql.Composed:
    value: sql.Composable = sql.SQL("to_jsonb(t) ->> c.name")
    if table == XCOM[0]:
        value = sql.SQL("CASE c.name WHEN {} THEN md5(t.value::jsonb::text) ELSE to_jsonb(t) ->> c.name END").format(
            sql.Literal(XCOM[1])
        )
    label = sql.SQL(" || ', ' || ").join(
        sql.SQL("{} || c.{}::text").format(sql.Literal(f"{name}="), sql.Identifier(name)) for name in key
    )
    return sql.SQL(_DIFFERENT).format(
        label=label,
        key=sql.SQL(", ").join(sql.Identifier("c", name) for name in key),
        kept=sql.Identifier(*kept),
        migration=sql.Literal(migration_id),
        table=sql.Identifier(table),
        same=same_row(key),
        value=value,
    )


def _columns(conn: Session, schema: str, table: str) -> frozenset[str]:
    rows = conn.execute(
        "SELECT column_name::text FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        (schema, table),
    )
    return frozenset(str(name) for (name,) in rows)
