"""Add runs with everything that can hang on them to a database that a real release has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import Session

FILLERS = {
    "bigint": "1",
    "boolean": "false",
    "bytea": "''",
    "integer": "1",
    "json": "'{}'",
    "jsonb": "'{}'",
    "text": "'x'",
    "timestamp with time zone": "now()",
    "timestamp without time zone": "now()",
    "uuid": "gen_random_uuid()",
}
TASKS = 2
OF_TASK: tuple[str, ...] = (
    "hitl_detail",
    "rendered_task_instance_fields",
    "sensor_instance",
    "sla_miss",
    "task_fail",
    "task_instance_history",
    "task_instance_note",
    "task_map",
    "task_reschedule",
    "task_state_store",
    "xcom",
)


@dataclass(frozen=True, kw_only=True)
class OldRun:
    """:param date: ISO 8601 with a time zone
    :param kind: ``scheduled``, ``manual``, …
    """

    dag_id: str
    run_id: str
    date: str
    state: str = "success"
    kind: str = "scheduled"


def add_runs(conn: Session, runs: Sequence[OldRun], *, tasks: int = TASKS) -> None:
    """Each run gets task instances, and each of these a row in every table of its own."""
    tables = read_tables(conn)
    conn.execute("CREATE TEMP TABLE wanted (dag_id text, run_id text, date timestamptz, state text, kind text)")
    with conn.cursor() as cursor, cursor.copy("COPY wanted FROM STDIN") as copy:
        for run in runs:
            copy.write_row((run.dag_id, run.run_id, run.date, run.state, run.kind))
    named = {"dag_id": "w.dag_id", "run_id": "w.run_id", "state": "w.state"}
    dates = {"execution_date": "w.date", "logical_date": "w.date", "run_after": "w.date", "start_date": "w.date"}
    kinds = {"run_type": "w.kind", "external_trigger": "w.kind = 'manual'"}
    insert(conn, "dag_run", "wanted w", **named, **dates, **kinds)
    of_run = "wanted w JOIN dag_run r USING (dag_id, run_id)"
    task = {"dag_id": "dag_id", "task_id": "'task ' || n", "run_id": "run_id", "execution_date": "w.date"}
    here = task | {"state": "w.state", "map_index": "-1", "job_id": "1000000 + n", "try_number": "1"}
    made = f"{of_run} CROSS JOIN generate_series(1, {tasks}) n"
    insert(conn, "task_instance", made, **here)
    if "id" in tables["task_instance"]:
        made = f"{of_run} JOIN task_instance t USING (dag_id, run_id)"
        task |= {"task_id": "t.task_id", "ti_id": "t.id"}
    rows = task | {"map_index": "-1", "dag_run_id": "r.id", "key": "'k'"}
    for table in OF_TASK:
        if table in tables:
            insert(conn, table, made, **rows)
    if "hitl_detail_history" in tables:
        tried = "wanted w JOIN task_instance_history h USING (dag_id, run_id)"
        insert(conn, "hitl_detail_history", tried, ti_history_id="h.task_instance_id")
    called = "md5(w.dag_id || w.run_id)::uuid"
    if "callback_id" in tables.get("deadline", {}):
        insert(conn, "callback", of_run, id=called)
    for table, column in (("dag_run_note", "dag_run_id"), ("deadline", "dagrun_id")):
        if table in tables:
            insert(conn, table, of_run, **{column: "r.id", "callback_id": called})
    insert(conn, "log", of_run, **{**named, **dates, "dttm": "w.date + interval '1 h'", "event": "'success'"})
    conn.execute("DROP TABLE wanted")


def insert(conn: Session, table: str, source: str, **given: str) -> None:
    """INSERT … SELECT with the given expressions for the columns that there are, the others filled as they must."""
    asked = conn.execute(
        "SELECT column_name::text, data_type::text, is_nullable = 'NO' AND column_default IS NULL"
        " FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
        (table,),
    ).fetchall()
    values = {
        str(name): given.get(str(name)) or FILLERS.get(str(kind), "'x'")
        for name, kind, needed in asked
        if str(name) in given or needed
    }
    conn.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM " + source).format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(map(sql.SQL, values.values())),
        )
    )
