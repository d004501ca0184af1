"""Give runs made before Airflow 2.2 the data interval from which the scheduler computes the next run.

Without one the target takes the last run itself for the next, finds that it exists and creates no run ever
again ("run already exists; skipping dagrun creation", measured with 3.3.2 after 1.10.15 → 2.11.2 → 3.3.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from psycopg import sql

from airflow_migration.metadata.columns import read_columns
from airflow_migration.metadata.timetables import RecordedSchedule, ScheduleError, interval_end, is_tick
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener, Progress

NO_TIMEZONE = "its timezone is not recorded, and its runs do not lie on its ticks in UTC"
UNKNOWN_DAG = "no such DAG is recorded"
_BATCH = 10_000
_YEAR = timedelta(days=370)

_AUTOMATED = sql.SQL("run_type IN ('scheduled', 'backfill')")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotComputed:
    """A DAG whose old runs stay without a data interval.

    :param runs: how many of them
    """

    dag_id: str
    reason: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledIntervals:
    """What was filled in.

    :param runs: runs that got a data interval
    :param dags: DAGs with such runs
    :param run_after: runs that had one already, and whose ``run_after`` was too early
    :param not_computed: the DAGs left over, those with the most runs first
    """

    runs: int
    dags: tuple[str, ...]
    run_after: int
    not_computed: tuple[NotComputed, ...]


def fill_intervals(
    conn: Session,
    schedules: Mapping[str, RecordedSchedule],
    *,
    mend_run_after: bool,
    listener: Listener,
) -> FilledIntervals:
    """Fill ``data_interval_start``, ``data_interval_end`` and ``run_after`` where the interval is NULL.

    ``run_after`` is moved for scheduled and backfill runs only: a manual run may start at its logical date.
    A cron schedule without a timezone is read as UTC, unless a run of its last year does not fit.

    :param schedules: what the source recorded, by DAG id
    :param mend_run_after: also where the interval is known; Airflow's own upgrade to 3.0 (6a9e7a527a88)
        takes the logical date where there was none at that moment
    """
    columns = read_columns(conn, "dag_run")
    if "data_interval_start" not in columns:  # a target before 2.2
        return FilledIntervals(runs=0, dags=(), run_after=0, not_computed=())
    date = sql.Identifier("logical_date" if "logical_date" in columns else "execution_date")
    has_run_after = "run_after" in columns
    moved = _move_run_after(conn) if has_run_after and mend_run_after else 0
    conn.execute("CREATE TEMPORARY TABLE mended_interval (id bigint, dag_id text, ends timestamptz) ON COMMIT DROP")
    failed = _stage_intervals(conn, schedules, date, listener)
    conn.execute("DELETE FROM mended_interval WHERE dag_id = ANY(%s)", (list(failed),))
    conn.execute("ANALYZE mended_interval")
    dags = conn.execute("SELECT DISTINCT dag_id FROM mended_interval ORDER BY dag_id").fetchall()
    filled = _apply_intervals(conn, date, has_run_after=has_run_after)
    conn.execute("DROP TABLE mended_interval")
    return FilledIntervals(
        runs=filled,
        dags=tuple(str(row[0]) for row in dags),
        run_after=moved,
        not_computed=_read_left_over(conn, schedules, failed, date),
    )


def _move_run_after(conn: Session) -> int:
    statement = sql.SQL(
        "UPDATE dag_run SET run_after = least(data_interval_end, now())"
        " WHERE {} AND data_interval_end IS NOT NULL AND run_after < least(data_interval_end, now())"
    ).format(_AUTOMATED)
    return conn.execute(statement).rowcount


def _stage_intervals(
    conn: Session, schedules: Mapping[str, RecordedSchedule], date: sql.Identifier, listener: Listener
) -> dict[str, str]:
    """Write each run's end into the temporary table; the DAGs that failed, with the reason."""
    began = time.monotonic()
    failed: dict[str, str] = {}
    read = sql.SQL(
        "SELECT id, dag_id, {date}, {automated} FROM dag_run"
        " WHERE data_interval_start IS NULL AND data_interval_end IS NULL AND {date} IS NOT NULL"
        " ORDER BY dag_id, {date} DESC"
    ).format(date=date, automated=_AUTOMATED)
    with conn.cursor(name="airflow_migration_intervals") as runs, conn.cursor() as writer:
        runs.itersize = _BATCH
        runs.execute(read)
        ends = _compute_ends(runs, schedules, failed)
        done = 0
        while batch := tuple(islice(ends, _BATCH)):
            with writer.copy("COPY mended_interval (id, dag_id, ends) FROM STDIN") as copy:
                for row in batch:
                    copy.write_row(row)
            done += len(batch)
            seconds = time.monotonic() - began
            listener(Progress(what="computing data intervals", done=done, unit="runs", seconds=seconds))
    return failed


def _compute_ends(
    runs: Iterable[tuple[object, ...]], schedules: Mapping[str, RecordedSchedule], failed: dict[str, str]
) -> Iterator[tuple[object, str, datetime]]:
    """Run id, DAG id and end, for runs ordered by DAG and from the newest back."""
    newest: dict[str, datetime] = {}
    for run_id, dag, moment, automated in runs:
        dag_id, start = str(dag), moment
        assert isinstance(start, datetime)
        schedule = schedules.get(dag_id)
        if schedule is None or dag_id in failed:
            continue
        try:
            if automated and schedule.needs_timezone:
                # An older run may stem from another schedule; one year shows summer and winter time.
                recent = newest.setdefault(dag_id, start) - start < _YEAR
                if recent and not is_tick(schedule, start):
                    raise ScheduleError(NO_TIMEZONE)
            yield run_id, dag_id, interval_end(schedule, start)
        except ScheduleError as err:
            failed[dag_id] = str(err)


def _apply_intervals(conn: Session, date: sql.Identifier, *, has_run_after: bool) -> int:
    # A run that exists may start; an end in the future (the schedule was made longer) must not hold it back.
    run_after = sql.SQL(
        ", run_after = CASE WHEN {} THEN greatest(run.run_after, least(mended.ends, now())) ELSE run.run_after END"
    ).format(_AUTOMATED)
    statement = sql.SQL(
        "UPDATE dag_run AS run"
        " SET data_interval_start = run.{date}, data_interval_end = mended.ends{run_after}"
        " FROM mended_interval AS mended WHERE run.id = mended.id"
    ).format(date=date, run_after=run_after if has_run_after else sql.SQL(""))
    return conn.execute(statement).rowcount


def _read_left_over(
    conn: Session, schedules: Mapping[str, RecordedSchedule], failed: Mapping[str, str], date: sql.Identifier
) -> tuple[NotComputed, ...]:
    statement = sql.SQL(
        "SELECT dag_id, count(*) FROM dag_run"
        " WHERE data_interval_start IS NULL AND data_interval_end IS NULL AND {} IS NOT NULL"
        " GROUP BY dag_id ORDER BY count(*) DESC, dag_id"
    ).format(date)
    rows = conn.execute(statement).fetchall()
    reasons = {dag_id: schedule.reason for dag_id, schedule in schedules.items()} | dict(failed)
    return tuple(
        NotComputed(dag_id=str(dag_id), reason=reasons.get(str(dag_id), UNKNOWN_DAG), runs=int(str(count)))
        for dag_id, count in rows
    )
