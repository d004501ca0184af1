"""Hand every object of a database to one role, object by object.

REASSIGN OWNED would also change the owner of *other databases* and shared objects (measured on
PostgreSQL 15), so it is not used.
"""

from __future__ import annotations

from importlib.resources import files

from psycopg import sql

from airflow_migration.postgres.address import Session

_OBJECTS = files(__package__).joinpath("ownership.sql").read_text(encoding="utf-8")


def hand_over(session: Session, owner: str) -> int:
    """Make `owner` the owner of all that is not an extension's, and able to use schema public.

    Sequences that belong to a column follow their table. The caller commits.

    :returns: how many objects changed hands
    """
    objects = session.execute(_OBJECTS, {"owner": owner}).fetchall()
    for kind, name in objects:
        # Both come quoted from the catalog.
        statement = sql.SQL(f"ALTER {kind} {name} OWNER TO ") + sql.Identifier(owner)
        session.execute(statement)
    if not _may_create_in_public(session, owner):
        session.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(owner)))
    return len(objects)


def _may_create_in_public(session: Session, role: str) -> bool:
    """PostgreSQL 15 and newer give CREATE on public to the database's owner only."""
    row = session.execute(
        "SELECT has_schema_privilege(%s, oid, 'CREATE') FROM pg_namespace WHERE nspname = 'public'", (role,)
    ).fetchone()
    return row is None or bool(row[0])
