"""The links on tasks lead to places below the control Airflow's own address."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.bases.operatorlink import BaseOperatorLink

from airflow_migration.get_provider_info import get_provider_info
from airflow_migration.links.console import ConsoleLink
from airflow_migration.links.report import ReportLink
from airflow_migration.links.routes import report_route, run_route
from airflow_migration.operators.report import ReportOperator
from airflow_migration.operators.roll_back import ReportRollBackOperator
from airflow_migration.operators.upgrade import UpgradeOperator
from airflow_migration.operators.verify import VerifyOperator

RUN = "manual__2026-11-26T10:00:00+00:00"
KEY: Any = SimpleNamespace(dag_id="migrate_airflow", run_id=RUN)
REPORT = f"/migrations/reports/migrate_airflow/{RUN}"
TAB = f"/dags/migrate_airflow/runs/{RUN}/plugin/migration"


def links_of(operator: type[Any]) -> dict[str, str]:
    return {link.name: link.get_link(None, ti_key=KEY) for link in operator.operator_extra_links}


@pytest.mark.parametrize("operator", [ReportOperator, ReportRollBackOperator, VerifyOperator])
def test_what_ends_a_run_leads_to_its_report_and_to_the_console(operator: type[Any]) -> None:
    assert links_of(operator) == {"Report": REPORT, "Console": TAB}


def test_every_step_leads_to_the_console() -> None:
    assert links_of(UpgradeOperator) == {"Console": TAB}


@pytest.mark.parametrize("base", ["https://airflow.example.org/team/", "/team"])
def test_a_base_url_with_a_path_keeps_it(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    assert links_of(ReportOperator) == {"Report": f"/team{REPORT}", "Console": f"/team{TAB}"}


def test_a_run_id_cannot_leave_its_place() -> None:
    assert report_route("migrate_airflow", "../a b?c#d%") == "/migrations/reports/migrate_airflow/..%2Fa%20b%3Fc%23d%25"
    assert run_route("migrate_airflow", "a/b") == "/dags/migrate_airflow/runs/a%2Fb/plugin/migration"


def test_airflow_knows_every_kind_of_link() -> None:
    known = {f"{link.__module__}.{link.__qualname__}" for link in (ConsoleLink, ReportLink)}
    assert known == set(get_provider_info()["extra-links"])
    assert issubclass(ReportLink, BaseOperatorLink)
