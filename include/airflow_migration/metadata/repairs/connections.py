"""Give every Airflow connection a type and an id of its own; none is removed.

2.0.0 makes conn_type NOT NULL, and conn_id NOT NULL and unique.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.changing import keep_originals
from airflow_migration.metadata.repairs.connection_types import guess_type
from airflow_migration.metadata.repairs.ledger import Entry
from airflow_migration.postgres.address import Session

TYPE_NOT_NULL = "8f966b9c467a"
ID_UNIQUE = "8d48763f6d53"

Decrypt = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A new value for one column of one row of ``connection``.

    :param why: the fault, the same for every row that has it
    """

    row: int
    column: str
    value: str
    why: str
    detail: str


def new_types(conn: Session, tables: Tables, decrypt: Decrypt | None = None) -> tuple[Change, ...]:
    """What each NULL conn_type becomes.

    :param decrypt: gives the plain text of an encrypted extra, or None where it cannot; without it
        encrypted extras are not consulted
    """
    has = tables.get("connection", {})
    if not {"id", "conn_id", "conn_type", "host", "extra", "is_extra_encrypted"} <= has.keys():
        return ()
    rows = conn.execute(
        "SELECT id, conn_id, host, extra, coalesce(is_extra_encrypted, false) FROM connection"
        " WHERE conn_type IS NULL ORDER BY id"
    )
    changes = []
    for row, conn_id, host, extra, encrypted in rows:
        text = _plain(str(extra), bool(encrypted), decrypt) if extra is not None else None
        guess = guess_type(str(conn_id or ""), str(host or ""), _extra_keys(text))
        detail = f"connection {conn_id!r} (row {row}): conn_type {guess.conn_type!r}, {guess.why}"
        changes.append(
            Change(row=int(str(row)), column="conn_type", value=guess.conn_type, why="it had no type", detail=detail)
        )
    return tuple(changes)


def new_ids(conn: Session, tables: Tables) -> tuple[Change, ...]:
    """What each missing or repeated conn_id becomes: the first by row id keeps its own."""
    if not {"id", "conn_id"} <= tables.get("connection", {}).keys():
        return ()
    rows = [
        (int(str(row)), None if conn_id is None else str(conn_id))
        for row, conn_id in conn.execute("SELECT id, conn_id FROM connection ORDER BY id")
    ]
    taken = {conn_id for _, conn_id in rows if conn_id}
    length = tables["connection"]["conn_id"].length
    seen: set[str] = set()
    changes = []
    for row, conn_id in rows:
        if conn_id and conn_id not in seen:
            seen.add(conn_id)
            continue
        if conn_id:
            name, why = free_name(conn_id, taken, length), "another connection has that id"
        else:
            wanted = f"unnamed_{row}"
            name = wanted if wanted not in taken else free_name(wanted, taken, length)
            why = "it had no id"
        taken.add(name)
        seen.add(name)
        detail = f"connection {conn_id!r} (row {row}) renamed {name!r}: {why}"
        changes.append(Change(row=row, column="conn_id", value=name, why=why, detail=detail))
    return tuple(changes)


def apply(conn: Session, entry: Entry, changes: Sequence[Change]) -> None:
    """Write the new values and keep the rows as they were; the caller commits."""
    for column, why in sorted({(change.column, change.why) for change in changes}):
        rows = [change.row for change in changes if (change.column, change.why) == (column, why)]
        condition = sql.SQL("t.id = ANY ({})").format(sql.Literal(rows))
        keep_originals(conn, entry, table="connection", columns=(column,), condition=condition, reason=why)
    for change in changes:
        if change.column == "conn_type":
            conn.execute("UPDATE connection SET conn_type = %s WHERE id = %s", (change.value, change.row))
        else:
            conn.execute("UPDATE connection SET conn_id = %s WHERE id = %s", (change.value, change.row))


def free_name(name: str, taken: set[str], length: int | None) -> str:
    """`name` with the first suffix ``__2``, ``__3``, … that is not taken and fits the column."""
    number = 2
    while True:
        suffix = f"__{number}"
        candidate = (name if length is None else name[: length - len(suffix)]) + suffix
        if candidate not in taken:
            return candidate
        number += 1


def _plain(extra: str, encrypted: bool, decrypt: Decrypt | None) -> str | None:
    if not encrypted:
        return extra
    return decrypt(extra) if decrypt else None


def _extra_keys(text: str | None) -> frozenset[str]:
    """Keys that have a value: 1.10's form saves the fields of the other types too, empty."""
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        return frozenset()
    if not isinstance(values, dict):
        return frozenset()
    return frozenset(key for key, value in values.items() if value not in (None, "", False))
