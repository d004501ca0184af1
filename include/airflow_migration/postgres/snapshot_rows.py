"""Stream the rows of a snapshot from one server to another by several sessions, without a file between them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import IsolationLevel, errors, sql

from airflow_migration.exceptions import ServerUnreachableError, ToolError
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.databases import seconds_since
from airflow_migration.postgres.snapshot_units import Unit
from airflow_migration.postgres.source_load import Governor
from airflow_migration.progress import Listener, Progress

LOCK_TIMEOUT = 1.0
"""Seconds that a piece waits for somebody's ALTER TABLE before another piece goes first."""
PATIENCE = 300.0
"""Seconds for which a table may be locked by others before the copy gives up."""
TELL_EVERY = 1.0
BLOCK = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedRows:
    """:param bytes: as text"""

    rows: int
    bytes: int


class RowCopy:
    """The rows of some pieces of tables, each in a transaction of its own on both sides.

    :param source: read by read-only sessions that take the snapshot
    :param copy: has the tables, without indexes and constraints
    :param snapshot: exported by a session that stays as it is until `run` is over
    """

    def __init__(
        self,
        source: DatabaseAddress,
        copy: DatabaseAddress,
        *,
        snapshot: str,
        units: Sequence[Unit],
        governor: Governor,
        listener: Listener,
    ) -> None:
        self._source, self._copy, self._snapshot = source, copy, snapshot
        self._waiting, self._governor, self._listener = deque(units), governor, listener
        self._total = sum(unit.bytes for unit in units)
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._error: BaseException | None = None
        self._stopped = False
        self._done = self._rows = self._bytes = 0
        self._start = self._progressed = time.monotonic()

    def run(self, jobs: int) -> CopiedRows:
        """Copy all pieces.

        :raises MigrationError: the first that a session has met
        """
        threads = [threading.Thread(target=self._work, name=f"copy {number}", daemon=True) for number in range(jobs)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(TELL_EVERY / jobs)
                self._tell()
        except BaseException:
            self.stop()
            raise
        if self._error is not None:
            raise self._error
        if self._stopped:
            raise ToolError("the copy was stopped", where=f"copy to {self._copy}", remedy="Retry the task")
        self._tell()
        return CopiedRows(rows=self._rows, bytes=self._bytes)

    def stop(self) -> None:
        """End it from another thread or frame: the servers end what their sessions do as soon as these are gone."""
        self._stopped = True
        self._governor.end()
        for session in list(self._sessions):
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=2.0)

    def _work(self) -> None:
        try:
            with self._source.connect(lock_timeout=LOCK_TIMEOUT) as source, self._copy.connect(read_only=False) as copy:
                source.isolation_level, source.read_only = IsolationLevel.REPEATABLE_READ, True
                self._sessions.append(source)
                while (unit := self._next()) is not None:
                    with self._governor.admitted() as goes:
                        if not goes or self._stopped:
                            return
                        self._carry(source, copy, unit)
        except BaseException as err:
            with self._lock:
                self._error = self._error or err
            self._governor.end()

    def _next(self) -> Unit | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting and self._error is None else None

    def _carry(self, source: Session, copy: Session, unit: Unit) -> None:
        try:
            with source.transaction(), copy.transaction():
                self._claim(source, unit)
                rows, size = _stream(source, copy, unit)
        except errors.LockNotAvailable:
            self._put_back(unit)
            return
        with self._lock:
            self._done += unit.bytes
            self._rows += rows
            self._bytes += size
            self._progressed = time.monotonic()

    def _claim(self, source: Session, unit: Unit) -> None:
        """Take the snapshot, and see that the table is still the one whose blocks were counted.

        VACUUM FULL, TRUNCATE and ALTER TABLE may write it anew between two pieces; once it is locked it stays.
        """
        source.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self._snapshot))
        source.execute("SET LOCAL row_security = off")
        source.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(unit.name))
        row = source.execute("SELECT pg_relation_filenode(%s::regclass)", (unit.name.as_string(),)).fetchone()
        if row is None or row[0] != unit.filenode:
            raise ToolError(
                f"table {unit.name.as_string()} was written anew (VACUUM FULL, TRUNCATE or ALTER TABLE) meanwhile",
                where=f"copy of {self._source}",
                remedy="Retry the task at a quieter moment",
            )

    def _put_back(self, unit: Unit) -> None:
        """Somebody changes the table's definition: others go first."""
        if time.monotonic() - self._progressed > PATIENCE:
            raise ServerUnreachableError(
                f"table {unit.name.as_string()} has been locked by others for {PATIENCE:.0f} s",
                where=f"copy of {self._source}",
                remedy="Retry when that is over",
            )
        with self._lock:
            self._waiting.append(unit)

    def _tell(self) -> None:
        for sentence in self._governor.decisions():
            self._listener(sentence)
        self._listener(
            Progress(
                what="Copy of the rows",
                done=self._done,
                total=self._total,
                unit="bytes",
                seconds=seconds_since(self._start),
            )
        )


def _stream(source: Session, copy: Session, unit: Unit) -> tuple[int, int]:
    size, block = 0, bytearray()
    with source.cursor() as reader, copy.cursor() as writer:
        with reader.copy(unit.copy_out) as rows, writer.copy(unit.copy_in) as target:
            for row in rows:  # each is a message of its own
                block += row
                if len(block) >= BLOCK:
                    target.write(bytes(block))
                    size += len(block)
                    block.clear()
            target.write(bytes(block))
        return writer.rowcount, size + len(block)
