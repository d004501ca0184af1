"""Rewrite encrypted values with other Fernet keys, in whatever release's database they are.

No plain value leaves this process, and no key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from cryptography.fernet import MultiFernet
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encrypted_columns import EncryptedColumn, present_columns
from airflow_migration.metadata.encryption import (
    BATCH,
    EXAMPLES,
    UNREADABLE,
    EncryptedValue,
    decrypt_one,
    read_column,
    read_keys,
    read_values,
)
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener, Progress
from airflow_migration.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenColumn:
    """:param rewritten: values that now are encrypted with the first of the new keys
    :param left: encrypted values that the new keys read already
    """

    table: str
    column: str
    rewritten: int
    left: int


def reencrypt(conn: Session, *, old: Secret, new: Secret, listener: Listener) -> tuple[RewrittenColumn, ...]:
    """Have every encrypted value readable by the new keys; one transaction, which this commits.

    Plain values stay plain and every flag as it is. What the new keys read already is left, so a second call finds
    nothing to do.

    :param old: keys that read what the new ones do not; may be empty
    :param new: the first of them encrypts; may be empty where nothing is encrypted
    :raises InvalidInputError: a value is read by none of the keys; nothing was changed
    """
    started = time.monotonic()
    results: list[RewrittenColumn] = []
    lost: list[str] = []
    with conn.transaction():
        for column in present_columns(conn):
            rewriting = _Rewriting(conn, column, old, new)
            for value in read_column(conn, column, rewriting.new):
                rewriting.take(value)
            rewriting.flush()
            lost += rewriting.lost
            results.append(rewriting.result())
            if rewriting.rewritten:
                listener(
                    Progress(
                        what=f"Re-encrypted {column.table}.{column.column}",
                        done=rewriting.rewritten,
                        unit="values",
                        seconds=time.monotonic() - started,
                    )
                )
        _refuse(conn, lost)
    return tuple(results)


def refuse_unread(conn: Session, keys: Secret) -> None:
    """:raises InvalidInputError: there are encrypted values that the keys do not read"""
    _refuse(conn, [str(value) for value in read_values(conn, keys) if value.condition in UNREADABLE])


def _refuse(conn: Session, lost: list[str]) -> None:
    if not lost:
        return
    more = f" and {len(lost) - EXAMPLES} more" if len(lost) > EXAMPLES else ""
    raise InvalidInputError(
        f"{len(lost)} encrypted value(s) are not read by the keys: {', '.join(lost[:EXAMPLES])}{more}",
        where=f'database "{conn.info.dbname}"',
        remedy="Give all fernet keys, newest first, as secret_fernet_key of the source's connection, or with"
        " fernet keep have the target's key list read them; then clear this task",
    )


class _Rewriting:
    """One column under way; at most a batch of values is in memory."""

    def __init__(self, conn: Session, column: EncryptedColumn, old: Secret, new: Secret) -> None:
        self.new = _keys(new)
        self.rewritten = self.left = 0
        self.lost: list[str] = []
        self._conn = conn
        self._column = column
        self._old = _keys(old)
        self._batch: list[tuple[str, str]] = []
        self._statement = _statement(conn, column)

    def take(self, value: EncryptedValue) -> None:
        if value.condition == "readable":
            self.left += 1
        elif value.condition in UNREADABLE:
            text = decrypt_one(self._old, value.value.reveal())
            if text is None or self.new is None:
                self.lost.append(str(value))
                return
            self._batch.append((value.row_key, self.new.encrypt(text.encode()).decode()))
            if len(self._batch) >= BATCH:
                self.flush()

    def flush(self) -> None:
        if self._batch:
            keys, tokens = zip(*self._batch, strict=True)
            self.rewritten += self._conn.execute(self._statement, (list(keys), list(tokens))).rowcount
            self._batch = []

    def result(self) -> RewrittenColumn:
        return RewrittenColumn(
            table=self._column.table, column=self._column.column, rewritten=self.rewritten, left=self.left
        )


def _keys(keys: Secret) -> MultiFernet | None:
    return read_keys(keys) if keys else None


def _statement(conn: Session, column: EncryptedColumn) -> sql.Composed:
    row_type = read_tables(conn)[column.table][column.row].type
    return sql.SQL(
        "UPDATE {table} t SET {column} = v.value FROM unnest(%s::text[], %s::text[]) v (row_key, value)"
        " WHERE t.{row} = v.row_key::{row_type}"
    ).format(
        table=sql.Identifier(column.table),
        column=sql.Identifier(column.column),
        row=sql.Identifier(column.row),
        row_type=sql.SQL(row_type),
    )
