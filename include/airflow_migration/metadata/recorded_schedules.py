"""Read the schedules that a deployment recorded of its DAGs, and the timezones of those that it parsed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping

from psycopg import sql

from airflow_migration.metadata.timetables import RecordedSchedule, read_schedule
from airflow_migration.postgres.address import Session

_BATCH = 500


def read_schedules(conn: Session) -> dict[str, RecordedSchedule]:
    """The schedule of every DAG, as the release that this database belongs to wrote it down.

    To be read from the frozen clone: Airflow empties ``serialized_dag`` on the way to 3.0, and the target's
    first parse overwrites the rest. A release before 1.10.3 recorded none. A DAG that 1.10 has not
    serialized (it does so only with ``store_serialized_dags``) has no recorded timezone.

    :param conn: session whose search_path is the metadata schema; only read
    """
    columns = read_columns(conn, "dag")
    column = next((name for name in ("timetable_summary", "schedule_interval") if name in columns), None)
    if column is None:
        return {}
    serialized = {dag_id: (timetable, zone) for dag_id, timetable, zone in _read_serialized(conn)}
    rows = conn.execute(sql.SQL("SELECT dag_id, {} FROM dag").format(sql.Identifier(column))).fetchall()
    return {
        str(dag_id): read_schedule(None if text is None else str(text), *serialized.get(str(dag_id), (None, None)))
        for dag_id, text in rows
    }


def read_timezones(conn: Session) -> dict[str, str]:
    """The timezone of every DAG that is serialized in this database."""
    zones = ((dag_id, read_schedule("null", None, zone).timezone) for dag_id, _, zone in _read_serialized(conn))
    return {dag_id: zone for dag_id, zone in zones if zone is not None}


def read_columns(conn: Session, table: str) -> frozenset[str]:
    """The columns of one of Airflow's tables; none when there is no such table."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (table,),
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def _read_serialized(conn: Session) -> Iterator[tuple[str, object, object]]:
    """DAG id, timetable or schedule interval, and timezone, of each DAG's latest version."""
    columns = read_columns(conn, "serialized_dag")
    if "data" not in columns:
        return
    # From 2.3 a DAG may be stored compressed (`[core] compress_serialized_dags`), which Postgres cannot open.
    compressed = "data_compressed" if "data_compressed" in columns else "NULL"
    statement = sql.SQL(
        "SELECT DISTINCT ON (dag_id) dag_id,"
        " coalesce(data #> '{{dag,timetable}}', data #> '{{dag,schedule_interval}}')::text,"
        " (data #> '{{dag,timezone}}')::text, CASE WHEN data IS NULL THEN {} END"
        " FROM serialized_dag ORDER BY dag_id, last_updated DESC"
    ).format(sql.SQL(compressed))
    with conn.transaction(), conn.cursor(name="airflow_migration_serialized") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(statement)
        for dag_id, timetable, zone, packed in cursor:
            if isinstance(packed, bytes):
                yield str(dag_id), *_unpack(packed)
            else:
                yield str(dag_id), _decode(timetable), _decode(zone)


def _decode(text: object) -> object:
    return None if text is None else json.loads(str(text))


def _unpack(packed: bytes) -> tuple[object, object]:
    try:
        data = json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError):
        return None, None
    dag = data.get("dag") if isinstance(data, Mapping) else None
    if not isinstance(dag, Mapping):
        return None, None
    return dag.get("timetable") or dag.get("schedule_interval"), dag.get("timezone")
