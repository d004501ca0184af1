"""Check the Postgres schemas in which source and target have Airflow's tables."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.users_schema import TABLES
from airflow_migration.planning.plan import CLONE, Plan
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.schemas import find_collisions, may_create_in

SHOWN = 5


def check_schemas(plan: Plan, there: Session, source: DatabaseAddress, target: DatabaseAddress) -> Iterator[Finding]:
    """What will be moved in the working database, and what stands in the way of that.

    :param there: session in the source's database
    """
    old, new, users = source.schema, target.schema, plan.users_schema
    taken = find_collisions(there, old, new) if old != new else ()
    if users is not None and users != new:
        taken += tuple(name for name in find_collisions(there, users, new) if name in TABLES)
    if taken:
        yield Finding(
            check="metadata_schema",
            severity="blocker",
            summary=f"the target's schema \"{new}\" is in the source's database already, with tables of the same names",
            count=len(taken),
            evidence=taken[:SHOWN],
            remedy=f'Name another metadata_schema in the target\'s connection, or rename schema "{new}" of the source',
        )
    elif old != new:
        yield Finding(
            check="metadata_schema",
            severity="info",
            summary=f'in the working database the tables move from schema "{old}" to "{new}"',
        )
    if users is not None:
        yield Finding(
            check="users_schema",
            severity="info",
            summary=f'users and roles (ab_*) are in schema "{users}"; in the working database they move to "{new}"',
        )
    if plan.transfer == CLONE:
        yield from _check_owners(there, source, target, [name for name in (old, users, new) if name])


def _check_owners(
    there: Session, source: DatabaseAddress, target: DatabaseAddress, schemas: list[str]
) -> Iterator[Finding]:
    """A schema that is the source's role's is handed over; in somebody else's the target must be let in."""
    for schema in dict.fromkeys(schemas):
        row = there.execute(
            "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s", (schema,)
        ).fetchone()
        # pg_database_owner, to whom public belongs since PostgreSQL 15, will be the target's role.
        if row is None or row[0] or may_create_in(there, target.user, schema):
            continue
        yield Finding(
            check="privileges",
            severity="blocker",
            summary=f'schema "{schema}" of the source\'s database belongs neither to role "{source.user}" nor may'
            f' role "{target.user}" make tables there',
            remedy=f"GRANT ALL ON SCHEMA {sql.Identifier(schema).as_string()}"
            f" TO {sql.Identifier(target.user).as_string()}",
        )
