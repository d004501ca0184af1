"""Clear encrypted values that no key reads, and keep their rows as they were.

Airflow says of a connection or variable that has one that it is missing, and a trigger that has one ends the whole
triggerer, which expects no more than a TypeError there (jobs/triggerer_job_runner.py of 2.11.2 and 3.3.2).
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encrypted_columns import EncryptedColumn, present_columns
from airflow_migration.metadata.encryption import UNREADABLE, EncryptedValue, read_column, read_keys, survey
from airflow_migration.metadata.releases import read_head
from airflow_migration.metadata.repairs.changing import keep_originals, note_new_values
from airflow_migration.metadata.repairs.ledger import (
    SCHEMA,
    Entry,
    Repair,
    changed_rows,
    prepare,
    read_repairs,
    record,
)
from airflow_migration.metadata.repairs.registry import QUARANTINE, REPAIRS
from airflow_migration.postgres.address import Session
from airflow_migration.progress import Listener
from airflow_migration.secret import Secret

_NO_ARGUMENTS = '{"__type": "dict", "__var": {}}'
"""Of a trigger, as every release since 2.9.0 reads it. Made without its arguments the trigger is a TypeError: the
triggerer fails that task alone, which is tried again where it may be."""

Unread = dict[EncryptedColumn, list[EncryptedValue]]


def quarantine(
    conn: Session, *, keys: Secret, target_keys: Secret, migration_id: str, listener: Listener
) -> tuple[Repair, ...]:
    """Clear the values that are marked as encrypted and that none of the keys reads; one transaction, committed.

    Their rows go to schema ``airflow_migration`` first, ciphertext and all. A second call finds nothing to do, and
    tells the same.

    :param keys: all that may read a value
    :param target_keys: the first of them encrypts the arguments that a trigger gets instead of its own
    :raises InvalidInputError: the keys read none of the encrypted values: that is another key, nothing was changed
    """
    with conn.transaction():
        if survey(conn, keys).verdict in ("no key given", "wrong key"):
            raise InvalidInputError(
                "the fernet key reads none of the encrypted values",
                where=f'database "{conn.info.dbname}"',
                remedy=REPAIRS[QUARANTINE].instead,
            )
        entry = Entry(migration_id=migration_id, repair_id=QUARANTINE, head=read_head(conn))
        prepare(conn)
        unread = _find_unread(conn, keys)
        for column, values in unread.items():
            _keep(conn, entry, column, values)
        for column, values in unread.items():
            _clear(conn, column, values, _no_arguments(target_keys))
        cleared = [value for values in unread.values() for value in values]
        record(conn, entry, len(cleared), tuple(f"{value} is cleared, as no key decrypts it" for value in cleared))
        if cleared:
            note_new_values(conn, entry)
            listener(f"Repair {QUARANTINE}: {len(cleared)} value(s)")
        return tuple(each for each in read_repairs(conn, migration_id, entry.head) if each.id == QUARANTINE)


def cleared_values(conn: Session, migration_id: str) -> frozenset[tuple[str, str, str]]:
    """Table, row key and column of each value that a migration has cleared."""
    rows = {column.table: column.row for column in present_columns(conn)}
    found: set[tuple[str, str, str]] = set()
    for kept in changed_rows(conn, migration_id):
        if kept.repair != QUARANTINE or kept.origin not in rows:
            continue
        query = sql.SQL(
            "SELECT DISTINCT {}::text, changed_columns[1] FROM {} WHERE migration_id = {} AND repair_id = {}"
        ).format(
            sql.Identifier(rows[kept.origin]),
            sql.Identifier(SCHEMA, kept.kept_in.removeprefix(f"{SCHEMA}.")),
            sql.Literal(migration_id),
            sql.Literal(QUARANTINE),
        )
        found |= {(kept.origin, str(row), str(column)) for row, column in conn.execute(query)}
    return frozenset(found)


def _find_unread(conn: Session, keys: Secret) -> Unread:
    fernet = read_keys(keys) if keys else None
    found = {
        column: [value for value in read_column(conn, column, fernet) if value.condition in UNREADABLE]
        for column in present_columns(conn)
    }
    return {column: values for column, values in found.items() if values}


def _keep(conn: Session, entry: Entry, column: EncryptedColumn, values: Collection[EncryptedValue]) -> None:
    changed = (column.column, column.flag) if column.flag else (column.column,)
    keep_originals(
        conn,
        entry,
        table=column.table,
        columns=changed,
        condition=_rows(column, values),
        reason=f"no key decrypts {column.column}",
    )


def _clear(
    conn: Session, column: EncryptedColumn, values: Collection[EncryptedValue], no_arguments: sql.Literal
) -> None:
    if column.flag:
        sets = [
            sql.SQL("{} = {}").format(sql.Identifier(column.column), _nothing(conn, column)),
            sql.SQL("{} = false").format(sql.Identifier(column.flag)),
        ]
    else:
        sets = [sql.SQL("{} = {}").format(sql.Identifier(column.column), no_arguments)]
    conn.execute(
        sql.SQL("UPDATE {} t SET {} WHERE {}").format(
            sql.Identifier(column.table), sql.SQL(", ").join(sets), _rows(column, values)
        )
    )


def _nothing(conn: Session, column: EncryptedColumn) -> sql.Literal:
    """What a cleared value is: NULL, or the empty text where the column does not allow that."""
    row = conn.execute(
        "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s",
        (sql.Identifier(column.table).as_string(conn), column.column),
    ).fetchone()
    assert row is not None
    return sql.Literal("" if row[0] else None)


def _no_arguments(keys: Secret) -> sql.Literal:
    """Encrypted where there is a key: `airflow rotate-fernet-key` (2.11.2) stops at a trigger that is not."""
    return sql.Literal(read_keys(keys).encrypt(_NO_ARGUMENTS.encode()).decode() if keys else _NO_ARGUMENTS)


def _rows(column: EncryptedColumn, values: Collection[EncryptedValue]) -> sql.Composed:
    keys = [value.row_key for value in values]
    return sql.SQL("t.{}::text = ANY ({}::text[])").format(sql.Identifier(column.row), sql.Literal(keys))
