"""Where a database is and how to open a session there that cannot hang, lie about itself or leak."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import sql
from psycopg.pq import Conninfo

from airflow_migration.exceptions import InvalidInputError, ServerUnreachableError
from airflow_migration.secret import Secret

APPLICATION_NAME = "airflow_migration"
CONNECT_TIMEOUT = 10

Session = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAddress:
    """One database of one server, with the role that may work there.

    :param host: name, address or socket directory
    :param user: role name
    :param password: hidden in every representation
    :param database: database name, unquoted
    :param maintenance_database: where to be connected for CREATE DATABASE and RENAME
    :param schema: Postgres schema of Airflow's tables; comes first in the search_path
    :param further_schemas: searched after it: FAB's tables or an extension may be in another schema
    :param ssl: libpq's TLS parameters (``sslmode``, ``sslrootcert``, …) as they are
    """

    host: str
    port: int = 5432
    user: str
    password: Secret = field(default_factory=lambda: Secret(""))
    database: str
    maintenance_database: str = "postgres"
    schema: str = "public"
    further_schemas: tuple[str, ...] = ()
    ssl: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f'database "{self.database}" on {self.server}'

    @property
    def server(self) -> str:
        """For people: host and port."""
        return f"{self.host}:{self.port}"

    def on(self, database: str) -> DatabaseAddress:
        """The same server and role, another database."""
        return replace(self, database=database)

    def seeing(self, *schemas: str | None) -> DatabaseAddress:
        """The same database with more schemas on the search_path; None and what is there already add nothing."""
        further = dict.fromkeys([*self.further_schemas, *(name for name in schemas if name)])
        further.pop(self.schema, None)
        return replace(self, further_schemas=tuple(further))

    def maintenance(self) -> DatabaseAddress:
        """The database to be in while another one is created, renamed or dropped."""
        return self.on(self.maintenance_database)

    @property
    def search_path(self) -> str:
        """As SET and PGOPTIONS take it."""
        return ", ".join(sql.Identifier(name).as_string() for name in (self.schema, *self.further_schemas))

    def connect(
        self,
        *,
        read_only: bool = True,
        autocommit: bool = False,
        lock_timeout: float = 5.0,
        statement_timeout: float = 0.0,
    ) -> Session:
        """Open a session; read-only unless asked otherwise, whatever the database's own default is.

        :param lock_timeout: seconds to wait for a lock
        :param statement_timeout: seconds a statement may take; 0 is for ever
        :raises InvalidInputError: the server refuses this role, password or database, or a pooler answers
        :raises ServerUnreachableError: nothing answers at that address
        """
        settings = {
            "search_path": self.search_path,
            "default_transaction_read_only": "on" if read_only else "off",
            "lock_timeout": f"{round(lock_timeout * 1000)}ms",
            "statement_timeout": f"{round(statement_timeout * 1000)}ms",
            "idle_in_transaction_session_timeout": "0",
        }
        try:
            session = psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password.reveal() or None,
                dbname=self.database,
                connect_timeout=CONNECT_TIMEOUT,
                application_name=APPLICATION_NAME,
                autocommit=True,
                client_encoding="UTF8",
                **dict(self.ssl),  # type: ignore[arg-type]
            )
        except psycopg.OperationalError as err:
            raise _refusal(self, str(err)) from None
        # Before anything is set: in a pool the settings would stay behind, for the sessions of others.
        _refuse_pooler(self, session)
        calls = sql.SQL(", ").join(sql.SQL("set_config({}, {}, false)").format(*pair) for pair in settings.items())
        session.execute(sql.SQL("SELECT {}").format(calls))
        session.autocommit = autocommit
        return session

    def environment(self, *, read_only: bool = False) -> dict[str, str]:
        """libpq's environment for a client program, secrets included: never for a log."""
        client = self._client_settings() | {"default_transaction_read_only": "on" if read_only else "off"}
        names = {option.keyword.decode(): option.envvar for option in Conninfo.get_defaults()}
        settings = {name.decode(): self.ssl[key] for key, name in names.items() if name and key in self.ssl}
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password.reveal(),
            "PGDATABASE": self.database,
            "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
            "PGAPPNAME": APPLICATION_NAME,
            "PGCLIENTENCODING": "UTF8",
            "PGOPTIONS": " ".join(libpq_option(name, value) for name, value in client.items()),
        } | settings

    def _client_settings(self) -> dict[str, str]:
        """What a role's or a database's own settings might say otherwise, to the harm of a client program."""
        return {
            "search_path": self.search_path,
            "statement_timeout": "0",
            "lock_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
        }


def libpq_option(name: str, value: str) -> str:
    """One setting for PGOPTIONS, where backslash escapes blanks and itself (libpq, "options")."""
    return f"-c {name}=" + re.sub(r"([\\\s])", r"\\\1", value)


def _refuse_pooler(address: DatabaseAddress, session: Session) -> None:
    """A pooler hands out process ids of its own, for cancelling; the server's process knows the true one
    (measured with PgBouncer 1.18, in session and in transaction mode).
    """
    row = session.execute("SELECT pg_backend_pid()").fetchone()
    if row is not None and row[0] != session.info.backend_pid:
        session.close()
        raise _pooler(address)


def _pooler(address: DatabaseAddress) -> InvalidInputError:
    return InvalidInputError(
        "a connection pooler such as PgBouncer answers there, which shares the server's sessions among its clients",
        where=_where(address),
        remedy="Use the server's direct address (host and port) in the connection",
    )


def _where(address: DatabaseAddress) -> str:
    return f"{address.user}@{address.server}/{address.database}"


def _refusal(address: DatabaseAddress, message: str) -> InvalidInputError | ServerUnreachableError:
    """psycopg gives no SQLSTATE for a refused connection, only the server's words."""
    where = _where(address)
    line = " ".join(message.split())
    if "FATAL: no such database" in line:  # PgBouncer's words, not PostgreSQL's
        return _pooler(address)
    if "password authentication failed" in line or "no password supplied" in line:
        problem, remedy = "the server refuses this login or password", "Correct the connection's login and password"
    elif "does not exist" in line:
        problem, remedy = line.rpartition("FATAL:")[2].strip(), "Correct the connection's database or login"
    elif "no pg_hba.conf entry" in line or "permission denied" in line:
        problem, remedy = line.rpartition("FATAL:")[2].strip(), "Let this host and role in (pg_hba.conf, GRANT CONNECT)"
    else:
        return ServerUnreachableError(line, where=where, remedy="Check host, port and that the server runs; then retry")
    return InvalidInputError(problem.rstrip("."), where=where, remedy=remedy)


def clean_environment() -> dict[str, str]:
    """The few variables that a child process may inherit; everything else is left behind."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}
