"""A pod's specification shows no secret, and a kubelet changes nothing of what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.pod_spec import PodOptions, data_of, environment_of, pod_manifest, secret_manifest
from airflow_migration.secret import Secret

PASSWORD, KEY, SEAL = "pass-never-shown", "key-never-shown", "seal-never-shown"
OPTIONS = PodOptions(namespace="airflow", image="registry/airflow:{release}", host="db.inside", port=6000)
SETTINGS = {
    "AIRFLOW__CELERY__RESULT_BACKEND": "db+postgresql://u:uri-never-shown@h/d",
    "AIRFLOW__CORE__PARALLELISM": "3",
}


def address(**ssl: str) -> DatabaseAddress:
    return DatabaseAddress(host="db.outside", user="air$(PATH)", password=Secret(PASSWORD), database="meta", ssl=ssl)


def variables(at: DatabaseAddress) -> dict[str, str]:
    return environment_of(release("3.3.2"), OPTIONS.seen_from_inside(at), Secret(KEY), SETTINGS, Secret(SEAL))


def test_secrets_are_in_the_secret_alone(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate-never-shown")
    env = variables(address(sslrootcert=str(tmp_path / "ca.pem"), sslmode="verify-full"))
    pod = pod_manifest("name", {}, env, ["db", "migrate"], OPTIONS.image_of(release("3.3.2")), OPTIONS)
    held = data_of(secret_manifest("name", {}, env, {}))
    assert "never-shown" not in json.dumps(pod)
    for value in (PASSWORD, KEY, SEAL, "certificate-never-shown", SETTINGS["AIRFLOW__CELERY__RESULT_BACKEND"]):
        assert value in held.values()
    shown = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
    assert set(shown) == set(env)
    assert all(("valueFrom" in shown[name]) == (name in held) for name in env)
    assert (shown["PGHOST"]["value"], shown["PGPORT"]["value"]) == ("db.inside", "6000")
    assert pod["spec"]["containers"][0]["image"] == "registry/airflow:3.3.2"


def test_a_dollar_reaches_the_command_as_it_is() -> None:
    pod = pod_manifest("name", {}, variables(address()), ["variables", "get", "$(HOME)"], "image", OPTIONS)
    container = pod["spec"]["containers"][0]
    assert container["command"][-1] == "$$(HOME)"
    assert {"name": "PGUSER", "value": "air$$(PATH)"} in container["env"]


def test_what_no_pod_can_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        variables(address(sslrootcert=str(tmp_path / "none.pem")))
    options = PodOptions(namespace="airflow", image="image")
    with pytest.raises(InvalidInputError, match="socket"):
        options.seen_from_inside(DatabaseAddress(host="/run/postgresql", user="u", database="d"))
