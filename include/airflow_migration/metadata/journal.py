"""Remember in the source's own database what a migration changed, so that it can be undone.

The journal is written in the same transactions as the changes that it describes, survives the loss of
the control Airflow and travels with every copy of the database. All of it is in schema
``airflow_migration``, which a migration adds to the source and leaves there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files

from psycopg import errors

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import Session

OPEN = "open"
RESUMED = "resumed"
"""The migration was given up before the clone; the source runs again. It may be tried once more."""
CLOSED = "closed"
COPIED = "copied"
"""This database is a copy of the one that is being migrated."""
ROLLING_BACK = "rolling_back"
ROLLED_BACK = "rolled_back"
"""The migration was taken back as a whole; its id is not used again."""

CREATE_FROZEN = "create_frozen_clone"
CREATE_WORKING = "create_working_database"
BLOCK = "block_connections"
SWAP = "swap_fernet_key"
QUIET = "quiet_target"
FILL = "fill_target"
"""Act that tells that rows of the target's own database were replaced; they are kept in it."""
ROLL_BACK = "roll_back"
"""Act that tells what the target, to which the database was handed over, loses by the roll back."""
PLAN = "plan"
"""Act under which the names that a migration has chosen are kept, before it touches anything."""

WHERE = "journal of the source"
_SCHEMA = files(__package__).joinpath("journal.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One migration of this database.

    :param state: ``open``, ``resumed``, ``closed``, ``copied``, ``rolling_back`` or ``rolled_back``
    """

    migration_id: str
    state: str
    target: str


def read_token(conn: Session, migration_id: str) -> str:
    """Ten hexadecimal digits that stand for this migration of this database in names of databases and files.

    They depend on the cluster and the database's oid as well: the run id alone may be used again, for another
    source or for one that was loaded anew under its old name.
    """
    row = conn.execute(
        "SELECT (SELECT system_identifier FROM pg_control_system()), oid FROM pg_database"
        " WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return hashlib.sha256(f"{row[0]}/{row[1]}/{migration_id}".encode()).hexdigest()[:10]


def exists(conn: Session) -> bool:
    row = conn.execute("SELECT to_regclass('airflow_migration.migration') IS NOT NULL").fetchone()
    return bool(row and row[0])


def read_entry(conn: Session, migration_id: str) -> JournalEntry | None:
    """What this database says of a migration; None when it says nothing."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT migration_id, state, target FROM airflow_migration.migration WHERE migration_id = %s",
        (migration_id,),
    ).fetchone()
    return None if row is None else JournalEntry(migration_id=str(row[0]), state=str(row[1]), target=str(row[2]))


def read_open_entry(conn: Session) -> JournalEntry | None:
    """The migration that this database is in the middle of, if any."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT migration_id FROM airflow_migration.migration WHERE state IN ('open', 'rolling_back')"
    ).fetchone()
    return None if row is None else read_entry(conn, str(row[0]))


def open_migration(conn: Session, migration_id: str, target: str) -> None:
    """Begin, or go on with, a migration of this database; the caller's transaction commits it.

    :raises InvalidInputError: another migration is open here, or this one has ended
    """
    with _alone(conn):
        _open(conn, migration_id, target)


@contextmanager
def _alone(conn: Session) -> Iterator[None]:
    """Of all migrations of this source one may be under way, whichever way it goes."""
    try:
        with conn.transaction():
            yield
    except errors.UniqueViolation:
        other = read_open_entry(conn)
        raise InvalidInputError(
            f"migration {other.migration_id if other else '?'} of this source is still open",
            where=WHERE,
            remedy="Finish it or roll it back first; one source can be in one migration only",
        ) from None


def make_up_to_date(conn: Session) -> None:
    """Make the journal's tables, or bring those of an earlier release up to date; the caller commits."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = 'migration_state_check'"
        " AND conrelid = to_regclass('airflow_migration.migration')"
        " AND pg_get_constraintdef(oid) LIKE '%rolled_back%')"
    ).fetchone()
    if not (row and row[0]):
        conn.execute(_SCHEMA)


def _open(conn: Session, migration_id: str, target: str) -> None:
    make_up_to_date(conn)
    entry = read_entry(conn, migration_id)
    if entry is not None and entry.state not in (OPEN, RESUMED):
        raise InvalidInputError(
            f"migration {migration_id} has ended here already (state {entry.state})",
            where=WHERE,
            remedy="Trigger the DAG anew, so that the run has an id of its own",
        )
    # After a resume the source went on: it is opened anew, and copies of before are out of date.
    conn.execute(
        "INSERT INTO airflow_migration.migration AS m (migration_id, state, target) VALUES (%s, 'open', %s)"
        " ON CONFLICT (migration_id) DO UPDATE SET state = 'open', closed_at = NULL, target = excluded.target,"
        " opened_at = CASE m.state WHEN 'resumed' THEN now() ELSE m.opened_at END",
        (migration_id, target),
    )


def read_opening(conn: Session, migration_id: str) -> datetime | None:
    """When the migration was opened here last; a copy keeps the moment of the opening in which it was made."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT opened_at FROM airflow_migration.migration WHERE migration_id = %s", (migration_id,)
    ).fetchone()
    if row is None:
        return None
    assert isinstance(row[0], datetime)
    return row[0]


def begin_roll_back(conn: Session, migration_id: str) -> JournalEntry:
    """Take a migration of this source up again in order to undo it; the caller commits.

    From here on none of its own steps goes on, and no other migration of this source begins.

    :returns: how it stands now: ``rolling_back``, or ``rolled_back`` when that has been done already
    :raises InvalidInputError: this source does not know it, or went on with another migration since
    """
    entry = require_known(conn, migration_id)
    if entry.state == ROLLED_BACK:
        return entry
    refuse_later(conn, migration_id)
    make_up_to_date(conn)
    with _alone(conn):
        set_state(conn, migration_id, ROLLING_BACK)
    return replace(entry, state=ROLLING_BACK)


def require_known(conn: Session, migration_id: str) -> JournalEntry:
    """What this source says of a migration of its own.

    :raises InvalidInputError: it says nothing, or is itself a copy which that migration made
    """
    entry = read_entry(conn, migration_id)
    if entry is None:
        raise InvalidInputError(
            f'this source knows no migration "{migration_id}", so there is nothing to roll back',
            where=WHERE,
            remedy="Give the run id of the migrate_airflow run and the connection of its source;"
            " a run that failed before pause_dags has changed nothing",
        )
    if entry.state == COPIED:
        raise InvalidInputError(
            f'this database is a copy that migration "{migration_id}" made, not its source',
            where=WHERE,
            remedy="Give the connection of the deployment that was left",
        )
    return entry


def refuse_later(conn: Session, migration_id: str) -> None:
    """Migrations are undone in the reverse of their order.

    :raises InvalidInputError: a later one has this database as its source, and is not rolled back
    """
    row = conn.execute(
        "SELECT later.migration_id FROM airflow_migration.migration later, airflow_migration.migration this"
        " WHERE this.migration_id = %s AND later.migration_id <> this.migration_id"
        " AND later.opened_at > this.opened_at AND later.state IN ('open', 'closed', 'rolling_back')"
        " ORDER BY later.opened_at DESC LIMIT 1",
        (migration_id,),
    ).fetchone()
    if row:
        raise InvalidInputError(
            f'this database has been migrated again since, by "{row[0]}"',
            where=f'database "{conn.info.dbname}"',
            remedy="Roll that migration back first",
        )


def refuse_rolled_back(conn: Session, migration_id: str) -> None:
    """:raises InvalidInputError: the migration is being taken back, or was; its steps must not go on"""
    entry = read_entry(conn, migration_id)
    if entry is not None and entry.state in (ROLLING_BACK, ROLLED_BACK):
        raise InvalidInputError(
            f"migration {migration_id} is {'being ' if entry.state == ROLLING_BACK else ''}rolled back",
            where=WHERE,
            remedy="Trigger migrate_airflow anew, so that the run has an id of its own",
        )


def set_state(conn: Session, migration_id: str, state: str) -> None:
    """Close the migration here; the caller commits."""
    conn.execute(
        "UPDATE airflow_migration.migration SET state = %s, closed_at = coalesce(closed_at, now())"
        " WHERE migration_id = %s",
        (state, migration_id),
    )


def mark_as_copy(conn: Session) -> None:
    """The first act on any copy: it is not the source, so nothing is open here; the caller commits."""
    conn.execute(
        "UPDATE airflow_migration.migration SET state = 'copied', closed_at = coalesce(closed_at, now())"
        " WHERE state = 'open'"
    )


def record_act(conn: Session, migration_id: str, act: str, detail: Mapping[str, object]) -> None:
    """Write down a change before it is made, with what its undo needs; never a secret.

    The first record of an act stays: a retry must not take its own doing for the state before.

    :raises InvalidInputError: the migration is rolled back
    """
    refuse_rolled_back(conn, migration_id)
    record_undo(conn, migration_id, act, detail)


def record_undo(conn: Session, migration_id: str, act: str, detail: Mapping[str, object]) -> None:
    """`record_act` for what belongs to a roll back."""
    conn.execute(
        "INSERT INTO airflow_migration.act (migration_id, act, detail) VALUES (%s, %s, %s)"
        " ON CONFLICT (migration_id, act) DO NOTHING",
        (migration_id, act, json.dumps(dict(detail))),
    )


def forget_act(conn: Session, migration_id: str, act: str) -> None:
    """Take back the record of something that is to be done anew."""
    conn.execute("DELETE FROM airflow_migration.act WHERE migration_id = %s AND act = %s", (migration_id, act))


def record_plan(conn: Session, migration_id: str, detail: Mapping[str, object]) -> None:
    """Keep the names that a migration has chosen; the caller commits. What was planned last counts."""
    conn.execute(
        "INSERT INTO airflow_migration.act (migration_id, act, detail) VALUES (%s, %s, %s)"
        " ON CONFLICT (migration_id, act) DO UPDATE SET detail = excluded.detail",
        (migration_id, PLAN, json.dumps(dict(detail))),
    )


def read_act(conn: Session, migration_id: str, act: str) -> dict[str, object] | None:
    """What was recorded of an act; None when it was not begun."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT detail FROM airflow_migration.act WHERE migration_id = %s AND act = %s", (migration_id, act)
    ).fetchone()
    if row is None:
        return None
    assert isinstance(row[0], dict)
    return row[0]
