"""Bring Airflow's tables, and its users' tables, into the schema in which the target looks for them."""

from __future__ import annotations

from airflow_migration.metadata.users_schema import move_users
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.databases import set_database_default
from airflow_migration.postgres.schemas import PUBLIC, move_schema
from airflow_migration.progress import Listener

SEARCH_PATH = "search_path"


def bring_home(
    conn: Session, *, database: str, old: str, new: str, users_schema: str | None, listener: Listener
) -> None:
    """Move all that is in schema `old` to `new`, and FAB's tables there too; the caller commits.

    A schema other than public becomes the database's search_path, by which an Airflow finds its tables that is
    not told otherwise; what its own role or address says goes before that. Done already: nothing happens.

    :param conn: session of a role that owns the objects and the database
    :param users_schema: where FAB's tables are, if elsewhere
    """
    if moved := move_schema(conn, old, new):
        listener(f'Schema "{old}" is now "{new}"' if moved == 1 else f'{moved} object(s) moved from "{old}" to "{new}"')
    if users_schema is not None and (moved := move_users(conn, users_schema, new)):
        listener(f'{moved} object(s) of the users moved from schema "{users_schema}" to "{new}"')
    if new != PUBLIC:
        set_database_default(conn, database, SEARCH_PATH, new)
