"""The steps that only a rehearsal has: the copy of a source that goes on, and the end of what it has made.

Repairs, hops, mending and verification are the migration's own, on a `Migration` whose databases are on the scratch
server.
"""

from __future__ import annotations

from airflow_migration.exceptions import InvalidInputError, OwnershipError
from airflow_migration.metadata import journal
from airflow_migration.metadata.fencing import SETTING as READ_ONLY
from airflow_migration.metadata.history import HistoryResult, filter_history
from airflow_migration.metadata.homes import SEARCH_PATH, bring_home
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.rehearsal_options import RehearsalOptions
from airflow_migration.postgres import clone, databases, snapshot_copy
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.postgres.snapshot_copy import CopyClients, Pace, SnapshotCopy
from airflow_migration.postgres.snapshot_rows import RowCopy
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import Listener
from airflow_migration.steps import scratch
from airflow_migration.steps.copy import WorkingDatabase
from airflow_migration.steps.migration import Migration
from airflow_migration.steps.scratch import Folder, ScratchRecord


def claim_scratch(plan: Plan, server: DatabaseAddress, folder: Folder) -> ScratchRecord:
    """Write down the names of both scratch databases, before anything of them is there.

    :param folder: of the rehearsal's report
    :raises OwnershipError: one of that name is there, and this rehearsal has not claimed it before
    """
    record = ScratchRecord(
        rehearsal_id=plan.migration_id,
        conn_id=_options(plan).scratch,
        server=scratch.server_of(server),
        databases=(plan.working_database, plan.frozen_database),
    )
    if scratch.read_record(folder) != record:
        _refuse_foreign(record, server)
    scratch.write_record(folder, record)
    return record


def _refuse_foreign(record: ScratchRecord, server: DatabaseAddress) -> None:
    with server.maintenance().connect() as conn:
        taken = [name for name in record.databases if databases.database_exists(conn, name)]
    if taken:
        raise OwnershipError(
            f'database "{taken[0]}" exists and this rehearsal did not create it',
            where=record.server,
            remedy="Rename or remove it by hand, then retry",
        )


def copy_source(migration: Migration, folder: Folder, listener: Listener) -> SnapshotCopy:
    """Copy the source as it is at one moment to the scratch server; nobody there waits for it.

    What an earlier try has left is made anew: the source has gone on.

    :param folder: of the rehearsal's report, where the scratch databases are claimed
    """
    plan, frozen = migration.plan, migration.frozen
    options = _options(plan)
    record = claim_scratch(plan, _server(migration), folder)
    for name in record.databases:
        scratch.drop_own(frozen, name, record.label, listener)
    stops: list[RowCopy] = []
    migration.running.add(lambda: _stop(stops))
    result = snapshot_copy.copy_database(
        migration.source.address,
        frozen,
        comment=plan.label,
        clients=_clients(migration),
        pace=Pace(jobs=options.jobs, max_load=options.max_source_load),
        listener=listener,
        stops=stops,
    )
    with frozen.connect(read_only=False) as conn:
        if journal.exists(conn):
            journal.mark_as_copy(conn)
        databases.set_database_default(conn, plan.frozen_database, READ_ONLY, "on")
    return result


def _stop(copies: list[RowCopy]) -> None:
    for rows in copies:
        rows.stop()


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
    plan = migration.plan
    homes = migration.source.address.schema, migration.target.address.schema
    made = clone.clone_database(
        migration.frozen,
        template=plan.frozen_database,
        database=plan.working_database,
        owner=None,
        comment=plan.label,
        listener=listener,
        left_out=() if homes[0] == homes[1] else (SEARCH_PATH,),
    )
    with migration.working.connect(read_only=False) as conn:
        bring_home(
            conn,
            database=plan.working_database,
            old=homes[0],
            new=homes[1],
            users_schema=plan.users_schema,
            listener=listener,
        )
    return WorkingDatabase(
        database=made.database,
        bytes=made.bytes,
        seconds=made.seconds,
        reused=made.reused,
        history=_leave_history(migration, listener),
    )


def _leave_history(migration: Migration, listener: Listener) -> HistoryResult | None:
    cutoff = migration.plan.history_moment
    if cutoff is None:
        return None
    with migration.working.connect(read_only=False) as conn:
        return filter_history(conn, cutoff, migration.id, listener)


def _server(migration: Migration) -> DatabaseAddress:
    assert migration.scratch is not None
    return migration.scratch


def _options(plan: Plan) -> RehearsalOptions:
    if plan.rehearsal is None:
        raise InvalidInputError(
            "the plan is of a migration", where="rehearsal", remedy="Trigger rehearse_migration anew"
        )
    return plan.rehearsal
