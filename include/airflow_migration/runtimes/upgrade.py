"""Watch an upgrade wherever it runs: look before it, listen to it, and judge by the database afterwards."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow_migration.exceptions import ToolError
from airflow_migration.metadata.releases import Release, read_head, releases_at, surrounding_releases
from airflow_migration.metadata.users_schema import fab_head
from airflow_migration.postgres.address import APPLICATION_NAME, DatabaseAddress, Session
from airflow_migration.postgres.databases import terminate_sessions
from airflow_migration.postgres.process import TAIL_LINES
from airflow_migration.progress import Listener
from airflow_migration.runtimes.redaction import Redactor
from airflow_migration.runtimes.revision_log import RevisionLog
from airflow_migration.runtimes.runtime import UpgradeResult

ERROR = re.compile(r"^[\w.]*(Error|Exception|Violation)\b.*:|\bERROR\b|\[error\s*\]|\[critical\s*\]")
ALONE_DEADLINE = 10.0
ALONE_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The database as an upgrade finds it.

    :param head: alembic head
    :param moved: tables to which Airflow moved rows in earlier upgrades
    :param extension_schemas: other schemas whose functions its migrations call
    """

    head: str
    moved: frozenset[str]
    extension_schemas: tuple[str, ...] = ()


class UpgradeWatch:
    """One upgrade of one database.

    :param redactor: cleans each line before anyone sees it
    :param clock: seconds; that of the lines where they come later than they were printed
    """

    def __init__(
        self,
        goal: Release,
        before: Before,
        listener: Listener,
        redactor: Redactor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._goal, self._before, self._redactor, self._clock = goal, before, redactor, clock
        self._log = RevisionLog(f"upgrading to Airflow {goal}", before.head, goal.head, listener, clock)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._errors: deque[str] = deque(maxlen=TAIL_LINES // 2)
        self._started = clock()

    def line(self, line: str) -> None:
        """Take one line of the command's output."""
        cleaned = self._redactor.clean(line).strip()
        if cleaned:
            self._tail.append(cleaned)
            if ERROR.search(cleaned):
                self._errors.append(cleaned)
            self._log.line(cleaned)

    def judge(self, address: DatabaseAddress, exit_code: int, settings: Mapping[str, str]) -> UpgradeResult:
        """What the command did, read from the database: the exit code may be 0 on a failure (2.0.2).

        :raises ToolError: the database is not at the release's head
        """
        self._log.close()
        seconds = round(self._clock() - self._started, 3)
        with address.connect() as session:
            head, fab, moved = read_head(session), fab_head(session), moved_tables(session)
        if head != self._goal.head:
            raise self._failure(address, exit_code, head)
        warnings = [
            f"Airflow moved rows that it could not keep to {name}" for name in sorted(moved - self._before.moved)
        ]
        if exit_code:
            last = [*self._tail, *self._errors][-1] if self._tail else "no output"
            warnings.append(f"`airflow` exited with {exit_code}, though the database is at the head: {last}")
        if fab is None and uses_fab(self._goal, settings):
            warnings.append(
                "FabAuthManager is configured, but there is no alembic_version_fab: its tables are as before"
            )
        return UpgradeResult(
            release=self._goal.version,
            from_head=self._before.head,
            to_head=head,
            revisions=self._log.revisions(),
            seconds=seconds,
            exit_code=exit_code,
            fab_head=fab,
            warnings=tuple(warnings),
        )

    def _failure(self, address: DatabaseAddress, exit_code: int, head: str) -> ToolError:
        if head == self._before.head:
            state = f"the alembic head is {head} as before (rows may have been moved)"
        elif found := releases_at(head):
            state = f"the alembic head is {head}, that of Airflow {found[-1]}"
        else:
            behind, ahead = surrounding_releases(head)
            state = f"the alembic head is {head}, between Airflow {behind} and {ahead}"
        # A traceback ends with the statement; what was wrong with it stands some lines above.
        lines = [*(line for line in self._errors if line not in self._tail), *self._tail]
        return ToolError(
            f"the upgrade to Airflow {self._goal} did not reach {self._goal.head}: {state}; `airflow` "
            f"exited with {exit_code}: {' | '.join(lines)}",
            where=str(address),
            remedy="Mend what these lines name, then retry: it goes on where it stopped. No Airflow runs on "
            "a database between two releases; the way back is the copy from before",
        )


def look_before(
    goal: Release, address: DatabaseAddress, settings: Mapping[str, str], listener: Listener
) -> Before | None:
    """What the upgrade starts from, with every other session on the database ended; None when it is done.

    An `airflow` left from an attempt that was killed would go on changing what the next one changes
    (measured: it does, to the end).

    :raises ToolError: such an `airflow` cannot be ended by this role
    """
    with address.connect(read_only=False, autocommit=True) as session:
        if _is_done(session, goal, settings):
            return None
        ended = terminate_sessions(session, address.database)
        left = _wait_until_alone(session, address.database)
        if ended:
            listener(f"Ended {ended} other sessions on {address}")
        if APPLICATION_NAME in left:
            raise ToolError(
                f"an earlier attempt is still at work on {address}, and this role may not end its session",
                where=f"upgrade to Airflow {goal}",
                remedy="End it (pg_stat_activity, application_name airflow_migration), then retry",
            )
        if left:
            listener(f"{len(left)} sessions of other roles stay on {address}; they may block the upgrade")
        if _is_done(session, goal, settings):
            return None
        return Before(
            head=read_head(session), moved=moved_tables(session), extension_schemas=extension_schemas(session)
        )


def nothing_to_do(goal: Release, address: DatabaseAddress, listener: Listener) -> UpgradeResult:
    """The result for a database that is at the head already."""
    listener(f"{address} is at {goal.head}, the head of Airflow {goal}, already: nothing to upgrade")
    with address.connect() as session:
        fab = fab_head(session)
    return UpgradeResult(
        release=goal.version,
        from_head=goal.head,
        to_head=goal.head,
        revisions=(),
        seconds=0.0,
        exit_code=0,
        fab_head=fab,
        warnings=(),
    )


def uses_fab(release: Release, settings: Mapping[str, str]) -> bool:
    """Whether the settings make a 3.x keep its users in FAB's tables."""
    return release.number >= (3,) and "FabAuthManager" in settings.get("AIRFLOW__CORE__AUTH_MANAGER", "")


def moved_tables(session: Session) -> frozenset[str]:
    """The tables into which 2.x puts rows that break its constraints (``_airflow_moved__…``)."""
    rows = session.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND left(tablename, 14) = '_airflow_moved'"
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def extension_schemas(session: Session) -> tuple[str, ...]:
    """Where pgcrypto is, if it is: d59cbbef95eb (3.0.0) calls its gen_random_bytes by the search_path, and fails
    where the extension is in the database but not on the path (measured 2.10.5 → 3.3.2).
    """
    rows = session.execute(
        "SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'pgcrypto' AND has_schema_privilege(n.oid, 'USAGE')"
    ).fetchall()
    return tuple(str(name) for (name,) in rows)


def _is_done(session: Session, goal: Release, settings: Mapping[str, str]) -> bool:
    """FAB's migrations come after Airflow's: an attempt that was killed between leaves them out."""
    return read_head(session) == goal.head and not (uses_fab(goal, settings) and fab_head(session) is None)


def _wait_until_alone(session: Session, database: str) -> tuple[str, ...]:
    """The application names of the sessions that are still there after the deadline."""
    deadline = time.monotonic() + ALONE_DEADLINE
    while True:
        rows = session.execute(
            "SELECT coalesce(application_name, '') FROM pg_stat_activity WHERE datname = %s"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            (database,),
        ).fetchall()
        if not rows or time.monotonic() > deadline:
            return tuple(str(row[0]) for row in rows)
        time.sleep(ALONE_PAUSE)
