"""Read the schedules that a deployment recorded of its DAGs, and the timezones of those that it parsed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from airflow_migration.metadata.columns import read_columns
from airflow_migration.metadata.serialized_dags import SerializedDag, read_serialized_dags
from airflow_migration.metadata.timetables import RecordedSchedule, read_schedule
from airflow_migration.postgres.address import Session

NOT_SERIALIZED = SerializedDag()


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRules:
    """What one database says of how one DAG is scheduled.

    :param parsed: it is serialized in this database
    :param catchup: None where it is not written down
    :param earliest: first moment of its schedule, None where it is not written down
    :param latest: last moment of its schedule
    """

    schedule: RecordedSchedule
    parsed: bool
    catchup: bool | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    max_active_runs: int | None = None


def read_schedules(conn: Session) -> dict[str, RecordedSchedule]:
    """The schedule of every DAG, as the release that this database belongs to wrote it down.

    To be read from the frozen clone: Airflow empties ``serialized_dag`` on the way to 3.0, and the target's
    first parse overwrites the rest. A release before 1.10.3 recorded none. A DAG that 1.10 has not
    serialized (it does so only with ``store_serialized_dags``) has no recorded timezone.

    :param conn: session whose search_path is the metadata schema; only read
    """
    return {dag_id: rules.schedule for dag_id, rules in read_rules(conn).items()}


def read_rules(conn: Session) -> dict[str, DagRules]:
    """The schedule of every DAG, with what else decides about its next run.

    :param conn: session whose search_path is the metadata schema; only read
    """
    columns = read_columns(conn, "dag")
    column = next((name for name in ("timetable_summary", "schedule_interval") if name in columns), None)
    if column is None:
        return {}
    serialized = dict(read_serialized_dags(conn))
    limit = "max_active_runs" if "max_active_runs" in columns else "NULL::int"  # 2.1
    rows = conn.execute(
        sql.SQL("SELECT dag_id, {}, {} FROM dag").format(sql.Identifier(column), sql.SQL(limit))
    ).fetchall()
    found = {}
    for dag_id, text, most in rows:
        dag = serialized.get(str(dag_id), NOT_SERIALIZED)
        found[str(dag_id)] = DagRules(
            schedule=read_schedule(None if text is None else str(text), dag.timetable, dag.timezone),
            parsed=dag is not NOT_SERIALIZED,
            catchup=dag.catchup,
            earliest=dag.earliest,
            latest=dag.latest,
            max_active_runs=dag.max_active_runs if most is None else int(str(most)),
        )
    return found


def read_timezones(conn: Session) -> dict[str, str]:
    """The timezone of every DAG that is serialized in this database."""
    zones = ((dag_id, read_schedule("null", None, dag.timezone).timezone) for dag_id, dag in read_serialized_dags(conn))
    return {dag_id: zone for dag_id, zone in zones if zone is not None}
