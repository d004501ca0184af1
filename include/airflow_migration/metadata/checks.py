"""Find, without changing anything, what Airflow's own migrations would abort on or lose on the way."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.findings import Finding, Severity
from airflow_migration.metadata.repairs import connections, dropped, leftovers, sequences, users, xcoms
from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.faults import (
    OTHER_FAULTS,
    RUN_KEY,
    TEAM_FAULTS,
    Fault,
    history_faults,
)
from airflow_migration.metadata.repairs.runs import NAMELESS_RUN, SLOTS
from airflow_migration.metadata.tables import removal_of
from airflow_migration.postgres.address import Session

EXAMPLES = 5


def find_problems(conn: Session, *, head: str, target_head: str) -> tuple[Finding, ...]:
    """Run the checks of one hop or of a whole path; a check that finds nothing answers ``ok``.

    Looks only at tables and columns that exist. Reads each history table about once; XComs that are no
    pickles are cast one by one, for twenty seconds at most.

    :param head: schema revision of the database now
    :param target_head: schema revision where the path ends
    :raises InvalidInputError: a head belongs to no known release
    """
    crossing = Crossing.between(head, target_head)
    tables = read_tables(conn)
    findings = [*_check_ids(conn, tables), *_check_users(conn, tables, crossing)]
    findings += _check_leftovers(conn, tables, crossing)
    findings += _check_connections(conn, tables, crossing)
    findings += _check_completable(conn, tables, crossing)
    for fault in (*history_faults(tables), *OTHER_FAULTS, *TEAM_FAULTS):
        if fault.applies(tables, crossing):
            findings.append(_check_fault(conn, fault))
    if crossing.crosses("48925b2719cb"):
        findings += _check_duplicate_task_fail(conn, tables)
    findings += _check_dropped(conn, tables, crossing)
    findings += _check_callbacks(conn, tables, head, target_head)
    if xcoms.applies(tables, crossing):
        findings += _check_xcoms(conn, crossing)
    return tuple(findings)


def _listed(check: str, details: tuple[str, ...], summary: str, remedy: str, repair: str) -> Finding:
    """A finding about few rows, each with its sentence."""
    if not details:
        return Finding(check=check, severity="ok", summary=summary.format(count="No"))
    return Finding(
        check=check,
        severity="warning",
        summary=summary.format(count=len(details)),
        count=len(details),
        evidence=details[:EXAMPLES],
        remedy=remedy,
        repair=repair,
    )


def _check_ids(conn: Session, tables: Tables) -> Iterator[Finding]:
    missing = tuple(f"{each.table}.id" for each in sequences.missing_defaults(conn))
    yield _listed(
        "fab_id_default",
        missing,
        "{count} id(s) of FAB's tables lack their default or sequence",
        "Defaults and sequences are made",
        "fab_id_default",
    )
    behind = tuple(
        f"{each.sequence}: next {each.next}, highest id {each.highest}"
        for each in sequences.behind_sequences(conn, tables)
    )
    yield _listed(
        "sequence_behind",
        behind,
        "{count} sequence(s) stand behind the ids of their table",
        "The sequences are set above the highest id",
        "sequence_behind",
    )


def _check_users(conn: Session, tables: Tables, crossing: Crossing) -> Iterator[Finding]:
    if not crossing.reaches(users.LOWER_INDEX):
        return
    renames = tuple(rename.detail for rename in users.new_usernames(conn, tables, crossing))
    yield _listed(
        "username_case",
        renames,
        "{count} user(s) have a name that differs from another's in case only",
        "The later user is renamed",
        "username_case",
    )
    emails = users.same_emails(conn, tables)
    if emails:
        yield Finding(
            check="email_case",
            severity="info",
            count=len(emails),
            evidence=emails[:EXAMPLES],
            summary=f"{len(emails)} e-mail(s) belong to several users but for case",
            remedy="Nothing is changed: every release allows it",
        )


def _check_leftovers(conn: Session, tables: Tables, crossing: Crossing) -> Iterator[Finding]:
    found = tuple(f"{each.table}: {each.why}" for each in leftovers.find_leftovers(conn, tables, crossing))
    yield _listed(
        "left_over_table",
        found,
        "{count} table(s) of an earlier upgrade stand in the way",
        "They are moved to schema airflow_migration",
        "left_over_table",
    )


def _check_connections(conn: Session, tables: Tables, crossing: Crossing) -> Iterator[Finding]:
    if not crossing.crosses(connections.ID_UNIQUE):
        return
    types = tuple(change.detail for change in connections.new_types(conn, tables))
    yield _listed(
        "connection_type",
        types,
        "{count} connection(s) have no type",
        "Each gets the type that its extra, id or host names, else generic",
        "connection_type",
    )
    ids = tuple(change.detail for change in connections.new_ids(conn, tables))
    yield _listed(
        "connection_id",
        ids,
        "{count} connection(s) have no id or that of another",
        "They are renamed, none is removed",
        "connection_id",
    )


def _check_completable(conn: Session, tables: Tables, crossing: Crossing) -> Iterator[Finding]:
    """Rows that are completed and stay; as faults they share the counting, not the moving."""
    runs = Fault(
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
    slots = Fault(
        id="pool_slots",
        table="task_instance",
        columns=("dag_id", "task_id", "pool_slots"),
        condition="t.pool_slots IS NULL",
        reason="''",
        key="concat_ws(' ', t.dag_id, t.task_id)",
        revision=SLOTS,
        summary="{count} task instance(s) have no pool_slots",
        remedy="They get 1, as Airflow's own migration gives",
    )
    for fault in (runs, slots):
        if fault.applies(tables, crossing):
            yield _check_fault(conn, fault)


def _check_fault(conn: Session, fault: Fault) -> Finding:
    rows = fault.rows()
    row = conn.execute(sql.SQL("SELECT count(*) {}").format(rows)).fetchone()
    count = int(str(row[0])) if row else 0
    if not count:
        return Finding(check=fault.id, severity="ok", summary=fault.summary.format(count="No"))
    keys = conn.execute(sql.SQL("SELECT {} {} LIMIT {}").format(sql.SQL(fault.key), rows, EXAMPLES))
    severity: Severity = "warning" if fault.movable else "blocker"
    return Finding(
        check=fault.id,
        severity=severity,
        summary=fault.summary.format(count=count),
        count=count,
        evidence=tuple(str(key) for (key,) in keys),
        remedy=fault.remedy or "They are moved to schema airflow_migration, with what hangs on them",
        repair=fault.id if fault.movable else None,
    )


def _check_duplicate_task_fail(conn: Session, tables: Tables) -> Iterator[Finding]:
    """2.3.0 to 2.4.1 moved them away, by mistake (apache/airflow #26714); the later releases keep them."""
    if "execution_date" not in tables.get("task_fail", {}):
        return
    row = conn.execute(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM task_fail"
        " GROUP BY dag_id, task_id, execution_date HAVING count(*) > 1) d"
    ).fetchone()
    count = int(str(row[0])) if row else 0
    yield Finding(
        check="task_fail_duplicate",
        severity="info" if count else "ok",
        count=count,
        summary=f"{count or 'No'} rows of task_fail share dag, task and date",
        remedy="Nothing is changed: one row for each failed try is right" if count else "",
    )


def _check_dropped(conn: Session, tables: Tables, crossing: Crossing) -> Iterator[Finding]:
    for removal in dropped.dropped_tables(tables, crossing):
        count = count_rows(conn, removal.table)
        if count:
            yield Finding(
                check=f"{removal.table}_lost",
                severity="info",
                count=count,
                summary=f"The {count} row(s) of {removal.table} leave Airflow's tables: {removal.cause}",
                remedy="They are kept in schema airflow_migration of the new database",
            )


def _check_callbacks(conn: Session, tables: Tables, head: str, target_head: str) -> Iterator[Finding]:
    removal = removal_of("callback_request", head, target_head)
    count = count_rows(conn, "callback_request") if removal and "callback_request" in tables else 0
    if removal and count:
        yield Finding(
            check="callback_request_lost",
            severity="info",
            count=count,
            summary=f"The {count} row(s) of callback_request do not reach the target: {removal.cause}",
            remedy="They are requests of processes that are gone by then; they stay in the frozen clone",
        )


def _check_xcoms(conn: Session, crossing: Crossing) -> Iterator[Finding]:
    found = xcoms.probe(conn, crossing)
    count = sum(number for _, number in found.problems)
    seen = "" if found.finished else f" among the first {found.probed} looked at; there may be more"
    yield Finding(
        check=xcoms.REPAIR,
        severity="warning" if count else "ok" if found.finished else "info",
        summary=f"{count or 'No'} XCom(s) cannot become JSON{seen}",
        count=count,
        evidence=tuple(f"{number}: {problem}" for problem, number in found.problems),
        remedy="They are moved to schema airflow_migration" if count else "",
        repair=xcoms.REPAIR if count or not found.finished else None,
    )
    if found.rewritten:
        yield Finding(
            check="xcom_rewritten",
            severity="info",
            count=found.rewritten,
            summary=f"{found.rewritten} XCom(s) lose what JSON cannot hold: NaN and Infinity become null, "
            "NUL characters go",
            remedy="Airflow's own migration does that; the frozen clone keeps the values",
        )
    if found.pickles:
        yield Finding(
            check="xcom_pickled",
            severity="info",
            count=found.pickles,
            summary=f"{found.pickles} XCom(s) are pickles, which no 3.x reads",
            remedy=f"Airflow itself moves them to its table {leftovers.ARCHIVE}",
        )
