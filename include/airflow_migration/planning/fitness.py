"""Checks of everything but the rows: names, privileges, programs, controls, the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from airflow_migration.deployments.control import ManualControl, control_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.settings_file import SCHEMA_SETTINGS
from airflow_migration.exceptions import InvalidInputError, MigrationError
from airflow_migration.metadata import draining, journal
from airflow_migration.metadata.checks import within_limits
from airflow_migration.metadata.findings import Finding, blocker
from airflow_migration.metadata.fresh import read_occupancy
from airflow_migration.planning import dump_checks, fresh_target, homes, privileges, server_checks, text_checks
from airflow_migration.planning.options import DATA_ONLY
from airflow_migration.planning.plan import CLONE, DUMP, Plan
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.databases import NAME_BYTES, ServerDescription, database_exists
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import amount

_SIZES = (
    "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
    " WHERE oid IN (to_regclass('task_instance'), to_regclass('xcom'), to_regclass('dag_run'), to_regclass('log'))"
    " ORDER BY 2 DESC"
)
"""The tables that are large in every deployment, indexes and all."""

TARGET_IS_FRESH = "target_is_fresh"
PRIVILEGES = privileges.PRIVILEGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the checks look at.

    :param there: session in the source's database
    :param here: session in the target server's maintenance database
    :param servers: of source and target
    :param dumps_path: where a dump would be written; None where it is not known here
    """

    plan: Plan
    source: Deployment
    target: Deployment
    there: Session
    here: Session
    servers: tuple[ServerDescription, ServerDescription]
    bin_path: str | None
    dumps_path: Path | None


def check(look: Look) -> Iterator[Finding]:
    """Every finding; `ok` ones only where the answer itself is worth reading."""
    goes_to = (
        (_fresh_target,) if look.plan.in_place else (_target_database, _schemas, _target_privileges, _server_versions)
    )
    for one in (
        _journal,
        _target_name,
        *goes_to,
        _own_names,
        _source_privileges,
        _foreign_sessions,
        _servers,
        _programs,
        _control,
        _in_flight,
    ):
        yield from one(look)
    yield from within_limits(look.there, "space", lambda: _space(look))
    yield from within_limits(look.there, "dump", lambda: _dump(look))


def _journal(look: Look) -> Iterator[Finding]:
    plan = look.plan
    other = journal.read_open_entry(look.there)
    own = journal.read_entry(look.there, plan.migration_id)
    if other and other.migration_id != plan.migration_id:
        yield blocker(
            "journal",
            f"migration {other.migration_id} of this source is still open",
            "Finish it or undo it first; one source can be in one migration only",
        )
    if own and own.state not in (journal.OPEN, journal.RESUMED):
        yield blocker(
            "journal",
            f"migration {plan.migration_id} has ended here already (state {own.state})",
            "Trigger the DAG anew, so that the run has an id of its own",
        )


def _target_database(look: Look) -> Iterator[Finding]:
    name = look.plan.target_database
    # Postgres would look for the first 63 bytes of a longer name, which is refused for that.
    if len(name.encode()) > NAME_BYTES or not database_exists(look.here, name):
        return
    with look.target.address.on(name).connect() as conn:
        occupancy = read_occupancy(conn)
    if occupancy is not None:
        yield blocker(
            "target_database",
            f'database "{name}" exists on the target\'s server and is {occupancy}',
            "Choose another target_database, or rename that one",
        )
        return
    row = look.here.execute(
        "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = %s", (name,)
    ).fetchone()
    if not (row and row[0]):
        yield blocker(
            "target_database",
            f'role "{look.target.address.user}" does not own the fresh database "{name}", so it may not rename it',
            "Use the owner's login in the target's connection, or choose another target_database",
        )
    yield Finding(
        check=TARGET_IS_FRESH,
        severity="info",
        summary=f'database "{name}" is a fresh Airflow without runs; it will be set aside, not dropped',
    )


def _fresh_target(look: Look) -> Iterator[Finding]:
    yield from fresh_target.check_target(look.plan, look.there, look.here, look.target)


def _target_name(look: Look) -> Iterator[Finding]:
    name = look.plan.target_database
    if len(name.encode()) > NAME_BYTES:
        yield blocker(
            "target_name",
            f'"{name}" is longer than {NAME_BYTES} bytes; Postgres would cut it',
            "Choose a shorter target_database",
        )
    if "?" in name:
        yield blocker(
            "target_name",
            f'"{name}" holds a question mark, which no connection string of Airflow can name',
            "Choose another target_database",
        )


def _own_names(look: Look) -> Iterator[Finding]:
    """Names that we are going to use must be free, or be ours from an earlier try."""
    names = [(look.there, look.plan.frozen_database, "create_frozen_clone")]
    if not look.plan.in_place:
        names.append((look.here, look.plan.working_database, "create_working_database"))
    for session, name, act in names:
        if database_exists(session, name) and journal.read_act(look.there, look.plan.migration_id, act) is None:
            yield blocker(
                "own_names",
                f'database "{name}" exists and this migration did not create it',
                "Rename or remove it by hand",
            )


def _schemas(look: Look) -> Iterator[Finding]:
    yield from homes.check_schemas(look.plan, look.there, look.source.address, look.target.address)


def _source_privileges(look: Look) -> Iterator[Finding]:
    user = look.source.address.user
    if not look.servers[0].user_can_create_databases:
        yield blocker(
            PRIVILEGES,
            f'role "{user}" may not create databases on the source\'s server',
            f"{privileges.alter_role(user)} CREATEDB",
        )
    row = look.there.execute(
        "SELECT pg_has_role(datdba, 'USAGE'), has_database_privilege(current_database(), 'CREATE')"
        " FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    owner, may_create = row if row else (False, False)
    if not owner:
        yield blocker(
            PRIVILEGES,
            f'role "{user}" does not own the source\'s database, so it may neither clone nor fence it',
            "Use the owner's login in the source's connection",
        )
    elif not may_create:
        yield blocker(
            PRIVILEGES,
            f'role "{user}" may not create schema airflow_migration in the source\'s database',
            "GRANT CREATE ON DATABASE to it",
        )
    row = look.there.execute("SELECT has_table_privilege('dag', 'SELECT, UPDATE')").fetchone()
    if not (row and row[0]):
        yield blocker(PRIVILEGES, f'role "{user}" may not update table dag of the source', "Use the owner's login")
    if look.plan.needs_dump:
        yield from privileges.check_readable(look.there, look.plan, user)


def _target_privileges(look: Look) -> Iterator[Finding]:
    source, target = look.source.address, look.target.address
    if look.plan.transfer == DUMP:
        if not look.servers[1].user_can_create_databases:
            yield blocker(
                PRIVILEGES,
                f'role "{target.user}" may not create databases on the target\'s server',
                f"{privileges.alter_role(target.user)} CREATEDB",
            )
        return
    yield from privileges.check_membership(look.there, source.user, target.user)
    # Only who has the rights of an owner may give his tables to the target's role.
    owners = look.there.execute(
        "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind IN ('r', 'p', 'S', 'v', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema')"
        " AND nspname NOT LIKE 'pg\\_t%%' AND pg_get_userbyid(relowner) <> %s AND NOT pg_has_role(relowner, 'USAGE')",
        (target.user,),
    ).fetchall()
    if owners:
        names = ", ".join(f'"{name}"' for (name,) in owners)
        yield blocker(
            PRIVILEGES,
            f'tables of the source belong to {names}, of which role "{source.user}" is no member',
            f"GRANT those roles to {sql.Identifier(source.user).as_string()}, or use the tables' owner's login",
        )
    if not look.servers[1].user_can_create_databases:
        yield blocker(
            PRIVILEGES,
            f'role "{target.user}" may not rename databases on the target\'s server',
            f"{privileges.alter_role(target.user)} CREATEDB",
        )


def _foreign_sessions(look: Look) -> Iterator[Finding]:
    """Sessions of roles whose sessions we may not end would keep the clone from being made."""
    rows = look.there.execute(
        "SELECT DISTINCT usename::text FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename"
        " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
        # NULL to us where it belongs to a role of which we are no member.
        " AND coalesce(a.backend_type, 'client backend') = 'client backend'"
        " AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        " AND (r.rolsuper OR NOT (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))"
    ).fetchall()
    if rows:
        names = tuple(str(name) for (name,) in rows)
        yield Finding(
            check="sessions",
            severity="warning",
            summary="sessions on the source belong to roles whose sessions we may not end",
            count=len(names),
            evidence=names,
            remedy="Close them before the migration, or grant pg_signal_backend; superusers' sessions only they end",
        )


def _server_versions(look: Look) -> Iterator[Finding]:
    source, target = look.servers
    if target.major < source.major:
        yield blocker(
            "server_versions",
            f"the target's PostgreSQL {target.major} is older than the source's {source.major}",
            "Use a server that is not older",
        )


def _servers(look: Look) -> Iterator[Finding]:
    yield from server_checks.check_servers(look.plan, look.servers, look.there, look.here)
    yield from within_limits(look.there, text_checks.CHECK, lambda: _text(look))


def _text(look: Look) -> Iterator[Finding]:
    return text_checks.check_readable_text(look.there, besides=look.plan.choice.travel if look.plan.in_place else ())


def _programs(look: Look) -> Iterator[Finding]:
    wanted: list[tuple[str, int]] = []
    newer = max(server.version for server in look.servers)
    if look.plan.transfer == DUMP:
        wanted += [("pg_dump", newer), ("pg_restore", newer)]
    elif look.plan.needs_dump:
        wanted.append(("pg_dump", look.servers[0].version))
    if look.plan.in_place:
        wanted.append(("pg_restore", look.servers[0].version))
    for name, version in wanted:
        try:
            find_tool(name, version, look.bin_path)
        except InvalidInputError as err:
            yield blocker("client_programs", err.problem, err.remedy)


def _dump(look: Look) -> Iterator[Finding]:
    if look.plan.needs_dump and look.dumps_path is not None:
        tables = look.plan.choice.travel if look.plan.in_place else None
        yield from dump_checks.check_room(look.there, look.dumps_path, tables)
    if look.plan.transfer == DUMP:
        yield from dump_checks.check_dump(look.there, look.here, look.target.address.user)


def _control(look: Look) -> Iterator[Finding]:
    control = control_of(look.target)
    try:
        control.check(look.plan.target_database)
        settings = control.settings()
    except MigrationError as err:
        yield blocker("control", f"{err.where}: {err.problem}", err.remedy)
        return
    schemas = {settings[name] for name in SCHEMA_SETTINGS if settings.get(name, "").strip()}
    if schemas - {look.target.address.schema}:
        yield blocker(
            "control",
            f"the target's own settings (sql_alchemy_schema) look for its tables in {', '.join(sorted(schemas))},"
            f" its connection in {look.target.address.schema}",
            "Correct metadata_schema of the target's connection",
        )
    if control.kind != ManualControl.kind:
        return
    if look.plan.options.require_approval:
        yield Finding(
            check="control",
            severity="info",
            summary="the target's address and restart, and its key if it changes, are done by hand: the run waits for"
            " a person at each",
        )
    else:
        yield Finding(
            check="control",
            severity="warning",
            summary="the target's key, address and restart are left to be done by hand; the report says what",
        )


def _in_flight(look: Look) -> Iterator[Finding]:
    seen = draining.read_in_flight(look.there)
    if seen.abandoned:
        yield Finding(
            check="active_task_instances",
            severity="warning",
            summary=f"{seen.running} task instance(s) are marked as running with no process left to end them",
            count=seen.running,
            remedy="They run again at the target",
        )
    elif seen.running:
        yield Finding(
            check="active_task_instances",
            severity="info",
            summary=f"{seen.running} task instance(s) run now; the drain waits for them",
            count=seen.running,
        )
    if seen.waiting:
        parts = ", ".join(f"{count} {state}" for state, count in sorted(seen.waiting.items()))
        yield Finding(
            check="waiting_task_instances",
            severity="info",
            summary=f"unfinished task instances go on at the target: {parts}",
            count=sum(seen.waiting.values()),
        )


def _space(look: Look) -> Iterator[Finding]:
    size = look.plan.source_size
    copies = {
        CLONE: "2.5 times that",
        DUMP: "that on the source's and 1.5 times that on the target's",
        DATA_ONLY: "that on the source's, and on the target's what the tables have that travel",
    }[look.plan.transfer]
    rows = look.there.execute(_SIZES).fetchall()
    yield Finding(
        check="space",
        severity="info",
        summary=f"the source has {amount(size, 'bytes')}; the server's disk must have {copies} to spare",
        evidence=tuple(f"{table}: {amount(int(str(used)), 'bytes')}" for table, used in rows),
        sql=_SIZES + ";",
    )
