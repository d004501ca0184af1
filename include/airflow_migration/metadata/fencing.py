"""Leave the source readable and unable to schedule, and lift that again."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.metadata import journal
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.databases import set_database_default, terminate_sessions
from airflow_migration.progress import Listener

FENCE = "fence_source"
SETTING = "default_transaction_read_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceResult:
    """:param fenced: new sessions on the source can only read
    :param sessions_ended: sessions of the old deployment that were ended
    """

    fenced: bool
    sessions_ended: int


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
        ended = terminate_sessions(conn, address.database)
        listener(f"The source can be read only from now on; {ended} session(s) were ended")
        return FenceResult(fenced=True, sessions_ended=ended)


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
