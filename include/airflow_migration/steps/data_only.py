"""Bring rows alone into the database that a fresh target of the same release has made, and take them out again.

The procedure of 2019: dump of the chosen tables, TRUNCATE of exactly these, load, sequences. Nothing is made or
renamed; what the target had in these tables is kept in it, and `restore_target_rows` puts it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_migration.exceptions import OwnershipError
from airflow_migration.metadata import hand_over, journal, releases
from airflow_migration.metadata.history import HistoryResult, filter_history
from airflow_migration.metadata.repairs.sequences import fix_sequences
from airflow_migration.metadata.replaced_rows import (
    ReplacedTable,
    put_rows_back,
    read_replaced,
    record_loaded,
    take_late_rows,
    take_rows_out,
)
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres import databases
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.databases import seconds_since
from airflow_migration.postgres.jobs import cores
from airflow_migration.postgres.manifest import DumpFile, verify_dump
from airflow_migration.postgres.table_dump import load_part
from airflow_migration.progress import Listener, Progress, amount
from airflow_migration.steps.migration import Migration

AT_ONCE = 2_000_000_000
"""Bytes of dump that are loaded in one transaction; more goes table by table."""
SHOWN = 20
LOCK_TIMEOUT = 60.0
"""Seconds to wait for the target's tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledTarget:
    """:param database: the target's own
    :param bytes: of the dump that was loaded
    :param tables: in the order in which they were filled, with the rows that came and those that were there before
    :param added: tables that were not asked for → why they came along
    :param left_out: tables of the source that stayed behind → why
    :param history: what of it stayed behind; None where all travels
    :param warnings: what a person must know: who else was connected meanwhile
    """

    database: str
    bytes: int
    seconds: float
    reused: bool
    tables: tuple[ReplacedTable, ...]
    added: dict[str, str]
    left_out: dict[str, str]
    history: HistoryResult | None
    warnings: tuple[str, ...]


def fill_target(migration: Migration, listener: Listener) -> FilledTarget:
    """Put the dumped rows in the place of the target's own, which are kept beside them.

    Undone by `restore_target_rows`.

    :raises DamagedDumpError: a file of the dump is not what was dumped; nothing was changed
    :raises OwnershipError: the target has runs of its own, or is no longer of the release that it was
    """
    start = time.monotonic()
    plan, parts = migration.plan, verify_dump(migration.dump_path, cores()).parts
    listener(f"Dump {migration.dump_path} is whole: {len(parts)} file(s) with rows are as they were written")
    with migration.source.address.connect(read_only=False) as conn:
        journal.record_act(conn, migration.id, journal.FILL, {"database": plan.target_database})
    with migration.final.connect(read_only=False, lock_timeout=LOCK_TIMEOUT) as conn:
        warnings = _look_around(conn, listener)
        reused = _fill(migration, conn, parts, listener)
        tables = read_replaced(conn, migration.id)
        conn.commit()
        conn.autocommit = True
        conn.execute("ANALYZE")
        conn.autocommit = False
        history = _leave_history(migration, conn, listener)
    listener(f"{sum(each.loaded_rows or 0 for each in tables):,} row(s) of {len(tables)} table(s) are in the target")
    return FilledTarget(
        database=plan.target_database,
        bytes=sum(part.bytes for part in parts),
        seconds=seconds_since(start),
        reused=reused,
        tables=tables,
        added=plan.choice.added,
        left_out=plan.choice.left_out,
        history=history,
        warnings=warnings,
    )


def restore_target_rows(address: DatabaseAddress, migration_id: str, listener: Listener) -> int:
    """Undo of `fill_target`, complete or half-way: the target has its own rows again, all or none.

    :returns: of how many tables; 0 where nothing was replaced, or where that was done before
    """
    with address.connect(read_only=False, lock_timeout=LOCK_TIMEOUT) as conn:
        tables = put_rows_back(conn, migration_id)
    if tables:
        listener(
            f"{sum(each.own_rows for each in tables):,} row(s) of {len(tables)} table(s) are the target's own again"
        )
    return len(tables)


def _fill(migration: Migration, conn: Session, parts: tuple[DumpFile, ...], listener: Listener) -> bool:
    """:returns: whether all was there already"""
    size = sum(part.bytes for part in parts)
    at_once = size <= AT_ONCE
    _make_room(migration, conn, listener)
    if not at_once:
        conn.commit()
    waiting = [each.table for each in read_replaced(conn, migration.id) if each.loaded_rows is None]
    if not waiting:
        listener("Every table is filled already")
        return True
    listener(f"{amount(size, 'bytes')} are loaded {'in one transaction' if at_once else 'table by table'}")
    tell = _teller(sum(part.bytes for part in parts if part.table in waiting), listener)
    for tables in [waiting] if at_once else [[table] for table in waiting]:
        if late := take_late_rows(conn, migration.id):
            listener(f"{late} row(s) that were written to emptied tables of the target meanwhile are kept as well")
        for table in tables:
            _load(migration, conn, table, [part for part in parts if part.table == table], tell)
        for sentence in fix_sequences(conn, tables):
            listener(sentence)
        conn.commit()
    return False


def _look_around(conn: Session, listener: Listener) -> tuple[str, ...]:
    """Nobody can write the tables while they are filled, but what a process has read before it may write afterwards."""
    others = databases.read_clients(conn)
    if not others:
        return ()
    sentence = (
        f"{len(others)} session(s) were connected to the target while it was filled, restart what they belong to:"
        f" {', '.join(others[:SHOWN])}"
    )
    listener(sentence)
    return (sentence,)


def _make_room(migration: Migration, conn: Session, listener: Listener) -> None:
    """Keep and take out the target's own rows, once; what was loaded from copies that are out of date goes as well."""
    plan = migration.plan
    _refuse_another_schema(conn, plan)
    with migration.frozen.connect() as copy:
        opened, filled_for = (journal.read_opening(each, migration.id) for each in (copy, conn))
        if filled_for not in (None, opened) and put_rows_back(conn, migration.id):
            listener("The source went on since the target was filled; it is filled anew")
        hand_over.introduce(conn, copy, migration.id)
    if not read_replaced(conn, migration.id):
        tables = take_rows_out(conn, migration.id, plan.token, plan.choice.travel)
        listener(f"{len(tables)} table(s) of the target are empty; {sum(t.own_rows for t in tables):,} row(s) are kept")


def _refuse_another_schema(conn: Session, plan: Plan) -> None:
    head = releases.read_head(conn)
    if head != plan.target_head:
        raise OwnershipError(
            f"the target's schema was {plan.target_head} and is {head} by now",
            where=f'database "{conn.info.dbname}"',
            remedy="Bring the target back to the source's release, then retry; nothing was changed there",
        )


def _load(migration: Migration, conn: Session, table: str, parts: list[DumpFile], tell: Callable[[int], None]) -> None:
    cleared = migration.plan.choice.cleared.get(table, ())
    rows = sum(load_part(conn, migration.dump_path, part, cleared=cleared, on_bytes=tell) for part in parts)
    record_loaded(conn, migration.id, table, rows)


def _teller(total: int, listener: Listener) -> Callable[[int], None]:
    start, done = time.monotonic(), 0

    def tell(sent: int) -> None:
        nonlocal done
        done += sent
        listener(Progress(what="Load", done=done, total=total, unit="bytes", seconds=seconds_since(start)))

    return tell


def _leave_history(migration: Migration, conn: Session, listener: Listener) -> HistoryResult | None:
    cutoff = migration.plan.history_moment
    if cutoff is None:
        return None
    return filter_history(conn, cutoff, migration.id, listener, only=migration.plan.choice.travel)
