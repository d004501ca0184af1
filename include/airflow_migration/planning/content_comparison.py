"""Compare what the rows that users care about say before and after an upgrade."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.fingerprints import (
    Dialect,
    Fingerprint,
    Fingerprints,
    Relation,
    agree,
    dag_runs,
    rows_of,
    task_instances,
)
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.tables import DEFAULT_POOL
from airflow_migration.planning.table_comparison import Counts
from airflow_migration.postgres.address import Session

EXAMPLES = 10

_SMALL_TABLES = {
    "connection": ("conn_id", ("host", "schema", "login", "port", "description")),
    "variable": ("key", ("key", "description")),
    "slot_pool": ("pool", ("pool", "slots", "description")),
    "dag": ("dag_id", ("dag_id", "is_paused")),
}
"""Table → column by which people know its rows, columns that keep their meaning in every release.

Passwords, extras and variables' values are compared decrypted, elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentComparison:
    """One table's rows before and after, those left out that were moved away.

    :param compared: columns that were compared
    :param different: names of the first ten rows, or DAGs of rows, that are missing, added or changed
    """

    table: str
    compared: tuple[str, ...]
    rows: int
    different_count: int
    different: tuple[str, ...]

    @property
    def problem(self) -> str | None:
        if not self.different_count:
            return None
        more = ", …" if self.different_count > len(self.different) else ""
        return f"{self.table}: {self.different_count} difference(s): {', '.join(self.different)}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """Both databases and what is known of them."""

    clone: Session
    working: Session
    counts: Counts
    migration_id: str
    dialect: Dialect
    kept: Mapping[str, sql.Composable]


def compare_contents(
    clone: Session,
    working: Session,
    counts: Counts,
    migration_id: str,
    kept: Mapping[str, sql.Composable],
) -> tuple[ContentComparison, ...]:
    """Compare row by row where tables are small, and by sums of hashes for each DAG where they are big.

    :param kept: table → which of the clone's rows have travelled, as SQL over `t`; all of those it does not name
    """
    dialect = agree(clone, working)
    sides = _Sides(clone=clone, working=working, counts=counts, migration_id=migration_id, dialect=dialect, kept=kept)
    small = [table for table in _SMALL_TABLES if table in counts.before and table in counts.after]
    date, details = "execution_date or logical_date", ("state", "start_date", "end_date")
    key = ("dag_id", "task_id", date if dialect.by_date else "run_id", "map_index")
    return (
        *(_compare_small(sides, table) for table in small),
        _compare_big(sides, "dag_run", dag_runs, ("dag_id", date, "run_id", *details)),
        _compare_big(sides, "task_instance", task_instances, (*key, *details, "try_number")),
    )


def _compare_small(sides: _Sides, table: str) -> ContentComparison:
    clone, working, counts = sides.clone, sides.working, sides.counts
    name, wanted = _SMALL_TABLES[table]
    here, there = read_tables(clone)[table], read_tables(working)[table]
    columns = tuple(column for column in wanted if column in here and column in there)
    key = "id" if "id" in here and "id" in there else name
    before, after = (rows_of(session, table, key, columns, sides.dialect) for session in (clone, working))
    names = _names(clone, table, key, name) | {
        row: called for row, called in _names(working, table, key, name).items() if row not in before
    }
    moved = _moved_keys(sides, table, key)
    different = {
        row: _say(names[row], row, before, after)
        for row in before.keys() | after.keys()
        if before.get(row) != after.get(row)
        and not (row in moved and row not in after)
        and not (row not in before and _comes_by_itself(table, names[row]))
    }
    if table == "connection":
        different |= {row: text for row, text in _compare_ids(clone, working) if row not in different}
        columns = ("conn_id", "conn_type", *columns)
    return _result(table, columns, counts.before[table], sorted(different.values()))


def _names(conn: Session, table: str, key: str, name: str) -> dict[str, str]:
    query = sql.SQL("SELECT {}::text, {}::text FROM {}").format(
        sql.Identifier(key), sql.Identifier(name), sql.Identifier(table)
    )
    rows = conn.execute(query).fetchall()
    return {str(row): str(called) if called else f"row {row}" for row, called in rows}


def _say(name: str, row: str, before: dict[str, str], after: dict[str, str]) -> str:
    if row not in after:
        return f"{name} is missing"
    return f"{name} was added" if row not in before else f"{name} was changed"


def _comes_by_itself(table: str, name: str) -> bool:
    """Rows of `dag` come with parsing; elsewhere only the default pool is added by upgrades."""
    return table == "dag" or (table == "slot_pool" and name == DEFAULT_POOL)


def _moved_keys(sides: _Sides, table: str, key: str) -> set[str]:
    """The rows that the repairs moved away."""
    keys: set[str] = set()
    for side in sides.counts.moved:
        if side.origin == table and not side.whole:
            query = sql.SQL("SELECT {}::text FROM {} WHERE migration_id = %s").format(
                sql.Identifier(key), sql.Identifier(side.schema, side.name)
            )
            keys |= {str(row[0]) for row in sides.working.execute(query, (sides.migration_id,)).fetchall()}
    return keys


def _compare_ids(clone: Session, working: Session) -> Iterator[tuple[str, str]]:
    """conn_id and conn_type, which repairs change where 2.0 and later could not take them.

    A missing conn_type is filled in, a missing conn_id made up, the second of two equal ones suffixed.
    """
    query = "SELECT id::text, conn_id::text, conn_type::text FROM connection ORDER BY id"
    before = clone.execute(query).fetchall()
    after = {row: (conn_id, conn_type) for row, conn_id, conn_type in working.execute(query).fetchall()}
    seen: set[object] = set()
    for row, conn_id, conn_type in before:
        if row not in after:
            continue
        new_id, new_type = after[row]
        repeated = conn_id in seen
        seen.add(conn_id)
        renamed = bool(new_id) and (not conn_id or (repeated and _is_suffixed(str(new_id), str(conn_id))))
        if new_id != conn_id and not renamed:
            yield str(row), f"{conn_id or f'row {row}'} became {new_id}"
        elif new_type != conn_type and (conn_type is not None or not new_type):
            yield str(row), f"{conn_id or f'row {row}'} changed its type from {conn_type} to {new_type}"


def _is_suffixed(new: str, old: str) -> bool:
    """``http_x__2`` of ``http_x``; the stem is cut where the column would be too short."""
    stem, found = re.subn(r"__\d+$", "", new)
    return bool(found and stem and old.startswith(stem))


def _compare_big(
    sides: _Sides,
    table: str,
    read: Callable[[Session, Relation, Dialect], Fingerprints],
    columns: tuple[str, ...],
) -> ContentComparison:
    before = read(sides.clone, Relation(name=table, condition=sides.kept.get(table)), sides.dialect)
    after = read(sides.working, Relation(name=table), sides.dialect)
    for session, relation, sign in _side_relations(sides, table):
        for dag, fingerprint in read(session, relation, sides.dialect).items():
            after[dag] = after.get(dag, Fingerprint()).plus(fingerprint, sign)
    lenient = _without_run_id(sides.clone) if table == "dag_run" else _sensing(sides.clone)
    different = []
    for dag in sorted(before.keys() | after.keys()):
        text = _differ(before.get(dag, Fingerprint()), after.get(dag, Fingerprint()), dag in lenient)
        if text:
            different.append(f"DAG {dag}: {text}")
    return _result(table, columns, sum(each.rows for each in before.values()), different)


def _side_relations(sides: _Sides, table: str) -> Iterator[tuple[Session, Relation, int]]:
    """Where rows of a table went during this upgrade: what is there now, less what was there before."""
    origins = {table}
    for name in sides.counts.changed_archives(table):
        origins.add(name)
        yield sides.working, Relation(name=name), 1
        if name in sides.counts.before:
            yield sides.clone, Relation(name=name), -1
    for side in sides.counts.moved:
        if side.origin in origins:
            only = None if side.whole else sides.migration_id
            yield sides.working, Relation(name=side.name, schema=side.schema, migration_id=only), 1


def _differ(before: Fingerprint, after: Fingerprint, lenient: bool) -> str | None:
    if before.rows != after.rows:
        return f"{before.rows} row(s) before, {after.rows} after"
    if before.keys != after.keys:
        return "other rows than before"
    if lenient:
        return None
    if before.run_ids != after.run_ids:
        return "other run ids than before"
    return "other states, times or tries than before" if before.details != after.details else None


def _without_run_id(clone: Session) -> set[str]:
    """DAGs with runs that have no run_id; the repairs give them one."""
    rows = clone.execute("SELECT DISTINCT coalesce(dag_id, '') FROM dag_run WHERE run_id IS NULL").fetchall()
    return {str(row[0]) for row in rows}


def _sensing(clone: Session) -> set[str]:
    """DAGs with task instances in the state that f4ff391becb5 (2.4.0) turns into failed."""
    query = "SELECT DISTINCT coalesce(dag_id, '') FROM task_instance WHERE state = 'sensing'"
    rows = clone.execute(query).fetchall()
    return {str(row[0]) for row in rows}


def _result(table: str, columns: tuple[str, ...], rows: int, different: list[str]) -> ContentComparison:
    return ContentComparison(
        table=table,
        compared=columns,
        rows=rows,
        different_count=len(different),
        different=tuple(different[:EXAMPLES]),
    )
