"""Tell a fresh Airflow, which may be set aside, from a database that somebody uses."""

from __future__ import annotations

from airflow_migration.postgres.address import Session


def read_occupancy(conn: Session) -> str | None:
    """What keeps a database from being a fresh Airflow without runs; None when it is one."""
    tables = conn.execute(
        "SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass('dag_run') IS NOT NULL,"
        " (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
        "   AND n.nspname NOT IN ('pg_catalog', 'information_schema'))"
    ).fetchone()
    assert tables is not None
    versioned, has_runs, count = tables
    if not versioned or not has_runs:
        return "empty" if not count else "not an Airflow metadata database"
    row = conn.execute("SELECT EXISTS (SELECT FROM dag_run), EXISTS (SELECT FROM task_instance)").fetchone()
    return "an Airflow that has runs of its own" if row and any(row) else None
