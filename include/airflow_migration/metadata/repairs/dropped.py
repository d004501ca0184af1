"""Tables that an upgrade drops, whose rows are kept beside Airflow's own."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_migration.metadata.repairs.catalog import Tables
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.repairs.ledger import Entry, read_repairs
from airflow_migration.metadata.repairs.moving import copy_rows
from airflow_migration.metadata.tables import REMOVALS, Removal
from airflow_migration.postgres.address import Session

REPAIR = "dropped_table"
HISTORY = ("users", "chart", "sensor_instance", "task_fail", "dag_pickle")
"""Of what Airflow drops the tables that hold something which nothing writes anew."""


def dropped_tables(tables: Tables, crossing: Crossing) -> Iterator[Removal]:
    """The tables that are here and that this hop drops."""
    for removal in REMOVALS:
        if removal.table in HISTORY and removal.table in tables and crossing.crosses(removal.revision):
            yield removal


def keep_rows(conn: Session, entry: Entry, tables: Tables, crossing: Crossing) -> int:
    """Copy what this hop drops to schema ``airflow_migration``; the upgrade wants to find the tables themselves.

    :returns: rows copied; 0 when an earlier try of this hop has copied them
    """
    if any(repair.id == REPAIR for repair in read_repairs(conn, entry.migration_id, entry.head)):
        return 0
    return sum(
        copy_rows(conn, entry, table=removal.table, reason=removal.cause)
        for removal in dropped_tables(tables, crossing)
    )
