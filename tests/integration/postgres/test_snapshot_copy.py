"""A database in use is copied as it was at one moment, and nobody there waits for it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from tests.polling import until

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres import snapshot_copy
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.snapshot_copy import CopyClients, Pace, SnapshotCopy
from airflow_migration.postgres.snapshot_rows import CopiedRows, RowCopy
from airflow_migration.postgres.snapshot_units import read_units
from airflow_migration.postgres.source_load import Governor, read_load, watched
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import Progress

ROWS = """
SELECT format('%I.%I', schemaname, tablename),
       (xpath('/row/h/text()', query_to_xml(format(
           'SELECT md5(coalesce(string_agg(t::text, '';'' ORDER BY t::text COLLATE "C"), '''')) AS h FROM %I.%I t',
           schemaname, tablename), true, true, '')))[1]::text
  FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
DEFINITIONS = """
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace <> 'pg_catalog'::regnamespace
UNION ALL SELECT format('sequence %s %s', sequencename, last_value) FROM pg_sequences ORDER BY 1
"""
BOOKS = """
CREATE TABLE giving (id int PRIMARY KEY, amount int NOT NULL, filling text);
CREATE TABLE taking (id int PRIMARY KEY, amount int NOT NULL, filling text);
INSERT INTO giving SELECT n, 0, repeat('x', 500) FROM generate_series(1, 2000) n;
INSERT INTO taking SELECT n, 0, repeat('x', 500) FROM generate_series(1, 2000) n;
"""
SMALL = 65_536

Copy = Callable[..., SnapshotCopy]


@pytest.fixture
def copy_to() -> Copy:
    """Copies a database to another name on another or the same server."""

    def copy(source: DatabaseAddress, target: DatabaseAddress, *, unit_bytes: int = SMALL) -> SnapshotCopy:
        with source.connect() as there, target.maintenance().connect() as here:
            version = max(there.info.server_version, here.info.server_version)
        clients = CopyClients(
            pg_dump=find_tool("pg_dump", version),
            pg_restore=find_tool("pg_restore", version),
            source=Client("copy", source.environment(read_only=True)),
            scratch=Client("copy", target.environment()),
        )
        pace = Pace(jobs=2, max_load=50, unit_bytes=unit_bytes)
        return snapshot_copy.copy_database(
            source,
            target,
            comment="of the tests",
            clients=clients,
            pace=pace,
            listener=lambda _: None,
            on_start=lambda _: None,
        )

    return copy


def test_the_copy_on_another_server_has_all_that_the_source_has(
    corpus: Callable[[str], DatabaseAddress], newer_server: DatabaseAddress, copy_to: Copy
) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as conn:
        conn.execute(
            'CREATE SCHEMA "Ü 1"; CREATE TABLE "Ü 1"."a ""b" (x int GENERATED ALWAYS AS IDENTITY, y text,'
            " z text GENERATED ALWAYS AS (y || '!') STORED) PARTITION BY RANGE (x);"
            'CREATE TABLE "Ü 1"."p 1" (y text, x int NOT NULL, z text GENERATED ALWAYS AS (y || \'!\') STORED);'
            'ALTER TABLE "Ü 1"."a ""b" ATTACH PARTITION "Ü 1"."p 1" FOR VALUES FROM (1) TO (1000);'
            "INSERT INTO \"Ü 1\".\"a \"\"b\" (y) VALUES (E'a\\tb\\\\c\\n\\\\.\\n'), (NULL), (''), ('Grüße ✓')"
        )
    result = copy_to(source, newer_server.on(f"copy of {source.database}"))
    with source.connect() as there, newer_server.on(result.database).connect() as here:
        expected = there.execute(ROWS).fetchall()
        assert here.execute(ROWS).fetchall() == expected
        assert len(expected) > 30
        assert here.execute(DEFINITIONS).fetchall() == there.execute(DEFINITIONS).fetchall()
    assert result.rows > 100


class Writer:
    """Moves an amount from one table to the other in each transaction, so that their sums are equal in every snapshot.

    Whoever keeps it waiting for a lock for a second ends it.
    """

    def __init__(self, address: DatabaseAddress) -> None:
        self.written = 0
        self._address, self._stop, self._error = address, threading.Event(), list[BaseException]()
        self._busy = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._write, daemon=True)

    def _write(self) -> None:
        try:
            with self._address.connect(read_only=False, autocommit=True, lock_timeout=1.0) as conn:
                for number in itertools.count():
                    if self._stop.is_set():
                        return
                    which = {"old": number % 2000 + 1, "new": 3001 + number}
                    with conn.transaction():
                        for table in ("giving", "taking"):
                            conn.execute(f"UPDATE {table} SET amount = amount + 1 WHERE id = %(old)s", which)
                            conn.execute(f"INSERT INTO {table} VALUES (%(new)s, 1, repeat('y', 500))", which)
                            conn.execute(f"DELETE FROM {table} WHERE id = %(new)s - 3", which)
                    self.written += 1
                    self._busy.release()
        except BaseException as err:
            self._error.append(err)
            self._busy.release()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._thread.start()
        assert self._busy.acquire(timeout=60)
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        assert not self._error, self._error


def test_the_copy_is_of_one_moment_and_the_writer_never_waits(
    new_database: Callable[..., DatabaseAddress], copy_to: Copy
) -> None:
    source = new_database()
    with source.connect(read_only=False) as conn:
        conn.execute(BOOKS)
    writer = Writer(source)
    with source.connect() as conn:
        before = objects(conn)
    with writer.at_work():
        begun = writer.written
        result = copy_to(source, source.on(f"copy of {source.database}"))
        ended = writer.written
    assert ended > begun + 1, "it was idle meanwhile, so nothing is shown"
    with source.on(result.database).connect() as conn:
        giving, taking = (
            conn.execute(f"SELECT count(*), sum(amount), sum(id) FROM {name}").fetchone()
            for name in ("giving", "taking")
        )
        assert giving == taking
        invalid = conn.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
        assert invalid == (0,)
    with source.connect() as conn:
        assert objects(conn) == before, "something was made in the source"
        row = conn.execute("SELECT sum(amount) FROM giving WHERE id <= 2000").fetchone()
        assert row == (writer.written,), "the source has other rows than its writer wrote"


def objects(conn: Session) -> list[tuple[object, ...]]:
    return conn.execute(
        "SELECT oid, relname, relacl::text FROM pg_class WHERE relpersistence = 'p' ORDER BY 1"
    ).fetchall()


class Prepared:
    """An exported snapshot, a copy that has the tables, and one session that is to fill them."""

    def __init__(self, source: DatabaseAddress, copy: DatabaseAddress, holder: Session) -> None:
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
        assert row
        self.heard: list[Progress] = []
        self.on_progress: Callable[[Progress], None] = lambda _: None
        self.governor = Governor(2, 50)
        self.rows = RowCopy(
            source,
            copy,
            snapshot=str(row[0]),
            units=read_units(holder, SMALL),
            governor=self.governor,
            listener=self._hear,
        )

    def _hear(self, message: Progress | str) -> None:
        if isinstance(message, Progress):
            self.heard.append(message)
            self.on_progress(message)

    def run(self) -> CopiedRows:
        return self.rows.run(2)


Scene = tuple[DatabaseAddress, DatabaseAddress, Prepared]


@pytest.fixture
def prepared(
    new_database: Callable[..., DatabaseAddress],
) -> Iterator[Scene]:
    source, copy = new_database(), new_database()
    for each in (source, copy):
        with each.connect(read_only=False) as conn:
            conn.execute(BOOKS)
            if each is copy:
                conn.execute("TRUNCATE giving, taking")
    with source.connect() as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield source, copy, Prepared(source, copy, holder)


@pytest.mark.parametrize(
    "rewriting", ["VACUUM FULL taking", "TRUNCATE taking", "ALTER TABLE taking ALTER id TYPE bigint"]
)
def test_a_table_that_is_written_anew_meanwhile_ends_the_copy(prepared: Scene, rewriting: str) -> None:
    source, _, copy = prepared
    with source.connect(read_only=False, autocommit=True, lock_timeout=1.0) as conn:
        conn.execute(rewriting)
    with pytest.raises(ToolError) as raised:
        copy.run()
    assert raised.value.retryable


def test_a_locked_table_is_waited_for_while_others_go_on(
    prepared: Scene,
) -> None:
    source, copied, copy = prepared
    with source.connect(read_only=False) as other:
        other.execute("LOCK TABLE taking IN ACCESS EXCLUSIVE MODE")
        released: list[int] = []

        def release(message: Progress) -> None:
            assert message.total
            if not released and message.done >= message.total // 2:
                released.append(message.done)
                other.rollback()

        copy.on_progress = release
        assert copy.run().rows == 4000
    assert released
    assert released[0] < copy.heard[-1].done
    with copied.connect() as conn:
        assert (
            conn.execute("SELECT (SELECT count(*) FROM giving), (SELECT count(*) FROM taking)").fetchone()
            == (2000,) * 2
        )


def test_pieces_of_a_table_are_all_of_it_and_none_twice(
    prepared: Scene,
) -> None:
    source, copied, copy = prepared
    with source.connect() as conn:
        units = [unit for unit in read_units(conn, SMALL) if unit.table == "giving"]
        if conn.info.server_version >= 140000:
            assert len(units) > 5
    copy.run()
    with source.connect() as there, copied.connect() as here:
        assert here.execute(ROWS).fetchall() == there.execute(ROWS).fetchall()


def test_a_copy_that_is_stopped_ends_at_once(prepared: Scene) -> None:
    _, _, copy = prepared
    copy.rows.stop()
    with pytest.raises(ToolError):
        copy.run()


@pytest.mark.parametrize("most", [1, 3])
def test_fewer_jobs_copy_when_sessions_rise_and_more_when_it_is_calm_again(
    new_database: Callable[..., DatabaseAddress], hold: Callable[[DatabaseAddress], Session], most: int
) -> None:
    source = new_database()
    sessions = [hold(source) for _ in range(most + 1)]
    governor = Governor(3, most)
    with source.connect(autocommit=True) as watcher, source.connect(read_only=False, autocommit=True) as gate:
        # Whatever an earlier test has left at work on this server.
        until(lambda: read_load(watcher), lambda load: load.active == 0)
        gate.execute("SELECT pg_advisory_lock(1)")
        waiting = [threading.Thread(target=wait_at, args=(session,), daemon=True) for session in sessions]
        for thread in waiting:
            thread.start()
        seen = until(lambda: read_load(watcher), lambda load: load.active == most + 1)
        allowed = []
        for _ in range(4):
            governor.sample(seen)
            allowed.append((governor.allowed, governor.pausing))
        assert allowed == [(2, False), (1, False), (1, True), (1, True)]
        gate.execute("SELECT pg_advisory_unlock(1)")
        for thread in waiting:
            thread.join()
        calm = until(lambda: read_load(watcher), lambda load: load.active == 0)
    assert governor.considerate
    assert governor.rest_after(1.0) > 4.0
    for _ in range(9):
        governor.sample(calm)
    assert (governor.allowed, governor.pausing, governor.lowest) == (3, False, 1)
    assert governor.highest_load == most + 1
    assert governor.rest_after(1.0) == 0.0


def test_one_job_goes_on_when_nobody_sees_any_more_what_others_do(new_database: Callable[..., DatabaseAddress]) -> None:
    source = new_database()
    governor = Governor(3, 50)
    with source.connect(autocommit=True) as watcher, watched(governor, watcher):
        with source.connect(read_only=False, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (watcher.info.backend_pid,))
        until(lambda: governor.pausing)
    assert governor.lowest == 1
    assert any("no longer" in decision for decision in governor.decisions())


def wait_at(session: Session) -> None:
    session.execute("SELECT pg_advisory_lock_shared(1)")
    session.rollback()
    session.execute("SELECT pg_advisory_unlock_shared(1)")
    session.rollback()
