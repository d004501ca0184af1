"""Which Airflow tables and columns a database really has: old releases lack many of the newest's."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from airflow_migration.postgres.address import Session

_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 4 THEN a.atttypmod - 4 END
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE {} AND c.relkind IN ('r', 'p')
 ORDER BY c.relname, a.attnum
"""

ON_SEARCH_PATH = "n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid)"
"""Of pg_class c and its pg_namespace n: what an unqualified name means, temporary and system tables aside."""

_REFERENCES = """
SELECT c.relname,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(f.conkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(f.confkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number)
  FROM pg_constraint f
  JOIN pg_class c ON c.oid = f.conrelid
  JOIN pg_class p ON p.oid = f.confrelid
  JOIN pg_namespace n ON n.oid = p.relnamespace AND n.oid = c.relnamespace
 WHERE f.contype = 'f' AND n.nspname = current_schema() AND p.relname = %s AND c.oid <> p.oid
 ORDER BY c.relname, f.conname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's type as Postgres writes it, and its length in characters where it has a limit."""

    type: str
    length: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A foreign key: `columns` of table `child` point at `parent_columns` of the table asked for."""

    child: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


Tables = dict[str, dict[str, Column]]


def read_tables(conn: Session, schema: str | None = None) -> Tables:
    """Every table with its columns in their order; of the search path unless a schema is named."""
    wanted = sql.SQL("n.nspname = {}").format(sql.Literal(schema)) if schema else sql.SQL(ON_SEARCH_PATH)
    tables: Tables = {}
    for table, column, type_name, length in conn.execute(sql.SQL(_COLUMNS).format(wanted)):
        limit = int(str(length)) if length is not None else None
        tables.setdefault(str(table), {})[str(column)] = Column(type=str(type_name), length=limit)
    return tables


def read_references(conn: Session, table: str) -> tuple[Reference, ...]:
    """The foreign keys of other tables that point at `table`."""
    found = []
    for child, columns, parent_columns in conn.execute(_REFERENCES, (table,)):
        assert isinstance(columns, list)
        assert isinstance(parent_columns, list)
        found.append(Reference(child=str(child), columns=tuple(columns), parent_columns=tuple(parent_columns)))
    return tuple(found)
