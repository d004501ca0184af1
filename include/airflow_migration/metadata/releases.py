"""Which Airflow release wrote a database: releases, their alembic heads and the revisions between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import psycopg
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import Session

AIRFLOW_TABLES = ("dag", "dag_run", "task_instance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One final release of Airflow.

    :param version: ``2.11.2``
    :param head: its alembic head; several, sorted and joined by commas, from 1.10.3 to 1.10.6
    :param released: date of the upload, ISO 8601
    :param pythons: minor versions that it declares to run on, oldest first
    """

    version: str
    head: str
    released: str
    pythons: tuple[str, ...]

    @property
    def number(self) -> tuple[int, ...]:
        """The version as numbers, for comparisons."""
        return version_number(self.version)

    def __str__(self) -> str:
        return self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One alembic revision.

    :param parents: the revisions that it stands on
    :param since: the release that added it, as its migration file says
    """

    id: str
    parents: tuple[str, ...]
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What the releases from one on still know of the history.

    :param since: first release with this tree
    :param first: oldest revision that its releases can start an upgrade from
    """

    since: str
    first: str


def version_number(version: str) -> tuple[int, ...]:
    """``2.11.2`` as (2, 11, 2).

    :raises InvalidInputError: this is no final release's number
    """
    try:
        return tuple(int(part) for part in version.strip().split("."))
    except ValueError:
        raise _unknown_release(version) from None


def known_releases() -> tuple[Release, ...]:
    """Every final release from 1.10.0 on, oldest first; sources are in ``releases.json``."""
    return _table().releases


def newest() -> Release:
    """The newest release known."""
    return known_releases()[-1]


def release(version: str) -> Release:
    """One release by its version.

    :raises InvalidInputError: no such release is known
    """
    found = _table().by_version.get(version.strip())
    if found is None:
        raise _unknown_release(version)
    return found


def releases_at(head: str) -> tuple[Release, ...]:
    """The releases whose database has this head, oldest first; empty for an unknown or intermediate one."""
    return _table().by_head.get(_sorted(head), ())


def trees() -> tuple[Tree, ...]:
    """The cuts in Airflow's migration history, oldest first."""
    return _table().trees


def revisions() -> tuple[Revision, ...]:
    """Every revision of Airflow's own migrations, in an order in which they can be applied."""
    return _table().revisions


def applied_revisions(head: str) -> frozenset[str]:
    """The revisions that a database with this head has behind it; a revision not known counts for nothing."""
    by_id = _table().by_revision
    seen: set[str] = set()
    waiting = [part for part in head.split(",") if part in by_id]
    while waiting:
        revision = waiting.pop()
        if revision not in seen:
            seen.add(revision)
            waiting.extend(by_id[revision].parents)
    return frozenset(seen)


def revisions_between(from_head: str, to_head: str) -> tuple[str, ...]:
    """The revisions that an upgrade from one head to the other applies, in order."""
    missing = applied_revisions(to_head) - applied_revisions(from_head)
    return tuple(revision.id for revision in revisions() if revision.id in missing)


def surrounding_releases(head: str) -> tuple[Release | None, Release | None]:
    """The last release that is wholly in a database with this head, and the first that is not.

    :raises InvalidInputError: a revision of the head is not known at all
    """
    if any(part not in _table().by_revision for part in head.split(",")):
        raise InvalidInputError(
            f"the alembic head {head} belongs to no release of Airflow up to {newest()}",
            where="alembic_version",
            remedy="A beta, a fork or a newer Airflow wrote it: bring the database to a final release first, "
            "or install a version of this package that knows the release",
        )
    applied = applied_revisions(head)
    behind = [each for each in known_releases() if applied_revisions(each.head) <= applied]
    ahead = [each for each in known_releases() if not applied_revisions(each.head) <= applied]
    return (behind[-1] if behind else None), (ahead[0] if ahead else None)


def require_release_head(head: str) -> tuple[Release, ...]:
    """The releases at this head.

    :raises InvalidInputError: the head is of no release: half an upgrade, a beta, older than 1.10 or unknown
    """
    found = releases_at(head)
    if found:
        return found
    before, after = surrounding_releases(head)
    if before is None:
        raise InvalidInputError(
            f"the alembic head {head} is older than Airflow {known_releases()[0]}",
            where="alembic_version",
            remedy="Upgrade the source to 1.10.15 with its own `airflow upgradedb` first",
        )
    raise InvalidInputError(
        f"the alembic head {head} lies between Airflow {before} and {after or 'a release to come'}: "
        "an upgrade stopped half-way, or a beta wrote it",
        where="alembic_version",
        remedy=f"No release runs on it. Restore the copy from before that upgrade, or finish it with the "
        f"release that was being installed ({after or 'newer'} or later), then start again",
    )


def read_head(conn: Session) -> str:
    """The alembic head of the database, several rows sorted and joined by commas.

    :param conn: session whose search_path is the metadata schema
    :raises InvalidInputError: this is not Airflow's metadata database, or one never initialized
    """
    where = f'database "{conn.info.dbname}"'
    missing = [name for name in ("alembic_version", *AIRFLOW_TABLES) if not _table_exists(conn, name)]
    if missing:
        elsewhere = _schemas_of_airflow(conn)
        if elsewhere:
            raise InvalidInputError(
                f"Airflow's tables are not in schema {_current_schema(conn)}, but in {', '.join(elsewhere)}",
                where=where,
                remedy="Give that as metadata_schema in the connection's extra",
            )
        raise InvalidInputError(
            f"this is not Airflow's metadata database: no table {', '.join(missing)} on the search path",
            where=where,
            remedy="Correct the connection's database (schema field) and its extra metadata_schema",
        )
    try:
        with conn.cursor() as cursor:
            rows = cursor.execute("SELECT version_num FROM alembic_version").fetchall()
    except psycopg.errors.InsufficientPrivilege as err:
        raise InvalidInputError(
            "the role may not read alembic_version", where=where, remedy="Grant it SELECT on Airflow's tables"
        ) from err
    if not rows:
        raise InvalidInputError(
            "alembic_version is empty: the database was never initialized or its set-up was interrupted",
            where=where,
            remedy="Run the source Airflow's own upgrade command once, then start again",
        )
    return _sorted(",".join(str(row[0]) for row in rows))


def _table_exists(conn: Session, name: str) -> bool:
    with conn.cursor() as cursor:
        row = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (sql.Identifier(name).as_string(),)).fetchone()
    return bool(row and row[0])


def _current_schema(conn: Session) -> str:
    with conn.cursor() as cursor:
        row = cursor.execute("SELECT current_setting('search_path')").fetchone()
    return str(row[0]) if row else ""


def _schemas_of_airflow(conn: Session) -> tuple[str, ...]:
    """Schemas of this database that have an Airflow's tables."""
    with conn.cursor() as cursor:
        rows = cursor.execute(
            "SELECT n.nspname::text FROM pg_namespace n WHERE (SELECT count(*) FROM pg_class c"
            " WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relname = ANY (%s)) = %s ORDER BY 1",
            (["alembic_version", *AIRFLOW_TABLES], 1 + len(AIRFLOW_TABLES)),
        ).fetchall()
    return tuple(str(row[0]) for row in rows)


def _sorted(head: str) -> str:
    return ",".join(sorted(part.strip() for part in head.split(",")))


def _unknown_release(version: str) -> InvalidInputError:
    return InvalidInputError(
        f"Airflow {version!r} is not a release that this package knows",
        where="airflow_version",
        remedy=f"Name a final release from {known_releases()[0]} to {newest()}, for example 2.11.2",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    releases: tuple[Release, ...]
    trees: tuple[Tree, ...]
    revisions: tuple[Revision, ...]
    by_version: dict[str, Release]
    by_head: dict[str, tuple[Release, ...]]
    by_revision: dict[str, Revision]


@cache
def _table() -> _Table:
    data = json.loads(files(__package__).joinpath("releases.json").read_text(encoding="utf-8"))
    releases = tuple(Release(**entry | {"pythons": tuple(entry["pythons"])}) for entry in data["releases"])
    known = tuple(
        Revision(id=id_, parents=tuple(parents.split(",")) if parents else (), since=since)
        for id_, parents, since in data["revisions"]
    )
    by_head: dict[str, tuple[Release, ...]] = {}
    for each in releases:
        by_head[each.head] = (*by_head.get(each.head, ()), each)
    return _Table(
        releases=releases,
        trees=tuple(Tree(**entry) for entry in data["trees"]),
        revisions=known,
        by_version={each.version: each for each in releases},
        by_head=by_head,
        by_revision={each.id: each for each in known},
    )
