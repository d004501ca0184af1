"""Create, rename, describe and drop whole databases of one server."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from airflow_migration.exceptions import MigrationError, OwnershipError, ServerUnreachableError
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Listener

NAME_BYTES = 63
"""NAMEDATALEN - 1 of every stock server: longer names are cut by Postgres without an error."""
READ_ONLY = "default_transaction_read_only"
LOCALE_PROVIDERS_SINCE, LOCALES_SINCE = 150000, 170000
"""Columns datlocprovider and daticulocale; the latter became datlocale."""
TERMINATE_EVERY = 0.05
EXCLUSIVE_ATTEMPTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDescription:
    """What one server says of itself.

    :param version: ``server_version_num``, 150018 for 15.18
    :param identity: differs between any two running servers, equal for two addresses of one
    :param cluster: system identifier, which a restart, a failover and another address leave as it is
    """

    version: int
    version_text: str
    identity: str
    cluster: str
    user_is_superuser: bool
    user_can_create_databases: bool

    @property
    def major(self) -> int:
        return self.version // 10000


def describe_server(session: Session) -> ServerDescription:
    """Version, identity and what our role may do; changes nothing.

    The identity joins the cluster's system identifier with the postmaster's start time: a physical
    copy of a cluster shares the first, and runs as another postmaster.
    """
    row = session.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
        " (SELECT system_identifier FROM pg_control_system())::text, pg_postmaster_start_time()::text,"
        " rolsuper, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None
    version, text, cluster, started, superuser, createdb = row
    return ServerDescription(
        version=int(str(version)),
        version_text=str(text),
        identity=f"{cluster}/{started}",
        cluster=str(cluster),
        user_is_superuser=bool(superuser),
        user_can_create_databases=bool(createdb),
    )


def database_exists(session: Session, name: str) -> bool:
    return session.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def may_alter(session: Session, name: str) -> bool:
    """Whether our role has the rights of that database's owner."""
    row = session.execute("SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = %s", (name,)).fetchone()
    return bool(row and row[0])


def database_size(session: Session, name: str) -> int:
    """Bytes on disk."""
    row = session.execute("SELECT pg_database_size(%s)", (name,)).fetchone()
    assert row is not None
    return int(str(row[0]))


def database_encoding(session: Session) -> str:
    """Encoding of the session's database, as CREATE DATABASE names it."""
    row = session.execute("SELECT current_setting('server_encoding')").fetchone()
    assert row is not None
    return str(row[0])


def database_locale(session: Session) -> str:
    """Collation and character classes of the session's database, and whose they are: ``libc en_US.UTF-8``."""
    provider = "datlocprovider" if session.info.server_version >= LOCALE_PROVIDERS_SINCE else "'c'"
    name = "datlocale" if session.info.server_version >= LOCALES_SINCE else "daticulocale"
    if session.info.server_version < LOCALE_PROVIDERS_SINCE:
        name = "NULL"
    row = session.execute(
        sql.SQL(
            "SELECT CASE {}::text WHEN 'i' THEN 'icu ' || {name} WHEN 'b' THEN 'builtin ' || {name}"
            " ELSE 'libc ' || concat_ws('/', datcollate, nullif(datctype, datcollate)) END"
            " FROM pg_database WHERE datname = current_database()"
        ).format(sql.SQL(provider), name=sql.SQL(name))
    ).fetchone()
    assert row is not None
    return str(row[0])


def derived_name(base: str, suffix: str) -> str:
    """`base` + `suffix`, with the base cut so that Postgres does not cut the suffix."""
    room = NAME_BYTES - len(suffix.encode())
    return base.encode()[:room].decode(errors="ignore") + suffix


@contextmanager
def sole_worker(address: DatabaseAddress, name: str, *, deadline: float = 3600.0) -> Iterator[Session]:
    """A session in the maintenance database that alone may create or rename `name`.

    The server goes on with a CREATE DATABASE whose client was killed. The advisory lock is held until
    it ends, so that a retry waits for it and then finds the finished database.

    :raises ServerUnreachableError: somebody else held the name longer than `deadline` seconds
    """
    with address.maintenance().connect(read_only=False, autocommit=True, lock_timeout=deadline) as session:
        try:
            session.execute("SELECT pg_advisory_lock(%s, %s)", (0x41464D, zlib.crc32(name.encode()) - 2**31))
        except errors.LockNotAvailable:
            raise ServerUnreachableError(
                f'another session has been working on database "{name}" for {deadline:.0f} s',
                where=address.server,
                remedy="Look for it in pg_stat_activity, then retry",
            ) from None
        yield session


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSessions:
    """:param ended: process ids of the sessions that were ended
    :param left: of each that we may not end: process id and role, and the application where it is shown to us
    """

    ended: frozenset[int]
    left: tuple[str, ...]


def terminate_sessions(session: Session, database: str) -> int:
    """End the client sessions of a database, except ours; those that we may not end are left.

    :returns: how many were ended
    """
    return len(end_sessions(session, database).ended)


def end_sessions(session: Session, database: str) -> EndedSessions:
    """The same, and which are left."""
    # The type of a backend is NULL to us where it belongs to a role of which we are no member.
    found = session.execute(
        "SELECT pid, usename::text, nullif(application_name, '') FROM pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL ORDER BY pid",
        (database,),
    ).fetchall()
    ended, left = set(), []
    for pid, role, application in found:
        try:
            session.execute("SELECT pg_terminate_backend(%s)", (pid,))
            ended.add(int(str(pid)))
        except errors.InsufficientPrivilege:
            left.append(_described(pid, role, application))
    return EndedSessions(ended=frozenset(ended), left=tuple(left))


def read_clients(session: Session) -> tuple[str, ...]:
    """The other client sessions of our database: process id and role, and the application where it is shown to us."""
    rows = session.execute(
        "SELECT pid, usename::text, nullif(application_name, '') FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL ORDER BY pid"
    ).fetchall()
    return tuple(_described(*row) for row in rows)


def _described(pid: object, role: object, application: object) -> str:
    return f'process {pid} of role "{role}"' + (f" ({application})" if application else "")


def run_undisturbed(
    session: Session,
    address: DatabaseAddress,
    database: str,
    statement: sql.Composed,
    listener: Listener,
) -> int:
    """Run a statement that needs a database without sessions, without shutting anyone out.

    CREATE DATABASE … TEMPLATE and ALTER DATABASE … RENAME take a lock that makes newcomers wait and
    give the present sessions 5 s to leave; meanwhile a second session ends them. Nothing is left to
    undo if we are killed (measured: six of six under twelve reconnecting sessions, PostgreSQL 15).

    :returns: how many sessions were ended
    :raises ServerUnreachableError: sessions that our role may not end stayed
    """
    ended: set[int] = set()
    stop = threading.Event()
    detail = ""

    def terminate() -> None:
        with address.maintenance().connect(read_only=False, autocommit=True) as second:
            while not stop.is_set():
                ended.update(end_sessions(second, database).ended)
                stop.wait(TERMINATE_EVERY)

    for attempt in range(1, EXCLUSIVE_ATTEMPTS + 1):
        stop.clear()
        thread = threading.Thread(target=terminate, daemon=True)
        thread.start()
        try:
            session.execute(statement)
        except errors.ObjectInUse as err:
            detail = err.diag.message_detail or ""
            listener(f'Database "{database}" is still in use (attempt {attempt}): {detail}')
        else:
            if ended:
                listener(f'{len(ended)} session(s) of database "{database}" were ended')
            return len(ended)
        finally:
            stop.set()
            thread.join()
    raise ServerUnreachableError(
        f"what this role may not end still uses it after {EXCLUSIVE_ATTEMPTS} attempts: {detail.rstrip('.')}",
        where=str(address.on(database)),
        remedy="Close those sessions or prepared transactions, or grant pg_signal_backend to the connection's role;"
        " then retry",
    )


def rename_database(address: DatabaseAddress, old: str, new: str, listener: Listener) -> None:
    """Give a database another name, ending its sessions; done already when only `new` exists.

    :raises OwnershipError: both names exist, or neither
    """
    with sole_worker(address, new) as session:
        have_old, have_new = database_exists(session, old), database_exists(session, new)
        if have_new and not have_old:
            listener(f'Database "{new}" already has its name')
            return
        if have_new or not have_old:
            raise OwnershipError(
                f'database "{new}" exists already' if have_new else f'database "{old}" is not there',
                where=address.server,
                remedy="Rename or remove what is in the way by hand, then retry",
            )
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
        run_undisturbed(session, address, old, statement, listener)
        listener(f'Database "{old}" is now "{new}"')


def drop_database(address: DatabaseAddress, name: str, listener: Listener) -> bool:
    """Drop a database that the caller knows to be its own.

    :returns: False when it was gone already
    """
    with sole_worker(address, name) as session:
        if not database_exists(session, name):
            return False
        statement = sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
        run_undisturbed(session, address, name, statement, listener)
        listener(f'Database "{name}" was dropped')
        return True


def set_database_default(session: Session, database: str, setting: str, value: str | None) -> None:
    """ALTER DATABASE … SET, or RESET for None; holds for new sessions only."""
    name, key = sql.Identifier(database), sql.Identifier(setting)
    if value is None:
        session.execute(sql.SQL("ALTER DATABASE {} RESET {}").format(name, key))
    else:
        session.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, key, sql.Literal(value)))


def refuse_taken(address: DatabaseAddress, names: Iterable[str], whose: str) -> None:
    """:param address: any database of the server
    :param whose: who is about to create these, in words
    :raises OwnershipError: one of them is there
    """
    with address.maintenance().connect() as conn:
        taken = [name for name in names if database_exists(conn, name)]
    if taken:
        raise OwnershipError(
            f'database "{taken[0]}" exists and {whose} did not create it',
            where=address.server,
            remedy="Rename or remove it by hand, then retry",
        )


def tidy(err: psycopg.Error, where: str) -> MigrationError:
    """A Postgres error as one of ours: the server's sentence without the row data of its DETAIL.

    The statements and hints of psycopg's text may hold values; only the primary message is kept.
    """
    message = err.diag.message_primary or type(err).__name__
    transient = isinstance(err, psycopg.OperationalError | errors.DeadlockDetected | errors.LockNotAvailable)
    kind: type[MigrationError] = ServerUnreachableError if transient else MigrationError
    return kind(
        f"PostgreSQL says: {message} [{err.sqlstate or type(err).__name__}]",
        where=where,
        remedy="Retry" if transient else "Mend the cause in the database, then retry the task",
    )


def seconds_since(start: float) -> float:
    """Seconds since a `time.monotonic()` reading, to the millisecond."""
    return round(time.monotonic() - start, 3)
