"""Preflight between two servers of different major versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import PreflightError
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import DatabaseAddress


def test_a_target_on_an_older_server_is_refused_with_a_remedy(
    newer_server: DatabaseAddress,
    postgres_server: DatabaseAddress,
    load_database: Callable[[DatabaseAddress, str], None],
    deployment: Callable[..., Deployment],
    plan_for: Callable[..., Plan],
) -> None:
    with newer_server.connect(read_only=False, autocommit=True) as new, postgres_server.connect() as old:
        if new.info.server_version // 10000 == old.info.server_version // 10000:
            pytest.skip("both servers are of one major version")
        new.execute("CREATE DATABASE of_the_newer")
    source = newer_server.on("of_the_newer")
    load_database(source, "2.10.5")
    with pytest.raises(PreflightError) as caught:
        plan_for(deployment(source), deployment(postgres_server.on("of_the_older"), airflow_version="2.11.2"))
    (finding,) = [each for each in caught.value.findings if each["check"] == "server_versions"]
    assert finding["severity"] == "blocker"
    assert finding["remedy"]
