"""Preflight and report say what becomes of users and roles; the target's auth manager decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_migration.metadata.findings import Finding
from airflow_migration.planning.approval_text import body
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.report import MIGRATION, ReportedRun, build_report
from airflow_migration.planning.users_and_roles import FAB, USERS_AND_ROLES, USERS_WITHOUT_ROLES
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan_to(
    plan_for: MakePlan, deployment: Any, corpus: Any, fernet_key: Secret, tmp_path: Path
) -> Callable[..., Plan]:
    """A plan for a source with one user, to a target with these settings; None is a target without control."""
    source: DatabaseAddress = corpus("1.10.15")

    def make(settings: dict[str, str] | None, release: str = "3.3.2") -> Plan:
        env_file = tmp_path / "airflow.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in (settings or {}).items()))
        there = deployment(source, fernet_keys=fernet_key)
        here = deployment(source.on("not there yet"), airflow_version=release)
        if settings is not None:
            here = replace(here, control={"kind": "env_file", "path": str(env_file)})
        return plan_for(there, here)

    return make


def finding(plan: Plan, check: str = USERS_AND_ROLES) -> Finding:
    (found,) = (each for each in plan.findings if each.check == check)
    return found


def told(plan: Plan) -> list[str]:
    """What the report tells about users."""
    run = ReportedRun(kind=MIGRATION, dag_id="migrate_airflow", run_id="x", started="", finished="")
    report = build_report(run=run, migration_id="x", plan=plan.to_json(), steps={}, errors={}, complete=False)
    return [sentence for sentence in report["left_to_do"] if "user(s) and" in sentence]


@pytest.mark.parametrize(
    ("settings", "manager"),
    [
        ({}, "SimpleAuthManager"),
        ({"AIRFLOW__CORE__AUTH_MANAGER": "company.auth.BadgeAuthManager"}, "BadgeAuthManager"),
        (None, "unless the target runs FabAuthManager"),
    ],
)
def test_users_who_cannot_log_in_are_named_with_the_remedy(
    plan_to: Callable[..., Plan], settings: dict[str, str] | None, manager: str
) -> None:
    plan = plan_to(settings)
    found = finding(plan)
    assert (found.severity, found.count) == ("warning", 1)
    assert manager in found.summary
    assert FAB in found.remedy
    assert len(told(plan)) == 1
    assert found.summary in body(plan)


@pytest.mark.parametrize(
    ("settings", "release"), [({"AIRFLOW__CORE__AUTH_MANAGER": FAB}, "3.3.2"), ({}, "2.11.2"), (None, "2.11.2")]
)
def test_users_who_can_log_in_need_nothing(
    plan_to: Callable[..., Plan], settings: dict[str, str] | None, release: str
) -> None:
    plan = plan_to(settings, release)
    found = finding(plan)
    assert (found.severity, found.count) == ("info", 1)
    assert told(plan) == []


def test_permissions_that_nobody_brings_up_to_date_are_named(plan_to: Callable[..., Plan]) -> None:
    plan = plan_to({"AIRFLOW__CORE__AUTH_MANAGER": FAB, "AIRFLOW__FAB__UPDATE_FAB_PERMS": "False"})
    assert "sync-perm" in finding(plan).remedy
    assert len(told(plan)) == 1


def test_users_of_the_interface_without_roles_are_said_to_be_lost(plan_to: Callable[..., Plan]) -> None:
    found = finding(plan_to({"AIRFLOW__CORE__AUTH_MANAGER": FAB}), USERS_WITHOUT_ROLES)
    assert (found.severity, found.count) == ("warning", 1)
