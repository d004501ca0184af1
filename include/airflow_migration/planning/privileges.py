"""Check what the connections' roles may do, beyond owning a database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from psycopg import sql

from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.planning.plan import CLONE, Plan
from airflow_migration.postgres.address import Session

PRIVILEGES = "privileges"
SHOWN = 5
MEMBERSHIP_OPTIONS_SINCE = 160000
"""From PostgreSQL 16 on each membership says whether it gives rights (INHERIT) and lets one take on the role (SET)."""

_UNREADABLE = r"""
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
   AND NOT (has_schema_privilege(n.oid, 'USAGE')
            AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                     ELSE has_table_privilege(c.oid, 'SELECT') END)
 ORDER BY 1
"""

_UNREADABLE_AIRFLOW = """
SELECT c.relname::text, n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p')
   AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 2, 1
"""

# pg_dump refuses to write a table of which it may see only some rows.
_HIDDEN = """
SELECT oid::regclass::text FROM pg_class
 WHERE relrowsecurity AND row_security_active(oid)
   AND (%(tables)s::text[] IS NULL OR relname = ANY (%(tables)s) AND pg_table_is_visible(oid)) ORDER BY 1
"""


def alter_role(role: str) -> str:
    return f"ALTER ROLE {sql.Identifier(role).as_string()}"


def check_membership(there: Session, source: str, target: str) -> Iterator[Finding]:
    """The working database is given to the target's role by the source's, which goes on working in it then.

    Giving needs to be able to take on the role, the rest to have its rights: a membership may give either alone.

    :param there: session of role `source` on the server of both
    """
    options = there.info.server_version >= MEMBERSHIP_OPTIONS_SINCE
    row = there.execute(
        "SELECT pg_has_role(%s, 'MEMBER'), pg_has_role(%s, 'USAGE') AND pg_has_role(%s, %s)",
        (target, target, target, "SET" if options else "MEMBER"),
    ).fetchone()
    member, enough = row if row else (False, False)
    if enough:
        return
    remedy = f"GRANT {sql.Identifier(target).as_string()} TO {sql.Identifier(source).as_string()}"
    if options:
        remedy += " WITH INHERIT TRUE, SET TRUE"
    elif member:
        remedy = f"{alter_role(source)} INHERIT"
    yield Finding(
        check=PRIVILEGES,
        severity="blocker",
        summary=f'the working database is made by role "{source}" and must belong to role "{target}"'
        + (", of which the first is a member without its rights or without SET" if member else ""),
        remedy=f"{remedy}, or use one login in both connections",
    )


def check_readable(there: Session, plan: Plan, user: str) -> Iterator[Finding]:
    """A dump is of the whole database, or of the rows that travel; what these need was asked before they were chosen
    (`find_unreadable`).
    """
    if plan.in_place:
        yield from find_hidden_rows(there, user, plan.choice.travel)
        return
    yield from _blocked_by(
        there.execute(_UNREADABLE),
        f'role "{user}" may not read all tables of the source\'s database, so it can make no dump',
        "Grant it SELECT on them, or use a login that may"
        + (", or set backup to false" if plan.transfer == CLONE and plan.rehearsal is None else ""),
    )
    yield from find_hidden_rows(there, user)


def find_unreadable(there: Session, user: str) -> Iterator[Finding]:
    """Tables on the search path that this role may not read: rows of each are counted, and of most are dumped."""
    found = [(str(table), str(schema)) for table, schema in there.execute(_UNREADABLE_AIRFLOW)]
    if not found:
        return
    role = sql.Identifier(user).as_string()
    if len(found) <= SHOWN:
        named = ", ".join(sql.Identifier(schema, table).as_string() for table, schema in found)
    else:
        schemas = dict.fromkeys(sql.Identifier(schema).as_string() for _, schema in found)
        named = f"ALL TABLES IN SCHEMA {', '.join(schemas)}"
    yield Finding(
        check=PRIVILEGES,
        severity="blocker",
        summary=f'role "{user}" may not read {len(found)} table(s) of the source, whose rows are dumped or counted',
        count=len(found),
        evidence=tuple(table for table, _ in found[:EXAMPLES]),
        remedy=f"GRANT SELECT ON {named} TO {role}, or use the tables' owner's login",
    )


def find_hidden_rows(there: Session, user: str, tables: Collection[str] | None = None) -> Iterator[Finding]:
    """Tables whose rows a dump by this role would not have.

    :param tables: of the search path, which alone are dumped; None where all of the database are
    """
    yield from _blocked_by(
        there.execute(_HIDDEN, {"tables": None if tables is None else list(tables)}),
        f'row security hides rows of the source from role "{user}", so it can make no dump',
        f"{alter_role(user)} BYPASSRLS, or use the login of the tables' owner",
    )


def _blocked_by(found: Iterable[tuple[object, ...]], summary: str, remedy: str) -> Iterator[Finding]:
    """:param found: names of tables that are in the way"""
    tables = tuple(str(name) for (name,) in found)
    if tables:
        yield Finding(
            check=PRIVILEGES,
            severity="blocker",
            summary=summary,
            count=len(tables),
            evidence=tables[:SHOWN],
            remedy=remedy,
        )
