"""Hand every object of a database to one role, object by object.

REASSIGN OWNED would also change the owner of *other databases* and shared objects (measured on
PostgreSQL 15), so it is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from psycopg import sql

from airflow_migration.postgres.address import Session
from airflow_migration.postgres.schemas import PUBLIC, may_create_in

_OBJECTS = files(__package__).joinpath("ownership.sql").read_text(encoding="utf-8")


def hand_over(session: Session, owner: str, *, schemas: Iterable[str] = (PUBLIC,)) -> int:
    """Make `owner` the owner of all that is not an extension's, and able to make tables in some schemas.

    Sequences that belong to a column follow their table. The caller commits.

    :param schemas: whichever of them are there; PostgreSQL 15 and newer give CREATE on public to the
        database's owner only
    :returns: how many objects changed hands
    """
    objects = session.execute(_OBJECTS, {"owner": owner}).fetchall()
    for kind, name in objects:
        # Both come quoted from the catalog.
        statement = sql.SQL(f"ALTER {kind} {name} OWNER TO ") + sql.Identifier(owner)
        session.execute(statement)
    for schema in schemas:
        if not may_create_in(session, owner, schema):
            session.execute(
                sql.SQL("GRANT ALL ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(owner))
            )
    return len(objects)
