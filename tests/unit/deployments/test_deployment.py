"""What a connection may say about a deployment, and what it may not."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_migration.deployments.deployment import Deployment, read_deployment
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

KEY = urlsafe_b64encode(bytes([255, 254]) * 16).decode()
OLD_KEY = b64encode(bytes([251, 239]) * 16).decode()


def read(extra: Any = None, **changes: Any) -> Deployment:
    fields = {
        "where": 'connection "x"',
        "host": "db",
        "port": None,
        "login": "air flow",
        "password": "pass/word",
        "database": "Air Flow",
        "extra": extra,
    }
    return read_deployment(**(fields | changes))


def test_a_bare_connection_has_the_defaults() -> None:
    deployment = read()
    address = deployment.address
    assert (address.host, address.port, address.user, address.database) == (
        "db",
        5432,
        "air flow",
        "Air Flow",
    )
    assert address.password == Secret("pass/word")
    assert (address.maintenance_database, address.schema, address.ssl) == ("postgres", "public", {})
    assert not deployment.fernet_keys
    assert (deployment.airflow_version, deployment.control, deployment.dags_folder) == (None, None, None)
    assert deployment.runtime == {"kind": "venv", "environments": {}}


@pytest.mark.parametrize("as_text", [False, True])
def test_every_extra_is_read(as_text: bool) -> None:
    def given(value: dict[str, Any]) -> Any:
        return json.dumps(value) if as_text else value

    extra = {
        "metadata_schema": "airflow",
        "secret_fernet_key": f" {KEY} , {OLD_KEY},",
        "airflow_version": "1.10.15",
        "maintenance_database": "main tenance",
        "control": given({"kind": "env_file", "path": "/etc/airflow.env", "restart_command": "docker restart 'a b'"}),
        "runtime": given({"kind": "venv", "environments": {"2.11.2": "/opt/2"}, "python": "/usr/bin/python3"}),
        "dags_folder": "/dags",
        "sslmode": "require",
        "sslrootcert": "/ca.pem",
        "keepalives": 1,
    }
    deployment = read(given(extra))
    assert deployment.address.schema == "airflow"
    assert deployment.address.maintenance_database == "main tenance"
    assert deployment.fernet_keys == Secret(f"{KEY},{OLD_KEY}")
    assert deployment.airflow_version == "1.10.15"
    assert deployment.control == {
        "kind": "env_file",
        "path": "/etc/airflow.env",
        "restart_command": ["docker", "restart", "a b"],
    }
    assert deployment.runtime["environments"] == {"2.11.2": "/opt/2"}
    assert deployment.runtime["python"] == "/usr/bin/python3"
    assert deployment.dags_folder == "/dags"
    assert deployment.address.ssl == {"sslmode": "require", "sslrootcert": "/ca.pem", "keepalives": "1"}


def test_empty_fields_of_the_form_count_as_absent() -> None:
    names = (
        "metadata_schema",
        "secret_fernet_key",
        "airflow_version",
        "control",
        "runtime",
        "dags_folder",
        "sslmode",
    )
    assert read(dict.fromkeys(names, "")) == read(dict.fromkeys(names)) == read()


@pytest.mark.parametrize("key", [KEY, OLD_KEY])
def test_every_key_that_fernet_takes_is_taken(key: str) -> None:
    Fernet(key)
    assert read({"secret_fernet_key": key}).fernet_keys == Secret(key)


@pytest.mark.parametrize("key", ["short", KEY[:-1], KEY + "=", KEY[:-2] + "!=", "ü" * 43 + "=", f"{OLD_KEY};{KEY}"])
def test_a_malformed_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidInputError, match="key 2 of 2") as caught:
        read({"secret_fernet_key": f"{KEY},{key}"})
    assert key not in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("{not json", "extra"),
        ("[1]", "extra"),
        ({"fernet_key": KEY}, "fernet_key"),
        ({"ssl_mode": "require"}, "ssl_mode"),
        ({"password": "x"}, "password"),
        ({"options": "-c x=y"}, "options"),
        ({"sslmode": ["require"]}, "sslmode"),
        ({"metadata_schema": 1}, "metadata_schema"),
        ({"secret_fernet_key": [KEY]}, "secret_fernet_key"),
        ({"airflow_version": "newest"}, "airflow_version"),
        ({"control": "{"}, "control"),
        ({"control": "env_file"}, "control"),
        ({"control": {"path": "/x"}}, "kind"),
        ({"control": {"kind": "swarm"}}, "swarm"),
        ({"control": {"kind": "kubernetes"}}, "namespace is missing"),
        ({"control": {"kind": "kubernetes", "namespace": "a"}}, "fernet_from, metadata_from, workloads"),
        ({"control": {"kind": "kubernetes", "namespace": "A b", "release": "r"}}, "namespace is no name"),
        ({"control": {"kind": "kubernetes", "namespace": "a", "release": "r", "fernet_from": "a/b/c"}}, "fernet_from"),
        ({"control": {"kind": "kubernetes", "namespace": "a", "release": "r", "workloads": ["pod/a"]}}, "workloads"),
        ({"control": {"kind": "kubernetes", "namespace": "a", "release": "r", "ready_timeout": 0}}, "ready_timeout"),
        ({"control": {"kind": "kubernetes", "namespace": "a", "release": "r", "ready_timeout": 3601}}, "ready_timeout"),
        ({"control": {"kind": "kubernetes", "namespace": "a", "release": "r", "path": "/a"}}, "path"),
        ({"control": {"kind": ["env_file"]}}, "kind"),
        ({"control": {"kind": "env_file"}}, "path"),
        ({"control": {"kind": "airflow_cfg"}}, "path"),
        ({"control": {"kind": "airflow_cfg", "path": "/x", "restart": "x"}}, "restart"),
        ({"control": {"kind": "env_file", "path": ""}}, "path"),
        ({"control": {"kind": "env_file", "path": "/x", "restart": "x"}}, "restart"),
        ({"control": {"kind": "env_file", "path": "/x", "restart_command": 1}}, "restart_command"),
        ({"control": {"kind": "env_file", "path": "/x", "restart_command": ["a", 1]}}, "restart_command"),
        ({"control": {"kind": "env_file", "path": "/x", "restart_command": []}}, "restart_command"),
        ({"control": {"kind": "env_file", "path": "/x", "restart_command": "a && b"}}, "restart_command"),
        ({"control": {"kind": "env_file", "path": "/x", "restart_command": "a 'b"}}, "restart_command"),
        ({"runtime": {"kind": "docker"}}, "docker"),
        ({"runtime": {"kind": "venv", "python": 3}}, "python"),
        ({"runtime": {"kind": "kubernetes", "image": "x:{release}"}}, "namespace"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a"}}, "image"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x:{other}"}}, "image"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "port": "5432"}}, "port"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "start_timeout": 0}}, "start_timeout"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "run_as_user": 0}}, "run_as_user"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "resources": {"cpu": 1}}}, "resources"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "image_pull_secrets": "s"}}, "secrets"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "tolerations": {}}}, "tolerations"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "node_selector": {"a": 1}}}, "selector"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x", "env": []}}, "env"),
        ({"runtime": {"kind": "kubernetes", "namespace": "a", "image": "x"}, "dags_folder": "/dags"}, "dags_folder"),
        ({"runtime": {"kind": "venv", "environments": ["x"]}}, "environments"),
        ({"runtime": {"kind": "venv", "environments": {"latest": "/x"}}}, "environments"),
        ({"runtime": {"kind": "venv", "environments": {"2.11.2": ""}}}, "environments"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(extra: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named) as caught:
        read(extra)
    assert caught.value.where == 'connection "x"'
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("field", ["host", "login", "database"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(InvalidInputError, match="schema" if field == "database" else field):
        read(**{field: None})


def test_secrets_are_in_no_representation() -> None:
    text = repr(read({"secret_fernet_key": KEY}))
    assert KEY not in text
    assert "pass/word" not in text
