"""Know a database that a migration has handed over to its target, and what the target did with it since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_migration.metadata import journal
from airflow_migration.postgres.address import Session

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
