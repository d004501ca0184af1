"""Write the rows of some tables to a directory by pg_dump, and load them into tables that exist elsewhere."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from psycopg import sql

from airflow_migration.exceptions import MigrationError, ToolError
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.databases import seconds_since
from airflow_migration.postgres.dump import DumpResult, unfinished
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener, Progress

MANIFEST = "tables.json"
BLOCK = 1 << 20
_END = b"\\.\n\n\n"
"""What pg_dump writes after the rows of a table in its directory format (`dumpTableData_copy`, 9.2 to 18)."""
_ENTRY = re.compile(r"(\d+); 0 (\d+) TABLE DATA ")
"""A line of ``pg_restore --list``: number of the entry, by which its file is named, and the table's oid."""

# A partitioned table's rows are in its partitions, whose columns may be in another order.
_PARTS = """
WITH RECURSIVE part AS (
    SELECT c.relname::text AS name, c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY (current_schemas(false)) AND pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p')
       AND c.relname = ANY (%s)
    UNION ALL
    SELECT part.name, c.oid, c.relkind FROM part JOIN pg_inherits i ON i.inhparent = part.oid
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition)
SELECT part.name, part.oid, n.nspname::text, c.relname::text,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = '')
  FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE part.relkind = 'r' ORDER BY part.name, part.oid
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpedPart:
    """The rows of one table, or of one partition of it, in one file.

    :param file: in the dump's directory; rows as COPY writes them
    :param columns: of the file, in their order
    :param bytes: of the file
    """

    table: str
    file: str
    columns: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    table: str
    oid: int
    schema: str
    name: str
    columns: tuple[str, ...]

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
    pg_dump: Path,
    pg_restore: Path,
    jobs: int,
    listener: Listener,
) -> DumpResult:
    """Dump the rows of these tables, found on the address's search path; nothing else of the database.

    :param client: made with the address's environment
    :param path: final directory; a complete one there is kept
    :raises ToolError: pg_dump failed, or a table's rows are not in the dump
    """
    start = time.monotonic()
    reused = path.exists()
    if reused:
        listener(f"Dump {path} is already complete; keeping it")
    else:
        with address.connect() as conn:
            parts = _read_parts(conn, tables)
        with unfinished(path) as partial:
            _run(client, parts, partial, pg_dump, jobs, listener)
            dumped = tuple(_match(parts, _list_files(client, partial, pg_restore), partial))
            content = [asdict(part) for part in dumped]
            (partial / MANIFEST).write_text(json.dumps(content, indent=1), encoding="utf-8")
    found = read_dump(path)
    return DumpResult(
        path=str(path),
        bytes=sum(part.bytes for part in found),
        tables=len({part.table for part in found}),
        seconds=seconds_since(start),
        reused=reused,
    )


def read_dump(path: Path) -> tuple[DumpedPart, ...]:
    """What a complete dump holds."""
    content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return tuple(DumpedPart(**(part | {"columns": tuple(part["columns"])})) for part in content)


def load_part(
    conn: Session, path: Path, part: DumpedPart, *, cleared: Sequence[str] = (), on_bytes: Callable[[int], None]
) -> int:
    """Add the rows of a part to the table of its name on the session's search path; the caller commits.

    :param path: the dump's directory
    :param cleared: columns that become NULL
    :param on_bytes: told how many bytes were sent, block by block
    :returns: how many rows
    :raises MigrationError: the file is not what was dumped
    """
    table, columns = sql.Identifier(part.table), _names(part.columns)
    if not cleared:
        return _copy(conn, table, columns, path / part.file, part, on_bytes)
    staged = sql.Identifier("pg_temp", "airflow_migration_staged")
    conn.execute(
        sql.SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
            sql.Identifier("airflow_migration_staged"), columns, table
        )
    )
    rows = _copy(conn, staged, columns, path / part.file, part, on_bytes)
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
    file: Path,
    part: DumpedPart,
    on_bytes: Callable[[int], None],
) -> int:
    if not file.exists() or file.stat().st_size != part.bytes:
        raise MigrationError(
            f"{file} is missing or has not the {part.bytes} bytes that were dumped",
            where="load of the dump",
            remedy="Remove the dump's directory and clear dump_database, which makes it anew from the frozen clone",
        )
    left = part.bytes - len(_END)
    with conn.cursor() as cursor, file.open("rb") as content:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table, columns)) as copy:
            while left > 0 and (block := content.read(min(BLOCK, left))):
                copy.write(block)
                left -= len(block)
                on_bytes(len(block))
        return cursor.rowcount


def _read_parts(conn: Session, tables: Collection[str]) -> tuple[_Part, ...]:
    found = []
    for table, oid, schema, name, columns in conn.execute(_PARTS, (list(tables),)):
        assert isinstance(columns, list)
        found.append(
            _Part(table=str(table), oid=int(str(oid)), schema=str(schema), name=str(name), columns=tuple(columns))
        )
    return tuple(found)


def _run(client: Client, parts: tuple[_Part, ...], partial: Path, pg_dump: Path, jobs: int, listener: Listener) -> None:
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
            "--verbose",
            "--no-password",
            "--strict-names",
            *(f"--table={part.pattern}" for part in parts),
            "--file",
            partial,
        ],
        on_line,
    )


def _list_files(client: Client, partial: Path, pg_restore: Path) -> dict[int, str]:
    """Oid of a table → the file with its rows."""
    files: dict[int, str] = {}

    def on_line(line: str) -> None:
        if found := _ENTRY.match(line):
            files[int(found[2])] = f"{found[1]}.dat"

    client.run([pg_restore, "--list", partial], on_line)
    return files


def _match(parts: tuple[_Part, ...], files: dict[int, str], partial: Path) -> Iterator[DumpedPart]:
    for part in parts:
        file = partial / files.get(part.oid, "")
        if not file.is_file() or not _is_whole(file):
            raise ToolError(
                f"the dump has no rows of table {part.pattern}", where="dump_database", remedy="Retry the task"
            )
        yield DumpedPart(table=part.table, file=file.name, columns=part.columns, bytes=file.stat().st_size)


def _is_whole(file: Path) -> bool:
    size = file.stat().st_size
    with file.open("rb") as content:
        content.seek(max(size - len(_END), 0))
        return content.read() == _END
