"""Let task instances that a stopped deployment left half done run again on the target."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.columns import read_columns
from airflow_migration.metadata.draining import ENDING_BY_THEMSELVES
from airflow_migration.postgres.address import Session

EXAMPLES = 20
UNFINISHED_RUNS = ("running", "queued")
FINISHED_TASKS = ("success", "failed", "skipped", "upstream_failed", "removed")

_TABLE = """
CREATE TABLE IF NOT EXISTS airflow_migration.mended_task_instance (
    migration_id text NOT NULL, dag_id text NOT NULL, task_id text NOT NULL, run_id text NOT NULL,
    map_index integer NOT NULL, try_number integer, old_state text NOT NULL, cleared boolean NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (migration_id, dag_id, run_id, task_id, map_index)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedTasks:
    """What was left over.

    :param cleared: task instances of unfinished runs, which run again
    :param left: task instances of finished runs, which stay as they are
    :param examples: some of them, each with its state
    """

    cleared: int
    left: int
    examples: tuple[str, ...]


def clear_left_over_tasks(conn: Session, migration_id: str, *, counts_tries_when_scheduled: bool) -> ClearedTasks:
    """Set the state to NULL where no process of the target knows the task instance, and record what it was.

    1.10's ``running`` and ``queued`` have no `queued_by_job_id`: 3.3.2 neither adopts nor resets nor fails
    them, and their run never ends (measured). Up to 2.9 the try was counted when a task started, since 2.10
    when it is scheduled: an older ``scheduled`` would run under the number of the try before.

    :param counts_tries_when_scheduled: the source is a 2.10 or newer
    """
    make_schema(conn)
    conn.execute(_TABLE)
    columns = read_columns(conn, "task_instance")
    key = "run_id" if "run_id" in columns else "execution_date"
    map_index = "ti.map_index" if "map_index" in columns else "-1"
    # Nothing would ever wake it.
    lost = "ti.state = 'deferred' AND NOT EXISTS (SELECT FROM trigger AS t WHERE t.id = ti.trigger_id)"
    left_over = sql.SQL(
        "FROM task_instance AS ti JOIN dag_run AS run ON run.dag_id = ti.dag_id AND run.{key} = ti.{key}"
        " WHERE (ti.state = ANY(%(states)s)"
        " OR (ti.state = 'scheduled' AND run.state = ANY(%(unfinished)s) AND (%(all)s OR ti.try_number = 0))"
        " OR ({lost}))"
    ).format(key=sql.Identifier(key), lost=sql.SQL(lost if "trigger_id" in columns else "false"))
    values: dict[str, object] = {
        "migration": migration_id,
        "states": list(ENDING_BY_THEMSELVES),
        "unfinished": list(UNFINISHED_RUNS),
        "all": not counts_tries_when_scheduled,
    }
    recorded = conn.execute(
        sql.SQL(
            "INSERT INTO airflow_migration.mended_task_instance"
            " (migration_id, dag_id, task_id, run_id, map_index, try_number, old_state, cleared)"
            " SELECT %(migration)s, ti.dag_id, ti.task_id, run.run_id, {map_index}, ti.try_number, ti.state,"
            " run.state = ANY(%(unfinished)s) {left_over} ON CONFLICT DO NOTHING RETURNING cleared"
        ).format(map_index=sql.SQL(map_index), left_over=left_over),
        values,
    )
    left = sum(not row[0] for row in recorded)
    cleared = conn.execute(
        sql.SQL(
            "UPDATE task_instance SET state = NULL WHERE ctid IN"
            " (SELECT ti.ctid {left_over} AND run.state = ANY(%(unfinished)s))"
        ).format(left_over=left_over),
        values,
    ).rowcount
    return ClearedTasks(cleared=cleared, left=left, examples=_read_examples(conn, migration_id))


def complete_task_instances(conn: Session) -> int:
    """Give task instances the priority and queue without which they end the target's scheduler.

    3.x checks both when it hands a task instance to an executor (`TaskInstanceDTO` of
    airflow/executors/workloads/task.py), 2.x sorts by priority (`order_queued_tasks_by_priority` of
    airflow/executors/base_executor.py); also an old one that is cleared. A NULL makes the scheduler exit
    (measured with 2.11.2 and 3.3.2), again at each start. The defaults are `BaseOperator`'s.

    :returns: how many lacked one
    """
    return conn.execute(
        "UPDATE task_instance SET priority_weight = coalesce(priority_weight, 1), queue = coalesce(queue, 'default')"
        " WHERE priority_weight IS NULL OR queue IS NULL"
    ).rowcount


def make_schema(conn: Session) -> None:
    """Make the schema that holds our own tables, where it is missing."""
    # IF NOT EXISTS asks for the privilege to create even when there is nothing to do.
    row = conn.execute("SELECT to_regnamespace('airflow_migration') IS NULL").fetchone()
    if row and row[0]:
        conn.execute("CREATE SCHEMA airflow_migration")


def _read_examples(conn: Session, migration_id: str) -> tuple[str, ...]:
    rows = conn.execute(
        "SELECT format('%%s.%%s %%s (%%s)', dag_id, task_id, run_id, old_state)"
        " FROM airflow_migration.mended_task_instance WHERE migration_id = %s"
        " ORDER BY cleared DESC, dag_id, run_id, task_id, map_index LIMIT %s",
        (migration_id, EXAMPLES),
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def set_dag_versions(conn: Session) -> tuple[int, tuple[str, ...]]:
    """Give unfinished task instances of unfinished runs the latest version of their DAG.

    3.x hands no task instance without a version to an executor, and its own way out
    (`_verify_integrity_if_dag_changed` of scheduler_job_runner.py, 3.3.2) matches ``state IN (…)``, which
    NULL never does. A run needs none of its own: without `created_dag_version_id` the scheduler takes the
    latest (`DBDagBag._version_from_dag_run`).

    :returns: how many got one, and the DAGs that have none because they were not parsed
    """
    if "dag_version_id" not in read_columns(conn, "task_instance"):  # a target before 3.0
        return 0, ()
    waiting = sql.SQL(
        "ti.dag_version_id IS NULL AND run.dag_id = ti.dag_id AND run.run_id = ti.run_id"
        " AND run.state = ANY(%s) AND (ti.state IS NULL OR ti.state <> ALL(%s))"
    )
    states = (list(UNFINISHED_RUNS), list(FINISHED_TASKS))
    update = sql.SQL(
        "UPDATE task_instance AS ti SET dag_version_id = latest.id FROM dag_run AS run,"
        " (SELECT DISTINCT ON (dag_id) dag_id, id FROM dag_version"
        " ORDER BY dag_id, created_at DESC, version_number DESC) AS latest"
        " WHERE latest.dag_id = ti.dag_id AND {}"
    ).format(waiting)
    changed = conn.execute(update, states).rowcount
    read = sql.SQL(
        "SELECT DISTINCT ti.dag_id FROM task_instance AS ti, dag_run AS run WHERE {} ORDER BY ti.dag_id"
    ).format(waiting)
    rows = conn.execute(read, states).fetchall()
    return changed, tuple(str(row[0]) for row in rows)
