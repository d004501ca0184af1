"""Check what the target's login may do in the target's own database, into which rows alone are to go."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from psycopg import sql

from airflow_migration.metadata.findings import Finding, blocker
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.planning.privileges import PRIVILEGES
from airflow_migration.postgres.address import Session

_NOT_OWNED = """
SELECT c.relname::text FROM pg_class c
 WHERE pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p') AND c.relname = ANY (%s)
   AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1
"""
_UNREADABLE = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p')
   AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 1
"""
# Of the schema of an earlier migration, that another login made: it and its tables are written.
_OWNERS = """
SELECT pg_get_userbyid(o.owner)::text FROM (
    SELECT nspowner AS owner FROM pg_namespace WHERE nspname = %(schema)s
    UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p')) o
 WHERE NOT pg_has_role(o.owner, 'USAGE') ORDER BY 1
"""


def check_kept_schema(conn: Session, user: str) -> Iterator[Finding]:
    """Whether the schema that keeps the target's own rows is this role's, or may be made by it.

    :param conn: session of role `user` in the target's database
    """
    owners = [str(owner) for (owner,) in conn.execute(_OWNERS, {"schema": SCHEMA})]
    row = conn.execute(
        "SELECT to_regnamespace(%s) IS NOT NULL OR has_database_privilege(current_database(), 'CREATE')", (SCHEMA,)
    ).fetchone()
    if owners:
        named = ", ".join(f'"{owner}"' for owner in owners)
        yield blocker(
            PRIVILEGES,
            f"schema {SCHEMA} of the target's database, in which its rows are to be kept, belongs to {named}, of which"
            f' role "{user}" is no member',
            f"If an earlier migration that is over left it there: DROP SCHEMA {SCHEMA} CASCADE, as its owner",
        )
    elif not (row and row[0]):
        database = sql.Identifier(conn.info.dbname).as_string()
        yield blocker(
            PRIVILEGES,
            f'role "{user}" may not create schema {SCHEMA} in the target\'s database, where its rows are kept',
            f"GRANT CREATE ON DATABASE {database} TO {sql.Identifier(user).as_string()}",
        )


def check_tables(conn: Session, user: str, tables: Collection[str]) -> Iterator[Finding]:
    """Whether this role may fill these tables, and count the others when all is verified."""
    foreign = tuple(str(name) for (name,) in conn.execute(_NOT_OWNED, (list(tables),)))
    if foreign:
        yield blocker(
            PRIVILEGES,
            f'role "{user}" does not own all tables of the target that are to be filled',
            "Use the owner's login in the target's connection",
            evidence=foreign,
        )
    hidden = tuple(str(name) for (name,) in conn.execute(_UNREADABLE))
    if hidden and not foreign:
        yield blocker(
            PRIVILEGES,
            f'role "{user}" may not read {len(hidden)} table(s) of the target, whose rows are counted',
            f"GRANT SELECT ON {', '.join(hidden)} TO {sql.Identifier(user).as_string()}, or use the login of the"
            " tables' owner",
            evidence=hidden,
        )
