"""Look at source, target and scratch server before a rehearsal, and decide what it will do.

What stands in the way of the migration itself is found all the same; only what would make the copy or the upgrade
fail ends the rehearsal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError, PreflightError
from airflow_migration.metadata.findings import Finding, blocker
from airflow_migration.planning.plan import Plan, scratch_names
from airflow_migration.planning.preflight import ControlRun, draw_plan, refuse_blockers
from airflow_migration.planning.privileges import PRIVILEGES, alter_role, check_readable
from airflow_migration.planning.rehearsal_options import RehearsalOptions
from airflow_migration.planning.server_checks import check_version
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.postgres.databases import ServerDescription, describe_server
from airflow_migration.postgres.portability import compare, read_abilities
from airflow_migration.postgres.tools import find_tool
from airflow_migration.progress import Listener

STATEMENT_TIMEOUT = 120.0
SCRATCH = "scratch_server"
OF_THE_CUT_OVER = frozenset(
    {
        "journal",
        "target_database",
        "target_name",
        "own_names",
        PRIVILEGES,
        "sessions",
        "control",
        "dump_space",
        "prepared_transactions",
        "server_too_old",
        "server_versions",
        "client_programs",
        "not_portable",
    }
)
"""Checks of what a rehearsal does not do, or does on its own server, of which `SCRATCH` speaks."""


def plan_rehearsal(  # noqa: PLR0913  those of a migration's plan, and the server
    *,
    options: RehearsalOptions,
    rehearsal_id: str,
    control_run: ControlRun | None,
    source: Deployment,
    target: Deployment,
    scratch: DatabaseAddress,
    bin_path: str | None,
    listener: Listener,
    dumps_path: Path | None = None,
) -> Plan:
    """Run every check of the migration and those of the rehearsal; changes nothing.

    :param scratch: any database of the server for the scratch databases
    :returns: the plan with all findings, blockers of the cut-over among them
    :raises PreflightError: the copy or the upgrade would fail
    """
    plan = draw_plan(
        options=options,
        migration_id=rehearsal_id,
        control_run=control_run,
        source=source,
        target=target,
        bin_path=bin_path,
        listener=listener,
        dumps_path=dumps_path,
    )
    frozen, working = scratch_names(plan.target_database, plan.token)
    with (
        source.address.connect(statement_timeout=STATEMENT_TIMEOUT) as there,
        scratch.maintenance().connect(statement_timeout=STATEMENT_TIMEOUT) as here,
    ):
        unreadable = list(check_readable(there, plan, source.address.user))
        found = list(_check_scratch(plan, there, here, bin_path))
    for finding in found:
        listener(f"{finding.severity}: {finding.summary}")
    refuse_blockers((*plan.findings, *found), besides=OF_THE_CUT_OVER)
    if unreadable:
        first = unreadable[0]
        raise PreflightError(
            f"{first.summary}: {', '.join(first.evidence)}",
            where="preflight",
            remedy=first.remedy,
            findings=plan.to_json()["findings"],
        )
    return replace(plan, frozen_database=frozen, working_database=working)


def _check_scratch(plan: Plan, there: Session, here: Session, bin_path: str | None) -> Iterator[Finding]:
    """:param here: session in the scratch server's maintenance database"""
    source, server = describe_server(there), describe_server(here)
    if not server.user_can_create_databases:
        yield blocker(
            SCRATCH, "the scratch server's login may not create databases", f"{alter_role(here.info.user)} CREATEDB"
        )
    if server.major < source.major:
        yield blocker(
            SCRATCH,
            f"the scratch server's PostgreSQL {server.major} is older than the source's {source.major}",
            "Name a server that is not older in scratch_conn_id",
        )
    for finding in check_version(server, plan.target_release):
        if finding.severity == "blocker":
            yield blocker(SCRATCH, finding.summary.replace("the target's", "the scratch"), finding.remedy)
    yield from _programs(source, server, bin_path)
    portable = compare(there, read_abilities(here))
    if portable.in_the_way:
        yield blocker(
            SCRATCH,
            f"the scratch server cannot have what is needed by: {', '.join(portable.in_the_way)}",
            "Make that possible there, or name another server in scratch_conn_id",
        )


def _programs(source: ServerDescription, scratch: ServerDescription, bin_path: str | None) -> Iterator[Finding]:
    for name in ("pg_dump", "pg_restore"):
        try:
            find_tool(name, max(source.version, scratch.version), bin_path)
        except InvalidInputError as err:
            yield blocker(SCRATCH, err.problem, err.remedy)
