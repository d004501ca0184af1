"""Which columns one of Airflow's tables has in this release."""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from airflow_migration.postgres.address import Session


def read_columns(conn: Session, table: str) -> frozenset[str]:
    """The columns of one of Airflow's tables; none when there is no such table."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (table,),
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def in_use(columns: Collection[str]) -> sql.SQL:
    """SQL over `d`, a row of `dag` with these columns: it was in a file when that was last read, and is no subdag."""
    there = "d.is_active IS NOT FALSE" if "is_active" in columns else "d.is_stale IS NOT TRUE"
    return sql.SQL(f"{there} AND d.is_subdag IS NOT TRUE" if "is_subdag" in columns else there)
