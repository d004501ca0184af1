"""The hook against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.postgres.address import DatabaseAddress

HookFor = Callable[..., DeploymentHook]


@pytest.fixture
def hook_for(monkeypatch: pytest.MonkeyPatch) -> HookFor:
    def define(address: DatabaseAddress, password: str | None = None, **options: Any) -> DeploymentHook:
        fields = {
            "conn_type": "airflow_deployment",
            "host": address.host,
            "port": address.port,
            "login": address.user,
            "password": address.password.reveal() if password is None else password,
            "schema": address.database,
        }
        monkeypatch.setenv("AIRFLOW_CONN_LEFT", json.dumps(fields))
        return DeploymentHook(deployment_conn_id="left", **options)

    return define


@pytest.mark.parametrize(
    ("release", "detected"), [("1.10.15", "1.10.15"), ("2.2.5", "2.2.5"), ("2.10.5", "2.10.3 to 2.11.")]
)
def test_the_button_tells_release_size_and_server(
    hook_for: HookFor, corpus: Callable[[str], DatabaseAddress], release: str, detected: str
) -> None:
    address = corpus(release)
    works, answer = hook_for(address).test_connection()
    assert works, answer
    assert detected in answer
    assert "MB" in answer
    with address.connect() as session:
        version = session.info.parameter_status("server_version")
    assert version
    assert version in answer


def test_the_button_tells_that_this_is_no_airflow(hook_for: HookFor, new_database: Any) -> None:
    works, answer = hook_for(new_database()).test_connection()
    assert not works
    assert answer


def test_the_button_tells_of_a_wrong_password(hook_for: HookFor, postgres_server: DatabaseAddress) -> None:
    works, answer = hook_for(postgres_server, "wr0ng-guess").test_connection()
    assert not works
    assert "password" in answer
    assert "wr0ng-guess" not in answer


def test_a_database_that_is_not_there_is_named(hook_for: HookFor, postgres_server: DatabaseAddress) -> None:
    with pytest.raises(InvalidInputError, match="no such database"):
        hook_for(postgres_server.on("no such database")).get_conn()


def test_sessions_write_only_when_asked(hook_for: HookFor, new_database: Any) -> None:
    address = new_database()
    with hook_for(address).get_conn() as session, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        session.execute("CREATE TABLE written (i int)")
    hook = hook_for(address, read_only=False)
    hook.run("CREATE TABLE written (i int)")
    assert hook.get_first("SELECT count(*) FROM written") == (0,)
