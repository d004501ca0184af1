"""Let task instances of DAGs that nobody has parsed yet get their version once somebody does.

A scheduler of 3.3.2 that meets them first sends them to no executor: they stay `queued` for ever (measured).
"""

from __future__ import annotations

from importlib.resources import files

from airflow_migration.metadata.left_over_tasks import make_schema
from airflow_migration.postgres.address import Session

_STATEMENTS = files(__package__).joinpath("late_parse.sql").read_text(encoding="utf-8")


def mend_at_parse(conn: Session, *, needed: bool) -> None:
    """Add the trigger on ``dag_version``, or take it away where nothing waits any more; the caller commits.

    :param conn: session whose search_path is the metadata schema, by the role that owns the table
    """
    if needed:
        make_schema(conn)
        conn.execute(_STATEMENTS.encode())
    elif _exists(conn):
        conn.execute("DROP TRIGGER airflow_migration_give_dag_version ON dag_version")
        conn.execute("DROP FUNCTION airflow_migration.give_dag_version()")


def _exists(conn: Session) -> bool:
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('dag_version')"
        " AND tgname = 'airflow_migration_give_dag_version')"
    ).fetchone()
    return bool(row and row[0])
