"""Look at source and target before anything is touched, and decide what will be done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import IsolationLevel

from airflow_migration.deployments.control import ManualControl, control_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError, MigrationError, PreflightError
from airflow_migration.metadata import checks, draining, journal, pausing, releases
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.metadata.table_choice import choose_tables
from airflow_migration.metadata.users_schema import find_users_schema
from airflow_migration.planning import (
    continuity,
    cron_timetables,
    fitness,
    fresh_target,
    history,
    privileges,
    repairs,
    text_checks,
)
from airflow_migration.planning.hops import Hop, plan_hops
from airflow_migration.planning.key_checks import check_keys
from airflow_migration.planning.keys import keys_of
from airflow_migration.planning.log_checks import check_logs
from airflow_migration.planning.options import DATA_ONLY, Options
from airflow_migration.planning.plan import CLONE, DUMP, Plan, frozen_name, set_aside_name, working_name
from airflow_migration.planning.users_and_roles import check_users
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.databases import ServerDescription, database_size, describe_server
from airflow_migration.progress import Listener

STATEMENT_TIMEOUT = 120.0
"""Seconds that one question to the live source may take; a check that takes longer has no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRun:
    """The DAG run that asks, by which the control Airflow's own database is recognised."""

    dag_id: str
    run_id: str


def make_plan(
    *,
    options: Options,
    migration_id: str,
    control_run: ControlRun | None,
    source: Deployment,
    target: Deployment,
    bin_path: str | None,
    listener: Listener,
    dumps_path: Path | None = None,
) -> Plan:
    """Run every check and decide; changes nothing.

    :param dumps_path: whose room is checked for the dump; None where it is not known here
    :raises InvalidInputError: a connection or param says something that cannot be done
    :raises PreflightError: a blocker was found; its sentences are in the error
    :raises ServerUnreachableError: a server does not answer
    """
    plan = draw_plan(
        options=options,
        migration_id=migration_id,
        control_run=control_run,
        source=source,
        target=target,
        bin_path=bin_path,
        listener=listener,
        dumps_path=dumps_path,
    )
    refuse_blockers(plan.findings)
    return plan


def draw_plan(
    *,
    options: Options,
    migration_id: str,
    control_run: ControlRun | None,
    source: Deployment,
    target: Deployment,
    bin_path: str | None,
    listener: Listener,
    dumps_path: Path | None = None,
) -> Plan:
    """The same, with the blockers among the plan's findings instead of in an error.

    :param control_run: None where no DAG run asks
    """
    with (
        source.address.connect(statement_timeout=STATEMENT_TIMEOUT) as there,
        target.address.maintenance().connect(statement_timeout=STATEMENT_TIMEOUT) as here,
    ):
        take_one_snapshot(there)
        head = releases.read_head(there)
        users_schema = see_users(there, source, head)
        if control_run is not None:
            _refuse_control_database(there, control_run)
        servers = describe_server(there), describe_server(here)
        transfer = _transfer(options, *servers)
        in_place = transfer == DATA_ONLY
        if in_place:
            # To choose tables is to look at their rows.
            refuse_blockers(list(privileges.find_unreadable(there, source.address.user)))
        goal = fresh_target.goal_of(head, source, target) if in_place else _goal(target)
        naming = cron_timetables.read_naming(there, head)
        hops = plan_hops(head, goal.version)
        keys = keys_of(source, target, options.fernet)
        token = journal.read_token(there, migration_id)
        name = options.target_database or target.address.database
        plan = Plan(
            migration_id=migration_id,
            token=token,
            options=options,
            transfer=transfer,
            fernet=keys.fernet,
            repairs=tuple(sorted(repairs.allowed(options.repairs))),
            source_release=release_name(head, source),
            source_head=head,
            target_release=goal.version,
            target_head=goal.head,
            hops=hops,
            source_database=source.address.database,
            source_server=_server_name(source, servers[0]),
            target_server=_server_name(target, servers[1]),
            frozen_database=frozen_name(source.address.database, token),
            working_database=name if in_place else working_name(name, token),
            target_database=name,
            set_aside_as=None,
            source_size=database_size(there, source.address.database),
            active_dags=_active(there, migration_id),
            in_flight=draining.read_in_flight(there).running,
            findings=(),
            cron_data_intervals=cron_timetables.decide(options.cron_timetable, naming, goal),
            history_cutoff=history.cutoff_of(options.history_days),
            users_schema=users_schema,
            target_cluster=servers[1].cluster,
            tables=choose_tables(there, head, options.tables) if in_place else None,
        )
        _refuse_same_database(plan, servers)
        look = fitness.Look(
            plan=plan,
            source=source,
            target=target,
            there=there,
            here=here,
            servers=servers,
            bin_path=bin_path,
            dumps_path=dumps_path,
        )
        findings = list(fitness.check(look))
        if _may_ask(look, findings):
            findings += checks.within_limits(
                there, "fernet_key", lambda: check_keys(there, keys, options.fernet, target)
            )
            findings += check_rows(there, hops)
            findings += checks.within_limits(there, "catch_up", lambda: continuity.check(there, plan))
            findings += checks.within_limits(there, "log_folder", lambda: check_logs(there, source, target))
            if plan.travels("ab_user"):
                findings += checks.within_limits(there, "users_and_roles", lambda: check_users(there, goal, target))
            findings += checks.within_limits(
                there, "history_days", lambda: history.check(there, plan.history_cutoff, kept=options.backup)
            )
    settings = _settings(target)
    missing = cron_timetables.missing_settings(plan.cron_data_intervals, settings or {})
    findings += cron_timetables.check(naming, plan.cron_data_intervals, missing, by_hand=settings is None)
    findings = repairs.hold_to(findings, plan.repairs)
    for finding in findings:
        listener(f"{finding.severity}: {finding.summary}")
    return _with(plan, findings, missing)


def _may_ask(look: fitness.Look, findings: Sequence[Finding]) -> bool:
    """Without the owner's rights, or over text that is none, the questions to the tables would fail in words of their
    own.

    A rehearsal needs those of a reader only.
    """
    if any(finding.check == text_checks.CHECK and finding.severity == "blocker" for finding in findings):
        return False
    if look.plan.rehearsal is not None:
        findings = list(privileges.check_readable(look.there, look.plan, look.source.address.user))
    return not any(finding.check == fitness.PRIVILEGES for finding in findings)


def take_one_snapshot(there: Session) -> None:
    """All questions see the live source at one moment, and cannot change it."""
    there.isolation_level = IsolationLevel.REPEATABLE_READ
    there.read_only = True


def see_users(conn: Session, source: Deployment, head: str) -> str | None:
    """Put the schema of FAB's tables on the session's search path, if it is another one than Airflow's others.

    :returns: that schema
    """
    schema = find_users_schema(conn, head)
    if schema is not None:
        conn.execute("SELECT set_config('search_path', %s, false)", (source.address.seeing(schema).search_path,))
    return schema


def _settings(target: Deployment) -> Mapping[str, str] | None:
    """The target's settings; None where only a person sees them."""
    control = control_of(target)
    try:
        return None if control.kind == ManualControl.kind else control.settings()
    except MigrationError:  # a blocker of its own
        return None


def _with(plan: Plan, findings: list[Finding], settings: dict[str, str]) -> Plan:
    values = plan.to_json() | {"findings": [finding_json(finding) for finding in findings], "settings": settings}
    if any(finding.check == fitness.TARGET_IS_FRESH for finding in findings):
        values["set_aside_as"] = set_aside_name(plan.target_database, plan.token)
    return Plan.from_json(values)


def finding_json(finding: Finding) -> dict[str, object]:
    return {name: getattr(finding, name) for name in Finding.__dataclass_fields__}


def _goal(target: Deployment) -> Release:
    return releases.release(target.airflow_version) if target.airflow_version else releases.newest()


def _server_name(deployment: Deployment, server: ServerDescription) -> str:
    return f"{deployment.address.server} (PostgreSQL {server.version_text})"


def _transfer(options: Options, source: ServerDescription, target: ServerDescription) -> str:
    same = source.identity == target.identity
    if options.transfer == "auto":
        return CLONE if same else DUMP
    if options.transfer == CLONE and not same:
        raise InvalidInputError(
            "transfer is clone, but source and target are on two servers",
            where="params of the run",
            remedy="Use transfer dump, or auto",
        )
    return options.transfer


def release_name(head: str, source: Deployment) -> str:
    """The release that the connection names, if the database agrees; else what the head says.

    :raises InvalidInputError: they contradict each other, or the head is of no release
    """
    at = [each.version for each in releases.require_release_head(head)]
    stated = source.airflow_version
    if stated is None:
        return at[0] if len(at) == 1 else f"{at[0]} to {at[-1]}"
    if stated not in at:
        raise InvalidInputError(
            f"the source's connection says Airflow {stated}, its database is of {' or '.join(at)}",
            where="airflow_version of the source",
            remedy="Correct or remove it; it is detected",
        )
    return stated


def _active(conn: Session, migration_id: str) -> int:
    """Active DAGs, also when an earlier try of this migration has paused them already."""
    return pausing.count_active(conn) or len(pausing.read_active(conn, migration_id))


def _refuse_control_database(conn: Session, run: ControlRun) -> None:
    """:raises PreflightError: the source's database holds the very run that asks"""
    row = conn.execute(
        "SELECT 1 FROM dag_run WHERE dag_id = %s AND run_id = %s AND state = 'running'", (run.dag_id, run.run_id)
    ).fetchone()
    if row:
        raise PreflightError(
            "the source is the database of the control Airflow that runs this migration",
            where="source connection",
            remedy="Run the migration from an Airflow of its own (make demo starts one)",
        )


def _refuse_same_database(plan: Plan, servers: tuple[ServerDescription, ServerDescription]) -> None:
    if servers[0].identity == servers[1].identity and plan.source_database == plan.target_database:
        raise PreflightError(
            f'source and target are the same database "{plan.source_database}"',
            where="target connection",
            remedy="Give the target a database of its own, or set target_database",
        )


def check_rows(conn: Session, hops: tuple[Hop, ...]) -> tuple[Finding, ...]:
    """What the migrations of the path would stumble over."""
    if not hops:
        return ()
    path = [(hop.release, hop.head) for hop in hops]
    return checks.find_problems(conn, head=hops[0].from_head, target_head=hops[-1].head, path=path)


def refuse_blockers(findings: Sequence[Finding], *, besides: Collection[str] = ()) -> None:
    """:param besides: ids of checks whose blockers do not count
    :raises PreflightError: there is one
    """
    blockers = [finding for finding in findings if finding.severity == "blocker" and finding.check not in besides]
    if not blockers:
        return
    sentences = "; ".join(
        finding.summary + (f" ({', '.join(finding.evidence)})" if finding.evidence else "") for finding in blockers
    )
    remedies = "; ".join(dict.fromkeys(finding.remedy for finding in blockers))
    raise PreflightError(
        sentences, where="preflight", remedy=remedies, findings=[finding_json(finding) for finding in findings]
    )
