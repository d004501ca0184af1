"""Write the rows of some tables to a directory by pg_dump, and load them into tables that exist elsewhere."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.columns import WRITABLE
from airflow_migration.postgres.compression import NONE, Compression, require_room
from airflow_migration.postgres.databases import seconds_since
from airflow_migration.postgres.dump_directory import DumpResult, Origin, Rows, describe_dump, keep_or_make, read_origin
from airflow_migration.postgres.jobs import choose_jobs, cores
from airflow_migration.postgres.manifest import DumpFile, Manifest, damaged
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener, Progress

BLOCK = 1 << 20
ENCODING = "UTF8"
"""Of the files: that of every session of ours, which loads them as they are."""
AS_THEY_ARE = Compression(method=NONE, level=0, reason="rows alone are loaded from their files as they are")
_END = b"\\.\n\n\n"
"""What pg_dump writes after the rows of a table in its directory format (`dumpTableData_copy`, 9.2 to 18)."""
_ENTRY = re.compile(r"(\d+); 0 (\d+) TABLE DATA ")
"""A line of ``pg_restore --list``: number of the entry, by which its file is named, and the table's oid."""

# A partitioned table's rows are in its partitions, whose columns may be in another order.
_PARTS = sql.SQL("""
WITH RECURSIVE part AS (
    SELECT c.relname::text AS name, c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p')
       AND c.relname = ANY (%s)
    UNION ALL
    SELECT part.name, c.oid, c.relkind FROM part JOIN pg_inherits i ON i.inhparent = part.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition)
SELECT part.name, part.oid, n.nspname::text, c.relname::text, {writable}, pg_table_size(part.oid)
  FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE part.relkind = 'r' ORDER BY part.name, part.oid
""").format(writable=WRITABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    table: str
    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]
    bytes: int

    @property
    def pattern(self) -> str:
        """For pg_dump's --table, which takes what is in quotes as it is."""
        return sql.Identifier(self.schema, self.name).as_string()


def dump_tables(
    client: Client,
    address: DatabaseAddress,
    path: Path,
    *,
    tables: Collection[str],
    programs: tuple[Path, Path],
    about: Mapping[str, str],
    listener: Listener,
) -> DumpResult:
    """Dump the rows of these tables, found on the address's search path, and describe them in a manifest.

    :param client: made with the address's environment
    :param path: final directory; a dump there that is whole and of the same is kept, a damaged one made anew
    :param programs: pg_dump, and the pg_restore that lists what it has written
    :param about: for the manifest: whose data these are, without secrets
    :raises InvalidInputError: there is no room for it
    :raises OwnershipError: something else is at `path`
    :raises ToolError: pg_dump failed, or a table's rows are not in the dump
    """

    def make(folder: Path) -> Manifest:
        with address.connect() as conn:
            parts = _read_parts(conn, tables)
            origin = read_origin(conn, about, sum(part.bytes for part in parts))
        return _write(client, folder, parts, origin, programs, listener)

    return keep_or_make(path, about, make, listener, tables=tables)


def read_rows_size(conn: Session, tables: Collection[str]) -> int:
    """Bytes of these tables on the server, without their indexes."""
    return sum(part.bytes for part in _read_parts(conn, tables))


def load_part(
    conn: Session, path: Path, part: DumpFile, *, cleared: Sequence[str] = (), on_bytes: Callable[[int], None]
) -> int:
    """Add the rows of a part to the table of its name on the session's search path; the caller commits.

    :param path: the dump's directory, which was found whole
    :param part: one of the manifest's
    :param cleared: columns that become NULL
    :param on_bytes: told how many bytes were sent, block by block
    :returns: how many rows
    :raises DamagedDumpError: the file was cut meanwhile
    """
    assert part.table is not None
    table, columns = sql.Identifier(part.table), _names(part.columns)
    if not cleared:
        return _copy(conn, table, columns, path, part, on_bytes)
    staged = sql.Identifier("pg_temp", "airflow_migration_staged")
    conn.execute(
        sql.SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
            sql.Identifier("airflow_migration_staged"), columns, table
        )
    )
    rows = _copy(conn, staged, columns, path, part, on_bytes)
    values = sql.SQL(", ").join(sql.SQL("NULL") if name in cleared else sql.Identifier(name) for name in part.columns)
    conn.execute(sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(table, columns, values, staged))
    conn.execute(sql.SQL("DROP TABLE {}").format(staged))
    return rows


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _copy(
    conn: Session,
    table: sql.Identifier,
    columns: sql.Composed,
    path: Path,
    part: DumpFile,
    on_bytes: Callable[[int], None],
) -> int:
    left = part.bytes - len(_END)
    with conn.cursor() as cursor, (path / part.name).open("rb") as content:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table, columns)) as copy:
            while left > 0:
                block = content.read(min(BLOCK, left))
                if not block:
                    raise damaged(path, f"{part.name} was cut while it was loaded")
                copy.write(block)
                left -= len(block)
                on_bytes(len(block))
        return cursor.rowcount


def _read_parts(conn: Session, tables: Collection[str]) -> tuple[_Part, ...]:
    found = []
    for table, oid, schema, name, columns, size in conn.execute(_PARTS, (list(tables),)):
        assert isinstance(columns, list)
        found.append(
            _Part(
                table=str(table),
                oid=int(str(oid)),
                schema=str(schema),
                name=str(name),
                columns=tuple(columns),
                bytes=int(str(size)),
            )
        )
    return tuple(found)


def _write(
    client: Client,
    folder: Path,
    parts: tuple[_Part, ...],
    origin: Origin,
    programs: tuple[Path, Path],
    listener: Listener,
) -> Manifest:
    started = time.monotonic()
    require_room(origin.table_bytes, shutil.disk_usage(folder.parent).free)
    pg_dump, pg_restore = programs
    jobs = choose_jobs(cores(), (part.bytes for part in parts))
    listener(f"Dump of the rows of {len(parts)} table(s) by {jobs} job(s)")
    _run(client, parts, folder, pg_dump, jobs, listener)
    return describe_dump(
        folder,
        origin,
        encoding=ENCODING,
        pg_dump=pg_dump,
        compression=AS_THEY_ARE,
        jobs=jobs,
        started=started,
        rows=_match(parts, _list_files(client, folder, pg_restore), folder),
    )


def _run(client: Client, parts: tuple[_Part, ...], folder: Path, pg_dump: Path, jobs: int, listener: Listener) -> None:
    start, seen = time.monotonic(), 0

    def on_line(line: str) -> None:
        nonlocal seen
        if "dumping contents of table" in line:
            seen += 1
            listener(Progress(what="Dump", done=seen, total=len(parts), unit="tables", seconds=seconds_since(start)))
        elif "error:" in line:
            listener(line)

    client.run(
        [
            pg_dump,
            "--data-only",
            "--format=directory",
            f"--jobs={jobs}",
            "--compress=0",
            f"--encoding={ENCODING}",
            "--verbose",
            "--no-password",
            "--strict-names",
            *(f"--table={part.pattern}" for part in parts),
            "--file",
            folder,
        ],
        on_line,
    )


def _list_files(client: Client, folder: Path, pg_restore: Path) -> dict[int, str]:
    """Oid of a table → the file with its rows."""
    files: dict[int, str] = {}

    def on_line(line: str) -> None:
        if found := _ENTRY.match(line):
            files[int(found[2])] = f"{found[1]}.dat"

    client.run([pg_restore, "--list", folder], on_line)
    return files


def _match(parts: tuple[_Part, ...], files: Mapping[int, str], folder: Path) -> Rows:
    """File → whose rows it holds, and of which columns."""
    found = {}
    for part in parts:
        file = folder / files.get(part.oid, "")
        if not file.is_file() or not _is_whole(file):
            raise ToolError(
                f"the dump has no rows of table {part.pattern}", where="dump_database", remedy="Retry the task"
            )
        found[file.name] = (part.table, part.columns)
    return found


def _is_whole(file: Path) -> bool:
    size = file.stat().st_size
    with file.open("rb") as content:
        content.seek(max(size - len(_END), 0))
        return content.read() == _END
