"""See what still runs on a paused deployment, and whether anybody is left to end it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.postgres.address import APPLICATION_NAME, Session

ENDING_BY_THEMSELVES = ("running", "queued", "restarting", "shutdown", "sensing")
"""States that a paused DAG's task instances leave without a scheduler's decision.

`scheduled` is not among them: the schedulers leave paused DAGs out (scheduler_job.py of 1.10.15,
scheduler_job_runner.py of 2.10.5), so it never clears; deferred and the retry states wait by design.
"""
HEARTBEAT_SECONDS = 300
"""A process that has been silent for so long is dead: `scheduler_zombie_task_threshold` of every release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """What moves on a deployment at one moment.

    :param task_instances: state → count, of the states that end by themselves
    :param waiting: state → count, of unfinished states that will go on at the target
    :param live_processes: rows of `job` with a heartbeat of the last five minutes
    :param sessions: client sessions on the database, ours left out
    """

    task_instances: dict[str, int]
    waiting: dict[str, int]
    live_processes: int
    sessions: int

    @property
    def running(self) -> int:
        return sum(self.task_instances.values())

    @property
    def abandoned(self) -> bool:
        """Task instances are marked as running, and no process is left that could end them."""
        return self.running > 0 and self.live_processes == 0 and self.sessions == 0

    @property
    def drained(self) -> bool:
        return self.running == 0 or self.abandoned

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {state}" for state, count in sorted(self.task_instances.items()))
        return f"{parts or 'no task instance runs'}; {self.live_processes} live process(es), {self.sessions} session(s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """:param left_running: task instances that were still marked as running when the drain ended
    :param waiting: state → count of what goes on at the target
    :param abandoned: nobody is left to end them; they run again at the target
    """

    left_running: int
    waiting: dict[str, int]
    abandoned: bool
    timed_out: bool
    seconds: float


def read_in_flight(conn: Session) -> InFlight:
    """Count what is unfinished; reads only.

    `job` rows have a heartbeat in every release; from 3.0 task instances have one of their own, as
    tasks have no job there.
    """
    counts = conn.execute(
        "SELECT state, count(*) FROM task_instance WHERE state IS NOT NULL"
        " AND state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed') GROUP BY state"
    ).fetchall()
    states = {str(state): int(str(count)) for state, count in counts}
    return InFlight(
        task_instances={state: count for state, count in states.items() if state in ENDING_BY_THEMSELVES},
        waiting={state: count for state, count in states.items() if state not in ENDING_BY_THEMSELVES},
        live_processes=_count_live_jobs(conn) + _count_live_tasks(conn),
        sessions=_count_sessions(conn),
    )


def _count_live_jobs(conn: Session) -> int:
    row = conn.execute(
        "SELECT count(*) FROM job WHERE state = 'running' AND latest_heartbeat > now() - make_interval(secs => %s)",
        (HEARTBEAT_SECONDS,),
    ).fetchone()
    return int(str(row[0])) if row else 0


def _count_live_tasks(conn: Session) -> int:
    column = conn.execute(
        "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('task_instance') AND attname = 'last_heartbeat_at'"
        " AND NOT attisdropped"
    ).fetchone()
    if column is None:
        return 0
    row = conn.execute(
        "SELECT count(*) FROM task_instance WHERE state = ANY(%s)"
        " AND last_heartbeat_at > now() - make_interval(secs => %s)",
        (list(ENDING_BY_THEMSELVES), HEARTBEAT_SECONDS),
    ).fetchone()
    return int(str(row[0])) if row else 0


def _count_sessions(conn: Session) -> int:
    # The type of a backend is NULL to us where it belongs to a role of which we are no member.
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL"
        " AND application_name <> %s",
        (APPLICATION_NAME,),
    ).fetchone()
    return int(str(row[0])) if row else 0
