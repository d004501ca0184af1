"""Make the two copies: the frozen clone, never changed, and the working database, which is upgraded."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from airflow_migration.exceptions import ServerUnreachableError
from airflow_migration.metadata import journal
from airflow_migration.metadata.fencing import SETTING as READ_ONLY
from airflow_migration.metadata.history import HistoryResult, filter_history
from airflow_migration.metadata.homes import SEARCH_PATH, bring_home
from airflow_migration.metadata.journal import BLOCK, CREATE_FROZEN, CREATE_WORKING
from airflow_migration.planning.plan import CLONE, DUMP
from airflow_migration.postgres import clone, databases, dump, ownership, portability, restore, table_dump
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.clone import CloneResult
from airflow_migration.postgres.dump_directory import DumpResult
from airflow_migration.postgres.manifest import read_manifest
from airflow_migration.postgres.restore import RestoreResult
from airflow_migration.postgres.tools import compression_methods, find_tool
from airflow_migration.progress import Listener
from airflow_migration.steps import data_only
from airflow_migration.steps.data_only import FilledTarget
from airflow_migration.steps.migration import Migration

READY = "working_database_is_complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingDatabase:
    """:param bytes: on disk, before old history was taken out
    :param seconds: of making the copy
    :param history: what stayed behind; None where all travels
    :param left_out: objects of the source that the target's server cannot have and nothing needs
    """

    database: str
    bytes: int
    seconds: float
    reused: bool
    history: HistoryResult | None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardResult:
    """What was removed at the end; None where nothing was."""

    dropped_database: str | None
    removed_dump: str | None


def clone_source(migration: Migration, listener: Listener) -> CloneResult:
    """Clone the source on its own server, beside the sessions that use it.

    Only where somebody stays connected whom we may not end, connections are shut out for the moment. What
    this and `make_working_database` make is dropped by `discard_copies` or `roll_back.drop_created`.
    """
    plan, source = migration.plan, migration.source.address
    clone.allow_connections(
        source, plan.source_database
    )  # or a try that was killed behind shut doors shuts out this one
    _claim(migration, CREATE_FROZEN, migration.frozen)
    _drop_outdated(migration, listener)
    make = {"template": plan.source_database, "database": plan.frozen_database, "comment": plan.label}
    try:
        result = clone.clone_database(source, owner=None, listener=listener, **make)
    except ServerUnreachableError:
        _record(migration, BLOCK, source)
        result = clone.clone_shutting_out(source, listener=listener, **make)
    with migration.frozen.connect(read_only=False) as conn:
        journal.mark_as_copy(conn)
        databases.set_database_default(conn, plan.frozen_database, READ_ONLY, "on")
    return result


def allow_connections(migration: Migration, listener: Listener) -> bool:
    """Undo of the shut doors, if a killed clone left them shut.

    :returns: whether they were shut
    """
    opened = clone.allow_connections(migration.source.address, migration.plan.source_database)
    listener("Connections to the source are let in again" if opened else "Connections to the source were never shut")
    return opened


def dump_frozen(migration: Migration, listener: Listener) -> DumpResult:
    """Dump the frozen clone, for the other server or as a backup; with ``data_only`` the tables that travel.

    A `pg_dump` left from an attempt that was killed would go on to its end: its sessions are ended.
    """
    with migration.frozen.connect() as conn:
        ended = databases.terminate_sessions(conn, migration.frozen.database)
    if ended:
        listener(f"Ended {ended} session(s) on the frozen clone")
    return _dump(migration, _client_programs(migration), listener)


def _dump(migration: Migration, programs: tuple[Path, Path], listener: Listener) -> DumpResult:
    plan, client = migration.plan, migration.client("dump_database", migration.frozen)
    about = {
        "migration": migration.id,
        "source_database": plan.source_database,
        "airflow_release": plan.source_release,
        "alembic_head": plan.source_head,
    }
    if plan.in_place:
        return table_dump.dump_tables(
            client,
            migration.frozen,
            migration.dump_path,
            tables=plan.choice.travel,
            programs=programs,
            about=about,
            listener=listener,
        )
    return dump.dump_database(
        client,
        migration.frozen,
        migration.dump_path,
        pg_dump=programs[0],
        methods=compression_methods(*programs),
        about=about,
        listener=listener,
    )


def _client_programs(migration: Migration) -> tuple[Path, Path]:
    """pg_dump and pg_restore; where the second one loads, not older than the newer server, so that what one writes the
    other reads and the target's server understands.
    """
    with migration.frozen.connect() as conn:
        version = conn.info.server_version
    if migration.plan.transfer == DUMP:
        with migration.working.maintenance().connect() as conn:
            version = max(version, conn.info.server_version)
    pg_dump = find_tool("pg_dump", version, migration.workshop.bin_path)
    if migration.plan.transfer == CLONE:
        return pg_dump, pg_dump.with_name("pg_restore")
    return pg_dump, find_tool("pg_restore", version, migration.workshop.bin_path)


def make_working_database(migration: Migration, listener: Listener) -> WorkingDatabase | FilledTarget:
    """Make the working database from the frozen clone, owned by the target's role through and through.

    With ``data_only`` there is none: the target's own database is filled. Old history is taken out of it as
    the last act, if the plan says so.
    """
    plan = migration.plan
    if plan.in_place:
        return data_only.fill_target(migration, listener)
    _claim(migration, CREATE_WORKING, migration.working)
    acting = migration.source.address if plan.transfer == CLONE else migration.target.address
    if plan.transfer == CLONE:
        result = by_template(migration, acting, migration.target.address.user, listener)
    else:
        result = _by_dump(migration, listener)
    with acting.on(plan.working_database).connect(read_only=False) as conn:
        journal.mark_as_copy(conn)
        homes = migration.source.address.schema, migration.target.address.schema
        changed = ownership.hand_over(conn, migration.target.address.user, schemas=homes)
    listener(f'{changed} object(s) were handed to role "{migration.target.address.user}"')
    bring_tables_home(migration, listener)
    return WorkingDatabase(
        database=result.database,
        bytes=result.bytes,
        seconds=result.seconds,
        reused=result.reused,
        history=leave_history(migration, listener),
        left_out=result.left_out,
    )


def leave_history(migration: Migration, listener: Listener) -> HistoryResult | None:
    """Take old history out of the working database, if the plan says so."""
    cutoff = migration.plan.history_moment
    if cutoff is None:
        return None
    with migration.working.connect(read_only=False) as conn:
        return filter_history(conn, cutoff, migration.id, listener)


def bring_tables_home(migration: Migration, listener: Listener) -> None:
    """Put the tables of the working database into the schema in which the target looks for them."""
    with migration.working.connect(read_only=False) as conn:
        bring_home(
            conn,
            database=migration.plan.working_database,
            old=migration.source.address.schema,
            new=migration.target.address.schema,
            users_schema=migration.plan.users_schema,
            listener=listener,
        )


def discard_copies(migration: Migration, listener: Listener) -> DiscardResult:
    """Drop the frozen clone and the dump of a migration that is complete and was to keep no backup."""
    plan = migration.plan
    if plan.options.backup:
        listener(f'The frozen clone "{plan.frozen_database}" and the dump {migration.dump_path} are kept')
        return DiscardResult(dropped_database=None, removed_dump=None)
    drop = databases.drop_database(migration.source.address, plan.frozen_database, listener)
    dumped = migration.dump_path.exists()
    shutil.rmtree(migration.dump_path, ignore_errors=True)
    return DiscardResult(
        dropped_database=plan.frozen_database if drop else None,
        removed_dump=str(migration.dump_path) if dumped else None,
    )


def by_template(migration: Migration, address: DatabaseAddress, owner: str | None, listener: Listener) -> RestoreResult:
    """Make the working database of the frozen copy, on the server of both.

    :param address: any database of that server
    :param owner: as of `clone.clone_database`
    """
    made = clone.clone_database(
        address,
        template=migration.plan.frozen_database,
        database=migration.plan.working_database,
        owner=owner,
        comment=migration.plan.label,
        listener=listener,
        # Where the tables get another home, the source's path to them would lead astray.
        left_out=() if migration.source.address.schema == migration.target.address.schema else (SEARCH_PATH,),
    )
    return RestoreResult(database=made.database, bytes=made.bytes, seconds=made.seconds, reused=made.reused)


def _by_dump(migration: Migration, listener: Listener) -> RestoreResult:
    """Load the dump; what a killed try left half-loaded is dropped first."""
    working = migration.working
    with migration.source.address.connect() as conn:
        complete = journal.read_act(conn, migration.id, READY) is not None
    with working.maintenance().connect() as conn:
        there = databases.database_exists(conn, working.database)
        if there and complete:
            listener(f'Database "{working.database}" is already complete; keeping it')
            size = databases.database_size(conn, working.database)
            return RestoreResult(database=working.database, bytes=size, seconds=0.0, reused=True)
        abilities = portability.read_abilities(conn)
    if there:
        restore.discard_partial(working, listener)
    with migration.source.address.connect(read_only=False) as conn:
        journal.forget_act(conn, migration.id, READY)
    programs = _client_programs(migration)
    _dump(migration, programs, listener)  # what was damaged since it was written is made anew
    manifest = read_manifest(migration.dump_path)
    with migration.frozen.connect() as conn:
        portable = portability.compare(conn, abilities)
    restore.create_empty(working, encoding=manifest.encoding, comment=migration.plan.label)
    result = restore.restore_dump(
        migration.client("restore_database", working),
        working,
        migration.dump_path,
        manifest=manifest,
        portable=portable,
        pg_restore=programs[1],
        listener=listener,
    )
    _record(migration, READY, working)
    return result


def _drop_outdated(migration: Migration, listener: Listener) -> None:
    """Drop our copies of an earlier try after which the source was resumed: it went on without them."""
    frozen, working = migration.frozen, migration.working
    with frozen.maintenance().connect() as conn:
        if not databases.database_exists(conn, frozen.database):
            return
    with migration.source.address.connect() as source, frozen.connect() as copy:
        if journal.read_opening(source, migration.id) == journal.read_opening(copy, migration.id):
            return
        claimed = journal.read_act(source, migration.id, CREATE_WORKING) is not None
    listener("The source went on since the copies of an earlier try were made; they are made anew")
    if claimed:
        databases.drop_database(working, working.database, listener)
    shutil.rmtree(migration.dump_path, ignore_errors=True)
    databases.drop_database(frozen, frozen.database, listener)


def _claim(migration: Migration, act: str, address: DatabaseAddress) -> None:
    """Write the name of a database to the source's journal before it is created.

    :raises OwnershipError: it exists and is not ours
    """
    with migration.source.address.connect() as conn:
        ours = journal.read_act(conn, migration.id, act) is not None
    if not ours:
        databases.refuse_taken(address, [address.database], "this migration")
    _record(migration, act, address)


def _record(migration: Migration, act: str, address: DatabaseAddress) -> None:
    detail = {"database": address.database, "server": address.server}
    with migration.source.address.connect(read_only=False) as conn:
        journal.record_act(conn, migration.id, act, detail)
