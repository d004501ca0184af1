"""Pause every DAG, remembering which were active, and unpause exactly those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata import journal
from airflow_migration.metadata.columns import in_use, read_columns
from airflow_migration.postgres.address import Session

RESUME = "resume_source"
"""Act of a roll back: the source's DAGs have their flags again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseResult:
    """:param active: DAGs that were active before this migration touched any
    :param paused_now: how many of them this call paused
    """

    active: int
    paused_now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpauseResult:
    """:param unpaused: DAGs that this call unpaused
    :param missing: DAGs to be unpaused of which the database has no row, at most twenty
    """

    unpaused: int
    already_active: int
    missing: tuple[str, ...]


def pause_dags(
    conn: Session, *, migration_id: str, target: str, plan: Mapping[str, object] | None = None
) -> PauseResult:
    """Pause all DAGs and record in the same transaction which were not; this commits.

    Undone by `resume_dags` before the source is cloned, by `give_flags_back` in a roll back. The flag is all
    that is changed: pausing stops no running task. SQL is the one way that every release from 1.10 to 3.3 has.

    :param plan: the names that the migration has chosen, which its undo needs
    :raises InvalidInputError: another migration of this source is open
    """
    with conn.transaction():
        journal.open_migration(conn, migration_id, target)
        if plan is not None:
            journal.record_plan(conn, migration_id, plan)
        # In 1.10 the column may be NULL, which its scheduler takes for active.
        conn.execute(
            "INSERT INTO airflow_migration.paused_dag (migration_id, dag_id, was_paused)"
            " SELECT %s, dag_id, is_paused FROM dag WHERE is_paused IS NOT TRUE"
            " ON CONFLICT (migration_id, dag_id) DO NOTHING",
            (migration_id,),
        )
        paused = pause_all(conn)
        return PauseResult(active=len(read_active(conn, migration_id)), paused_now=paused)


def pause_all(conn: Session) -> int:
    """Pause every DAG, without a record; the caller commits.

    :returns: how many were active
    """
    return conn.execute("UPDATE dag SET is_paused = true WHERE is_paused IS NOT TRUE").rowcount


def read_active(conn: Session, migration_id: str) -> tuple[str, ...]:
    """Ids of the DAGs that were active before the migration, in order."""
    if not journal.exists(conn):
        return ()
    rows = conn.execute(
        "SELECT dag_id FROM airflow_migration.paused_dag WHERE migration_id = %s ORDER BY dag_id", (migration_id,)
    ).fetchall()
    return tuple(str(dag_id) for (dag_id,) in rows)


def read_unpaused(conn: Session) -> tuple[str, ...]:
    """Ids of the DAGs that are active now, in order."""
    rows = conn.execute("SELECT dag_id FROM dag WHERE is_paused IS NOT TRUE ORDER BY dag_id").fetchall()
    return tuple(str(dag_id) for (dag_id,) in rows)


def read_scheduled(conn: Session) -> tuple[str, ...]:
    """Ids of the DAGs that are active now and were in a file when that was last read, in order; without subdags."""
    rows = conn.execute(
        sql.SQL("SELECT d.dag_id FROM dag AS d WHERE d.is_paused IS NOT TRUE AND {} ORDER BY d.dag_id").format(
            in_use(read_columns(conn, "dag"))
        )
    ).fetchall()
    return tuple(str(dag_id) for (dag_id,) in rows)


def count_active(conn: Session) -> int:
    """How many DAGs are active now."""
    row = conn.execute("SELECT count(*) FROM dag WHERE is_paused IS NOT TRUE").fetchone()
    assert row is not None
    return int(str(row[0]))


def resume_dags(conn: Session, *, migration_id: str) -> UnpauseResult:
    """Give the source's DAGs the flag they had and end the migration here; this commits.

    Undo of `pause_dags`. The record of what was active is kept until a new try replaces it.
    """
    with conn.transaction():
        entry = journal.read_entry(conn, migration_id)
        if entry is None or entry.state != journal.OPEN:
            return UnpauseResult(unpaused=0, already_active=0, missing=())
        result = _restore_flags(conn, migration_id)
        conn.execute("DELETE FROM airflow_migration.paused_dag WHERE migration_id = %s", (migration_id,))
        journal.set_state(conn, migration_id, journal.RESUMED)
        return result


def give_flags_back(conn: Session, *, migration_id: str) -> UnpauseResult:
    """Give the source's DAGs the flag they had, once in a roll back; this commits.

    Undo of `pause_dags`. What people pause and unpause afterwards is theirs: a second call changes nothing.
    """
    with conn.transaction():
        if journal.read_act(conn, migration_id, RESUME) is not None:
            active = read_active(conn, migration_id)
            missing = _missing(conn, active)
            return UnpauseResult(unpaused=0, already_active=len(active) - len(missing), missing=missing[:20])
        journal.record_undo(conn, migration_id, RESUME, {})
        return _restore_flags(conn, migration_id)


def _restore_flags(conn: Session, migration_id: str) -> UnpauseResult:
    active = read_active(conn, migration_id)
    unpaused = conn.execute(
        "UPDATE dag SET is_paused = p.was_paused FROM airflow_migration.paused_dag p"
        " WHERE p.migration_id = %s AND p.dag_id = dag.dag_id AND dag.is_paused IS DISTINCT FROM p.was_paused",
        (migration_id,),
    ).rowcount
    missing = _missing(conn, active)
    return UnpauseResult(unpaused=unpaused, already_active=len(active) - unpaused - len(missing), missing=missing[:20])


def unpause_dags(conn: Session, dag_ids: Sequence[str]) -> UnpauseResult:
    """Unpause these DAGs and no other; this commits."""
    with conn.transaction():
        wanted = list(dag_ids)
        unpaused = conn.execute(
            "UPDATE dag SET is_paused = false WHERE dag_id = ANY(%s) AND is_paused IS NOT FALSE", (wanted,)
        ).rowcount
        missing = _missing(conn, wanted)
        return UnpauseResult(
            unpaused=unpaused, already_active=len(set(wanted)) - unpaused - len(missing), missing=missing[:20]
        )


def _missing(conn: Session, dag_ids: Sequence[str]) -> tuple[str, ...]:
    rows = conn.execute(
        "SELECT wanted FROM unnest(%s::text[]) wanted WHERE NOT EXISTS"
        " (SELECT FROM dag WHERE dag.dag_id = wanted) ORDER BY wanted",
        (list(dag_ids),),
    ).fetchall()
    return tuple(str(dag_id) for (dag_id,) in rows)
