"""Read from a metadata database of any release the runs from which its scheduler goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from airflow_migration.metadata.columns import in_use, read_columns
from airflow_migration.metadata.next_runs import Interval
from airflow_migration.metadata.timetables import RecordedSchedule, ScheduleError, interval_end
from airflow_migration.postgres.address import Session

_BY_TYPE = "r.run_type IN ('scheduled', 'backfill')"
_BY_TRIGGER = "(r.external_trigger IS NOT TRUE OR left(r.run_id, 11) = 'scheduled__')"
"""`create_dag_run` of 1.10's jobs/scheduler_job.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """What a DAG's next run depends on.

    :param interval: of the last scheduled or backfilled run; computed from the schedule where it is not written
        down, None where there is no such run or it cannot be computed
    :param logical_date: of that run
    :param noted: the next run as the deployment itself has noted it; None where it has not
    :param noted_exists: a run with that logical date is there already
    :param unfinished: runs that are running or queued
    :param active: the deployment finds the DAG in its files, and it is no subdag
    """

    interval: Interval | None
    logical_date: datetime | None
    noted: Interval | None
    noted_exists: bool
    unfinished: int
    active: bool


def read_last_runs(
    conn: Session, dag_ids: Sequence[str], schedules: Mapping[str, RecordedSchedule]
) -> dict[str, LastRun]:
    """What each of these DAGs goes on from; DAGs without a row in `dag` are left out.

    :param schedules: from which intervals are computed that are not written down
    """
    rows = conn.execute(_statement(conn), {"dags": list(dag_ids)}).fetchall()
    return {str(row[0]): _read(schedules.get(str(row[0])), row) for row in rows}


def automated(columns: Collection[str]) -> str:
    """SQL over `r`, a row of `dag_run` with these columns: whether it is one from which the scheduler goes on."""
    return _BY_TYPE if "run_type" in columns else _BY_TRIGGER


def _statement(conn: Session) -> sql.Composed:
    runs, dag = read_columns(conn, "dag_run"), read_columns(conn, "dag")
    intervals = "data_interval_start" in runs
    noted = "next_dagrun_create_after" in dag  # 2.0
    text = {
        "date": "r.logical_date" if "logical_date" in runs else "r.execution_date",
        "automated": automated(runs),
        "start": "r.data_interval_start" if intervals else "NULL::timestamptz",
        "end": "r.data_interval_end" if intervals else "NULL::timestamptz",
        "next": "d.next_dagrun" if noted else "NULL::timestamptz",
        "after": "d.next_dagrun_create_after" if noted else "NULL::timestamptz",
    }
    # One look into the index of dag_run by DAG and date for each DAG, however long its history is.
    return sql.SQL(
        "SELECT d.dag_id, last.date, last.starts, last.ends, {next}, {after},"
        " EXISTS (SELECT FROM dag_run AS r WHERE r.dag_id = d.dag_id AND {date} = {next}),"
        " (SELECT count(*) FROM dag_run AS r WHERE r.dag_id = d.dag_id AND r.state IN ('running', 'queued')),"
        " {used}"
        " FROM dag AS d LEFT JOIN LATERAL (SELECT {date} AS date, {start} AS starts, {end} AS ends"
        " FROM dag_run AS r WHERE r.dag_id = d.dag_id AND {automated} AND {date} IS NOT NULL"
        " ORDER BY {date} DESC LIMIT 1) AS last ON true WHERE d.dag_id = ANY(%(dags)s)"
    ).format(used=in_use(dag), **{name: sql.SQL(part) for name, part in text.items()})


def _read(schedule: RecordedSchedule | None, row: tuple[object, ...]) -> LastRun:
    _, date, start, end, following, after, exists, unfinished, active = row
    interval = None
    if isinstance(start, datetime) and isinstance(end, datetime):
        interval = Interval(start=start, end=end)
    elif isinstance(date, datetime) and schedule is not None:
        interval = _infer(schedule, date)
    noted = None
    if isinstance(following, datetime) and isinstance(after, datetime):
        noted = Interval(start=following, end=after)
    return LastRun(
        interval=interval,
        logical_date=date if isinstance(date, datetime) else None,
        noted=noted,
        noted_exists=bool(exists),
        unfinished=int(str(unfinished)),
        active=bool(active),
    )


def _infer(schedule: RecordedSchedule, date: datetime) -> Interval | None:
    try:
        return Interval(start=date, end=interval_end(schedule, date))
    except ScheduleError:
        return None
