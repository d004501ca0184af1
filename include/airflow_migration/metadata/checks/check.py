"""One question to a source before its upgrade: which migrations ask for it, and how it is put without harm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from psycopg import errors

from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.postgres.address import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What is looked at.

    :param crossing: the whole path, all hops
    """

    conn: Session
    tables: Tables
    crossing: Crossing
    head: str
    target_head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question, put only where a hop needs the answer.

    :param ids: of the findings that it gives; an answer that did not come has the first
    :param revisions: the migrations that ask for it; none when every upgrade does
    :param always: they are met on every way to or beyond them, not only by who crosses them
    :param ask: gives the findings; may give none
    """

    ids: tuple[str, ...]
    revisions: tuple[str, ...]
    ask: Callable[[Examination], Iterable[Finding]]
    always: bool = False

    def concerns(self, crossing: Crossing) -> bool:
        """Whether a hop needs the answer."""
        if not self.revisions:
            return True
        return any(map(crossing.reaches if self.always else crossing.crosses, self.revisions))


def within_limits(conn: Session, check: str, ask: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    """The findings; where a time limit of the session ends the question, one that says so.

    A savepoint keeps the transaction, and its snapshot, for the next question.

    :param check: id of the finding that is given instead
    """
    try:
        with conn.transaction():
            return tuple(ask())
    except errors.LockNotAvailable:
        why, remedy = "a lock on its table is held by somebody else", "Look for the holder in pg_locks, then try again"
    except errors.QueryCanceled:
        why = "the answer took longer than the time limit of one question"
        remedy = "Try again when the source is quieter; VACUUM ANALYZE of the large tables helps"
    return (Finding(check=check, severity="warning", summary=f"Check {check} has no answer: {why}", remedy=remedy),)
