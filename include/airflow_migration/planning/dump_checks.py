"""Check what a dump needs and what it cannot carry to another server."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.compression import TEXT_FACTOR, require_room
from airflow_migration.postgres.databases import database_encoding
from airflow_migration.postgres.dump import portable_encoding, read_table_sizes
from airflow_migration.postgres.portability import compare, read_abilities
from airflow_migration.postgres.table_dump import read_rows_size
from airflow_migration.progress import amount

SUBSCRIPTIONS_SINCE = 100000
ALWAYS_CONVERTED = ("UTF8", "LATIN1", "LATIN2", "LATIN5", "LATIN9", "LATIN10", "KOI8R", "KOI8U", "WIN1256")
"""Encodings of which each byte that is text has its character in UTF8."""

_ROLES = r"""
WITH own AS (
    SELECT oid FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
),
held AS (
    SELECT relowner AS owner, relacl AS acl FROM pg_class WHERE relnamespace IN (SELECT oid FROM own)
    UNION ALL SELECT nspowner, nspacl FROM pg_namespace WHERE oid IN (SELECT oid FROM own)
    UNION ALL SELECT proowner, proacl FROM pg_proc WHERE pronamespace IN (SELECT oid FROM own)
    UNION ALL SELECT defaclrole, defaclacl FROM pg_default_acl
)
SELECT rolname::text FROM pg_roles
 WHERE oid IN (SELECT owner FROM held UNION SELECT a.grantee FROM held CROSS JOIN aclexplode(acl) a)
   AND rolname NOT LIKE 'pg\_%'
 ORDER BY 1
"""
_ELSEWHERE = """
SELECT format('tablespace %s', spcname) FROM pg_tablespace
 WHERE oid IN (SELECT reltablespace FROM pg_class UNION SELECT dattablespace FROM pg_database
                WHERE datname = current_database()) AND spcname NOT IN ('pg_default', 'pg_global')
"""
_PUBLICATIONS = """
UNION ALL SELECT format('publication %s', pubname) FROM pg_publication
UNION ALL SELECT format('subscription %s', subname) FROM pg_subscription
 WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def check_dump(there: Session, here: Session, target_role: str) -> Iterator[Finding]:
    """What of the source the target's server cannot have, and what a restore leaves behind by itself.

    :param there: session in the source's database
    :param here: session of the target's role on its server
    """
    yield from _portability(there, here)
    yield from _roles(there, target_role)
    yield from _elsewhere(there)
    yield from _conversion(there)


def check_room(there: Session, dumps_path: Path, tables: Collection[str] | None = None) -> Iterator[Finding]:
    """Whether the dump fits into its folder, which need not exist yet.

    :param tables: whose rows alone are dumped; None where the whole database is
    """
    nearest = next(each for each in (dumps_path, *dumps_path.parents) if each.exists())
    yield from judge_room(there, dumps_path, free=shutil.disk_usage(nearest).free, tables=tables)


def judge_room(
    there: Session, dumps_path: Path, *, free: int, tables: Collection[str] | None = None
) -> Iterator[Finding]:
    """The same for so many free bytes."""
    needed = sum(read_table_sizes(there).values()) if tables is None else read_rows_size(there, tables)
    try:
        require_room(needed, free)
    except InvalidInputError as err:
        yield Finding(
            check="dump_space", severity="blocker", summary=f"in {dumps_path} {err.problem}", remedy=err.remedy
        )
        return
    if free < needed * TEXT_FACTOR:
        yield Finding(
            check="dump_space",
            severity="warning",
            summary=f"in {dumps_path} {amount(free, 'bytes')} are free; unpacked a dump may need"
            f" {amount(round(needed * TEXT_FACTOR), 'bytes')}",
            remedy="It will be packed, which may do; make room to be sure"
            if tables is None
            else "Rows alone are not packed: make room, or name another folder in [airflow_migration] dumps_path",
        )


def _portability(there: Session, here: Session) -> Iterator[Finding]:
    found = compare(there, read_abilities(here))
    if found.in_the_way:
        yield Finding(
            check="not_portable",
            severity="blocker",
            summary="the target's server cannot have what the source's database uses"
            f" ({', '.join(found.left_out[:EXAMPLES]) or 'roles of policies'})",
            count=len(found.in_the_way),
            evidence=found.in_the_way[:EXAMPLES],
            remedy="Install the extension or locale on the target's server (pg_import_system_collations makes a new"
            " locale known), create the role, or have the target's login be one that may make it",
        )
    elif found.left_out:
        yield Finding(
            check="left_out",
            severity="info",
            summary=f"{len(found.left_out)} object(s) are not restored: the target's login cannot make them there, and"
            " nothing needs them",
            count=len(found.left_out),
            evidence=found.left_out[:EXAMPLES],
            remedy="Nothing needs to be done for Airflow; the dump holds them",
        )


def _roles(there: Session, target_role: str) -> Iterator[Finding]:
    roles = [str(name) for (name,) in there.execute(_ROLES) if name != target_role]
    if roles:
        yield Finding(
            check="roles_and_grants",
            severity="info",
            summary=f'on the target all belongs to role "{target_role}"; owners and grants of {len(roles)} role(s) are'
            " not carried",
            count=len(roles),
            evidence=tuple(roles[:EXAMPLES]),
            remedy="GRANT afterwards what others than Airflow shall read there",
        )


def _elsewhere(there: Session) -> Iterator[Finding]:
    with_publications = there.info.server_version >= SUBSCRIPTIONS_SINCE
    query = _ELSEWHERE + (_PUBLICATIONS if with_publications else "")
    names = tuple(str(name) for (name,) in there.execute(query))
    if names:
        yield Finding(
            check="replication_and_tablespaces",
            severity="info",
            summary="publications, subscriptions and places in tablespaces are not carried",
            count=len(names),
            evidence=names[:EXAMPLES],
            remedy="Set them up on the target where they are wanted",
        )


def _conversion(there: Session) -> Iterator[Finding]:
    encoding = database_encoding(there)
    if encoding != portable_encoding(encoding):
        yield Finding(
            check="encoding_converted",
            severity="info" if encoding in ALWAYS_CONVERTED else "warning",
            summary=f"text is converted from {encoding} to UTF8",
            remedy=""
            if encoding in ALWAYS_CONVERTED
            else "Rehearse: the dump stops at a byte that is no character of this encoding",
        )
