"""Decide from when on history travels, and see before the migration how much that is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.history import count_history
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import Session

CHECK = "history_days"
_TABLES = ("dag_run", "task_instance")


def cutoff_of(days: int | None) -> str | None:
    """The moment, in ISO 8601, before which runs stay behind; None where all travel.

    Decided once, in the plan: whatever is tried again later means the same runs.
    """
    return None if days is None else (datetime.now(timezone.utc) - timedelta(days=days)).isoformat()


def check(conn: Session, plan: Plan) -> Iterator[Finding]:
    """:param conn: session on the source; only read"""
    if plan.history_cutoff is None:
        return
    counts = count_history(conn, datetime.fromisoformat(plan.history_cutoff), _TABLES)
    runs, tasks = (counts[table] for table in _TABLES)
    kept = plan.options.backup
    yield Finding(
        check=CHECK,
        severity="info" if kept or not runs.stay else "warning",
        summary=f"{runs.travel:,} run(s) with {tasks.travel:,} task instance(s) travel; {runs.stay:,} run(s) with"
        f" {tasks.stay:,} task instance(s) before {plan.history_cutoff} stay behind, in the frozen clone only",
        count=runs.stay,
        remedy=f"Keep {plan.frozen_database} for as long as somebody may ask for them"
        if kept
        else "backup is false, so the frozen clone is dropped at the end and only the old source has them; set backup"
        " to true, or keep the source",
    )
