"""Tables that an earlier upgrade left behind and that stand in the way of this one's."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.faults import history_faults
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.metadata.repairs.xcoms import CAST
from airflow_migration.postgres.address import Session

ARCHIVE = "_xcom_archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A left-over table, and why it cannot stay."""

    table: str
    why: str


def find_leftovers(conn: Session, tables: Tables, crossing: Crossing) -> tuple[Leftover, ...]:
    """Left-over tables with which this hop would collide.

    2.11.2 moves dangling rows into tables whose names are fixed, and exits 1 when there are such rows and the
    table exists (`_format_dangling_error`). `_xcom_archive` is filled by eed27faa34e3 (3.0.0) even when it
    exists: its rows may have the keys of new ones, or other columns.
    """
    found = []
    for table, release in _TARGETS.items():
        name = f"_airflow_moved__{release.replace('.', '_')}__dangling__{table}"
        if name in tables and _has_dangling_rows(conn, table, tables, crossing):
            found.append(Leftover(table=name, why=f"Airflow would move rows of {table} into a table of that name"))
    if ARCHIVE in tables and crossing.crosses(CAST):
        found.append(Leftover(table=ARCHIVE, why="Airflow would move pickled XComs into a table of that name"))
    return tuple(found)


def set_aside(conn: Session, leftover: Leftover) -> str:
    """Move a left-over table, whole, into our schema; the caller commits."""
    taken = read_tables(conn, SCHEMA)
    name, number = leftover.table, 2
    while name in taken:
        name, number = f"{leftover.table[:58]}__{number}", number + 1
    if name != leftover.table:
        conn.execute(
            sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(leftover.table), sql.Identifier(name))
        )
    conn.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(name), sql.Identifier(SCHEMA)))
    return f"table {leftover.table} moved to {SCHEMA}.{name}: {leftover.why}"


# Source table → the version in the name of the table that 2.11.2 moves its rows to.
_TARGETS = {
    "dag_run": "2.2",
    "task_instance": "2.2",
    "task_reschedule": "2.2",
    "rendered_task_instance_fields": "2.3",
    "task_fail": "2.3",
    "xcom": "2.3",
}


def _has_dangling_rows(conn: Session, table: str, tables: Tables, crossing: Crossing) -> bool:
    for fault in history_faults(tables):
        if fault.table != table or not fault.applies(tables, crossing):
            continue
        row = conn.execute(sql.SQL("SELECT EXISTS (SELECT {})").format(fault.rows())).fetchone()
        if row and row[0]:
            return True
    return False
