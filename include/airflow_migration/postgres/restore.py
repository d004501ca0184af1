"""Load a dump into a new database of another server."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.byte_progress import ByteProgress
from airflow_migration.postgres.compression import NONE
from airflow_migration.postgres.databases import (
    LOCALE_PROVIDERS_SINCE,
    database_exists,
    database_size,
    drop_database,
    seconds_since,
    sole_worker,
)
from airflow_migration.postgres.jobs import choose_jobs, cores
from airflow_migration.postgres.manifest import Manifest
from airflow_migration.postgres.portability import Portability, select_entries
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener, Progress

_HARMLESS = re.compile(r'unrecognized configuration parameter "\w+"')
"""A newer pg_restore sets a parameter (transaction_timeout in 17) that an older server does not know."""
_ROWS = re.compile(r"^(\d+); \d+ \d+ TABLE DATA (.*)$")
_AFTERWARDS = re.compile(r"^\d+; \d+ \d+ (INDEX|CONSTRAINT|FK CONSTRAINT|TRIGGER|ROW SECURITY|POLICY) ")
_STARTED = re.compile(r'processing data for table "(.*)"$')
_FINISHED = re.compile(r"finished item (\d+) TABLE DATA ")
_MADE = re.compile(r"finished item \d+ (INDEX|CONSTRAINT|FK CONSTRAINT|TRIGGER|ROW SECURITY|POLICY) ")
_LOADED = """
SELECT coalesce(sum(bytes_processed), 0) FROM pg_stat_progress_copy WHERE datname = current_database()
"""
LOADED_SINCE = 140000
_AS_OUR_OWN = (
    "--no-owner",
    "--no-privileges",
    "--no-tablespaces",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--verbose",
    "--no-password",
)
_MAKING = re.compile(r"creating (INDEX|CONSTRAINT|FK CONSTRAINT|TRIGGER|ROW SECURITY|POLICY) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """:param database: the working database
    :param bytes: on disk
    :param left_out: objects of the dump that this server cannot have and nothing needs, in words
    """

    database: str
    bytes: int
    seconds: float
    reused: bool
    left_out: tuple[str, ...] = ()


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
            if session.info.server_version >= LOCALE_PROVIDERS_SINCE:  # the server's own may be ICU
                statement += sql.SQL(" LOCALE_PROVIDER libc")
        session.execute(statement)
        session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(comment)))


def restore_dump(
    client: Client,
    address: DatabaseAddress,
    dump: Path,
    *,
    manifest: Manifest,
    portable: Portability,
    pg_restore: Path,
    listener: Listener,
) -> RestoreResult:
    """Load a directory dump into the (empty) database of `address`, then gather statistics.

    Owners, grants, tablespaces, publications and subscriptions are left out: everything belongs to the loading role,
    and what they name need not exist on this server. So is whatever the server cannot have.

    :param client: made with the address's environment
    :param manifest: of the dump, which was found whole
    :param portable: of the dumped database to this server
    :raises InvalidInputError: something in the database needs what the server cannot have
    :raises ToolError: pg_restore failed; the database is then half-loaded and must be dropped
    """
    start = time.monotonic()
    portable.require(f"restore into {address}", listener)
    listing: list[str] = []
    client.run([pg_restore, "--list", dump], listing.append)
    entries = select_entries(listing, portable)
    jobs = choose_jobs(cores(), (file.bytes for file in manifest.files))
    listener(f"Restore of {len(entries)} object(s) by {jobs} job(s)")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="restore-", suffix=".list") as chosen:
        chosen.write("\n".join(entries) + "\n")
        chosen.flush()
        arguments: list[str | Path] = [
            pg_restore,
            f"--jobs={jobs}",
            *_AS_OUR_OWN,
            f"--use-list={chosen.name}",
            f"--dbname={_conninfo(address.database)}",
            dump,
        ]
        _run(client, arguments, address, entries, manifest, listener)
    with address.connect(read_only=False, autocommit=True) as conn:
        conn.execute("ANALYZE")
        size = database_size(conn, address.database)
    return RestoreResult(
        database=address.database,
        bytes=size,
        seconds=seconds_since(start),
        reused=False,
        left_out=portable.left_out,
    )


def _run(
    client: Client,
    arguments: list[str | Path],
    address: DatabaseAddress,
    entries: list[str],
    manifest: Manifest,
    listener: Listener,
) -> None:
    start = time.monotonic()
    harmless = made = 0
    failures: list[str] = []
    after = sum(1 for entry in entries if _AFTERWARDS.match(entry))
    sizes, items = _sizes(entries, manifest)

    def look(finished: int) -> int:
        # What is packed says nothing of the bytes that come out of it.
        return 0 if manifest.compression.method != NONE else _loading(address)

    with ByteProgress("Restore", sizes, listener, look) as progress:

        def on_line(line: str) -> None:
            nonlocal harmless, made
            if match := _STARTED.search(line):
                progress.started(_entry_of(match.group(1), sizes))
            elif match := _FINISHED.search(line):
                name = items.get(match.group(1))
                progress.finished(lambda table: table == name)
            elif _MADE.search(line):
                made += 1
                listener(
                    Progress(
                        what="Restore, indexes and constraints",
                        done=made,
                        total=after,
                        unit="objects",
                        seconds=seconds_since(start),
                    )
                )
            elif "error:" in line and _HARMLESS.search(line):
                harmless += 1
            elif "error:" in line:
                failures.append(line)
                listener(line)

        code = client.run(arguments, on_line, check=False)
        _judge(code, failures, harmless, address)
        progress.complete()


def _judge(code: int, failures: list[str], harmless: int, address: DatabaseAddress) -> None:
    """It ends with 1 when it has gone on after errors, and only known ones are harmless."""
    if failures or code not in (0, 1) or (code == 1 and not harmless):
        raise ToolError(
            f"pg_restore exited with {code} after {len(failures)} error(s): {' | '.join(failures[:1])}",
            where=f"restore into {address}",
            remedy="Mend the cause and retry the task; the half-loaded database is made anew",
        )


def restore_section(
    client: Client,
    address: DatabaseAddress,
    archive: Path,
    *,
    section: str,
    chosen: Path,
    pg_restore: Path,
    jobs: int,
    listener: Listener,
) -> None:
    """Make the tables of an archive, or their indexes and constraints; no row is looked for in it.

    :param section: ``pre-data`` or ``post-data``
    :param chosen: file that lists the archive's entries that are restored
    :raises ToolError: pg_restore failed
    """
    start = time.monotonic()
    harmless = made = 0
    failures: list[str] = []
    total = sum(1 for line in chosen.read_text(encoding="utf-8").splitlines() if _AFTERWARDS.match(line))

    def on_line(line: str) -> None:
        nonlocal harmless, made
        if _MAKING.search(line):
            made += 1
            seconds = seconds_since(start)
            listener(Progress(what="Indexes and constraints", done=made, total=total, unit="objects", seconds=seconds))
        elif "error:" in line and _HARMLESS.search(line):
            harmless += 1
        elif "error:" in line:
            failures.append(line)
            listener(line)

    arguments: list[str | Path] = [pg_restore, f"--section={section}", f"--jobs={jobs}", *_AS_OUR_OWN]
    arguments += [f"--use-list={chosen}", f"--dbname={_conninfo(address.database)}", archive]
    _judge(client.run(arguments, on_line, check=False), failures, harmless, address)


def _sizes(entries: list[str], manifest: Manifest) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes in the dump of each table by schema, name and owner, and these by the entry's number."""
    by_number = {file.name.split(".")[0]: file.bytes for file in manifest.files}
    sizes: dict[str, int] = {}
    items: dict[str, str] = {}
    for entry in entries:
        if match := _ROWS.match(entry):
            items[match.group(1)] = match.group(2)
            sizes[match.group(2)] = by_number.get(match.group(1), 0)
    return sizes, items


def _entry_of(printed: str, sizes: Mapping[str, int]) -> str:
    """pg_restore lists ``public dag_run airflow`` and says ``public.dag_run`` later, both without quotes."""
    start = printed.replace(".", " ", 1) + " "
    return next((entry for entry in sizes if entry.startswith(start)), "")


def _loading(address: DatabaseAddress) -> int:
    """Bytes that the tables being loaded now have received."""
    with address.connect() as conn:
        if conn.info.server_version < LOADED_SINCE:
            return 0
        row = conn.execute(_LOADED).fetchone()
    return int(str(row[0])) if row else 0


def discard_partial(address: DatabaseAddress, listener: Listener) -> None:
    """Remove a half-loaded database, which the caller knows to be its own."""
    if drop_database(address, address.database, listener):
        listener(f'A half-loaded "{address.database}" of an earlier try was removed')


def _conninfo(database: str) -> str:
    """pg_restore loads nowhere without --dbname; host, role and password come from the environment."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
