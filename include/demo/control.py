"""A real control Airflow: scheduler, DAG processor, triggerer and API server with this package in it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from airflow_migration.exceptions import MigrationError
from airflow_migration.planning.report_folders import DAG_IDS
from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from demo.ports import free_ports

START_SECONDS = 300.0
STOP_SECONDS = 30.0
BUNDLE = [{"name": "migration", "classpath": "airflow_migration.bundles.MigrationDagBundle", "kwargs": {}}]
PACKAGES = Path(__file__).parents[1]
WHERE = "the demo's control Airflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAirflow:
    """One `airflow standalone`, which a later process can find and stop again.

    :param home: its AIRFLOW_HOME
    :param users: who may log in, in the words of ``[core] simple_auth_manager_users``; the first may do everything
    """

    home: Path
    users: str = "admin:admin"

    @property
    def log(self) -> Path:
        return self.home / "standalone.log"

    @property
    def url(self) -> str:
        return str(self._notes()["url"])

    @property
    def pid(self) -> int:
        """Of `airflow standalone`, which leads a process group."""
        return int(self._notes()["pid"])

    def login(self, name: str | None = None) -> tuple[str, str]:
        """Name and password of a user, by default the one who may do everything."""
        passwords: dict[str, str] = json.loads((self.home / "passwords.json").read_text())
        name = name or self.users.partition(":")[0]
        return name, passwords[name]

    def start(self, metadata: DatabaseAddress, runtimes: Path) -> None:
        """Start it in a process group of its own, which outlives this process, and wait until it answers.

        :raises MigrationError: it ended or did not answer in time
        """
        self.home.mkdir(parents=True, mode=0o700)
        ports = free_ports(4)
        environment = clean_environment() | self._settings(metadata, runtimes, ports)
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("airflow"), "standalone"],
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._note(pid=process.pid, url=f"http://127.0.0.1:{ports[0]}")
        self._wait(process)

    def stop(self) -> None:
        """End it and everything that it started."""
        group = self._group()
        if group is not None:
            stop_group(group)

    def client(self) -> httpx.Client:
        """The REST API with the user's token.

        :raises httpx.HTTPError: it refuses or does not answer
        """
        name, password = self.login()
        answer = httpx.post(f"{self.url}/auth/token", json={"username": name, "password": password}, timeout=60)
        answer.raise_for_status()
        token = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"{self.url}/api/v2", headers=headers, timeout=60)

    def _settings(self, metadata: DatabaseAddress, runtimes: Path, ports: list[int]) -> dict[str, str]:
        password = quote(metadata.password.reveal(), safe="")
        server = f"{quote(metadata.user, safe='')}:{password}@{metadata.host}:{metadata.port}"
        database = quote(metadata.database, safe="")
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            # This very package, should another checkout of it be installed.
            "PYTHONPATH": os.pathsep.join([str(PACKAGES), str(PACKAGES.parent / "plugins")]),
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{server}/{database}",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": _fernet_key(),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": self.users,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ports[0]}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(ports[0]),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ports[0]}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(24),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports[1]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports[2]),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(ports[3]),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(BUNDLE),
            # Installed files do not change; Airflow would parse them every half minute.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__AIRFLOW_MIGRATION__RUNTIMES_PATH": str(runtimes),
            **_building_settings(),
        }

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if self._ready():
                    return
            except (httpx.HTTPError, OSError, ValueError, KeyError):
                time.sleep(0.5)
            else:
                time.sleep(0.5)
        raise MigrationError(
            f"`airflow standalone` {'ended' if process.poll() is not None else 'does not answer'}",
            where=WHERE,
            remedy=f"Look at {self.log}",
        )

    def _ready(self) -> bool:
        """The scheduler lives and all DAGs are parsed."""
        health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
        if health["scheduler"]["status"] != "healthy":
            return False
        with self.client() as api:
            return all(api.get(f"/dags/{each}").status_code == httpx.codes.OK for each in DAG_IDS)

    def _notes(self) -> dict[str, Any]:
        path = self.home / "control.json"
        notes: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return notes

    def _note(self, **notes: object) -> None:
        (self.home / "control.json").write_text(json.dumps(notes))

    def _group(self) -> int | None:
        """The process group, if it is still ours: the number may belong to a stranger by now."""
        pid = self._notes().get("pid")
        if not isinstance(pid, int):
            return None
        environment = Path(f"/proc/{pid}/environ")
        try:
            return pid if f"AIRFLOW_HOME={self.home}".encode() in environment.read_bytes() else None
        except FileNotFoundError:
            return pid if not Path("/proc/self").exists() else None


def stop_group(group: int) -> None:
    """End every process of a group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while _alive(group) and time.monotonic() < deadline:
            _reap()
            time.sleep(0.1)
        if not _alive(group):
            return


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _building_settings() -> Mapping[str, str]:
    """What uv needs to reach a package index from here; `airflow` gives it on to the tasks."""
    prefixes = ("UV_", "PIP_", "SSL_CERT", "REQUESTS_CA")
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes) or name.lower() in proxies}


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _reap() -> None:
    """Take leave of ended children, or their group seems alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return
