"""Tables, columns, indexes, constraints and what hangs on them, as a picture on which changes can be tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_migration.metadata.repairs.catalog import ON_SEARCH_PATH, read_tables
from airflow_migration.postgres.address import Session

_INDEXES = f"""
SELECT i.relname, c.relname, array(SELECT a.attname::text FROM pg_attribute a
                                    WHERE a.attrelid = c.oid AND a.attnum = ANY (x.indkey))
  FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {ON_SEARCH_PATH}
"""  # noqa: S608

_CONSTRAINTS = f"""
SELECT k.conname, c.relname, k.contype::text, coalesce(p.relname, ''), coalesce(i.relname, ''),
       array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey))
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class p ON p.oid = k.confrelid LEFT JOIN pg_class i ON i.oid = k.conindid
 WHERE {ON_SEARCH_PATH} AND k.contype IN ('p', 'u', 'f', 'c')
"""  # noqa: S608

VIEWS = f"""
SELECT DISTINCT v.oid::regclass::text, c.relname::text, coalesce(a.attname::text, '')
  FROM pg_depend d
  JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
  JOIN pg_class c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass AND c.relkind IN ('r', 'p')
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
 WHERE {ON_SEARCH_PATH}
"""  # noqa: S608
"""View, table and column that it reads; a person can run it as it stands."""


@dataclass(slots=True, kw_only=True)
class Table:
    """One table as it would be at this moment.

    :param origin: its name in the database
    :param columns: name now → name in the database
    """

    origin: str
    columns: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Index:
    table: str
    columns: frozenset[str]


@dataclass(slots=True, kw_only=True)
class Constraint:
    """:param kind: ``p`` primary key, ``u`` unique, ``f`` foreign key, ``c`` check
    :param refers_to: table that a foreign key points at
    :param index: that it has of its own, or that a foreign key relies on
    """

    kind: str
    refers_to: str = ""
    index: str = ""
    columns: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Picture:
    """The schema; whoever tries changes on it changes it.

    :param indexes: by name
    :param constraints: by table and name
    :param made: tables that the changes have made, of which nothing is known
    :param views: (table, column) of the database → views that read it
    """

    tables: dict[str, Table]
    indexes: dict[str, Index]
    constraints: dict[tuple[str, str], Constraint]
    views: dict[tuple[str, str], tuple[str, ...]]
    made: set[str] = field(default_factory=set)


def read_picture(conn: Session) -> Picture:
    """What the search path shows; catalogs only are read."""
    tables = {
        name: Table(origin=name, columns={column: column for column in columns})
        for name, columns in read_tables(conn).items()
    }
    views: dict[tuple[str, str], tuple[str, ...]] = {}
    for view, table, column in conn.execute(VIEWS):
        where = (str(table), str(column))
        views[where] = (*views.get(where, ()), str(view))
    return Picture(
        tables=tables,
        indexes={
            str(name): Index(table=str(table), columns=_names(columns))
            for name, table, columns in conn.execute(_INDEXES)
        },
        constraints={
            (str(table), str(name)): Constraint(
                kind=str(kind), refers_to=str(parent), index=str(index), columns=_names(columns)
            )
            for name, table, kind, parent, index, columns in conn.execute(_CONSTRAINTS)
        },
        views=views,
    )


def _names(columns: object) -> frozenset[str]:
    assert isinstance(columns, list)
    return frozenset(str(column) for column in columns)
