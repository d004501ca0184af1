"""Mend what Airflow's own upgrades leave broken for the target's scheduler.

In two steps: rows that must be right before any process of the target starts, and rows that need what the
target's first parse of its DAG files writes. In both everything is still paused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from airflow_migration.metadata.columns import read_columns
from airflow_migration.metadata.data_intervals import FilledIntervals, NotComputed, fill_intervals
from airflow_migration.metadata.late_parse import mend_at_parse
from airflow_migration.metadata.left_over_tasks import (
    EXAMPLES,
    clear_left_over_tasks,
    complete_task_instances,
    make_schema,
    set_dag_versions,
)
from airflow_migration.metadata.log_templates import find_old_logs, let_old_runs_have_new_logs
from airflow_migration.metadata.recorded_schedules import read_schedules, read_timezones
from airflow_migration.metadata.releases import applied_revisions, read_head
from airflow_migration.metadata.timetables import RecordedSchedule
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener

__all__ = ["MendResult", "RecordedSchedule", "mend_after_parse", "mend_before_start", "read_schedules"]

BEFORE_START = "before start"
AFTER_PARSE = "after parse"

TRY_HISTORY_REVISION = "d482b7261ff9"  # 2.10.0
RUN_AFTER_REVISION = "6a9e7a527a88"  # 3.0.0

_RESULTS = """
CREATE TABLE IF NOT EXISTS airflow_migration.mend (
    migration_id text NOT NULL, step text NOT NULL, counts jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (migration_id, step)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MendResult:
    """What was mended, over all tries of the step; lists hold 20 entries at most.

    :param intervals: runs that got a data interval
    :param run_after: runs with a data interval whose earliest start was before its end
    :param cleared: task instances of unfinished runs that run again
    :param left: task instances of finished runs that stay ``running`` or ``queued``
    :param completed: task instances that had no priority or queue, at which a scheduler ends
    :param old_logs: runs whose logs are found again, under the template of releases before 2.3
    :param dag_versions: task instances that got the latest version of their DAG
    :param not_computed_runs: runs that stay without a data interval
    :param not_computed_dags: their DAGs
    :param not_computed: the DAGs with the most of them
    :param task_instances: some of those cleared and left, with their former state
    :param not_parsed_dags: DAGs with unfinished task instances that the target has not parsed
    :param not_parsed: some of them
    :param warnings: sentences for the report
    """

    intervals: int = 0
    run_after: int = 0
    cleared: int = 0
    left: int = 0
    completed: int = 0
    old_logs: int = 0
    dag_versions: int = 0
    not_computed_runs: int = 0
    not_computed_dags: int = 0
    not_computed: tuple[NotComputed, ...] = ()
    task_instances: tuple[str, ...] = ()
    not_parsed_dags: int = 0
    not_parsed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


_ADDED_UP = ("intervals", "run_after", "cleared", "left", "completed", "dag_versions")


def mend_before_start(
    conn: Session,
    *,
    source_head: str,
    recorded: Mapping[str, RecordedSchedule],
    migration_id: str,
    listener: Listener,
) -> MendResult:
    """Mend the working database after the last hop and before any process of the target starts.

    Only rows that Airflow left without a value are touched, and only their named columns. It may be called
    again. It does not commit: a try that is cut off leaves nothing.

    :param conn: session on the working database, not in autocommit, whose search_path is the metadata schema
    :param source_head: alembic head that the source had
    :param recorded: `read_schedules` of the frozen clone
    :param migration_id: under which former states are kept in ``airflow_migration.mended_task_instance``
    """
    had = applied_revisions(source_head)
    filled = fill_intervals(conn, recorded, mend_run_after=RUN_AFTER_REVISION not in had, listener=listener)
    tasks = clear_left_over_tasks(conn, migration_id, counts_tries_when_scheduled=TRY_HISTORY_REVISION in had)
    _forget_parsed(conn, source_head, had)
    result = replace(
        _with_intervals(MendResult(), filled),
        cleared=tasks.cleared,
        left=tasks.left,
        completed=complete_task_instances(conn),
        old_logs=find_old_logs(conn, had),
        task_instances=tasks.examples,
    )
    result = _add_earlier_tries(conn, migration_id, BEFORE_START, result)
    result = replace(result, warnings=_warnings(result))
    listener(
        f"{result.intervals} run(s) got a data interval, {result.not_computed_runs} stay without;"
        f" {result.cleared} task instance(s) will run again;"
        f" the logs of {result.old_logs} run(s) are under the old template"
    )
    return result


def mend_after_parse(
    conn: Session,
    *,
    source_head: str,
    recorded: Mapping[str, RecordedSchedule],
    migration_id: str,
    listener: Listener,
) -> MendResult:
    """Mend what needs the target's parsed DAGs, before the first of them is unpaused.

    Unfinished task instances get the latest version of their DAG, and runs whose timezone the source had not
    recorded get their data interval with the timezone that the target has parsed. The next run of such a DAG
    was computed without it: it is set to be computed anew by the DAG processor's next parse. It does not
    commit.

    :param conn: session on the working database, not in autocommit, whose search_path is the metadata schema
    :param source_head: alembic head that the source had
    :param recorded: `read_schedules` of the frozen clone
    :param migration_id: under which the counts are kept
    """
    zones = read_timezones(conn)
    found = {
        dag_id: replace(schedule, timezone=zones[dag_id])
        for dag_id, schedule in recorded.items()
        if schedule.needs_timezone and dag_id in zones
    }
    filled = fill_intervals(conn, {**recorded, **found}, mend_run_after=False, listener=listener)
    _forget_next_run(conn, filled.dags)
    versions, not_parsed = set_dag_versions(conn)
    mend_at_parse(conn, needed=bool(not_parsed))
    let_old_runs_have_new_logs(conn, applied_revisions(source_head))
    result = replace(
        _with_intervals(MendResult(), filled),
        dag_versions=versions,
        not_parsed_dags=len(not_parsed),
        not_parsed=not_parsed[:EXAMPLES],
    )
    result = _add_earlier_tries(conn, migration_id, AFTER_PARSE, result)
    result = replace(result, warnings=_warnings(result))
    listener(
        f"{result.dag_versions} unfinished task instance(s) got their DAG's version;"
        f" {result.intervals} run(s) got a data interval, {result.not_computed_runs} stay without"
    )
    return result


def _with_intervals(result: MendResult, filled: FilledIntervals) -> MendResult:
    return replace(
        result,
        intervals=filled.runs,
        run_after=filled.run_after,
        not_computed_runs=sum(entry.runs for entry in filled.not_computed),
        not_computed_dags=len(filled.not_computed),
        not_computed=filled.not_computed[:EXAMPLES],
    )


def _forget_parsed(conn: Session, source_head: str, had: frozenset[str]) -> None:
    """Leave nothing that a scheduler could act upon before the target has parsed its DAG files.

    Airflow's own `db migrate` empties ``serialized_dag`` on the way to 3.0, and does so in 2.x unless it is
    told, as ours is, to run no DAG code. A next run noted by the source may then only mislead.
    """
    if RUN_AFTER_REVISION in had or read_head(conn) == source_head:
        return
    if "next_dagrun_create_after" in read_columns(conn, "dag"):
        conn.execute("UPDATE dag SET next_dagrun_create_after = NULL WHERE next_dagrun_create_after IS NOT NULL")
    if read_columns(conn, "serialized_dag"):
        conn.execute("DELETE FROM serialized_dag")


def _forget_next_run(conn: Session, dags: tuple[str, ...]) -> None:
    """Airflow's scheduler leaves out a DAG without `next_dagrun_create_after`; every parse fills it again."""
    if not dags:  # nor are there releases before 2.0, which lack the column
        return
    conn.execute("UPDATE dag SET next_dagrun_create_after = NULL WHERE dag_id = ANY(%s)", (list(dags),))


def _add_earlier_tries(conn: Session, migration_id: str, step: str, result: MendResult) -> MendResult:
    """Add what tries before this one have committed, so that a retry reports the same."""
    make_schema(conn)
    conn.execute(_RESULTS)
    stored = conn.execute(
        "SELECT counts FROM airflow_migration.mend WHERE migration_id = %s AND step = %s",
        (migration_id, step),
    ).fetchone()
    earlier = stored[0] if stored and isinstance(stored[0], dict) else {}
    counts = {name: getattr(result, name) + int(earlier.get(name, 0)) for name in _ADDED_UP}
    conn.execute(
        "INSERT INTO airflow_migration.mend (migration_id, step, counts) VALUES (%s, %s, %s)"
        " ON CONFLICT (migration_id, step) DO UPDATE SET counts = excluded.counts",
        (migration_id, step, json.dumps(counts)),
    )
    return replace(result, **counts)


def _warnings(result: MendResult) -> tuple[str, ...]:
    warnings = []
    if result.not_computed_runs:
        warnings.append(
            f"{result.not_computed_runs} run(s) of {result.not_computed_dags} DAG(s) have no data interval:"
            " their DAGs may not be scheduled on"
        )
    if result.left:
        warnings.append(f"{result.left} task instance(s) of finished runs stay as running or queued")
    if result.not_parsed_dags:
        warnings.append(
            f"{result.not_parsed_dags} DAG(s) with unfinished task instances are not parsed by the target:"
            " those task instances wait"
        )
    return tuple(warnings)
