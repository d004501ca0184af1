"""Users whose names differ in case only.

e07f49787c9d (2.4.3) adds a unique index on lower(username) of ab_user and ab_register_user; Airflow's own
`check_username_duplicates` compares with case and so misses them on Postgres (measured 2.2.5 → 2.10.5:
half-migrated). No release's migration compares e-mails without case, so those stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.connections import free_name
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.postgres.address import Session

LOWER_INDEX = "e07f49787c9d"
USER_TABLES = ("ab_user", "ab_register_user")
SAME_NAME = "another user's name differs in case only"

_CLASHES = """
SELECT id, username, lower(username) FROM {table}
 WHERE lower(username) IN (SELECT lower(username) FROM {table} GROUP BY 1 HAVING count(*) > 1) ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A new username for one row."""

    table: str
    row: int
    username: str
    detail: str


def new_usernames(conn: Session, tables: Tables, crossing: Crossing) -> tuple[Rename, ...]:
    """What the second and later users of a name become; the first by id keeps it."""
    if not crossing.reaches(LOWER_INDEX):
        return ()
    return tuple(
        rename
        for table in USER_TABLES
        if {"id", "username"} <= tables.get(table, {}).keys()
        for rename in _renames(conn, table, tables[table]["username"].length)
    )


def rename_users(conn: Session, entry: Entry, renames: tuple[Rename, ...]) -> None:
    """Write the new usernames and keep the rows as they were; the caller commits."""
    for table in sorted({rename.table for rename in renames}):
        rows = [rename.row for rename in renames if rename.table == table]
        condition = sql.SQL("t.id = ANY ({})").format(sql.Literal(rows))
        keep_originals(conn, entry, table=table, columns=("username",), condition=condition, reason=SAME_NAME)
    for rename in renames:
        conn.execute(
            sql.SQL("UPDATE {} SET username = %s WHERE id = %s").format(sql.Identifier(rename.table)),
            (rename.username, rename.row),
        )


def same_emails(conn: Session, tables: Tables) -> tuple[str, ...]:
    """Keys of users whose e-mails differ in case only; every release allows that."""
    if not {"id", "email"} <= tables.get("ab_user", {}).keys():
        return ()
    rows = conn.execute(
        "SELECT string_agg('id ' || id, ', ' ORDER BY id) FROM ab_user GROUP BY lower(email)"
        " HAVING count(*) > 1 ORDER BY min(id)"
    )
    return tuple(str(ids) for (ids,) in rows)


def _renames(conn: Session, table: str, length: int | None) -> list[Rename]:
    clashes = conn.execute(sql.SQL(_CLASHES).format(table=sql.Identifier(table))).fetchall()
    if not clashes:
        return []
    names = conn.execute(sql.SQL("SELECT lower(username) FROM {}").format(sql.Identifier(table)))
    taken = {str(name) for (name,) in names}
    seen: set[str] = set()
    renames = []
    for row, username, key in clashes:
        if str(key) not in seen:
            seen.add(str(key))
            continue
        suffix = free_name(str(key), taken, length)
        taken.add(suffix)
        number = suffix.rpartition("__")[2]
        name = free_suffix(str(username), number, length)
        detail = f"{table} row {row}: {username!r} renamed {name!r}, {SAME_NAME}"
        renames.append(Rename(table=table, row=int(str(row)), username=name, detail=detail))
    return renames


def free_suffix(name: str, number: str, length: int | None) -> str:
    """`name` with that number, cut where the column would not hold it."""
    suffix = f"__{number}"
    return (name if length is None else name[: length - len(suffix)]) + suffix
