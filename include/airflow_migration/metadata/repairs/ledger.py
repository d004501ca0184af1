"""What was repaired and moved, kept in the database that it describes and in the same transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import Session

SCHEMA = "airflow_migration"
ADDED_COLUMNS = ("reason", "migration_id", "moved_at")

_TABLES = """
CREATE TABLE IF NOT EXISTS airflow_migration.repair (
    migration_id text NOT NULL, repair_id text NOT NULL, head text NOT NULL, count bigint NOT NULL,
    details jsonb NOT NULL, done_at timestamptz NOT NULL DEFAULT now(), number serial,
    PRIMARY KEY (migration_id, repair_id, head));
CREATE TABLE IF NOT EXISTS airflow_migration.moved (
    migration_id text NOT NULL, repair_id text NOT NULL, head text NOT NULL, origin text NOT NULL,
    kept_in text NOT NULL, reason text NOT NULL, count bigint NOT NULL,
    PRIMARY KEY (migration_id, repair_id, head, origin, kept_in, reason));
CREATE TABLE IF NOT EXISTS airflow_migration.changed (
    migration_id text NOT NULL, repair_id text NOT NULL, head text NOT NULL, origin text NOT NULL,
    kept_in text NOT NULL, columns text[] NOT NULL, reason text NOT NULL, count bigint NOT NULL,
    PRIMARY KEY (migration_id, repair_id, head, origin, kept_in, columns, reason));
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What one repair changed, over all its runs in this hop.

    :param count: rows changed or moved because of their own fault
    :param details: a sentence for each change, or for each table and reason of what was moved
    """

    id: str
    count: int
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedRows:
    """Rows that left an Airflow table, and where they are now.

    :param head: the schema's head when they were moved
    :param kept_in: table in schema ``airflow_migration`` with all columns as they were, the reason,
        the migration and the time
    """

    repair: str
    head: str
    origin: str
    kept_in: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRows:
    """Rows of an Airflow table that a repair gave other values, and where they are as they were.

    :param head: the schema's head when they were changed
    :param kept_in: table in schema ``airflow_migration`` with all columns as they were, the reason, the migration,
        the time, the repair and the columns that it changed
    :param columns: those that changed
    """

    repair: str
    head: str
    origin: str
    kept_in: str
    columns: tuple[str, ...]
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Names one repair of one hop of one migration."""

    migration_id: str
    repair_id: str
    head: str


def prepare(conn: Session) -> None:
    """Make the schema and its tables where they are missing."""
    exists = conn.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone()
    # IF NOT EXISTS asks for the privilege to create even when there is nothing to do.
    if not exists or exists[0] is None:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    tables = read_tables(conn, SCHEMA)
    if not {"repair", "moved", "changed"} <= tables.keys():
        conn.execute(_TABLES)


def migration_ids(conn: Session) -> tuple[str, ...]:
    """The migrations that have repaired this database or left history behind."""
    there = [name for name in ("changed", "filtered", "moved", "repair") if name in read_tables(conn, SCHEMA)]
    found: set[str] = set()
    for name in there:
        query = sql.SQL("SELECT DISTINCT migration_id FROM {}").format(sql.Identifier(SCHEMA, name))
        found |= {str(row[0]) for row in conn.execute(query)}
    return tuple(sorted(found))


def record(conn: Session, entry: Entry, count: int, details: tuple[str, ...]) -> None:
    """Add to what this repair has done; nothing done leaves no trace."""
    if not count and not details:
        return
    conn.execute(
        "INSERT INTO airflow_migration.repair (migration_id, repair_id, head, count, details)"
        " VALUES (%s, %s, %s, %s, %s::jsonb) ON CONFLICT (migration_id, repair_id, head) DO UPDATE"
        " SET count = repair.count + excluded.count, details = repair.details || excluded.details,"
        " done_at = now()",
        (entry.migration_id, entry.repair_id, entry.head, count, json.dumps(details)),
    )


def record_moved(conn: Session, entry: Entry, moved: MovedRows) -> None:
    """Add to the count of rows moved for that reason."""
    conn.execute(
        "INSERT INTO airflow_migration.moved (migration_id, repair_id, head, origin, kept_in, reason, count)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (migration_id, repair_id, head, origin, kept_in, reason) DO UPDATE"
        " SET count = moved.count + excluded.count",
        (
            entry.migration_id,
            entry.repair_id,
            entry.head,
            moved.origin,
            moved.kept_in,
            moved.reason,
            moved.count,
        ),
    )


def record_changed(conn: Session, entry: Entry, changed: ChangedRows) -> None:
    """Add to the count of rows changed for that reason."""
    conn.execute(
        "INSERT INTO airflow_migration.changed (migration_id, repair_id, head, origin, kept_in, columns, reason, count)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (migration_id, repair_id, head, origin, kept_in, columns, reason) DO UPDATE"
        " SET count = changed.count + excluded.count",
        (
            entry.migration_id,
            entry.repair_id,
            entry.head,
            changed.origin,
            changed.kept_in,
            list(changed.columns),
            changed.reason,
            changed.count,
        ),
    )


def changed_rows(conn: Session, migration_id: str) -> tuple[ChangedRows, ...]:
    """Every row that this migration's repairs gave other values, counted by table, columns and reason.

    Empty where nothing was ever repaired.
    """
    if "changed" not in read_tables(conn, SCHEMA):
        return ()
    rows = conn.execute(
        "SELECT repair_id, head, origin, kept_in, columns, reason, count FROM airflow_migration.changed"
        " WHERE migration_id = %s ORDER BY head, repair_id, origin, columns, reason",
        (migration_id,),
    )
    found = []
    for repair, head, origin, kept_in, columns, reason, count in rows:
        assert isinstance(columns, list)
        found.append(
            ChangedRows(
                repair=str(repair),
                head=str(head),
                origin=str(origin),
                kept_in=str(kept_in),
                columns=tuple(columns),
                reason=str(reason),
                count=int(str(count)),
            )
        )
    return tuple(found)


def read_repairs(conn: Session, migration_id: str, head: str) -> tuple[Repair, ...]:
    """What all runs of this hop's repairs have done, in their order."""
    rows = conn.execute(
        "SELECT repair_id, count, details FROM airflow_migration.repair"
        " WHERE migration_id = %s AND head = %s ORDER BY number",
        (migration_id, head),
    ).fetchall()
    moved = moved_rows(conn, migration_id)
    repairs = []
    for repair_id, count, details in rows:
        assert isinstance(details, list)
        lines = [
            f"{m.count} row(s) of {m.origin} kept in {m.kept_in}: {m.reason}"
            for m in moved
            if m.repair == repair_id and m.head == head
        ]
        repairs.append(Repair(id=str(repair_id), count=int(str(count)), details=(*details, *lines)))
    return tuple(repairs)


def moved_rows(conn: Session, migration_id: str) -> tuple[MovedRows, ...]:
    """Every row that this migration has moved out of Airflow's tables, counted by table and reason.

    Empty where nothing was ever repaired.
    """
    if "moved" not in read_tables(conn, SCHEMA):
        return ()
    rows = conn.execute(
        "SELECT repair_id, head, origin, kept_in, reason, count FROM airflow_migration.moved"
        " WHERE migration_id = %s ORDER BY head, repair_id, origin, reason",
        (migration_id,),
    )
    return tuple(
        MovedRows(
            repair=str(repair),
            head=str(head),
            origin=str(origin),
            kept_in=str(kept_in),
            reason=str(reason),
            count=int(str(count)),
        )
        for repair, head, origin, kept_in, reason, count in rows
    )
