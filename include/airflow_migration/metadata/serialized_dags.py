"""Read from serialized DAGs what decides about their runs, whichever release serialized them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files

from psycopg import sql

from airflow_migration.metadata.columns import read_columns
from airflow_migration.postgres.address import Session

_STATEMENT = files(__package__).joinpath("serialized_dags.sql").read_text(encoding="utf-8")
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SerializedDag:
    """One DAG's latest version.

    :param timetable: timetable or schedule interval, decoded
    :param timezone: name, or seconds of a fixed offset
    :param catchup: None where it is the default of the release that serialized it
    :param earliest: the first start date of the DAG and its tasks
    :param latest: its end date, or the last of its tasks' where each has one
    :param max_active_runs: None where it is the default
    """

    timetable: object = None
    timezone: object = None
    catchup: bool | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    max_active_runs: int | None = None


def read_serialized_dags(conn: Session) -> Iterator[tuple[str, SerializedDag]]:
    """Every DAG that is serialized in this database, by id; nothing before 1.10.7."""
    columns = read_columns(conn, "serialized_dag")
    if "data" not in columns:
        return
    # From 2.3 a DAG may be stored compressed (`[core] compress_serialized_dags`), which Postgres cannot open.
    compressed = "s.data_compressed" if "data_compressed" in columns else "NULL::bytea"
    statement = sql.SQL(_STATEMENT).format(compressed=sql.SQL(compressed))
    with conn.transaction(), conn.cursor(name="airflow_migration_serialized") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(statement)
        for dag_id, packed, content in cursor:
            yield str(dag_id), _read(_unpack(packed) if isinstance(packed, bytes) else content)


def _unpack(packed: bytes) -> object:
    try:
        data = json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError):
        return None
    dag = data.get("dag") if isinstance(data, Mapping) else None
    if not isinstance(dag, Mapping):
        return None
    tasks = [task.get("__var", task) for task in dag.get("tasks") or () if isinstance(task, Mapping)]
    return dict(dag) | {"timetable": dag.get("timetable") or dag.get("schedule_interval"), "tasks": tasks}


def _read(dag: object) -> SerializedDag:
    if not isinstance(dag, Mapping):
        return SerializedDag()
    tasks = [task for task in dag.get("tasks") or () if isinstance(task, Mapping)]
    starts = [moment for each in (dag, *tasks) if (moment := _moment(each.get("start_date")))]
    catchup, limit = dag.get("catchup"), dag.get("max_active_runs")
    return SerializedDag(
        timetable=dag.get("timetable"),
        timezone=dag.get("timezone"),
        catchup=catchup if isinstance(catchup, bool) else None,
        earliest=min(starts, default=None),
        latest=_latest(_moment(dag.get("end_date")), [_moment(task.get("end_date")) for task in tasks]),
        max_active_runs=int(limit) if isinstance(limit, int | float) else None,
    )


def _latest(of_dag: datetime | None, of_tasks: Iterable[datetime | None]) -> datetime | None:
    """`SerializedDAG._time_restriction` of 3.3.2: tasks count only where none goes on for ever."""
    ends = list(of_tasks)
    known = [end for end in (of_dag, *ends) if end]
    return max(known) if ends and all(ends) and known else of_dag


def _moment(value: object) -> datetime | None:
    """A date is written as seconds since 1970, in some places with its type."""
    if isinstance(value, Mapping):
        value = value.get("__var")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return datetime.fromtimestamp(value, timezone.utc)
