"""Write a database to a directory by pg_dump; a half-written dump is never left under its final name."""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from airflow_migration.exceptions import OwnershipError
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.byte_progress import ByteProgress
from airflow_migration.postgres.compression import NONE, SMALL, Compression, choose_compression
from airflow_migration.postgres.databases import database_encoding, database_locale, seconds_since
from airflow_migration.postgres.link_speed import measure_folder, measure_link
from airflow_migration.postgres.manifest import (
    NAME,
    DamagedDumpError,
    Manifest,
    describe_files,
    read_manifest,
    verify_dump,
    write_manifest,
)
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.tools import program_release, program_version
from airflow_migration.progress import Listener, amount

MOST_JOBS = 8
UNCONVERTIBLE = ("SQL_ASCII", "MULE_INTERNAL")
"""Encodings from which no server converts to UTF8; the first never looks at what its bytes mean."""

_STARTED = re.compile(r'dumping contents of table "(.*)"$')
_FINISHED = re.compile(r"finished item \d+ TABLE DATA (.*)$")
_OURS = re.compile(r"toc\.dat|\d+\.dat(\.\w+)?|blobs?_.*|manifest\.json(\.new)?")
_SIZES = r"""
SELECT n.nspname || '.' || c.relname, pg_table_size(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
UNION ALL
SELECT 'large objects', pg_table_size('pg_largeobject') WHERE EXISTS (SELECT FROM pg_largeobject_metadata)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpResult:
    """:param path: the dump's directory, in pg_dump's directory format, with a manifest
    :param bytes: on disk
    :param tables: files with rows
    :param jobs: connections that wrote it
    """

    path: str
    bytes: int
    tables: int
    seconds: float
    reused: bool
    compression: Compression | None = None
    jobs: int | None = None


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
    start = time.monotonic()
    manifest = _keep_whole(path, about, listener)
    reused = manifest is not None
    if manifest is None:
        with unfinished(path) as partial:
            manifest = _write(client, address, partial, pg_dump, methods, about, listener)
    return DumpResult(
        path=str(path),
        bytes=manifest.bytes,
        tables=manifest.tables,
        seconds=seconds_since(start),
        reused=reused,
        compression=manifest.compression,
        jobs=manifest.jobs,
    )


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """The name under which pg_dump makes a directory that gets `path` for its name once all is in it, and only then."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    discard_partial(path)
    # A name of its own: the pg_dump of a killed try may still open files under the one that it was given.
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.chmod(0o700)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # it may have filled the disk
        raise
    partial.rename(path)


def discard_partial(path: Path) -> None:
    """Remove what killed tries have left of the dump that would have become `path`."""
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.partial*"):
        shutil.rmtree(leftover, ignore_errors=True)


def read_table_sizes(conn: Session) -> dict[str, int]:
    """Bytes of each table that a dump has, without its indexes, by schema and name as pg_dump prints them."""
    return {str(name): int(str(size)) for name, size in conn.execute(_SIZES)}


def portable_encoding(encoding: str) -> str:
    """Of the text in a dump of a database, and of a database that is made from it."""
    return encoding if encoding in UNCONVERTIBLE else "UTF8"


def choose_jobs(cores: int, sizes: Iterable[int]) -> int:
    """As many connections as there are cores, and no more than can share the work: a table is never split."""
    known = list(sizes)
    largest, total = max(known, default=0), sum(known)
    useful = -(-total // largest) if largest else 1
    return max(1, min(cores, useful, MOST_JOBS))


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _keep_whole(path: Path, about: Mapping[str, str], listener: Listener) -> Manifest | None:
    """The manifest of a complete dump of ours; one that is damaged is removed."""
    if not path.exists():
        return None
    try:
        if read_manifest(path).about != about:
            raise OwnershipError(
                "a dump is there that is not of this migration",
                where=f"dump {path}",
                remedy="Move it elsewhere by hand, then retry",
            )
        manifest = verify_dump(path, cores())
    except DamagedDumpError as err:
        foreign = sorted(entry.name for entry in path.iterdir() if not _OURS.fullmatch(entry.name))
        if foreign:
            raise OwnershipError(
                f"what is there is no dump of this migration: it holds {foreign[0]}",
                where=f"dump {path}",
                remedy="Move it elsewhere by hand, then retry",
            ) from err
        listener(f"Dump {path} is made anew: {err.problem}")
        shutil.rmtree(path)
        return None
    listener(f"Dump {path} is complete: {len(manifest.files)} file(s) are as they were written; keeping it")
    return manifest


def _write(
    client: Client,
    address: DatabaseAddress,
    partial: Path,
    pg_dump: Path,
    methods: Collection[str],
    about: Mapping[str, str],
    listener: Listener,
) -> Manifest:
    start = time.monotonic()
    with address.connect() as conn:
        sizes = read_table_sizes(conn)
        encoding, locale = database_encoding(conn), database_locale(conn)
        server_version = conn.info.parameter_status("server_version") or ""
    compression = _choose(address, partial.parent, sum(sizes.values()), methods)
    jobs = choose_jobs(cores(), sizes.values())
    listener(f"Dump by {jobs} job(s), compression {compression.method}: {compression.reason}")
    text = portable_encoding(encoding)
    release = program_release(pg_dump)
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
    files = describe_files(partial, cores())
    manifest = Manifest(
        about=dict(about),
        database=address.database,
        server_version=server_version,
        encoding=text,
        database_encoding=encoding,
        locale=locale,
        pg_dump=release,
        compression=compression,
        jobs=jobs,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=seconds_since(start),
        table_bytes=sum(sizes.values()),
        tables=sum(1 for file in files if ".dat" in file.name and file.name != "toc.dat"),
        bytes=sum(file.bytes for file in files),
        files=files,
    )
    write_manifest(partial, manifest)
    listener(f"{len(files)} file(s), {amount(manifest.bytes, 'bytes')}, are described in {NAME}")
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
