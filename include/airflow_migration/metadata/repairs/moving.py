"""Bring rows that cannot stay, with all that hangs on them by a foreign key, into schema airflow_migration."""

from __future__ import annotations

from itertools import count

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Reference, read_references
from airflow_migration.metadata.repairs.ledger import ADDED_COLUMNS, SCHEMA, Entry, MovedRows, record_moved
from airflow_migration.metadata.repairs.side_tables import MOVED, side_table
from airflow_migration.postgres.address import Session

_numbers = count(1)


def move_rows(conn: Session, entry: Entry, *, table: str, condition: str, reason: str) -> int:
    """Move the rows `t` of `table` that meet `condition`; counted in the ledger, the caller commits.

    Must run inside a transaction: rows are remembered by their place.

    :param condition: SQL over `t`, evaluated once
    :param reason: SQL text expression over `t`
    :returns: how many rows of `table` itself were moved
    """
    doomed = _temporary()
    conn.execute(
        sql.SQL(
            "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT t.ctid AS place, ({})::text AS reason FROM {} t WHERE {}"
        ).format(doomed, sql.SQL(reason), sql.Identifier(table), sql.SQL(condition))
    )
    return _move(conn, entry, table, doomed)


def copy_rows(conn: Session, entry: Entry, *, table: str, reason: str) -> int:
    """Copy all rows of a table to where moved ones go, for a table that is about to be dropped; the caller commits.

    :param reason: why they leave, as a sentence
    """
    kept_in = side_table(conn, entry, table, MOVED)
    copied = conn.execute(
        sql.SQL("INSERT INTO {}.{} SELECT t.*, {}, {}, clock_timestamp() FROM {} t").format(
            sql.Identifier(SCHEMA),
            sql.Identifier(kept_in),
            sql.Literal(reason),
            sql.Literal(entry.migration_id),
            sql.Identifier(table),
        )
    ).rowcount
    if copied:
        _record(conn, entry, table, kept_in, reason, copied)
    return copied


def _move(conn: Session, entry: Entry, table: str, doomed: sql.Identifier) -> int:
    conn.execute(sql.SQL("ANALYZE {}").format(doomed))
    some = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(doomed)).fetchone()
    total = 0
    if some and some[0]:
        # ON DELETE CASCADE would take these along without a trace.
        for reference in read_references(conn, table):
            _move_dependents(conn, entry, table, reference, doomed)
        total = _take(conn, entry, table, doomed)
    conn.execute(sql.SQL("DROP TABLE {}").format(doomed))
    return total


def _move_dependents(conn: Session, entry: Entry, table: str, reference: Reference, doomed: sql.Identifier) -> None:
    theirs = _temporary()
    same = sql.SQL(" AND ").join(
        sql.SQL("c.{} = p.{}").format(sql.Identifier(mine), sql.Identifier(parent))
        for mine, parent in zip(reference.columns, reference.parent_columns, strict=True)
    )
    conn.execute(
        sql.SQL(
            "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT c.ctid AS place, {} || d.reason AS reason"
            " FROM {} d JOIN {} p ON p.ctid = d.place JOIN {} c ON {}"
        ).format(
            theirs,
            sql.Literal(f"its {table} row was moved: "),
            doomed,
            sql.Identifier(table),
            sql.Identifier(reference.child),
            same,
        )
    )
    _move(conn, entry, reference.child, theirs)


def _take(conn: Session, entry: Entry, table: str, doomed: sql.Identifier) -> int:
    kept_in = side_table(conn, entry, table, MOVED)
    rows = conn.execute(
        sql.SQL(
            "WITH gone AS (DELETE FROM {table} t USING {doomed} d WHERE t.ctid = d.place"
            " RETURNING t.*, d.reason AS {reason}),"
            " kept AS (INSERT INTO {schema}.{kept_in} SELECT gone.*, {migration}, clock_timestamp() FROM gone"
            " RETURNING {reason})"
            " SELECT {reason}, count(*) FROM kept GROUP BY 1 ORDER BY 1"
        ).format(
            table=sql.Identifier(table),
            doomed=doomed,
            schema=sql.Identifier(SCHEMA),
            kept_in=sql.Identifier(kept_in),
            migration=sql.Literal(entry.migration_id),
            reason=sql.Identifier(ADDED_COLUMNS[0]),
        )
    ).fetchall()
    for reason, number in rows:
        _record(conn, entry, table, kept_in, str(reason), int(str(number)))
    return sum(int(str(number)) for _, number in rows)


def _record(conn: Session, entry: Entry, table: str, kept_in: str, reason: str, number: int) -> None:
    moved = MovedRows(
        repair=entry.repair_id,
        head=entry.head,
        origin=table,
        kept_in=f"{SCHEMA}.{kept_in}",
        reason=reason,
        count=number,
    )
    record_moved(conn, entry, moved)


def _temporary() -> sql.Identifier:
    return sql.Identifier(f"airflow_migration_doomed_{next(_numbers)}")
