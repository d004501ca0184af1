"""Tables of schema airflow_migration that keep rows of Airflow's tables as they were."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.ledger import ADDED_COLUMNS, SCHEMA, Entry
from airflow_migration.postgres.address import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class SideTables:
    """One kind of them.

    :param prefix: of their names; the origin's name follows
    :param added: SQL type of each column that follows those of the origin
    """

    prefix: str
    added: dict[str, str]


_WHY = dict(zip(ADDED_COLUMNS, ("text", "text", "timestamptz"), strict=True))
MOVED = SideTables(prefix="moved_", added=_WHY)
"""Rows that left their table."""
CHANGED = SideTables(
    prefix="changed_", added={**_WHY, "repair_id": "text", "changed_columns": "text[]", "became": "jsonb"}
)
"""Rows that stayed, with other values than these."""


def side_table(conn: Session, entry: Entry, table: str, kind: SideTables) -> str:
    """The side table for rows of `table` as it is now; made where it is missing.

    A later hop's table of that name may have other columns: it gets a side table of its own.

    :returns: its name in schema ``airflow_migration``
    """
    columns = {name: column.type for name, column in read_tables(conn)[table].items()}
    existing = read_tables(conn, SCHEMA)
    name = f"{kind.prefix}{table}"
    for candidate in (name[:63], f"{name[:50]}__{entry.head}"):
        if candidate not in existing:
            _make(conn, candidate, table, kind)
            return candidate
        kept = {c: column.type for c, column in existing[candidate].items() if c not in kind.added}
        if list(kept.items()) == list(columns.items()):
            return candidate
    raise AssertionError(f"{SCHEMA}.{name} has other columns than {table} at the same head")


def _make(conn: Session, name: str, table: str, kind: SideTables) -> None:
    added = sql.SQL(", ").join(
        sql.SQL("NULL::{} AS {}").format(sql.SQL(column_type), sql.Identifier(column))
        for column, column_type in kind.added.items()
    )
    conn.execute(
        sql.SQL("CREATE TABLE {} AS SELECT t.*, {} FROM {} t WITH NO DATA").format(
            sql.Identifier(SCHEMA, name), added, sql.Identifier(table)
        )
    )
