"""The steps that only a rehearsal has: the copy of a source that goes on, and the end of what it has made.

Repairs, hops, mending and verification are the migration's own, on a `Migration` whose databases are on the scratch
server.
"""

from __future__ import annotations

from airflow_migration.metadata import journal
from airflow_migration.metadata.fencing import SETTING as READ_ONLY
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres import databases, snapshot_copy
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.snapshot_copy import CopyClients, Pace, SnapshotCopy
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import Listener
from airflow_migration.steps import scratch
from airflow_migration.steps.copy import WorkingDatabase, bring_tables_home, by_template, leave_history
from airflow_migration.steps.migration import Migration
from airflow_migration.steps.scratch import Folder, ScratchRecord


def claim_scratch(plan: Plan, server: DatabaseAddress, folder: Folder) -> ScratchRecord:
    """Write down the names of both scratch databases, before anything of them is there.

    :param folder: of the rehearsal's report
    :raises OwnershipError: one of that name is there, and this rehearsal has not claimed it before
    """
    record = ScratchRecord(
        rehearsal_id=plan.migration_id,
        conn_id=plan.rehearsed.scratch,
        server=server.server,
        databases=(plan.working_database, plan.frozen_database),
    )
    if scratch.read_record(folder) != record:
        databases.refuse_taken(server, record.databases, "this rehearsal")
        # Never written twice: a kill meanwhile would lose the claim to what is there.
        scratch.write_record(folder, record)
    return record


def copy_source(migration: Migration, folder: Folder, listener: Listener) -> SnapshotCopy:
    """Copy the source as it is at one moment to the scratch server; nobody there waits for it.

    What an earlier try has left is made anew: the source has gone on.

    :param folder: of the rehearsal's report, where the scratch databases are claimed
    """
    plan, frozen = migration.plan, migration.frozen
    options = plan.rehearsed
    record = claim_scratch(plan, _server(migration), folder)
    for name in record.databases:
        scratch.drop_own(frozen, name, record.label, listener)
    result = snapshot_copy.copy_database(
        migration.source.address,
        frozen,
        comment=plan.label,
        clients=_clients(migration),
        pace=Pace(jobs=options.jobs, max_load=options.max_source_load),
        listener=listener,
        on_start=migration.running.add,
    )
    with frozen.connect(read_only=False) as conn:
        if journal.exists(conn):
            journal.mark_as_copy(conn)
        databases.set_database_default(conn, plan.frozen_database, READ_ONLY, "on")
    return result


def _clients(migration: Migration) -> CopyClients:
    """Both programs not older than the newer server."""
    with migration.source.address.connect() as there, migration.frozen.maintenance().connect() as here:
        version = max(there.info.server_version, here.info.server_version)
    source = Client("copy_source", migration.source.address.environment(read_only=True))
    migration.running.add(source.stop)
    return CopyClients(
        pg_dump=find_tool("pg_dump", version, migration.workshop.bin_path),
        pg_restore=find_tool("pg_restore", version, migration.workshop.bin_path),
        source=source,
        scratch=migration.client("copy_source", migration.frozen),
    )


def make_working_database(migration: Migration, listener: Listener) -> WorkingDatabase:
    """Make the working database of the copy, by template; without old history if the plan says so."""
    made = by_template(migration, migration.frozen, None, listener)
    bring_tables_home(migration, listener)
    return WorkingDatabase(
        database=made.database,
        bytes=made.bytes,
        seconds=made.seconds,
        reused=made.reused,
        history=leave_history(migration, listener),
    )


def _server(migration: Migration) -> DatabaseAddress:
    assert migration.scratch is not None
    return migration.scratch
