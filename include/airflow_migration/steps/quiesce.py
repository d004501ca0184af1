"""Bring the source to rest, and let it go on again when the migration is given up."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_migration.exceptions import DrainTimeoutError
from airflow_migration.metadata import draining, pausing
from airflow_migration.planning.plan import chosen_names
from airflow_migration.progress import Listener
from airflow_migration.steps.migration import Migration


def pause_dags(migration: Migration, listener: Listener) -> pausing.PauseResult:
    """Pause the source's DAGs; undone by `resume_source`, after the clone by `roll_back.resume_source`.

    :raises InvalidInputError: another migration of this source is open
    """
    with migration.source.address.connect(read_only=False) as conn:
        before = pausing.count_active(conn)
        conn.rollback()
        listener(f"{before} DAG(s) of the source are active")
        names = chosen_names(migration.plan)
        result = pausing.pause_dags(conn, migration_id=migration.id, target=str(migration.final), plan=names)
    listener(f"{result.paused_now} DAG(s) paused now; {result.active} were active before this migration")
    return result


def read_in_flight(migration: Migration) -> draining.InFlight:
    """What still runs on the source."""
    with migration.source.address.connect() as conn:
        return draining.read_in_flight(conn)


def resume_source(migration: Migration, listener: Listener) -> pausing.UnpauseResult:
    """Unpause exactly what `pause_dags` paused; nothing to do where it changed nothing."""
    with migration.source.address.connect(read_only=False) as conn:
        result = pausing.resume_dags(conn, migration_id=migration.id)
    listener(f"{result.unpaused} DAG(s) of the source are active again")
    return result


def settle(migration: Migration, listener: Listener) -> draining.InFlight:
    """See what still runs; DAGs that came up active since the pause are paused and recorded as well."""
    with migration.source.address.connect() as conn:
        late = pausing.count_active(conn)
    if late:
        listener(f"{late} DAG(s) came up active since the pause")
        pause_dags(migration, listener)
    seen = read_in_flight(migration)
    listener(str(seen))
    return seen


def end_drain(
    migration: Migration, seen: draining.InFlight, *, timed_out: bool, started: datetime
) -> draining.DrainResult:
    """What the drain leaves behind.

    :raises DrainTimeoutError: tasks still run at the deadline, and the migration was not to go on then
    """
    options = migration.plan.options
    if timed_out and options.on_drain_timeout == "fail":
        raise DrainTimeoutError(
            f"after {options.drain_timeout} s there is still: {seen}",
            where="drain of the source",
            remedy="Let the tasks end or stop them, or set on_drain_timeout to proceed; the DAGs are unpaused again",
        )
    return draining.DrainResult(
        left_running=seen.running,
        waiting=seen.waiting,
        abandoned=seen.abandoned,
        timed_out=timed_out,
        seconds=round((datetime.now(timezone.utc) - started).total_seconds(), 3),
    )
