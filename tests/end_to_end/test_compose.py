"""The services of docker-compose.yaml work together, as processes and, where an engine runs, in containers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from tests.polling import until

from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from demo.control import stop_group
from demo.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "docker-compose.yaml"
BIN = Path(sys.executable).parent
DEADLINE = 240.0
PULL_SECONDS = 600.0
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
# Run by the very Airflow: is each setting one that it knows, and can its value be read?
LOOK = """
import json, os, sys
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager
ProvidersManager().initialize_providers_configuration()
answer = {}
for name in filter(lambda each: each.startswith("AIRFLOW__"), os.environ):
    section, option = (part.lower() for part in name.removeprefix("AIRFLOW__").removesuffix("_CMD").split("__", 1))
    options = conf.configuration_description.get(section, {}).get("options", {})
    secret = name.endswith("_CMD") and (section, option) not in conf.sensitive_config_values
    answer[name] = None if option not in options or secret else conf.get(section, option)
json.dump(answer, sys.stdout)
"""


class Services:
    """The services as processes, in a folder that stands for ``/opt/airflow``."""

    def __init__(self, home: Path, metadata: DatabaseAddress) -> None:
        self.home = home
        self.services: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
        self.port, *others = free_ports(4)
        self.address = f"http://127.0.0.1:{self.port}"
        login = f"{quote(metadata.user, safe='')}:{quote(metadata.password.reveal(), safe='')}"
        self._database = f"{login}@{metadata.host}:{metadata.port}/{quote(metadata.database, safe='')}"
        # Containers have ports of their own.
        names = ("API__PORT", "LOGGING__TRIGGER_LOG_SERVER_PORT", "LOGGING__WORKER_LOG_SERVER_PORT")
        self._ports = {f"AIRFLOW__{name}": str(port) for name, port in zip(names, [self.port, *others], strict=False)}
        self._ports |= {"AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(others[-1])}
        self._ports |= {"AIRFLOW__API__HOST": "127.0.0.1"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for volume in self.services["init"]["volumes"]:
            (home / volume.partition(":/opt/airflow/")[2]).mkdir(parents=True, exist_ok=True)

    def environment(self, name: str) -> dict[str, str]:
        """What the file gives to a service, at the places where it is here."""
        given = {key: self._here(value) for key, value in self.services[name]["environment"].items() if value}
        return clean_environment() | given | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def argv(self, name: str) -> list[str]:
        service = self.services[name]
        return [self._here(part).replace("$$", "$") for part in (*service.get("entrypoint", ()), *service["command"])]

    def run(self, name: str) -> None:
        log = self.home / f"{name}.log"
        with log.open("wb") as file:
            done = subprocess.run(
                self.argv(name), env=self.environment(name), cwd=self.home, stdout=file, stderr=file, check=False
            )
        assert done.returncode == 0, log.read_text()[-3000:]

    def start(self, name: str) -> None:
        with (self.home / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                self.argv(name),
                env=self.environment(name) | self._ports,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_healthy(self, name: str) -> None:
        """Ask with the service's own health check."""
        test = [self._here(part) for part in self.services[name]["healthcheck"]["test"]]
        assert test.pop(0) == "CMD"

        def runs() -> None:
            assert self._running[name].poll() is None, (self.home / f"{name}.log").read_text()[-3000:]

        until(
            lambda: subprocess.run(test, env=self.environment(name), capture_output=True, check=False),
            lambda done: done.returncode == 0,
            seconds=DEADLINE,
            pause=0.5,
            check=runs,
            told=lambda: f"{name} is not healthy:\n{(self.home / f'{name}.log').read_text()[-3000:]}",
        )

    def stop(self) -> None:
        for process in reversed(self._running.values()):
            stop_group(process.pid)

    def _here(self, text: str) -> str:
        text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: match[2], text)
        text = text.replace("airflow:local-use-only@postgres/airflow", self._database)
        return text.replace("/opt/airflow", str(self.home)).replace("api-server:8080", f"127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., DatabaseAddress]
) -> Iterator[Services]:
    """All of them, started in their order."""
    services = Services(tmp_path_factory.mktemp("compose"), new_database("compose"))
    try:
        services.run("init")
        services.start("api-server")
        services.wait_until_healthy("api-server")
        for name in COMPONENTS[1:]:
            services.start(name)
        yield services
    finally:
        services.stop()


def test_the_health_checks_pass_and_the_dag_is_offered_to_who_logs_in(services: Services) -> None:
    for name in COMPONENTS:
        services.wait_until_healthy(name)
    passwords = json.loads((services.home / "secrets" / "passwords.json").read_text())
    token = log_in(services.address, passwords["admin"])
    look_for_the_dag(services.address, token)
    assert httpx.get(f"{services.address}/api/v2/connections", timeout=60).status_code == httpx.codes.UNAUTHORIZED


def test_a_health_check_tells_who_is_missing(services: Services) -> None:
    test = services.services["scheduler"]["healthcheck"]["test"][1:-1]
    argv = [services._here(part) for part in test]
    env = services.environment("scheduler")
    assert subprocess.run([*argv, "nobody"], env=env, capture_output=True, check=False).returncode != 0


def test_secrets_are_made_up_once_and_are_nobody_elses(services: Services) -> None:
    folder = services.home / "secrets"
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(kept) == {"fernet_key", "api_secret", "jwt_secret", "admin_password", "passwords.json"}
    assert len(set(kept.values())) == len(kept)
    assert {path.stat().st_mode & 0o77 for path in folder.iterdir()} == {0}
    services.run("init")
    assert {path.name: path.read_text() for path in folder.iterdir()} == kept
    log = (services.home / "init.log").read_text()
    assert not [name for name, value in kept.items() if value in log]


def test_each_setting_is_one_that_airflow_knows(services: Services) -> None:
    environment = services.environment("scheduler")
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=environment, cwd=services.home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    assert set(read) == {name for name in environment if name.startswith("AIRFLOW__")}
    for name, value in read.items():
        expected = environment[name]
        if name.endswith("_CMD"):
            expected = Path(expected.removeprefix("cat ")).read_text()
        assert value == expected, name


def log_in(address: str, password: str) -> str:
    answer = httpx.post(f"{address}/auth/token", json={"username": "admin", "password": password}, timeout=60)
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def look_for_the_dag(address: str, token: str) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as api:
        until(
            lambda: api.get(f"{address}/api/v2/dags/migrate_airflow").status_code == httpx.codes.OK,
            seconds=DEADLINE,
            pause=0.5,
            told=lambda: api.get(f"{address}/api/v2/importErrors").text,
        )
        assert api.get(f"{address}/api/v2/importErrors").json()["total_entries"] == 0


# --- in containers ---


def states_of(address: str) -> set[str]:
    """What each component is, as the API server sees it; nothing before that answers."""
    try:
        health = httpx.get(f"{address}/api/v2/monitor/health", timeout=10).json()
    except httpx.HTTPError:
        return set()
    return {part["status"] for part in health.values()}


def compose_program() -> list[str]:
    """How compose is called here.

    :raises pytest.skip.Exception: there is no compose, or no engine that runs
    """
    if shutil.which("docker") is None:
        pytest.skip("there is no Docker on this machine")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine runs on this machine")
    for argv in (["docker", "compose"], ["docker-compose"]):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*argv, "version"], capture_output=True, check=False).returncode == 0:
                return argv
    pytest.skip("there is a Docker engine, but no compose")


def require_images(environment: Mapping[str, str]) -> None:
    """Have the images that are built upon.

    :raises pytest.skip.Exception: one is not here and cannot be had
    """
    defaults = {"POSTGRES_IMAGE": "postgres:17", "AIRFLOW_IMAGE": "apache/airflow:3.3.2-python3.12"}
    for image in (environment.get(name) or default for name, default in defaults.items()):
        have = ["docker", "image", "inspect", image], ["docker", "pull", "--quiet", image]
        if all(subprocess.run(argv, capture_output=True, check=False).returncode for argv in have):
            pytest.skip(f"image {image} is not here and cannot be pulled")


@pytest.mark.timeout(2 * PULL_SECONDS)
def test_the_containers_start(tmp_path: Path) -> None:
    program = [*compose_program(), "--file", str(FILE), "--project-name", f"migration-test-{os.getpid()}"]
    (port,) = free_ports(1)
    password = "of the test, nowhere else"
    environment = os.environ | {"AIRFLOW_PORT": str(port), "AIRFLOW_ADMIN_PASSWORD": password}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=PULL_SECONDS
        )

    require_images(environment)
    try:
        started = run("up", "--build", "--detach")
        assert started.returncode == 0, started.stderr[-3000:]
        address = f"http://127.0.0.1:{port}"
        until(
            lambda: states_of(address),
            {"healthy"}.__eq__,
            seconds=DEADLINE,
            pause=1,
            told=lambda: run("logs", "--tail", "50").stdout,
        )
        look_for_the_dag(address, log_in(address, password))
        assert run("exec", "-T", "scheduler", "pg_dump", "--version").returncode == 0
    finally:
        run("down", "--volumes", "--remove-orphans")
