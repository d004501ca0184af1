"""Find, without changing anything, what Airflow's own migrations would abort on, change or lose on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from airflow_migration.metadata.checks.check import Check, Examination, within_limits
from airflow_migration.metadata.checks.confs import CONF_CHECKS
from airflow_migration.metadata.checks.dags import DAG_CHECKS
from airflow_migration.metadata.checks.names import NAME_CHECKS
from airflow_migration.metadata.checks.rows import row_checks
from airflow_migration.metadata.checks.schema import SCHEMA_CHECKS
from airflow_migration.metadata.checks.xcoms import XCOM_CHECKS
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import releases_at
from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.postgres.address import Session

__all__ = ["Check", "checks_for", "find_problems", "within_limits"]


def checks_for(tables: Tables) -> tuple[Check, ...]:
    """Every check that there is, for a database with these tables."""
    return (*NAME_CHECKS, *SCHEMA_CHECKS, *row_checks(tables), *DAG_CHECKS, *CONF_CHECKS, *XCOM_CHECKS)


def find_problems(
    conn: Session, *, head: str, target_head: str, path: Sequence[tuple[str, str]] = ()
) -> tuple[Finding, ...]:
    """Run the checks that one hop or a whole path needs; one that finds nothing answers ``ok`` or not at all.

    Looks only at tables and columns that exist. Reads each history table a few times; XComs that are no pickles are
    cast, for forty seconds at most. A question that a time limit of the session ends becomes a finding that says so.

    :param conn: session whose transaction is the snapshot
    :param head: schema revision of the database now
    :param target_head: schema revision where the path ends
    :param path: release of each hop and its head, in order; without it one hop is supposed
    :raises InvalidInputError: a head belongs to no known release
    """
    whole = Crossing.between(head, target_head)
    tables = read_tables(conn)
    look = Examination(conn=conn, tables=tables, crossing=whole, head=head, target_head=target_head)
    hops = _hops(head, path or ((_release_at(target_head), target_head),))
    where = _search_path(conn)
    findings: list[Finding] = []
    for check in checks_for(tables):
        concerned = tuple(release for release, crossing in hops if check.concerns(crossing))
        if concerned:
            findings += (
                replace(finding, hops=concerned, sql=where + finding.sql if finding.sql else "")
                for finding in within_limits(conn, check.ids[0], partial(check.ask, look))
            )
    return tuple(findings)


def _hops(head: str, path: Sequence[tuple[str, str]]) -> tuple[tuple[str, Crossing], ...]:
    starts = [head, *(end for _, end in path)]
    return tuple((release, Crossing.between(start, end)) for start, (release, end) in zip(starts, path, strict=False))


def _release_at(head: str) -> str:
    found = releases_at(head)
    return found[0].version if found else head


def _search_path(conn: Session) -> str:
    """What a person must say first who looks where the tables are not in schema public."""
    row = conn.execute("SELECT current_setting('search_path')").fetchone()
    path = str(row[0]) if row else ""
    return "" if path.replace('"', "") in ("", "public") else f"SET search_path TO {path};\n"
