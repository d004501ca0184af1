"""Copy a database on its own server by CREATE DATABASE … TEMPLATE, beside the sessions that use it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass

from psycopg import errors, sql

from airflow_migration.exceptions import MigrationError, ServerUnreachableError
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.databases import (
    READ_ONLY,
    database_exists,
    database_size,
    describe_server,
    run_undisturbed,
    seconds_since,
    sole_worker,
)
from airflow_migration.progress import Listener

FILE_COPY_BYTES = 1_000_000_000
"""From this size copying files beats writing WAL (measured at 0.5 and 5.3 GB on PostgreSQL 15)."""
STRATEGY_SINCE = 15

_QUOTED_LISTS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")
_LIST_ITEM = re.compile(r'"((?:[^"]|"")*)"|([^",\s]+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneResult:
    """A copy of a database.

    :param reused: it was there already, made by an earlier try
    """

    template: str
    database: str
    bytes: int
    sessions_ended: int
    seconds: float
    reused: bool


def clone_database(
    address: DatabaseAddress,
    *,
    template: str,
    database: str,
    owner: str | None,
    comment: str,
    listener: Listener,
    left_out: Collection[str] = (),
) -> CloneResult:
    """Make `database` a copy of `template`; the caller has recorded the name as its own before.

    :param owner: role that owns the new database; None leaves it to ours
    :param left_out: settings (ALTER DATABASE … SET) that are not to hold in the copy
    :param comment: label for people who list databases; it proves nothing
    :raises ServerUnreachableError: sessions that we may not end keep the template in use
    """
    start = time.monotonic()
    with sole_worker(address, database) as session:
        reused = database_exists(session, database)
        ended = 0
        if not reused:
            size = database_size(session, template)
            listener(f'Cloning "{template}" ({size:,} bytes) to "{database}"')
            statement = _create(session, template, database, size)
            try:
                ended = run_undisturbed(session, address, template, statement, listener)
            except errors.DiskFull:
                raise MigrationError(
                    "the server's disk has no room for a copy",
                    where=f'clone of "{template}"',
                    remedy="Free space on the server, then retry",
                ) from None
        else:
            listener(f'Database "{database}" is already complete; keeping it')
        _label(session, database, comment)
        _carry_settings(session, template, database, {READ_ONLY, *left_out}, listener)
        _carry_grants(session, template, database)
        if owner is not None:
            session.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(owner))
            )
        return CloneResult(
            template=template,
            database=database,
            bytes=database_size(session, database),
            sessions_ended=ended,
            seconds=seconds_since(start),
            reused=reused,
        )


def _create(session: Session, template: str, database: str, size: int) -> sql.Composed:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template))
    if size >= FILE_COPY_BYTES and describe_server(session).major >= STRATEGY_SINCE:
        statement += sql.SQL(" STRATEGY file_copy")
    return statement


def _label(session: Session, database: str, comment: str) -> None:
    statement = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(database), sql.Literal(comment))
    session.execute(statement)


def _carry_settings(
    session: Session, template: str, database: str, left_out: Collection[str], listener: Listener
) -> None:
    """ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET, which a template clone leaves behind.

    A read-only default is never carried: it is a fence, not a setting of the deployment.
    """
    settings = session.execute(
        "SELECT r.rolname::text, split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)"
        " FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) entry"
        " WHERE d.datname = %s AND (s.setrole = 0 OR r.oid IS NOT NULL) ORDER BY 1 NULLS FIRST, 2",
        (template,),
    ).fetchall()
    for role, name, value in settings:
        if name in left_out:
            continue
        whose = sql.SQL("DATABASE {}").format(sql.Identifier(database))
        if role is not None:
            whose = sql.SQL("ROLE {} IN ").format(sql.Identifier(str(role))) + whose
        try:
            session.execute(
                sql.SQL("ALTER {} SET {} = {}").format(
                    whose, sql.Identifier(str(name)), _literal(str(name), str(value))
                )
            )
        except errors.InsufficientPrivilege:
            of = "" if role is None else f' of role "{role}"'
            listener(f'Setting {name}{of} in "{template}" is not carried to "{database}": our role may not')


def _literal(name: str, value: str) -> sql.Composable:
    """The stored form of a list is quoted item by item already, as pg_dump knows."""
    if name not in _QUOTED_LISTS:
        return sql.Literal(value)
    items = [bare or quoted.replace('""', '"') for quoted, bare in _LIST_ITEM.findall(value)]
    return sql.SQL(", ").join(map(sql.Literal, items))


def _carry_grants(session: Session, template: str, database: str) -> None:
    """Who may connect, which a template clone leaves behind: it lets everybody in."""
    grants = session.execute(
        "SELECT a.privilege_type, a.grantee, pg_get_userbyid(a.grantee), a.is_grantable"
        " FROM pg_database d LEFT JOIN aclexplode(d.datacl) a ON a.grantee <> d.datdba"
        " WHERE d.datname = %s AND d.datacl IS NOT NULL",
        (template,),
    ).fetchall()
    if grants:
        session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
    for privilege, grantee, role, grantable in grants:
        if privilege is not None:
            statement = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
                sql.SQL(str(privilege)),
                sql.Identifier(database),
                sql.Identifier(str(role)) if grantee else sql.SQL("PUBLIC"),
            )
            session.execute(statement + sql.SQL(" WITH GRANT OPTION" if grantable else ""))


def block_connections(address: DatabaseAddress, database: str, listener: Listener) -> None:
    """Shut everybody out of a database, for a clone that does not come by otherwise.

    The caller has written this to the journal before; `allow_connections` is the undo.
    """
    with address.maintenance().connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
    listener(f'Connections to database "{database}" are shut out until the clone is made')


def allow_connections(address: DatabaseAddress, database: str) -> bool:
    """Let connections in again.

    :returns: whether they had been shut out
    """
    with address.maintenance().connect(read_only=False, autocommit=True) as session:
        row = session.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", (database,)).fetchone()
        if row is None or row[0]:
            return False
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(database)))
        return True


def clone_shutting_out(
    address: DatabaseAddress, *, template: str, database: str, comment: str, listener: Listener
) -> CloneResult:
    """`clone_database` behind shut doors; opens them again whatever happens.

    :raises ServerUnreachableError: a session that only a superuser may end is still there
    """
    block_connections(address, template, listener)
    try:
        return clone_database(
            address, template=template, database=database, owner=None, comment=comment, listener=listener
        )
    except ServerUnreachableError as err:
        raise ServerUnreachableError(
            err.problem, where=err.where, remedy="End the superuser's sessions on the source by hand, then retry"
        ) from err
    finally:
        if allow_connections(address, template):
            listener(f'Connections to database "{template}" are let in again')
