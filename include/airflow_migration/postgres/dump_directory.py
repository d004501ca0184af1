"""Make a dump's directory: under another name until it is whole, kept while it is, and anew when it is damaged."""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from airflow_migration.exceptions import OwnershipError
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.compression import Compression
from airflow_migration.postgres.databases import database_encoding, database_locale, seconds_since
from airflow_migration.postgres.jobs import cores
from airflow_migration.postgres.manifest import (
    DamagedDumpError,
    DumpFile,
    Manifest,
    damaged,
    describe_files,
    read_manifest,
    verify_dump,
    write_manifest,
)
from airflow_migration.postgres.tools import program_release
from airflow_migration.progress import Listener

Rows = Mapping[str, tuple[str, tuple[str, ...]]]
"""File of a dump of rows alone → whose rows it holds, and of which columns."""

_OURS = re.compile(r"toc\.dat|\d+\.dat(\.\w+)?|blobs?_.*|manifest\.json(\.new)?")


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
    compression: Compression
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a manifest says of the database that is dumped; its words are those of `Manifest`."""

    about: Mapping[str, str]
    database: str
    server_version: str
    database_encoding: str
    locale: str
    table_bytes: int


def read_origin(conn: Session, about: Mapping[str, str], table_bytes: int) -> Origin:
    """:param conn: a session in the database"""
    return Origin(
        about=dict(about),
        database=conn.info.dbname,
        server_version=conn.info.parameter_status("server_version") or "",
        database_encoding=database_encoding(conn),
        locale=database_locale(conn),
        table_bytes=table_bytes,
    )


def keep_or_make(
    path: Path,
    about: Mapping[str, str],
    make: Callable[[Path], Manifest],
    listener: Listener,
    *,
    tables: Collection[str] = (),
) -> DumpResult:
    """The dump at `path`, as it is if it is whole and about the same, else made.

    :param make: writes a dump to the directory that it is given, manifest and all
    :param tables: whose rows alone it holds; none where it is of the whole database
    :raises OwnershipError: something else is at `path`
    """
    start = time.monotonic()
    manifest = _keep_whole(path, about, frozenset(tables), listener)
    reused = manifest is not None
    if manifest is None:
        with _unfinished(path) as partial:
            manifest = make(partial)
    return DumpResult(
        path=str(path),
        bytes=manifest.bytes,
        tables=manifest.tables,
        seconds=seconds_since(start),
        reused=reused,
        compression=manifest.compression,
        jobs=manifest.jobs,
    )


def describe_dump(
    folder: Path,
    origin: Origin,
    *,
    encoding: str,
    pg_dump: Path,
    compression: Compression,
    jobs: int,
    started: float,
    rows: Rows | None = None,
) -> Manifest:
    """Write the manifest of what pg_dump has just written.

    :param encoding: of the text in the files
    :param started: `time.monotonic()` when it began
    :param rows: None where the dump is of the whole database
    """
    files = tuple(_with_rows(file, rows or {}) for file in describe_files(folder, cores()))
    manifest = Manifest(
        about=origin.about,
        database=origin.database,
        server_version=origin.server_version,
        encoding=encoding,
        database_encoding=origin.database_encoding,
        locale=origin.locale,
        pg_dump=program_release(pg_dump),
        compression=compression,
        jobs=jobs,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=seconds_since(started),
        table_bytes=origin.table_bytes,
        tables=sum(1 for file in files if ".dat" in file.name and file.name != "toc.dat"),
        bytes=sum(file.bytes for file in files),
        files=files,
    )
    write_manifest(folder, manifest)
    return manifest


def _with_rows(file: DumpFile, rows: Rows) -> DumpFile:
    if file.name not in rows:
        return file
    table, columns = rows[file.name]
    return replace(file, table=table, columns=columns)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
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


def _keep_whole(path: Path, about: Mapping[str, str], tables: frozenset[str], listener: Listener) -> Manifest | None:
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
        if {part.table for part in manifest.parts} != tables:
            raise damaged(path, "it holds the rows of other tables")
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
