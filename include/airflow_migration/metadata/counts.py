"""Count the rows of every table, and of every table into which rows were moved out of the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import ON_SEARCH_PATH, read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.postgres.address import Session

ARCHIVE_PREFIX = "_airflow_moved__"
"""Where Airflow's upgrades put rows that would break a new constraint: `_airflow_moved__2_2__dangling__xcom`,
`_airflow_moved__2_2__task_instance` in 2.2 (AIRFLOW_MOVED_TABLE_PREFIX, settings.py)."""
XCOM_ARCHIVE = "_xcom_archive"
"""Where Airflow 3.0.0 puts pickled XComs (eed27faa34e3)."""
MOVED_PREFIX = "moved_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideTable:
    """A table that holds rows which another table held before.

    :param schema: empty for the metadata schema
    :param origin: the table that they were in, by its name at that moment
    :param rows: how many; of this migration only, where the table says which
    :param whole: the origin itself was moved here; its rows carry no migration
    """

    schema: str
    name: str
    origin: str
    rows: int
    whole: bool = False

    @property
    def cause(self) -> str:
        if self.schema:
            return f"moved by the repairs to {self.schema}.{self.name}"
        return f"moved by Airflow to {self.name}"


def count_tables(conn: Session) -> dict[str, int]:
    """Rows of every table on the search path; partitions are counted as part of their table."""
    return {name: count_rows(conn, name) for name in _tables(conn, None)}


def count_rows(conn: Session, table: str, condition: sql.Composable | None = None) -> int:
    """:param condition: only rows that meet it; SQL over `t`"""
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM {} t WHERE {}").format(sql.Identifier(table), condition or sql.SQL("true"))
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def archives(counts: Mapping[str, int]) -> tuple[SideTable, ...]:
    """The tables into which Airflow's own upgrades move rows, known by their names.

    :param counts: what `count_tables` gave
    """
    found = []
    for name, rows in counts.items():
        if name == XCOM_ARCHIVE:
            found.append(SideTable(schema="", name=name, origin="xcom", rows=rows))
        elif name.startswith(ARCHIVE_PREFIX):
            found.append(SideTable(schema="", name=name, origin=name.rpartition("__")[2], rows=rows))
    return tuple(found)


def moved_by_repairs(
    clone: Session, working: Session, migration_id: str, origins: Iterable[str]
) -> tuple[SideTable, ...]:
    """The tables of our schema that hold rows, or whole tables, which this migration's repairs moved.

    :param origins: names that the origin can have; where the ledger does not say, the longest that fits is it
    """
    known = sorted(origins, key=len, reverse=True)
    ledger = _read_ledger(working, migration_id)
    before = set(_tables(clone, SCHEMA))
    found = []
    for name in _tables(working, SCHEMA):
        rest = name.removeprefix(MOVED_PREFIX)
        origin = ledger.get(name) or next((o for o in known if rest == o or rest.startswith(o + "_")), None)
        if origin is None:
            continue
        table = sql.Identifier(SCHEMA, name)
        if rest != name:
            rows = _count(working, table, migration_id)
            found.append(SideTable(schema=SCHEMA, name=name, origin=origin, rows=rows))
        elif name not in before and name.startswith((ARCHIVE_PREFIX, XCOM_ARCHIVE)):
            rows = _count(working, table)
            found.append(SideTable(schema=SCHEMA, name=name, origin=origin, rows=rows, whole=True))
    return tuple(found)


def _read_ledger(conn: Session, migration_id: str) -> dict[str, str]:
    """Side table → origin, as the repairs wrote it down."""
    if not {"origin", "kept_in"} <= read_tables(conn, SCHEMA).get("moved", {}).keys():
        return {}
    rows = conn.execute(
        "SELECT DISTINCT kept_in, origin FROM airflow_migration.moved WHERE migration_id = %s",
        (migration_id,),
    ).fetchall()
    return {str(kept_in).removeprefix(f"{SCHEMA}."): str(origin) for kept_in, origin in rows}


def _tables(conn: Session, schema: str | None) -> tuple[str, ...]:
    wanted = sql.SQL("n.nspname = {}").format(sql.Literal(schema)) if schema else sql.SQL(ON_SEARCH_PATH)
    rows = conn.execute(
        sql.SQL(
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE {} AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
        ).format(wanted)
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def _count(conn: Session, table: sql.Identifier, migration_id: str | None = None) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(table)
    if migration_id is None:
        row = conn.execute(query).fetchone()
    else:
        row = conn.execute(query + sql.SQL(" WHERE migration_id = %s"), (migration_id,)).fetchone()
    assert row is not None
    return int(str(row[0]))
