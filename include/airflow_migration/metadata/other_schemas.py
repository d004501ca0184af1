"""Tables of others beside Airflow's, in schemas of their own: they travel along with the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Column, read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.postgres.address import Session

# What belongs to an extension comes with it; what the role may not read it could not compare.
_TABLES = """
SELECT n.nspname::text, c.relname::text,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
         WHERE i.indrelid = c.oid AND i.indisprimary)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_'
   AND n.nspname <> ALL (current_schemas(false)) AND n.nspname NOT IN ('information_schema', %s)
   AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherTable:
    """A table whose schema is not on the search path.

    :param key: columns of its primary key; empty where it has none
    """

    schema: str
    name: str
    columns: Mapping[str, Column]
    key: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def read_other_tables(conn: Session) -> tuple[OtherTable, ...]:
    """The tables in schemas that are neither on the search path nor ours nor Postgres' own."""
    columns: dict[str, Mapping[str, Mapping[str, Column]]] = {}
    found = []
    for schema, name, key in conn.execute(_TABLES, (SCHEMA,)).fetchall():
        assert key is None or isinstance(key, list)
        if str(schema) not in columns:
            columns[str(schema)] = read_tables(conn, str(schema))
        found.append(
            OtherTable(
                schema=str(schema),
                name=str(name),
                columns=columns[str(schema)].get(str(name), {}),
                key=tuple(str(column) for column in key or ()),
            )
        )
    return tuple(found)


def count_other(conn: Session, table: sql.Identifier) -> int:
    """Rows of one of them."""
    row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    assert row is not None
    return int(str(row[0]))


def read_schemas(conn: Session) -> frozenset[str]:
    """The schemas that the database has."""
    rows = conn.execute("SELECT nspname::text FROM pg_namespace").fetchall()
    return frozenset(str(row[0]) for row in rows)
