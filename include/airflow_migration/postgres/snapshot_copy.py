"""Copy a database that is in use to another one, as it was at one moment, without keeping anybody waiting.

One read-only session exports its snapshot; the others read by it. No row is written or locked at the source, and a
table is locked against DDL only while one piece of it is read, or while pg_dump reads the definitions. What cannot be
helped: as long as the snapshot is held, vacuum keeps the rows that were dead after its moment.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import IsolationLevel, sql

from airflow_migration.postgres import portability
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.databases import database_encoding, database_size, seconds_since
from airflow_migration.postgres.dump import portable_encoding
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.restore import create_empty, restore_section
from airflow_migration.postgres.snapshot_rows import RowCopy
from airflow_migration.postgres.snapshot_units import UNIT_BYTES, Unit, read_units
from airflow_migration.postgres.source_load import Governor, watched
from airflow_migration.progress import Listener, amount

LOCK_TIMEOUT = 30.0
"""Seconds for which the session that holds the snapshot, and pg_dump, wait for a lock at the source: neither has a
second try. Nobody who writes waits behind them."""

_SEQUENCES = r"""
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotCopy:
    """:param database: the copy
    :param bytes: of the copy, on disk
    :param seconds: of all of it
    :param snapshot_seconds: for how long the snapshot was held at the source
    :param row_bytes: as text
    :param jobs: sessions that copied at most
    :param lowest_jobs: and at the busiest moment of the source
    :param highest_load: active sessions of others that were seen there
    :param left_out: objects that this server cannot have and nothing needs, in words
    """

    database: str
    bytes: int
    seconds: float
    snapshot_seconds: float
    tables: int
    rows: int
    row_bytes: int
    jobs: int
    lowest_jobs: int
    highest_load: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyClients:
    """Client programs and the processes that run them.

    :param source: with the read-only environment of the source
    :param scratch: with the environment of the copy
    """

    pg_dump: Path
    pg_restore: Path
    source: Client
    scratch: Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How hard the source may be worked.

    :param jobs: sessions that copy at most
    :param max_load: active sessions of others at the source's server above which fewer do
    :param unit_bytes: of a piece of a table
    """

    jobs: int
    max_load: int
    unit_bytes: int = UNIT_BYTES


def copy_database(
    source: DatabaseAddress,
    copy: DatabaseAddress,
    *,
    comment: str,
    clients: CopyClients,
    pace: Pace,
    listener: Listener,
    on_start: Callable[[Callable[[], None]], None],
) -> SnapshotCopy:
    """Make `copy`, a new database whose name the caller has claimed, of the source as it is now.

    :param comment: label of the new database
    :param on_start: gets what stops the copy, from another thread or frame (`on_kill`)
    :raises InvalidInputError: the server cannot have something that the source's database needs
    :raises ToolError: a client program failed, or a table was written anew meanwhile
    """
    start = time.monotonic()
    with copy.maintenance().connect() as conn:
        abilities = portability.read_abilities(conn)
    governor = Governor(pace.jobs, pace.max_load)
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        schema = _Schema(clients, Path(folder), copy, listener)
        with _snapshot(source) as (holder, snapshot):
            portable = portability.compare(holder, abilities)
            portable.require(f"copy to {copy}", listener)
            encoding = portable_encoding(database_encoding(holder))
            create_empty(copy, encoding=encoding, comment=comment)
            schema.dump(snapshot, encoding)
            schema.restore("pre-data", portable)
            units = _units_there(read_units(holder, pace.unit_bytes), copy, listener)
            listener(f"{len(units)} piece(s) of tables, {amount(sum(unit.bytes for unit in units), 'bytes')}")
            with ExitStack() as stack:
                stack.enter_context(watched(governor, stack.enter_context(source.connect(autocommit=True))))
                rows = RowCopy(source, copy, snapshot=snapshot, units=units, governor=governor, listener=listener)
                on_start(rows.stop)
                copied = rows.run(pace.jobs)
            _carry_sequences(holder, copy)
        held = seconds_since(start)
        schema.restore("post-data", portable, jobs=pace.jobs)
    with copy.connect(read_only=False, autocommit=True) as conn:
        conn.execute("ANALYZE")
        size = database_size(conn, copy.database)
    return SnapshotCopy(
        database=copy.database,
        bytes=size,
        seconds=seconds_since(start),
        snapshot_seconds=held,
        tables=len({(unit.schema, unit.table) for unit in units}),
        rows=copied.rows,
        row_bytes=copied.bytes,
        jobs=pace.jobs,
        lowest_jobs=governor.lowest,
        highest_load=governor.highest_load,
        left_out=portable.left_out,
    )


@contextmanager
def _snapshot(source: DatabaseAddress) -> Iterator[tuple[Session, str]]:
    """A session whose snapshot others can take, for as long as it is open."""
    with source.connect(lock_timeout=LOCK_TIMEOUT) as holder:
        holder.isolation_level = IsolationLevel.REPEATABLE_READ
        holder.read_only = True
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield holder, str(row[0])


class _Schema:
    """What is not rows: tables before them, indexes and constraints after them."""

    def __init__(self, clients: CopyClients, folder: Path, copy: DatabaseAddress, listener: Listener) -> None:
        self._clients, self._listener = clients, listener
        self._archive, self._list, self._copy = folder / "schema", folder / "list", copy

    def dump(self, snapshot: str, encoding: str) -> None:
        self._clients.source.run(
            [
                self._clients.pg_dump,
                "--schema-only",
                "--format=custom",
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={LOCK_TIMEOUT * 1000:.0f}",
                f"--encoding={encoding}",
                "--no-password",
                f"--file={self._archive}",
            ],
            self._listener,
        )

    def restore(self, section: str, portable: portability.Portability, jobs: int = 1) -> None:
        """Like `restore.restore_dump`, of which the rows are left out."""
        client, listing = self._clients.scratch, list[str]()
        client.run([self._clients.pg_restore, "--list", self._archive], listing.append)
        entries = portability.select_entries(listing, portable)
        self._list.write_text("\n".join(entries) + "\n", encoding="utf-8")
        restore_section(
            client,
            self._copy,
            self._archive,
            section=section,
            chosen=self._list,
            pg_restore=self._clients.pg_restore,
            jobs=jobs,
            listener=self._listener,
        )


def _units_there(units: tuple[Unit, ...], copy: DatabaseAddress, listener: Listener) -> tuple[Unit, ...]:
    """Those of tables that the copy has; what belongs to something that was left out is not there."""
    with copy.connect() as conn:
        there = {
            (str(schema), str(table)) for schema, table in conn.execute("SELECT schemaname, tablename FROM pg_tables")
        }
    for schema, table in sorted({(unit.schema, unit.table) for unit in units} - there):
        listener(f'Table "{schema}"."{table}" is not in the copy, nor are its rows')
    return tuple(unit for unit in units if (unit.schema, unit.table) in there)


def _carry_sequences(holder: Session, copy: DatabaseAddress) -> None:
    """Where they are now, after the rows: a sequence knows no snapshot, so it is ahead of the rows at most."""
    with copy.connect(read_only=False) as conn:
        for schema, name in holder.execute(_SEQUENCES).fetchall():
            sequence = sql.Identifier(str(schema), str(name))
            row = holder.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sequence)).fetchone()
            there = conn.execute("SELECT to_regclass(%s)", (sequence.as_string(),)).fetchone()
            if row is not None and there is not None and there[0] is not None:
                conn.execute("SELECT setval(%s::regclass, %s, %s)", (sequence.as_string(), *row))
