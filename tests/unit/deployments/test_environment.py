"""A connection in the environment means to us what it means to Airflow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.models import Connection

from airflow_migration.deployments.environment import deployment_from_environment, variable_of
from airflow_migration.exceptions import InvalidInputError

KEY = "NGruYyy37OF0S2tre8fC_toNoHN9rWXIrxq2TAcT3zs="
SOURCE = "AIRFLOW_CONN_MIGRATION_SOURCE"


@pytest.mark.parametrize(
    "uri",
    [
        "airflow-deployment://login:password@host:5433/database",
        "airflow-deployment://us%40er:p%3A%2F%40%25word@host/da%2Fta%20base",
        "postgresql://login@HOST.example/database?sslmode=require&connect_timeout=",
        f"airflow-deployment://l:p@h/d?secret_fernet_key={KEY.replace('=', '%3D')}&airflow_version=2.10.5",
        "airflow-deployment://l:p@%2Fvar%2Frun%2FPostgres:5555/d",
        "airflow-deployment://l:p@[::1]:5432/d",
        "airflow-deployment://l@h/d?__extra__=%7B%22metadata_schema%22%3A+%22airflow%22%7D",
        "AIRFLOW-DEPLOYMENT://l:p@h/d",
    ],
)
def test_a_uri_is_read_as_airflow_reads_it(uri: str) -> None:
    theirs = Connection(uri=uri)
    ours = deployment_from_environment("migration_source", {SOURCE: uri})
    extra: dict[str, Any] = json.loads(theirs.extra or "{}")
    address = ours.address
    assert (address.host, address.user, address.database) == (theirs.host, theirs.login, theirs.schema)
    assert address.password.reveal() == (theirs.password or "")
    assert address.port == (theirs.port or 5432)
    assert ours.fernet_keys.reveal() == extra.get("secret_fernet_key", "")
    assert ours.airflow_version == extra.get("airflow_version")
    assert address.schema == extra.get("metadata_schema", "public")
    assert address.ssl.get("sslmode") == extra.get("sslmode")


@pytest.mark.parametrize("port", [5433, "5433", None, ""])
@pytest.mark.parametrize("as_text", [False, True])
def test_json_is_read_as_airflow_reads_it(port: object, as_text: bool) -> None:
    extra = {"secret_fernet_key": KEY, "sslmode": "prefer"}
    content = {
        "conn_type": "airflow-deployment",
        "description": "ours",
        "host": "h",
        "login": "l",
        "password": "p",
        "schema": "d",
        "port": port,
        "extra": json.dumps(extra) if as_text else extra,
    }
    value = json.dumps(content)
    theirs = Connection.from_json(value, conn_id="migration_source")
    ours = deployment_from_environment("migration_source", {SOURCE: f" {value}\n"})
    assert (ours.address.host, ours.address.port) == (theirs.host, theirs.port or 5432)
    assert ours.fernet_keys.reveal() == json.loads(theirs.extra)["secret_fernet_key"]


def test_the_variable_is_that_of_airflow() -> None:
    assert variable_of("migration_source") == SOURCE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "hunter2",
        '{"password": "hunter2"',
        '["hunter2"]',
        '{"conn_type": "airflow_deployment", "passwort": "hunter2"}',
        '{"conn_type": "airflow_deployment", "host": "h", "login": "l", "schema": "d", "port": "hunter2"}',
        '{"conn_type": "airflow_deployment", "host": 7, "password": "hunter2"}',
        "airflow_deployment://l:hunter2@h/d",
        "mysql://l:hunter2@h/d",
        "airflow-deployment://l:hunter2@h:port/d",
        "airflow-deployment://l:hunter2@[::1/d",
        "airflow-deployment://l:hunter2@h",
        "airflow-deployment://l:hunter2@h/d?secret_fernet_key=hunter2",
        "airflow-deployment://l:hunter2@h/d?unheard_of=hunter2",
    ],
)
def test_what_cannot_be_is_one_sentence_without_the_value(value: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        deployment_from_environment("migration_source", {SOURCE: value} if value else {})
    assert SOURCE in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "hunter2" not in str(caught.value.__context__ if not caught.value.__suppress_context__ else "")
