"""Which columns one of Airflow's tables has in this release."""

from __future__ import annotations

from airflow_migration.postgres.address import Session


def read_columns(conn: Session, table: str) -> frozenset[str]:
    """The columns of one of Airflow's tables; none when there is no such table."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (table,),
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)
