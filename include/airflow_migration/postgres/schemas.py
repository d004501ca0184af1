"""Bring what is in one schema of a database into another one."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import files

from psycopg import errors, sql

from airflow_migration.postgres.address import Session

PUBLIC = "public"

_OBJECTS = files(__package__).joinpath("schemas.sql").read_text(encoding="utf-8")

_COLLISIONS = """
SELECT DISTINCT mine.relname::text FROM pg_class mine JOIN pg_class other USING (relname)
 WHERE mine.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)
   AND other.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)
 ORDER BY 1
"""


def schema_exists(session: Session, name: str) -> bool:
    return session.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)).fetchone() is not None


def may_create_in(session: Session, role: str, schema: str) -> bool:
    """Whether a role may make tables in a schema; True for a schema that is not there."""
    row = session.execute(
        "SELECT has_schema_privilege(%s, oid, 'CREATE') AND has_schema_privilege(%s, oid, 'USAGE')"
        " FROM pg_namespace WHERE nspname = %s",
        (role, role, schema),
    ).fetchone()
    return row is None or bool(row[0])


def find_collisions(session: Session, old: str, new: str) -> tuple[str, ...]:
    """Names of tables, indexes and the like that both schemas hold, so that one cannot take in the other's."""
    return tuple(str(name) for (name,) in session.execute(_COLLISIONS, (old, new)))


def move_schema(session: Session, old: str, new: str) -> int:
    """Make `new` the home of everything in `old` that is not an extension's; the caller commits.

    A rename where that can be. Object by object where `new` exists, or where `old` is public: every database
    keeps that one, and up to PostgreSQL 14 only a superuser may rename it. Moved already: nothing happens.

    :param session: of a role that owns the objects and may create schemas in the database
    :returns: how many objects have another home now; 1 for a rename
    """
    if old == new or not schema_exists(session, old):
        return 0
    if not schema_exists(session, new):
        if old != PUBLIC and _owns(session, old):
            session.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
            return 1
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(new)))
    moved = _move(session, old, new, None)
    if old != PUBLIC:
        _drop_if_empty(session, old)
    return moved


def move_tables(session: Session, tables: Collection[str], old: str, new: str) -> int:
    """The same for some tables and the sequences that count their ids; the caller commits."""
    if old == new:
        return 0
    return _move(session, old, new, {*tables, *(f"{table}_id_seq" for table in tables)})


def _move(session: Session, old: str, new: str, names: Collection[str] | None) -> int:
    objects = session.execute(_OBJECTS, {"schema": old}).fetchall()
    wanted = [(kind, quoted) for kind, quoted, name in objects if names is None or str(name) in names]
    # A routine's arguments are named as the search_path lets one name them now, so it goes before their types.
    for kind, quoted in sorted(wanted, key=lambda each: each[0] != "ROUTINE"):
        session.execute(sql.SQL(f"ALTER {kind} {quoted} SET SCHEMA ") + sql.Identifier(new))
    return len(wanted)


def _owns(session: Session, schema: str) -> bool:
    row = session.execute(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s", (schema,)
    ).fetchone()
    return bool(row and row[0])


def _drop_if_empty(session: Session, schema: str) -> None:
    """What an extension keeps there, or another owner, leaves the schema where it is."""
    try:
        with session.transaction():
            session.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(schema)))
    except (errors.DependentObjectsStillExist, errors.InsufficientPrivilege):
        return
