"""See before the migration how its DAGs will go on: what is left open, and what catches up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from psycopg import sql

from airflow_migration.metadata import pausing
from airflow_migration.metadata.columns import read_columns
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.forecast import count_due
from airflow_migration.metadata.next_runs import LIMIT
from airflow_migration.planning.options import PREVIOUSLY_ACTIVE
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import Session

EXAMPLES = 10


def check(conn: Session, plan: Plan) -> Iterator[Finding]:
    """:param conn: session on the source; only read"""
    yield from _catch_up(conn, plan)
    yield from _deferred(conn)
    yield from _backfills(conn, plan)


def _catch_up(conn: Session, plan: Plan) -> Iterator[Finding]:
    """More than one run of a DAG at once is what nobody expects when it is unpaused."""
    wanted = _wanted(conn, plan)
    due = count_due(conn, wanted, named_by_start=plan.cron_data_intervals is False, now=datetime.now(timezone.utc))
    late = sorted(((each.due, dag_id, each) for dag_id, each in due.items() if each.due > 1), reverse=True)
    if not late:
        yield Finding(check="catch_up", severity="ok", summary="No DAG has more than one run to catch up")
        return
    runs = sum(count for count, _, _ in late)
    more = " or more" if any(count >= LIMIT for count, _, _ in late) else ""
    yield Finding(
        check="catch_up",
        severity="warning",
        summary=f"{len(late)} DAG(s) would catch up {runs}{more} run(s) when they are unpaused, counted for now",
        count=runs,
        evidence=tuple(
            f"{dag_id}: {count} from {each.first.start.isoformat()}"
            for count, dag_id, each in late[:EXAMPLES]
            if each.first
        ),
        remedy="Set catchup=False in the target's DAG files, or leave these DAGs out of unpause; the report forecasts"
        " every DAG",
    )


def _wanted(conn: Session, plan: Plan) -> tuple[str, ...]:
    choice = plan.options.unpause
    if isinstance(choice, tuple):
        return choice
    if choice != PREVIOUSLY_ACTIVE:
        return ()
    return pausing.read_unpaused(conn) or pausing.read_active(conn, plan.migration_id)


def _deferred(conn: Session) -> Iterator[Finding]:
    if "trigger_id" not in read_columns(conn, "task_instance"):  # 2.2
        return
    rows = conn.execute(
        "SELECT coalesce(t.classpath, 'no trigger'), count(*) FROM task_instance AS ti"
        " LEFT JOIN trigger AS t ON t.id = ti.trigger_id WHERE ti.state = 'deferred' GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    count = sum(int(str(number)) for _, number in rows)
    if count:
        yield Finding(
            check="deferred_task_instances",
            severity="info",
            summary=f"{count} deferred task instance(s) wait on for their triggers at the target",
            count=count,
            evidence=tuple(f"{number} {classpath}" for classpath, number in rows[:EXAMPLES]),
            remedy="The target's triggerer needs these classes; a task whose trigger is not found there fails, and is"
            " retried as its DAG says. One without a trigger runs again",
        )


def _backfills(conn: Session, plan: Plan) -> Iterator[Finding]:
    if "completed_at" in read_columns(conn, "backfill"):  # 3.0
        query = sql.SQL("SELECT dag_id FROM backfill WHERE completed_at IS NULL ORDER BY 1")
        how = "backfill(s) are not complete; the target's scheduler goes on with them"
    elif "run_type" in read_columns(conn, "dag_run"):  # 2.0
        query = sql.SQL("SELECT dag_id FROM dag_run WHERE run_type = 'backfill' AND state = 'running' ORDER BY 1")
        how = "run(s) of a backfill are not finished"
        if plan.target_release.startswith("2."):
            how += "; no scheduler of 2.x goes on with them, only the command does"
        else:
            how += "; from 3.0 on the scheduler goes on with them"
    else:
        return
    dags = [str(dag_id) for (dag_id,) in conn.execute(query)]
    if dags:
        yield Finding(
            check="unfinished_backfills",
            severity="info",
            summary=f"{len(dags)} {how}",
            count=len(dags),
            evidence=tuple(dict.fromkeys(dags))[:EXAMPLES],
        )
