"""Leave the source readable and unable to schedule, and lift that again."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.metadata import journal
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import READ_ONLY, end_sessions, set_database_default, terminate_sessions
from airflow_migration.progress import Listener

FENCE = "fence_source"
SETTING = READ_ONLY
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceResult:
    """:param fenced: new sessions on the source can only read
    :param sessions_ended: sessions of the old deployment that were ended
    :param sessions_left: those that our role may not end, which can go on writing
    :param warnings: what a person must do about them
    """

    fenced: bool
    sessions_ended: int
    sessions_left: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def close_source(address: DatabaseAddress, *, migration_id: str, fence: bool, listener: Listener) -> FenceResult:
    """End the migration in the source's journal and, if asked, make its database read-only.

    The old deployment's pages can still show history. `lift_fence` is the undo. An owner may do this
    to his database; it holds for new sessions, so the present ones are ended.
    """
    with address.connect(read_only=False, autocommit=True) as conn:
        with conn.transaction():
            journal.refuse_rolled_back(conn, migration_id)
            if fence:
                journal.record_act(conn, migration_id, FENCE, {"database": address.database})
            journal.set_state(conn, migration_id, journal.CLOSED)
        if not fence:
            listener("The source is left able to write; keep its scheduler stopped")
            return FenceResult(fenced=False, sessions_ended=0)
        set_database_default(conn, address.database, SETTING, "on")
        sessions = end_sessions(conn, address.database)
        listener(f"The source can be read only from now on; {len(sessions.ended)} session(s) were ended")
        warnings = _warn_of(sessions.left)
        for warning in warnings:
            listener(warning)
        return FenceResult(
            fenced=True, sessions_ended=len(sessions.ended), sessions_left=sessions.left, warnings=warnings
        )


def _warn_of(left: tuple[str, ...]) -> tuple[str, ...]:
    if not left:
        return ()
    return (
        f"{len(left)} session(s) on the source could not be ended and can still write there, end them by hand: "
        + ", ".join(left[:SHOWN]),
    )


def lift_fence(address: DatabaseAddress, *, migration_id: str, listener: Listener) -> bool:
    """Undo of `close_source`'s fence.

    A session keeps the default with which it began, so those of the old deployment are ended; they come
    back able to write.

    :returns: whether this migration had put one up
    """
    with address.connect(read_only=False, autocommit=True) as conn:
        if journal.read_act(conn, migration_id, FENCE) is None:
            return False
        set_database_default(conn, address.database, SETTING, None)
        ended = terminate_sessions(conn, address.database)
        listener(f"The source can write again; {ended} session(s) that could only read were ended")
        return True
