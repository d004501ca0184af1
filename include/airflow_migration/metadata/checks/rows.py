"""Rows that a migration stops at, changes or drops, each kind as one condition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from psycopg import sql

from airflow_migration.metadata.checks.changed_rows import CHANGED_ROWS
from airflow_migration.metadata.checks.check import Check, Examination
from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.findings import EXAMPLES, Finding, Severity
from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.dataset_uris import NOT_INDEXABLE
from airflow_migration.metadata.repairs.dropped import HISTORY, REPAIR
from airflow_migration.metadata.repairs.faults import (
    OTHER_FAULTS,
    RUN_KEY,
    TEAM_FAULTS,
    Fault,
    history_faults,
)
from airflow_migration.metadata.repairs.run_duplicates import RUN_DUPLICATE
from airflow_migration.metadata.repairs.runs import NAMELESS_RUN
from airflow_migration.metadata.tables import REMOVALS, Removal
from airflow_migration.postgres.address import Session

_CALLBACKS = "b87d2135fa50"
_TASK_FAIL = "48925b2719cb"

_NAMELESS = Fault(  # completed and kept; as a fault it shares the counting, not the moving
    id="run_without_run_id",
    table="dag_run",
    columns=("id", "dag_id", "execution_date", "run_id"),
    condition=NAMELESS_RUN,
    reason="''",
    key="concat_ws(' ', 'id', t.id, t.dag_id)",
    revision=RUN_KEY,
    summary="{count} dag run(s) have no run_id",
    remedy="They get one made of their execution date",
)


def row_checks(tables: Tables) -> tuple[Check, ...]:
    """The checks for the tables and columns that the database has."""
    faults = (
        _NAMELESS,
        RUN_DUPLICATE,
        *history_faults(tables),
        *OTHER_FAULTS,
        NOT_INDEXABLE,
        *TEAM_FAULTS,
        *CHANGED_ROWS,
    )
    return (
        *(
            Check(ids=(fault.id,), revisions=fault.revisions, always=fault.always, ask=partial(_ask_for_fault, fault))
            for fault in faults
        ),
        Check(ids=("task_fail_duplicate",), revisions=(_TASK_FAIL,), ask=_ask_for_repeated_failures),
        *(
            Check(ids=(f"{removal.table}_lost",), revisions=(removal.revision,), ask=partial(_ask_for_lost, removal))
            for removal in REMOVALS
            if removal.table in HISTORY or removal.revision == _CALLBACKS
        ),
    )


def query(fault: Fault) -> str:
    """Finds the rows."""
    return f"SELECT {fault.key} AS key FROM {fault.table} t WHERE {fault.condition};"  # noqa: S608


def _count(conn: Session, rows: sql.Composable) -> int:
    """:param rows: ``FROM … WHERE …``"""
    row = conn.execute(sql.SQL("SELECT count(*) {}").format(rows)).fetchone()
    return int(str(row[0])) if row else 0


def _ask_for_fault(fault: Fault, look: Examination) -> Iterator[Finding]:
    if not fault.applies(look.tables, look.crossing):
        return
    count = _count(look.conn, fault.rows())
    if not count:
        yield Finding(check=fault.id, severity="ok", summary=fault.summary.format(count="No"), sql=query(fault))
        return
    keys = look.conn.execute(
        sql.SQL("SELECT {} {} LIMIT {}").format(sql.SQL(fault.key), fault.rows(), sql.Literal(EXAMPLES))
    )
    severity: Severity = "warning" if fault.movable else fault.severity
    yield Finding(
        check=fault.id,
        severity=severity,
        summary=fault.summary.format(count=count),
        count=count,
        evidence=tuple(str(key) for (key,) in keys),
        remedy=fault.remedy or "They are moved to schema airflow_migration, with what hangs on them",
        repair=fault.id if fault.movable else None,
        sql=query(fault),
    )


def _ask_for_repeated_failures(look: Examination) -> Iterator[Finding]:
    """2.3.0 to 2.4.1 moved them away, by mistake (apache/airflow #26714); the later releases keep them."""
    if "execution_date" not in look.tables.get("task_fail", {}):
        return
    repeated = "FROM task_fail GROUP BY dag_id, task_id, execution_date HAVING count(*) > 1"
    row = look.conn.execute(
        f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n {repeated}) d"  # noqa: S608
    ).fetchone()
    count = int(str(row[0])) if row else 0
    yield Finding(
        check="task_fail_duplicate",
        severity="info" if count else "ok",
        count=count,
        summary=f"{count or 'No'} rows of task_fail share dag, task and date",
        remedy="Nothing is changed: one row for each failed try is right" if count else "",
        sql=f"SELECT dag_id, task_id, execution_date, count(*) {repeated};",
    )


def _ask_for_lost(removal: Removal, look: Examination) -> Iterator[Finding]:
    if removal.table not in look.tables:
        return
    count = count_rows(look.conn, removal.table)
    if not count:
        return
    what = f"The {count} row(s) of {removal.table}"
    repair = REPAIR if removal.table in HISTORY else None
    if repair:
        summary = f"{what} leave Airflow's tables: {removal.cause}"
        remedy = "They are kept in schema airflow_migration of the new database"
    else:
        summary = f"{what} do not reach the target: {removal.cause}"
        remedy = "They are requests of processes that are gone by then; they stay in the frozen clone"
    yield Finding(
        check=f"{removal.table}_lost",
        severity="info",
        count=count,
        summary=summary,
        remedy=remedy,
        repair=repair,
        sql=f"SELECT * FROM {removal.table};",  # noqa: S608
    )
