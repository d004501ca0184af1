"""Know a database that a migration has handed over to its target, and what the target did with it since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from airflow_migration.metadata import journal
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.ledger import SCHEMA
from airflow_migration.postgres.address import Session

INTRODUCE = "introduce_journal"
"""Act in a database that was the target's before, and that is no copy: it has got the migration's journal."""
POINT = "point_target"
"""Act in the working database itself: it has got, or is about to get, the target's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """:param set_aside_as: name of the fresh database that had the target's name
    :param settings: what the target was told beside key and address
    :param last_run: greatest id in `dag_run` at that moment; 0 when there was none
    """

    database: str
    set_aside_as: str | None
    last_run: int
    settings: dict[str, str]


def read_last_run(conn: Session) -> int:
    """Greatest id in `dag_run`; every release has the column, and no upgrade changes the ids."""
    row = conn.execute("SELECT coalesce(max(id), 0) FROM dag_run").fetchone()
    return int(str(row[0])) if row else 0


def count_runs_since(conn: Session, last_run: int) -> int:
    """DAG runs that were created after the one with that id."""
    row = conn.execute("SELECT count(*) FROM dag_run WHERE id > %s", (last_run,)).fetchone()
    return int(str(row[0])) if row else 0


def read_hand_over(conn: Session, migration_id: str, opened_at: datetime) -> HandOver | None:
    """What a database says of its hand-over by this migration; None when it is not this migration's.

    The run's id alone proves nothing, as another control Airflow may have used it; nor does the record of the
    migration, as every later copy of the source carries that too. Only the copy that this migration made says
    ``copied``, with the moment at which the source was opened for it.
    """
    entry = journal.read_entry(conn, migration_id)
    if entry is None or entry.state != journal.COPIED or journal.read_opening(conn, migration_id) != opened_at:
        return None
    detail = journal.read_act(conn, migration_id, POINT)
    if detail is None:
        return None
    aside, settings = detail.get("set_aside_as"), detail.get("settings")
    return HandOver(
        database=str(detail["database"]),
        set_aside_as=None if aside is None else str(aside),
        last_run=int(str(detail.get("last_run", 0))),
        settings={str(name): str(value) for name, value in settings.items()} if isinstance(settings, dict) else {},
    )


def introduce(conn: Session, copy: Session, migration_id: str) -> None:
    """Give a target's own database the journal of a migration, as a copy of the source would have it; the caller
    commits. What was opened anew since an earlier try counts.

    :param copy: session on the frozen clone
    """
    there = conn.execute("SELECT to_regnamespace(%s) IS NOT NULL", (SCHEMA,)).fetchone()
    journal.make_up_to_date(conn)
    row = copy.execute(
        "SELECT target, opened_at, closed_at FROM airflow_migration.migration WHERE migration_id = %s", (migration_id,)
    ).fetchone()
    assert row is not None
    conn.execute(
        "INSERT INTO airflow_migration.migration (migration_id, state, target, opened_at, closed_at)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (migration_id) DO UPDATE SET opened_at = excluded.opened_at",
        (migration_id, journal.COPIED, *row),
    )
    conn.execute("DELETE FROM airflow_migration.paused_dag WHERE migration_id = %s", (migration_id,))
    paused = copy.execute(
        "SELECT dag_id, was_paused FROM airflow_migration.paused_dag WHERE migration_id = %s", (migration_id,)
    ).fetchall()
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO airflow_migration.paused_dag (migration_id, dag_id, was_paused) VALUES (%s, %s, %s)",
            [(migration_id, *each) for each in paused],
        )
    journal.record_act(conn, migration_id, INTRODUCE, {"new_schema": not (there and there[0])})


def forget(conn: Session, migration_id: str) -> None:
    """Undo of `introduce`, and of all that the migration has written beside it; the caller commits."""
    made = journal.read_act(conn, migration_id, INTRODUCE) or {}
    ours = [table for table, columns in read_tables(conn, SCHEMA).items() if "migration_id" in columns]
    for table in sorted(ours, key=lambda name: name == "migration"):  # last, as others refer to it
        conn.execute(
            sql.SQL("DELETE FROM {} WHERE migration_id = %s").format(sql.Identifier(SCHEMA, table)), (migration_id,)
        )
    others = conn.execute("SELECT EXISTS (SELECT FROM airflow_migration.migration)").fetchone()
    if made.get("new_schema") and not (others and others[0]):
        conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(SCHEMA)))
