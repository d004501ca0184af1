"""Say what becomes of the source's users and roles, which the target's auth manager decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from psycopg import sql

from airflow_migration.deployments.control import ManualControl, control_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.settings_file import AUTH_MANAGER, UPDATE_FAB_PERMS
from airflow_migration.exceptions import MigrationError
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import Release
from airflow_migration.postgres.address import Session

USERS_AND_ROLES = "users_and_roles"
USERS_WITHOUT_ROLES = "users_without_roles"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
SIMPLE = "SimpleAuthManager"
"""The default of 3.x (``airflow/config_templates/config.yml``); 2.x has FAB's users without being told."""
FALSE = ("f", "false", "0")


def check_users(conn: Session, goal: Release, target: Deployment) -> Iterator[Finding]:
    """Whether the source's users can log in at the target; nothing where there are none.

    Their tables travel with the rest in any case, passwords and all.

    :param conn: session on the source
    :param goal: the target's release
    """
    yield from _old_interface(conn, goal)
    users, roles = _count(conn, "ab_user"), _count(conn, "ab_role")
    if not users:
        return
    who = f"{users} user(s) and {roles} role(s)"
    control = control_of(target)
    try:
        settings = control.settings()
    except MigrationError:
        return  # said by the check of the control itself
    unused = _why_unused(goal, settings, unknown=control.kind == ManualControl.kind)
    if unused:
        yield Finding(
            check=USERS_AND_ROLES,
            severity="warning",
            summary=f"{who} are carried, but stay unused {unused}",
            count=users,
            remedy=f"Set {AUTH_MANAGER}={FAB} at the target before the migration, or afterwards and run its"
            " `airflow db migrate` again; otherwise give people access there anew",
        )
    elif settings.get(UPDATE_FAB_PERMS, "").lower() in FALSE:
        yield Finding(
            check=USERS_AND_ROLES,
            severity="warning",
            summary=f"{who} are carried and can log in; {UPDATE_FAB_PERMS} is off, so that roles lack permissions"
            " for what is new in the target's release",
            count=users,
            remedy="Run `airflow sync-perm` at the target",
        )
    else:
        yield Finding(
            check=USERS_AND_ROLES,
            severity="info",
            summary=f"{who} are carried; users log in at the target with the passwords that they have",
            count=users,
        )


def _why_unused(goal: Release, settings: Mapping[str, str], *, unknown: bool) -> str | None:
    if goal.number < (3,):
        return None
    manager = settings.get(AUTH_MANAGER, "")
    if "FabAuthManager" in manager:
        return None
    if unknown:
        return f"unless the target runs FabAuthManager; {SIMPLE} is the default of {goal}"
    name = manager.rpartition(".")[2] or SIMPLE
    return f"because the target runs {name}{'' if manager else f', the default of {goal}'}"


def _old_interface(conn: Session, goal: Release) -> Iterator[Finding]:
    """Users of 1.10's interface without roles are in a table of their own, which 2.0 drops."""
    users = _count(conn, "users") if goal.number >= (2,) else 0
    if users:
        yield Finding(
            check=USERS_WITHOUT_ROLES,
            severity="warning",
            summary=f"{users} user(s) of the interface without roles are not carried: Airflow 2 drops their table",
            count=users,
            remedy="Give these people access at the target anew; the frozen clone keeps the table",
        )


def _count(conn: Session, table: str) -> int:
    row = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    if not (row and row[0]):
        return 0
    counted = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return int(str(counted[0])) if counted else 0
