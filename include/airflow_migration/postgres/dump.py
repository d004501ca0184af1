"""Write a database to a directory by pg_dump; a half-written dump is never left under its final name."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.byte_progress import ByteProgress
from airflow_migration.postgres.compression import NONE, SMALL, Compression, choose_compression
from airflow_migration.postgres.dump_directory import DumpResult, describe_dump, keep_or_make, read_origin
from airflow_migration.postgres.jobs import choose_jobs, cores
from airflow_migration.postgres.link_speed import measure_folder, measure_link
from airflow_migration.postgres.manifest import NAME, Manifest
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.tools import program_version
from airflow_migration.progress import Listener, amount

UNCONVERTIBLE = ("SQL_ASCII", "MULE_INTERNAL")
"""Encodings from which no server converts to UTF8; the first never looks at what its bytes mean."""

_STARTED = re.compile(r'dumping contents of table "(.*)"$')
_FINISHED = re.compile(r"finished item \d+ TABLE DATA (.*)$")
_SIZES = r"""
SELECT n.nspname || '.' || c.relname, pg_table_size(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
UNION ALL
SELECT 'large objects', pg_table_size('pg_largeobject') WHERE EXISTS (SELECT FROM pg_largeobject_metadata)
"""


def dump_database(
    client: Client,
    address: DatabaseAddress,
    path: Path,
    *,
    pg_dump: Path,
    methods: Collection[str],
    about: Mapping[str, str],
    listener: Listener,
) -> DumpResult:
    """Dump the whole database, packed where that costs no time, and describe it in a manifest.

    :param client: made with the address's environment
    :param path: final directory; a dump there that is whole and about the same is kept, a damaged one made anew
    :param methods: of compression, that pg_dump and the pg_restore that will read it know
    :param about: for the manifest: whose data these are, without secrets
    :raises InvalidInputError: there is no room for it
    :raises OwnershipError: something else is at `path`
    :raises ToolError: pg_dump failed
    """

    def make(folder: Path) -> Manifest:
        return _write(client, address, folder, pg_dump, methods, about, listener)

    return keep_or_make(path, about, make, listener)


def read_table_sizes(conn: Session) -> dict[str, int]:
    """Bytes of each table that a dump has, without its indexes, by schema and name as pg_dump prints them."""
    return {str(name): int(str(size)) for name, size in conn.execute(_SIZES)}


def portable_encoding(encoding: str) -> str:
    """Of the text in a dump of a database, and of a database that is made from it."""
    return encoding if encoding in UNCONVERTIBLE else "UTF8"


def _write(
    client: Client,
    address: DatabaseAddress,
    partial: Path,
    pg_dump: Path,
    methods: Collection[str],
    about: Mapping[str, str],
    listener: Listener,
) -> Manifest:
    started = time.monotonic()
    with address.connect() as conn:
        sizes = read_table_sizes(conn)
        origin = read_origin(conn, about, sum(sizes.values()))
    compression = _choose(address, partial.parent, origin.table_bytes, methods)
    jobs = choose_jobs(cores(), sizes.values())
    listener(f"Dump by {jobs} job(s), compression {compression.method}: {compression.reason}")
    text = portable_encoding(origin.database_encoding)
    arguments: list[str | Path] = [
        pg_dump,
        "--format=directory",
        f"--jobs={jobs}",
        compression.argument(program_version(pg_dump) or 0),
        f"--encoding={text}",
        "--verbose",
        "--no-password",
    ]
    _run(client, [*arguments, "--file", partial], sizes, partial, compression, listener)
    manifest = describe_dump(
        partial, origin, encoding=text, pg_dump=pg_dump, compression=compression, jobs=jobs, started=started
    )
    listener(f"{len(manifest.files)} file(s), {amount(manifest.bytes, 'bytes')}, are described in {NAME}")
    return manifest


def _choose(address: DatabaseAddress, folder: Path, table_bytes: int, methods: Collection[str]) -> Compression:
    small = table_bytes <= SMALL
    return choose_compression(
        table_bytes=table_bytes,
        free_bytes=shutil.disk_usage(folder).free,
        link=None if small else measure_link(address),
        folder=None if small else measure_folder(folder),
        methods=methods,
    )


def _run(
    client: Client,
    arguments: list[str | Path],
    sizes: Mapping[str, int],
    partial: Path,
    compression: Compression,
    listener: Listener,
) -> None:
    packed = compression.method != NONE

    def look(finished: int) -> int:
        # What is packed says nothing of a table's own bytes.
        return 0 if packed else sum(entry.stat().st_size for entry in partial.glob("*.dat")) - finished

    with ByteProgress("Dump", sizes, listener, look) as progress:

        def on_line(line: str) -> None:
            if match := _STARTED.search(line):
                progress.started(match.group(1))
            elif match := _FINISHED.search(line):
                name = match.group(1)
                progress.finished(lambda table: table.endswith(f".{name}"))
            elif "error:" in line or "warning:" in line:
                listener(line)

        client.run(arguments, on_line)
        progress.complete()
