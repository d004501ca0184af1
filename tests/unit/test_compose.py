"""docker-compose.yaml is what a newcomer starts: whole, healthy, closed to the outside, and without a secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docker-compose.yaml").read_text()
SERVICES = {"postgres", "init", "api-server", "scheduler", "dag-processor", "triggerer"}
SECRETIVE = re.compile(r"PASSWORD|SECRET|KEY|CONN")


@pytest.fixture
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(TEXT)
    return content


def test_every_part_of_a_control_airflow_is_there_and_watched(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == SERVICES
    for name, service in compose["services"].items():
        if name != "init":
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped", name


def test_nothing_starts_before_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    waits = {
        name: {other: each["condition"] for other, each in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["postgres"] == {}
    assert waits["init"] == {"postgres": "service_healthy"}
    assert waits["api-server"] == {"init": "service_completed_successfully"}
    for name in ("scheduler", "dag-processor", "triggerer"):
        assert waits[name] == {"api-server": "service_healthy"}


def test_only_this_machine_gets_in(compose: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert list(ports) == ["api-server"]
    assert all(port.startswith("127.0.0.1:") for port in ports["api-server"])


def test_images_can_be_named_by_variables(compose: dict[str, Any]) -> None:
    assert compose["services"]["postgres"]["image"] == "${POSTGRES_IMAGE:-postgres:17}"
    for name in SERVICES - {"postgres"}:
        image = compose["services"][name]["build"]["args"]["AIRFLOW_IMAGE"]
        assert image == "${AIRFLOW_IMAGE:-apache/airflow:3.3.2-python3.12}"
    assert (
        "ARG AIRFLOW_IMAGE=apache/airflow:3.3.2-python3.12\nFROM ${AIRFLOW_IMAGE}\n"
        in (REPOSITORY / "Dockerfile").read_text()
    ), "the Dockerfile builds upon another image by default"


def test_every_volume_is_declared_and_owned_by_the_image(compose: dict[str, Any]) -> None:
    mounted = {
        tuple(volume.split(":")) for service in compose["services"].values() for volume in service.get("volumes", ())
    }
    assert {name for name, _ in mounted} == set(compose["volumes"])
    made = (REPOSITORY / "Dockerfile").read_text()
    for name, place in mounted:
        # A volume that is mounted where the image has no folder belongs to root.
        assert name == "postgres" or place.removeprefix("/opt/airflow/") in made, place


def test_the_file_holds_no_secret(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service["environment"].items():
            if value is None or not SECRETIVE.search(variable) or variable.endswith(("_CMD", "_FILE")):
                continue
            literal = re.sub(r"\$\{\w+:-(local-use-only)?\}", "", value)
            assert literal in ("", "postgresql+psycopg2://airflow:@postgres/airflow"), f"{name}: {variable}"
    assert not re.search(r"[\w-]{43}=", TEXT), "this looks like a fernet key"


def test_secrets_are_no_arguments(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        argv = [*service.get("entrypoint", ()), *service.get("command", ())]
        # Compose would write the value where the shell is to read it from its environment.
        assert not re.search(r"(?<!\$)\$(?!\$)", " ".join(argv)), name


def test_the_image_gets_nothing_but_the_package() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "dags",
        "include",
        "include/airflow_migration",
        "plugins",
    }
