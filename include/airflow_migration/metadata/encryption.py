"""Know which values Airflow encrypts, and see whether a set of Fernet keys reads them.

Nothing in here puts a value or a key into a result, an exception or a log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encrypted_columns import EncryptedColumn, present_columns
from airflow_migration.postgres.address import Session
from airflow_migration.secret import Secret

EXAMPLES = 10
"""How many rows of a kind are named."""
BATCH = 2000

Condition = Literal["plain", "readable", "unreadable", "flagged plain text", "unflagged ciphertext"]
UNREADABLE: tuple[Condition, ...] = ("unreadable", "flagged plain text")
"""Marked as encrypted, and no key makes a value of it."""
Verdict = Literal["nothing encrypted", "readable", "no key given", "wrong key", "partly unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedValue:
    """One value that is there, never to be stored.

    :param row_key: identifies the row within the table
    :param name: what people call the row
    :param value: the decrypted or plain value; the stored text when no key reads it
    """

    table: str
    column: str
    row_key: str
    name: str
    condition: Condition
    value: Secret = field(repr=False)

    @property
    def where(self) -> tuple[str, str, str]:
        return self.table, self.row_key, self.column

    def __str__(self) -> str:
        return f"{self.table} {self.name} ({self.column})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSurvey:
    """What one column holds; NULL and empty values are not counted.

    :param encrypted: marked as encrypted, and ciphertext by its look
    :param readable: of these, how many a given key decrypts
    :param unreadable: of these, how many no given key decrypts
    :param unreadable_rows: names of the first ten
    :param flagged_plain_text: marked as encrypted, but not ciphertext: Airflow fails on them
    :param unflagged_ciphertext: not marked, but ciphertext by its look: Airflow hands it out as it is
    """

    table: str
    column: str
    values: int
    encrypted: int
    readable: int
    unreadable: int
    unreadable_rows: tuple[str, ...]
    flagged_plain_text: int
    flagged_plain_text_rows: tuple[str, ...]
    unflagged_ciphertext: int
    unflagged_ciphertext_rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionSurvey:
    """What a database holds encrypted and what the keys can read of it.

    :param verdict: ``wrong key`` when not one of the encrypted values can be read
    """

    verdict: Verdict
    encrypted: int
    unreadable: int
    columns: tuple[ColumnSurvey, ...]


def read_keys(keys: Secret) -> MultiFernet:
    """Airflow's `[core] fernet_key`: keys separated by commas, the newest first.

    :raises InvalidInputError: there is no key, or one is not a Fernet key; it is named by its place only
    """
    parts = [part.strip() for part in keys.reveal().split(",") if part.strip()]
    if not parts:
        raise InvalidInputError("no Fernet key is given", where="fernet key", remedy=_KEY_REMEDY)
    fernets = []
    for number, part in enumerate(parts, start=1):
        try:
            fernets.append(Fernet(part.encode()))
        except (ValueError, binascii.Error):
            raise InvalidInputError(
                f"key {number} of {len(parts)} is not a Fernet key (32 bytes in URL-safe base64)",
                where="fernet key",
                remedy=_KEY_REMEDY,
            ) from None
    return MultiFernet(fernets)


_KEY_REMEDY = "Give the deployment's [core] fernet_key, newest first, as secret_fernet_key of its connection"


def decrypt_one(keys: MultiFernet | None, token: str) -> str | None:
    """The value behind one ciphertext; None when no key reads it."""
    if keys is None:
        return None
    try:
        return keys.decrypt(token.encode()).decode()
    except (InvalidToken, UnicodeDecodeError):
        return None


def read_values(conn: Session, keys: Secret) -> Iterator[EncryptedValue]:
    """Every value of every encrypted column that this database has, decrypted, a batch in memory at a time.

    :param keys: may be empty: then nothing encrypted can be read
    :raises InvalidInputError: a key is not a Fernet key
    """
    fernet = read_keys(keys) if keys else None
    for column in present_columns(conn):
        yield from read_column(conn, column, fernet)


def survey(conn: Session, keys: Secret) -> EncryptionSurvey:
    """Try the keys on every encrypted value; reads only.

    :param keys: may be empty
    :raises InvalidInputError: a key is not a Fernet key
    """
    tallies = {(column.table, column.column): _Tally() for column in present_columns(conn)}
    for value in read_values(conn, keys):
        tallies[value.table, value.column].add(value)
    columns = tuple(tally.result(*where) for where, tally in tallies.items())
    encrypted, unreadable = sum(c.encrypted for c in columns), sum(c.unreadable for c in columns)
    verdict: Verdict = "readable"
    if not encrypted:
        verdict = "nothing encrypted"
    elif not keys:
        verdict = "no key given"
    elif unreadable == encrypted:
        verdict = "wrong key"
    elif unreadable:
        verdict = "partly unreadable"
    return EncryptionSurvey(verdict=verdict, encrypted=encrypted, unreadable=unreadable, columns=columns)


def digests(conn: Session, keys: Secret, salt: bytes) -> dict[tuple[str, str, str], str]:
    """A keyed digest of every value by (table, row key, column), to compare two databases without values.

    A value that no key reads is digested as it is stored, so it equals its own copy and no readable value.

    :param salt: random bytes of this run, 16 to 64; without them nobody can test guesses against a digest
    """
    return {value.where: digest_of(value, salt) for value in read_values(conn, keys)}


def digest_of(value: EncryptedValue, salt: bytes) -> str:
    """The keyed digest of one value, as `digests` makes it."""
    stored = value.condition in UNREADABLE
    text = ("stored:" if stored else "value:") + value.value.reveal()
    return hashlib.blake2b(text.encode(), digest_size=16, key=salt).hexdigest()


def looks_encrypted(text: str) -> bool:
    """A whole Fernet token by its shape: version 0x80, time, IV, blocks of 16 bytes, HMAC."""
    if not text.startswith("gAAAA") or not text.isascii():
        return False
    try:
        token = base64.urlsafe_b64decode(text)
    except (ValueError, binascii.Error):
        return False
    return len(token) >= 73 and (len(token) - 57) % 16 == 0


def read_column(conn: Session, column: EncryptedColumn, fernet: MultiFernet | None) -> Iterator[EncryptedValue]:
    """Every value of one column that this database has, as `read_values` gives them."""
    value = sql.Identifier(column.column)
    flag: sql.Composable = sql.SQL("left({}::text, 1) <> '{{'").format(value)
    if column.flag:
        flag = sql.Identifier(column.flag)
    query = sql.SQL(
        "SELECT {row}::text, {name}::text, {flag}, {value}::text FROM {table} WHERE {value}::text <> ''"
    ).format(
        row=sql.Identifier(column.row),
        name=sql.Identifier(column.name),
        flag=flag,
        value=value,
        table=sql.Identifier(column.table),
    )
    # A server-side cursor lives in a transaction.
    scope: AbstractContextManager[object] = conn.transaction() if conn.autocommit else nullcontext()
    with scope, conn.cursor(name="airflow_migration_encrypted") as cursor:
        cursor.itersize = BATCH
        for row, name, marked, stored in cursor.execute(query):
            condition, text = _judge(bool(marked), str(stored), fernet)
            yield EncryptedValue(
                table=column.table,
                column=column.column,
                row_key=str(row),
                name=str(name) if name else f"row {row}",
                condition=condition,
                value=Secret(text),
            )


def _judge(flagged: bool, stored: str, fernet: MultiFernet | None) -> tuple[Condition, str]:
    if not flagged:
        return ("unflagged ciphertext" if looks_encrypted(stored) else "plain"), stored
    value = decrypt_one(fernet, stored)
    if value is not None:
        return "readable", value
    # A token that was cut off is still ciphertext, not a value that somebody wrote by hand.
    return ("unreadable" if stored.startswith("gAAAA") else "flagged plain text"), stored


class _Tally:
    """Counts of one column, and the first rows of each kind."""

    def __init__(self) -> None:
        self.counts: dict[Condition, int] = {}
        self.rows: dict[Condition, list[str]] = {}

    def add(self, value: EncryptedValue) -> None:
        self.counts[value.condition] = self.counts.get(value.condition, 0) + 1
        rows = self.rows.setdefault(value.condition, [])
        if len(rows) < EXAMPLES:
            rows.append(value.name)

    def result(self, table: str, column: str) -> ColumnSurvey:
        def count(condition: Condition) -> int:
            return self.counts.get(condition, 0)

        def rows(condition: Condition) -> tuple[str, ...]:
            return tuple(self.rows.get(condition, ()))

        return ColumnSurvey(
            table=table,
            column=column,
            values=sum(self.counts.values()),
            encrypted=count("readable") + count("unreadable"),
            readable=count("readable"),
            unreadable=count("unreadable"),
            unreadable_rows=rows("unreadable"),
            flagged_plain_text=count("flagged plain text"),
            flagged_plain_text_rows=rows("flagged plain text"),
            unflagged_ciphertext=count("unflagged ciphertext"),
            unflagged_ciphertext_rows=rows("unflagged ciphertext"),
        )
