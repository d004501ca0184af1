"""Load a dump into a new database of another server."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import (
    database_exists,
    database_size,
    drop_database,
    seconds_since,
    sole_worker,
)
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener, Progress

_HARMLESS = re.compile(r'unrecognized configuration parameter "\w+"')
"""A newer pg_restore sets a parameter (transaction_timeout in 17) that an older server does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """:param database: the working database
    :param bytes: on disk
    """

    database: str
    bytes: int
    seconds: float
    reused: bool


def create_empty(address: DatabaseAddress, *, encoding: str, comment: str) -> None:
    """Create the database that `address` names, without whatever the server's template1 holds."""
    with sole_worker(address, address.database) as session:
        if database_exists(session, address.database):
            return
        name = sql.Identifier(address.database)
        # Encodings other than the server's own need a locale that goes with all of them.
        row = session.execute(
            "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'template0'"
        ).fetchone()
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name)
        if row and row[0] != encoding:
            statement += sql.SQL(" ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(sql.Literal(encoding))
        session.execute(statement)
        session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(comment)))


def restore_dump(
    client: Client,
    address: DatabaseAddress,
    dump: Path,
    *,
    pg_restore: Path,
    jobs: int,
    listener: Listener,
) -> RestoreResult:
    """Load a directory dump into the (empty) database of `address`, then gather statistics.

    Owners and grants are left out: everything belongs to the loading role, and the old roles need
    not exist on this server.

    :param client: made with the address's environment
    :raises ToolError: pg_restore failed; the database is then half-loaded and must be dropped
    """
    start = time.monotonic()
    tables = sum(1 for entry in dump.iterdir() if entry.name != "toc.dat")
    seen = harmless = 0
    failures: list[str] = []

    def on_line(line: str) -> None:
        nonlocal seen, harmless
        if "processing data for table" in line:
            seen += 1
            listener(Progress(what="Restore", done=seen, total=tables, unit="tables", seconds=seconds_since(start)))
        elif "error:" in line and _HARMLESS.search(line):
            harmless += 1
        elif "error:" in line:
            failures.append(line)
            listener(line)

    arguments: list[str | Path] = [
        pg_restore,
        f"--jobs={jobs}",
        "--no-owner",
        "--no-privileges",
        "--verbose",
        "--no-password",
    ]
    code = client.run([*arguments, f"--dbname={_conninfo(address.database)}", dump], on_line, check=False)
    # It ends with 1 when it has gone on after errors, and only known ones are harmless.
    if failures or code not in (0, 1) or (code == 1 and not harmless):
        raise ToolError(
            f"pg_restore exited with {code} after {len(failures)} error(s): {' | '.join(failures[:1])}",
            where=f"restore into {address}",
            remedy="Mend the cause and retry the task; the half-loaded database is made anew",
        )
    with address.connect(read_only=False, autocommit=True) as conn:
        conn.execute("ANALYZE")
        size = database_size(conn, address.database)
    return RestoreResult(database=address.database, bytes=size, seconds=seconds_since(start), reused=False)


def discard_partial(address: DatabaseAddress, listener: Listener) -> None:
    """Remove a half-loaded database, which the caller knows to be its own."""
    if drop_database(address, address.database, listener):
        listener(f'A half-loaded "{address.database}" of an earlier try was removed')


def _conninfo(database: str) -> str:
    """pg_restore loads nowhere without --dbname; host, role and password come from the environment."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
