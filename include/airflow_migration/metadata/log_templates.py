"""Let the logs of task instances be found on both sides of a migration."""

from __future__ import annotations

from airflow_migration.metadata.columns import read_columns
from airflow_migration.postgres.address import Session

LOG_TEMPLATE_REVISION = "f9da662e7089"  # 2.3.0
FIRST_OF_3 = "2b47dc6bc8df"  # 3.0.0

OLD_LOG_TEMPLATE = "{{ ti.dag_id }}/{{ ti.task_id }}/{{ ts }}/{{ try_number }}.log"
"""Where releases before 2.3 wrote a task's log: `synchronize_log_template` of airflow/utils/db.py."""
OLD_LOG_ID = "{{dag_id}}-{{task_id}}-{{{date}}}-{{try_number}}"
"""The same for Elasticsearch; 2.x fills in ``execution_date`` and 3.x ``logical_date``."""

_EITHER = "{{% if ti.start_date and ti.start_date.timestamp() < {moment} %}}{before}{{% else %}}{after}{{% endif %}}"


def find_old_logs(conn: Session, had: frozenset[str]) -> int:
    """Add the template of releases before 2.3 where it is missing, and let old runs have new logs.

    A run that names no template has the one with the lowest id (`DagRun._get_log_template`, the same in
    2.11.2 and 3.3.2), so no run needs to be written. 2.11.2 does not add this one when it upgrades a 1.10
    database (measured).

    :param had: revisions that the source had behind it
    :returns: how many runs have their logs under the old template
    """
    columns = read_columns(conn, "dag_run")
    if "log_template_id" not in columns:  # a target before 2.3
        return 0
    found = 0
    if LOG_TEMPLATE_REVISION not in had:
        _add_old_template(conn, "logical_date" if "logical_date" in columns else "execution_date")
        row = conn.execute("SELECT count(*) FROM dag_run WHERE log_template_id IS NULL").fetchone()
        found = int(str(row[0])) if row else 0
    let_old_runs_have_new_logs(conn, had)
    return found


def _add_old_template(conn: Session, date: str) -> None:
    lowest = conn.execute("SELECT id, filename FROM log_template ORDER BY id LIMIT 1").fetchone()
    if lowest is None or OLD_LOG_TEMPLATE not in str(lowest[1]):
        conn.execute(
            "INSERT INTO log_template (id, filename, elasticsearch_id, created_at) VALUES (%s, %s, %s, now())",
            (0 if lowest is None else int(str(lowest[0])) - 1, OLD_LOG_TEMPLATE, OLD_LOG_ID.format(date=date)),
        )


def let_old_runs_have_new_logs(conn: Session, had: frozenset[str]) -> None:
    """A template that differs from the newest gives the newest's path for what starts from now on.

    Workers of 3.x write where the configuration says (`log_filename_template_renderer` of airflow/utils/helpers.py),
    but are looked for where the run's template says: without this the log of a task of before that goes on, or
    is cleared, is not found (measured with 3.3.2). A try that is over keeps its path by its start date. The
    newest template may be noted no earlier than by the target's first command (`synchronize_log_template`).

    :param had: revisions that the source had behind it
    """
    if FIRST_OF_3 in had or not read_columns(conn, "dag_version"):
        return
    rows = conn.execute("SELECT id, filename FROM log_template ORDER BY id DESC").fetchall()
    if not rows:
        return
    newest = str(rows[0][1])
    moment = conn.execute("SELECT floor(extract(epoch FROM now()))::bigint").fetchone()
    assert moment is not None
    for template_id, filename in rows[1:]:
        before = str(filename)
        # One without braces of Jinja is filled in by str.format, which knows no conditions.
        if before != newest and "{{" in before and "{{" in newest and "ti.start_date.timestamp()" not in before:
            either = _EITHER.format(moment=moment[0], before=before, after=newest)
            conn.execute("UPDATE log_template SET filename = %s WHERE id = %s", (either, template_id))
