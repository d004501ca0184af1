"""Leave old history behind: take the runs that need not travel out of a working database, before its upgrade."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.pq import TransactionStatus

from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.history_rules import Rule, history_rules, kept_conditions
from airflow_migration.metadata.repairs import ledger
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.references import ForeignKey, parents_first, read_foreign_keys
from airflow_migration.progress import Listener

__all__ = ["FilteredTable", "HistoryCount", "HistoryResult", "count_history", "filter_history", "filtered_rows"]
__all__ += ["kept_conditions", "read_cutoff"]

_LEDGER = "filtered"
_TABLE = """
CREATE TABLE IF NOT EXISTS airflow_migration.filtered (
    migration_id text NOT NULL, origin text NOT NULL, rows bigint NOT NULL, cutoff timestamptz NOT NULL,
    PRIMARY KEY (migration_id, origin));
"""
_WORK_MEM = "64MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilteredTable:
    """:param rows: how many stayed behind"""

    table: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryResult:
    """What stayed behind, whether in this run or an earlier one.

    :param cutoff: ISO 8601; runs before it stay behind
    :param tables: every table that was looked through
    :param rows: of all tables together
    :param reused: it was done before
    """

    cutoff: str
    tables: tuple[FilteredTable, ...]
    rows: int
    seconds: float
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryCount:
    """How many rows of a table there are, and how many of them travel."""

    total: int
    travel: int

    @property
    def stay(self) -> int:
        return self.total - self.travel


def count_history(conn: Session, cutoff: datetime, tables: Collection[str] | None = None) -> dict[str, HistoryCount]:
    """What would travel, by table; changes nothing.

    :param tables: only these; None is every table that is filtered
    """
    conditions = kept_conditions(conn, cutoff)
    return {
        table: HistoryCount(total=count_rows(conn, table), travel=count_rows(conn, table, condition))
        for table, condition in conditions.items()
        if tables is None or table in tables
    }


def filter_history(
    conn: Session, cutoff: datetime, migration_id: str, listener: Listener, *, only: Collection[str] | None = None
) -> HistoryResult:
    """Take out of the database what `history_rules` leaves behind, and write down how much that was.

    One transaction: after a kill either all of it is done or nothing. Done already: the first cutoff counts.
    Commits what is pending first. Where most rows go, the others are set aside and the tables emptied, which
    leaves neither dead rows nor bloated indexes; else the old rows are deleted.

    :param conn: writable session on the working database, of the role that owns its tables
    :param cutoff: with a time zone
    :param only: tables whose rows may go; None is all
    """
    started = time.monotonic()
    if conn.info.transaction_status != TransactionStatus.IDLE:
        conn.commit()
    with conn.transaction():
        reused = read_cutoff(conn, migration_id) is not None
        if not reused:
            rules = history_rules(conn, cutoff)
            asked = {table: rule for table, rule in rules.items() if only is None or table in only}
            gone = _filter(conn, asked, listener)
            _record(conn, migration_id, cutoff, gone)
    result = _result(conn, migration_id, started, reused)
    _vacuum(conn, [each.table for each in result.tables if each.rows])
    listener(f"History before {result.cutoff} stays behind: {result.rows:,} row(s)")
    return result


def filtered_rows(conn: Session, migration_id: str) -> Mapping[str, int]:
    """Rows that this migration left behind, by the table's name at that moment; empty where it filtered nothing."""
    return {table: rows for table, rows, _ in _read(conn, migration_id)}


def read_cutoff(conn: Session, migration_id: str) -> datetime | None:
    """From when on runs have travelled; None where nothing was filtered."""
    recorded = _read(conn, migration_id)
    return recorded[0][2] if recorded else None


def _read(conn: Session, migration_id: str) -> list[tuple[str, int, datetime]]:
    if _LEDGER not in read_tables(conn, ledger.SCHEMA):
        return []
    rows = conn.execute(
        "SELECT origin, rows, cutoff FROM airflow_migration.filtered WHERE migration_id = %s ORDER BY origin",
        (migration_id,),
    ).fetchall()
    found = []
    for origin, number, cutoff in rows:
        assert isinstance(cutoff, datetime)
        found.append((str(origin), int(str(number)), cutoff))
    return found


def _record(conn: Session, migration_id: str, cutoff: datetime, gone: Mapping[str, int]) -> None:
    ledger.prepare(conn)
    conn.execute(_TABLE)
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO airflow_migration.filtered (migration_id, origin, rows, cutoff) VALUES (%s, %s, %s, %s)",
            [(migration_id, table, rows, cutoff) for table, rows in gone.items()],
        )


def _result(conn: Session, migration_id: str, started: float, reused: bool) -> HistoryResult:
    with conn.transaction():
        recorded = _read(conn, migration_id)
    return HistoryResult(
        cutoff=recorded[0][2].isoformat(),
        tables=tuple(FilteredTable(table=table, rows=rows) for table, rows, _ in recorded),
        rows=sum(rows for _, rows, _ in recorded),
        seconds=round(time.monotonic() - started, 1),
        reused=reused,
    )


def _filter(conn: Session, rules: Mapping[str, Rule], listener: Listener) -> dict[str, int]:
    """Everything is looked at before the first row goes, as the rules ask other tables.

    :returns: table → rows that went
    """
    conn.execute(sql.SQL("SELECT set_config('work_mem', {}, true)").format(sql.Literal(_WORK_MEM)))
    keys = read_foreign_keys(conn)
    order = parents_first(rules, keys)
    total = count_rows(conn, "task_instance") + count_rows(conn, "dag_run")
    travel = sum(count_rows(conn, table, rules[table].travels("t")) for table in ("task_instance", "dag_run"))
    # A table cannot be emptied while one that is not points at it.
    hidden = any(key.child not in rules and key.parent in rules for key in keys)
    listener(f"{travel:,} of {total:,} run(s) and task instance(s) travel")
    if travel * 2 < total and not hidden:
        return _rewrite(conn, order, rules, keys, listener)
    return _delete(conn, order, rules, listener)


def _rewrite(
    conn: Session,
    order: tuple[str, ...],
    rules: Mapping[str, Rule],
    keys: tuple[ForeignKey, ...],
    listener: Listener,
) -> dict[str, int]:
    gone = {}
    for number, table in enumerate(order):
        condition = rules[table].travels("t")
        before = count_rows(conn, table)
        kept = conn.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT t.* FROM {} t WHERE {}").format(
                _aside(number), sql.Identifier(table), condition
            )
        ).rowcount
        gone[table] = before - kept
    emptied = {table for table, rows in gone.items() if rows}
    while more := {str(key.child) for key in keys if key.parent in emptied} - emptied:
        emptied |= more
    if emptied:
        conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, sorted(emptied)))))
    for number, table in enumerate(order):
        if table in emptied:
            _put_back(conn, table, _aside(number))
            listener(f"{table}: {gone[table]:,} row(s) stay behind")
    return gone


def _put_back(conn: Session, table: str, aside: sql.Identifier) -> None:
    """Computed columns are computed again; a key that Postgres always gives keeps its value."""
    columns = conn.execute(
        "SELECT column_name::text FROM information_schema.columns WHERE is_generated = 'NEVER'"
        " AND (table_schema, table_name) = (SELECT n.nspname, c.relname FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass) ORDER BY ordinal_position",
        (sql.Identifier(table).as_string(conn),),
    ).fetchall()
    names = sql.SQL(", ").join(sql.Identifier(str(name)) for (name,) in columns)
    conn.execute(
        sql.SQL("INSERT INTO {} ({}) {} SELECT {} FROM {}").format(
            sql.Identifier(table),
            names,
            sql.SQL("OVERRIDING SYSTEM VALUE" if conn.info.server_version >= 100000 else ""),
            names,
            aside,
        )
    )


def _delete(conn: Session, order: tuple[str, ...], rules: Mapping[str, Rule], listener: Listener) -> dict[str, int]:
    for number, table in enumerate(order):
        conn.execute(
            sql.SQL(
                "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT t.tableoid AS part, t.ctid AS place FROM {} t WHERE {}"
            ).format(_aside(number), sql.Identifier(table), rules[table].stays("t"))
        )
    gone = {}
    # Children first, so that no ON DELETE takes or changes a row unseen.
    for number, table in reversed(tuple(enumerate(order))):
        gone[table] = conn.execute(
            sql.SQL("DELETE FROM {} t USING {} d WHERE t.ctid = d.place AND t.tableoid = d.part").format(
                sql.Identifier(table), _aside(number)
            )
        ).rowcount
        if gone[table]:
            listener(f"{table}: {gone[table]:,} row(s) stay behind")
    return gone


def _aside(number: int) -> sql.Identifier:
    """A temporary table whose name is never too long."""
    return sql.Identifier("pg_temp", f"airflow_migration_aside_{number}")


def _vacuum(conn: Session, tables: Collection[str]) -> None:
    """So that the upgrade plans with what there is; tables that a later upgrade has dropped are left out."""
    there = read_tables(conn).keys()
    conn.commit()
    before, conn.autocommit = conn.autocommit, True
    for table in tables:
        if table in there:
            conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    conn.autocommit = before
