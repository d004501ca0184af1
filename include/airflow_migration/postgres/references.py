"""Read which tables of a database point at which by foreign keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_migration.postgres.address import Session

_FOREIGN_KEYS = """
SELECT CASE WHEN pg_table_is_visible(f.conrelid) THEN c.relname::text END, p.relname::text,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(f.conkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number),
       (SELECT array_agg(a.attname::text ORDER BY k.place)
          FROM unnest(f.confkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number)
  FROM pg_constraint f
  JOIN pg_class c ON c.oid = f.conrelid
  JOIN pg_class p ON p.oid = f.confrelid
 WHERE f.contype = 'f' AND pg_table_is_visible(f.confrelid) AND f.conrelid <> f.confrelid AND NOT c.relispartition
 ORDER BY 2, 1, f.conname
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """`columns` of table `child` point at `parent_columns` of table `parent`.

    :param child: None for a table that its bare name does not mean, as its schema is not on the search path
    """

    child: str | None
    parent: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


def read_foreign_keys(session: Session) -> tuple[ForeignKey, ...]:
    """The foreign keys at tables of the search path; those of a table at itself are left out."""
    found = []
    for child, parent, columns, parent_columns in session.execute(_FOREIGN_KEYS):
        assert isinstance(columns, list)
        assert isinstance(parent_columns, list)
        found.append(
            ForeignKey(
                child=None if child is None else str(child),
                parent=str(parent),
                columns=tuple(columns),
                parent_columns=tuple(parent_columns),
            )
        )
    return tuple(found)


def parents_first(tables: Iterable[str], keys: Iterable[ForeignKey]) -> tuple[str, ...]:
    """Tables in an order in which each comes after those that it points at."""
    waiting = sorted(tables)
    pairs = {(str(key.child), key.parent) for key in keys if key.child in waiting and key.parent in waiting}
    order: list[str] = []
    while waiting:
        ready = [table for table in waiting if not any(c == table and p in waiting for c, p in pairs)]
        # In a circle somebody has to be first; Postgres checks then.
        order += ready or waiting[:1]
        waiting = [table for table in waiting if table not in order]
    return tuple(order)
