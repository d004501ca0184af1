"""The hook between Airflow's connections and a deployment."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk._shared.secrets_masker import redact

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.hooks.deployment import DeploymentHook
from airflow_migration.secret import Secret

KEY = "NGruYyy37OF0S2tre8fC_toNoHN9rWXIrxq2TAcT3zs="
Connect = Callable[..., DeploymentHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    def define(**changes: Any) -> DeploymentHook:
        fields = {
            "conn_type": "airflow_deployment",
            "host": "127.0.0.1",
            "port": 1,
            "login": "airflow",
            "password": "s3cret-password",
            "schema": "airflow",
            "extra": {"secret_fernet_key": KEY},
        }
        monkeypatch.setenv("AIRFLOW_CONN_LEFT", json.dumps(fields | changes))
        return DeploymentHook("left")

    return define


def test_the_connection_becomes_a_deployment(connect: Connect) -> None:
    deployment = connect(extra={"secret_fernet_key": KEY, "metadata_schema": "Air Flow"}).deployment()
    assert str(deployment.address) == 'database "airflow" on 127.0.0.1:1'
    assert deployment.address.schema == "Air Flow"
    assert deployment.fernet_keys == Secret(KEY)


def test_a_connection_may_be_a_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"airflow-deployment://me:p%40ss@db:5433/air%20flow?secret_fernet_key={KEY[:-1]}%3D&sslmode=require"
    monkeypatch.setenv("AIRFLOW_CONN_LEFT", uri)
    deployment = DeploymentHook("left").deployment()
    assert deployment.address.database == "air flow"
    assert deployment.address.password == Secret("p@ss")
    assert deployment.address.ssl == {"sslmode": "require"}
    assert deployment.fernet_keys == Secret(KEY)


def test_a_missing_connection_is_one_sentence() -> None:
    with pytest.raises(InvalidInputError) as caught:
        DeploymentHook("no_such").deployment()
    assert caught.value.where == 'connection "no_such"'
    assert "\n" not in str(caught.value)


def test_a_connection_of_another_type_is_refused(connect: Connect) -> None:
    with pytest.raises(InvalidInputError, match="http"):
        connect(conn_type="http").deployment()
    assert connect(conn_type="postgres").deployment().address.host == "127.0.0.1"


def test_secrets_are_masked_in_logs(connect: Connect) -> None:
    other = "Q" * 42 + "8="
    connect(extra={"secret_fernet_key": f"{KEY},{other}"}).deployment()
    line = str(redact(f"newest {KEY}, older {other}, password s3cret-password"))
    assert KEY not in line
    assert other not in line
    assert "s3cret-password" not in line


@pytest.mark.parametrize(
    "changes",
    [{}, {"host": None}, {"extra": "{"}, {"extra": {"secret_fernet_key": "x"}}, {"conn_type": "http"}],
    ids=str,
)
def test_the_button_answers_and_never_raises(connect: Connect, changes: dict[str, Any]) -> None:
    works, answer = connect(**changes).test_connection()
    assert works is False
    assert answer
    assert "s3cret-password" not in answer


def test_statements_are_never_logged(connect: Connect) -> None:
    hook = connect()
    assert isinstance(hook, PostgresHook)
    assert hook.log_sql is False
