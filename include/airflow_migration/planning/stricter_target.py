"""Find rows of the source that the target's own tables would refuse.

One release does not mean the same tables: a database that was upgraded for years, or mended by hand, lacks lengths,
foreign keys and constraints that a fresh one has. Only where the target asks for more are the source's rows looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.repairs.catalog import ON_SEARCH_PATH, read_tables
from airflow_migration.metadata.table_choice import TableChoice
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.references import read_foreign_keys

CHECK = "stricter_target"

_REQUIRED = """
SELECT c.relname::text, a.attname::text, NOT a.atthasdef AND coalesce(to_jsonb(a) ->> 'attidentity', '') = ''
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
 WHERE {} AND c.relkind IN ('r', 'p') AND c.relname = ANY (%s)
"""
_UNIQUE = """
SELECT c.relname::text, i.indexrelid::regclass::text,
       (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
 WHERE {} AND c.relkind IN ('r', 'p') AND c.relname = ANY (%s)
   AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """:param what: of the target's, that the rows would break
    :param rows: SQL that counts them in the source
    """

    what: str
    rows: sql.Composable


def check_rows(choice: TableChoice, there: Session, conn: Session) -> Iterator[Finding]:
    """:param there: session in the source's database
    :param conn: session in the target's, which has every table and column that travels
    """
    for refused in (
        *_columns(choice.travel, there, conn),
        *_unique(choice.travel, there, conn),
        *_references(choice, there, conn),
    ):
        row = there.execute(sql.SQL("SELECT count(*) FROM ({}) refused").format(refused.rows)).fetchone()
        if row and row[0]:
            yield Finding(
                check=CHECK,
                severity="blocker",
                summary=f"{row[0]} row(s) of the source cannot be in the target: {refused.what}",
                remedy="Mend these rows in the source, or take that constraint from the target",
                count=int(str(row[0])),
                sql=refused.rows.as_string() + ";",
            )


def _select(table: str, condition: sql.Composable) -> sql.Composable:
    return sql.SQL("SELECT 1 FROM {} t WHERE {}").format(sql.Identifier(table), condition)


def _columns(tables: Collection[str], there: Session, conn: Session) -> Iterator[Refused]:
    before, after = read_tables(there), read_tables(conn)
    filled, required = _required(there, tables), _required(conn, tables)
    for table in tables:
        for name, column in after[table].items():
            was, key = before[table].get(name), (table, name)
            if was is None:
                if required.get(key):
                    yield Refused(
                        what=f"{table}.{name} must be filled, and the source has no such column",
                        rows=_select(table, sql.SQL("true")),
                    )
                continue
            value = sql.SQL("t.{}").format(sql.Identifier(name))
            if column.length is not None and (was.length is None or was.length > column.length):
                yield Refused(
                    what=f"{table}.{name} holds {column.length} characters",
                    rows=_select(table, sql.SQL("length({}::text) > {}").format(value, sql.Literal(column.length))),
                )
            if key in required and key not in filled:
                yield Refused(what=f"{table}.{name} must be filled", rows=_select(table, value + sql.SQL(" IS NULL")))


def _required(conn: Session, tables: Collection[str]) -> Mapping[tuple[str, str], bool]:
    """Columns that may not be NULL, and whether nothing fills them by itself."""
    rows = conn.execute(_REQUIRED.format(ON_SEARCH_PATH), (list(tables),)).fetchall()
    return {(str(table), str(column)): bool(needed) for table, column, needed in rows}


def _unique(tables: Collection[str], there: Session, conn: Session) -> Iterator[Refused]:
    present: dict[str, list[frozenset[str]]] = {}
    for table, _, columns in _read_unique(there, tables):
        present.setdefault(table, []).append(frozenset(columns))
    for table, index, columns in _read_unique(conn, tables):
        if any(known <= set(columns) for known in present.get(table, ())):
            continue
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        filled = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(name)) for name in columns)
        yield Refused(
            what=f"{table} can have each {', '.join(columns)} once ({index})",
            rows=sql.SQL("SELECT 1 FROM {} WHERE {} GROUP BY {} HAVING count(*) > 1").format(
                sql.Identifier(table), filled, names
            ),
        )


def _read_unique(conn: Session, tables: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    for table, index, columns in conn.execute(_UNIQUE.format(ON_SEARCH_PATH), (list(tables),)).fetchall():
        assert isinstance(columns, list)
        yield str(table), str(index), columns


def _references(choice: TableChoice, there: Session, conn: Session) -> Iterator[Refused]:
    known = {(key.child, key.parent, key.columns, key.parent_columns) for key in read_foreign_keys(there)}
    for key in read_foreign_keys(conn):
        child = key.child
        if child not in choice.travel or (child, key.parent, key.columns, key.parent_columns) in known:
            continue
        assert child is not None
        if set(key.columns) & set(choice.cleared.get(child, ())):
            continue
        filled = sql.SQL(" AND ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns)
        what = f"{child} points at {key.parent} by {', '.join(key.columns)}"
        if key.parent not in choice.travel:
            if count_rows(there, child, filled):
                yield Refused(what=f"{what}, which does not travel (param tables)", rows=_select(child, filled))
            continue
        same = sql.SQL(" AND ").join(
            sql.SQL("p.{} = t.{}").format(sql.Identifier(there_name), sql.Identifier(name))
            for name, there_name in zip(key.columns, key.parent_columns, strict=True)
        )
        missing = sql.SQL("{} AND NOT EXISTS (SELECT FROM {} p WHERE {})").format(
            filled, sql.Identifier(key.parent), same
        )
        yield Refused(what=f"{what}, and there is no such row", rows=_select(child, missing))
