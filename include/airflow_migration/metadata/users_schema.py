"""Find Flask-AppBuilder's tables (users, roles, permissions) where they are not among Airflow's own.

The early releases' `sql_alchemy_schema` holds for Airflow's own tables only: FAB makes its own in whatever schema
comes first on the search path. Measured 1.10.15 → 2.11.2: with Airflow's schema alone on the path the upgrade fails on
ab_permission_view, and with both it works; 2.10.5 → 3.3.2 leaves the users where they are.
"""

from __future__ import annotations

from airflow_migration.exceptions import PreflightError
from airflow_migration.metadata.releases import releases_at
from airflow_migration.metadata.repairs.sequences import FAB_TABLES
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.schemas import move_tables

VERSION_TABLE = "alembic_version_fab"
TABLES = (*FAB_TABLES, "ab_group", "ab_group_role", "ab_user_group", VERSION_TABLE)
"""The groups are those of FAB 5 (Airflow 3.1)."""
USER_TABLES = frozenset(TABLES) - {VERSION_TABLE}

# Schemas with FAB's tables, where neither another Airflow lives nor another application's tables refer to them.
_CANDIDATES = """
SELECT n.nspname::text FROM pg_namespace n
 WHERE n.nspname <> current_schema() AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'airflow_migration'
   AND (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
           AND c.relname IN ('ab_user', 'ab_role', 'ab_user_role', 'ab_permission_view')) = 4
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
                      AND c.relname = 'dag_run')
   AND NOT EXISTS (SELECT FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
                     JOIN pg_class p ON p.oid = f.confrelid
                    WHERE f.contype = 'f' AND p.relnamespace = n.oid AND p.relname LIKE 'ab\\_%%'
                      AND NOT c.relname = ANY (%s)
                      -- Airflow's notes refer to their authors (2.5.0 to 2.11).
                      AND c.relnamespace <> (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))
 ORDER BY 1
"""


def find_users_schema(conn: Session, head: str) -> str | None:
    """The other schema in which this Airflow's users are; None when they are at home, or there are none.

    :param head: alembic head of the database
    :raises PreflightError: several could be it
    """
    if _has(conn, "ab_user"):
        return None
    # From 3.0 on FAB is a choice, which leaves a version table of its own.
    if all(release.number >= (3,) for release in releases_at(head)) and not _has(conn, VERSION_TABLE):
        return None
    found = [str(name) for (name,) in conn.execute(_CANDIDATES, (list(TABLES),))]
    if len(found) > 1:
        raise PreflightError(
            f"the source's schema holds no ab_user, and these do: {', '.join(found)}",
            where=f'database "{conn.info.dbname}"',
            remedy="Rename ab_user in those that are not this Airflow's, or move its ab_ tables beside its others",
        )
    return found[0] if found else None


def move_users(conn: Session, users_schema: str, schema: str) -> int:
    """Bring the users' tables to Airflow's own; the caller commits.

    :returns: how many tables and sequences moved; none when they were there already
    """
    return move_tables(conn, TABLES, users_schema, schema)


def _has(conn: Session, table: str) -> bool:
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = %s AND relkind IN ('r', 'p')"
        " AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))",
        (table,),
    ).fetchone()
    return bool(row and row[0])


def fab_head(session: Session) -> str | None:
    """The head of the FAB provider's own migrations; None where they never ran."""
    row = session.execute("SELECT to_regclass('alembic_version_fab') IS NOT NULL").fetchone()
    if not (row and row[0]):
        return None
    rows = session.execute("SELECT version_num FROM alembic_version_fab ORDER BY 1").fetchall()
    return ",".join(str(each[0]) for each in rows) or None
