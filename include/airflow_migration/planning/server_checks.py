"""Check the two servers themselves: releases, encodings, time limits, and what keeps a clone from being made."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.releases import version_number
from airflow_migration.planning.plan import CLONE, DUMP, Plan
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.databases import ServerDescription, database_encoding
from airflow_migration.postgres.dump import portable_encoding

FLOORS = {"2.0.0": 9, "2.3.0": 10, "2.6.0": 11, "2.9.0": 12, "3.0.0": 13}
"""Airflow from this release on → oldest major version of PostgreSQL that it was ever said to run on (the table in
each release's README: 2.0.2, 2.2.5, 2.7.3, 2.10.5, 3.0.6)."""
RECOMMENDED = {"3.3.0": 14}
"""The same for releases that name a later one, as the older is no more maintained (3.3.2)."""
COLLATION_VERSIONS_SINCE = 150000

_PREPARED = "SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared"
_TIMEOUTS = """
SELECT coalesce(r.rolname, 'every role') || ': ' || setting
  FROM pg_db_role_setting s
  LEFT JOIN pg_roles r ON r.oid = s.setrole
 CROSS JOIN unnest(s.setconfig) setting
 WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
   AND setting ~ '^(statement|lock|transaction|idle_in_transaction_session)_timeout=' AND setting !~ '=0[a-z]*$'
 ORDER BY 1
""".strip()
_COLLATION = """
SELECT datname, datcollversion, pg_database_collation_actual_version(oid) FROM pg_database
 WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)
""".strip()
_LOCALE = "SELECT datcollate, datctype FROM pg_database WHERE datname = "


def check_servers(
    plan: Plan, servers: tuple[ServerDescription, ServerDescription], there: Session, here: Session
) -> Iterator[Finding]:
    """:param servers: of source and target
    :param there: session in the source's database
    :param here: session in the target server's maintenance database
    """
    yield from check_version(servers[1], plan.target_release)
    yield from _prepared(there)
    yield from check_encoding(there, converted=plan.transfer != CLONE)
    yield from _collation_version(there)
    if plan.transfer == DUMP:
        yield from check_sorting(there, here)
    yield from _timeouts(there)


def check_version(server: ServerDescription, target_release: str) -> Iterator[Finding]:
    """Whether the target's release runs on the target's server."""
    floor, recommended = (_floor(table, target_release) for table in (FLOORS, RECOMMENDED))
    if server.major < floor:
        yield Finding(
            check="server_too_old",
            severity="blocker",
            summary=f"Airflow {target_release} needs PostgreSQL {floor}, the target's server has {server.major}",
            remedy="Use a newer server for the target; transfer dump moves the database there",
        )
    elif server.major < recommended:
        yield Finding(
            check="server_too_old",
            severity="warning",
            summary=f"Airflow {target_release} is said to run on PostgreSQL {recommended} or later, the target's server"
            f" has {server.major}",
            remedy="Upgrade the target's server, before or soon after",
        )


def _floor(table: dict[str, int], release: str) -> int:
    number = version_number(release)
    return max((major for since, major in table.items() if version_number(since) <= number), default=0)


def _prepared(there: Session) -> Iterator[Finding]:
    rows = there.execute(_PREPARED).fetchall()
    if rows:
        yield Finding(
            check="prepared_transactions",
            severity="blocker",
            summary=f"{len(rows)} prepared transaction(s) are open in the source, so that it cannot be cloned",
            count=len(rows),
            evidence=tuple(f"{gid} of {owner} since {moment}" for gid, owner, moment in rows[:EXAMPLES]),
            remedy="COMMIT PREPARED or ROLLBACK PREPARED each, as whoever prepared it decides",
            sql=_PREPARED + ";",
        )


def check_encoding(there: Session, *, converted: bool) -> Iterator[Finding]:
    """Whether the target holds text as Airflow's migrations expect it.

    :param converted: a dump makes UTF8 of the source's text where Postgres can, whole or rows alone
    """
    encoding = database_encoding(there)
    if (portable_encoding(encoding) if converted else encoding) != "UTF8":
        yield Finding(
            check="encoding",
            severity="warning",
            summary=f"the source's database has encoding {encoding}; Airflow's migrations to 3 expect UTF8",
            remedy="Rehearse the upgrade; text that UTF8 has and this encoding has not stops it",
            sql="SHOW server_encoding;",
        )


def _collation_version(there: Session) -> Iterator[Finding]:
    if there.info.server_version < COLLATION_VERSIONS_SINCE:
        return
    row = there.execute(_COLLATION).fetchone()
    if row:
        yield Finding(
            check="collation_version",
            severity="warning",
            summary=f"the source was made with version {row[1]} of its collation, the system has {row[2]} now:"
            " indexes over text may miss rows",
            remedy="REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION VERSION",
            sql=_COLLATION + ";",
        )


def check_sorting(there: Session, here: Session) -> Iterator[Finding]:
    """Whether a database that is restored on the target's server sorts otherwise."""
    old = there.execute(_LOCALE + "current_database()").fetchone()
    new = here.execute(_LOCALE + "'template0'").fetchone()
    if old != new:
        yield Finding(
            check="collation",
            severity="info",
            summary=f"the source sorts as {_words(old)}, databases of the target's server as {_words(new)}",
            remedy="Nothing needs to be done: indexes are made anew there; lists in the interface may be ordered"
            " otherwise",
            sql=_LOCALE + "current_database();",
        )


def _words(row: tuple[object, ...] | None) -> str:
    return "/".join(dict.fromkeys(map(str, row or ())))


def _timeouts(there: Session) -> Iterator[Finding]:
    rows = there.execute(_TIMEOUTS).fetchall()
    if rows:
        yield Finding(
            check="statement_timeout",
            severity="info",
            summary=f"{len(rows)} time limit(s) are set for roles or the database of the source",
            count=len(rows),
            evidence=tuple(str(text) for (text,) in rows[:EXAMPLES]),
            remedy="The migration's own sessions and upgrades are without them; the target's processes will have those"
            " of its database and role",
            sql=_TIMEOUTS + ";",
        )
