"""Find text that its database has taken as bytes, and another encoding has not."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from psycopg import errors, sql

from airflow_migration.metadata.findings import EXAMPLES, Finding
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.databases import database_encoding

CHECK = "text"
UTF8, NONE = "UTF8", "SQL_ASCII"
READ_BY_US = ("connection", "dag", "slot_pool", "variable")
"""Tables whose text every migration reads, whatever becomes of the rest."""

_TEXT = "SELECT count(convert_to(t::text, {encoding})) FROM {table} t"


def check_readable_text(there: Session, *, besides: Collection[str] = ()) -> Iterator[Finding]:
    """Text that our own sessions, which are in UTF8, cannot read; only a database without an encoding can have any.

    :param there: session in the source's database
    :param besides: tables that are looked at anyway
    """
    if database_encoding(there) == NONE:
        yield from _check(there, set(READ_BY_US) - set(besides), UTF8, "in which it is read")


def check_text_for(there: Session, conn: Session, tables: Collection[str]) -> Iterator[Finding]:
    """Text of rows that travel alone, through files in UTF8, which the target's database could not take.

    :param there: session in the source's database
    :param conn: session in the target's
    """
    source, target = database_encoding(there), database_encoding(conn)
    if source == NONE:
        yield from _check(there, tables, UTF8, "in which rows travel")
    if target not in (source, UTF8, NONE):
        yield from _check(there, tables, target, "the target's encoding")


def _check(there: Session, tables: Collection[str], encoding: str, what: str) -> Iterator[Finding]:
    present = sorted(set(tables) & read_tables(there).keys())
    found = tuple(table for table in present if not _has_all(there, table, encoding))
    if found:
        yield Finding(
            check=CHECK,
            severity="blocker",
            summary=f"text in {len(found)} table(s) of the source does not exist in {encoding}, {what}",
            count=len(found),
            evidence=found[:EXAMPLES],
            remedy="Correct that text in the source"
            + ("" if encoding == UTF8 else f", or have the platform make the target's database in {UTF8}"),
            sql="; ".join(_question(table, encoding).as_string() for table in found) + ";",
        )


def _has_all(there: Session, table: str, encoding: str) -> bool:
    try:
        with there.transaction():
            there.execute(_question(table, encoding))
    except (errors.CharacterNotInRepertoire, errors.UntranslatableCharacter):
        return False
    return True


def _question(table: str, encoding: str) -> sql.Composed:
    return sql.SQL(_TEXT).format(encoding=sql.Literal(encoding), table=sql.Identifier(table))
