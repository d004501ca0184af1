"""Which columns of Airflow's database hold encrypted values, by what a database has, not by its release."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.postgres.address import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedColumn:
    """A column whose values Airflow encrypts.

    :param row: column that identifies the row, and keeps doing so when the row is renamed
    :param name: column by which people know the row
    :param flag: boolean column that says whether a value is encrypted; None when the value itself says so
    :param since: first release that has it
    """

    table: str
    column: str
    row: str = "id"
    name: str
    flag: str | None
    since: str


ENCRYPTED_COLUMNS = (
    EncryptedColumn(table="connection", column="password", name="conn_id", flag="is_encrypted", since="1.10.0"),
    EncryptedColumn(table="connection", column="extra", name="conn_id", flag="is_extra_encrypted", since="1.10.0"),
    EncryptedColumn(table="variable", column="val", name="key", flag="is_encrypted", since="1.10.0"),
    # Plain when it begins with a brace: models/trigger.py of 2.9.0 to 3.3.2.
    EncryptedColumn(table="trigger", column="kwargs", name="id", flag=None, since="2.9.0"),
    EncryptedColumn(
        table="connection_test_request",
        column="password",
        name="connection_id",
        flag="is_encrypted",
        since="3.3.0",
    ),
    EncryptedColumn(
        table="connection_test_request",
        column="extra",
        name="connection_id",
        flag="is_extra_encrypted",
        since="3.3.0",
    ),
)
"""models/{connection,variable,trigger,connection_test}.py of 1.10.15, 2.11.2 and 3.3.2.

Left out: strings inside XComs of the deltalake and iceberg serializers (2.9 on), which no Airflow command
rotates either.
"""


def present_columns(conn: Session) -> tuple[EncryptedColumn, ...]:
    """The encrypted columns that exist in this database, whatever release made it."""
    tables = read_tables(conn)
    return tuple(
        column
        for column in ENCRYPTED_COLUMNS
        if {column.column, column.row, column.name, column.flag or column.column} <= tables.get(column.table, {}).keys()
    )
