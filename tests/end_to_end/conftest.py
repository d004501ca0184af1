"""A real control Airflow for every test that asks, and real target Airflows, each ended with all that it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console
from tests.end_to_end.control import REPOSITORY, Control
from tests.polling import until

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.postgres.address import clean_environment
from demo.control import stop_group
from demo.ports import free_ports
from demo.stage import Stage

START_SECONDS = 300.0
STOP_SECONDS = 20.0
# One who may do everything, one who may only look, and one whom nothing was granted.
USERS = "admin:admin,reader:viewer,stranger:"
POLL_SECONDS = 0.5


class TargetAirflow:
    """One deployment on this machine, with the environment that its env file gives.

    :param bin: folder of its release's `airflow`
    :param home: its AIRFLOW_HOME; logs are in ``logs``
    """

    def __init__(self, bin: Path, home: Path, dags: Path, env_file: Path) -> None:
        self.home = home
        self._bin, self._dags, self._env_file = bin, dags, env_file
        self._ports = free_ports(4)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"http://127.0.0.1:{self._ports[0]}"
        home.mkdir(exist_ok=True)

    def start(self, *commands: str) -> None:
        """Start some of scheduler, dag-processor, triggerer and api-server."""
        for command in commands:
            with self.log(command).open("ab") as log:
                process = subprocess.Popen(
                    [self._bin / "airflow", command],
                    env=self._environment(),
                    cwd=self.home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._processes.append(process)

    def log(self, command: str) -> Path:
        return self.home / f"{command}.log"

    def said(self, command: str) -> str:
        """What a process has printed, without colours."""
        path = self.log(command)
        return re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(errors="replace")) if path.exists() else ""

    def tail(self) -> str:
        """The last that each process has printed."""
        return "\n".join(f"== {path.name}\n{self.said(path.stem)[-3000:]}" for path in self.home.glob("*.log"))

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
            for process in self._processes:
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        self._processes.clear()

    def client(self) -> httpx.Client:
        """Its REST API, once it answers."""

        def ask() -> str | None:
            try:
                return str(httpx.get(f"{self.url}/auth/token", timeout=10).json()["access_token"])
            except (httpx.HTTPError, ValueError, KeyError):
                return None

        token = self.until(ask, START_SECONDS)
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"{self.url}/api/v2", headers=headers, timeout=60)

    def until(self, ask: Callable[[], Any], seconds: float) -> Any:
        """The first answer that is true."""
        return until(
            ask,
            seconds=seconds,
            pause=POLL_SECONDS,
            check=self._run,
            told=lambda: f"it took too long\n{self.tail()}",
        )

    def _run(self) -> None:
        ended = [process.args for process in self._processes if process.poll() is not None]
        assert not ended, f"{ended} ended\n{self.tail()}"

    def _environment(self) -> Mapping[str, str]:
        api, log, health, trigger = self._ports
        file = EnvFile(str(self._env_file))
        names = re.findall(r"^(\w+)=", self._env_file.read_text(), re.M)
        settings = {name: file.get(name) or "" for name in names}
        return (
            clean_environment()
            | {
                "PATH": f"{self._bin}:{os.environ.get('PATH', os.defpath)}",
                "AIRFLOW_HOME": str(self.home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                "AIRFLOW__CORE__PARALLELISM": "3",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(api),
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__API__SECRET_KEY": "of-the-tests-and-nothing-else",
                "AIRFLOW__API_AUTH__JWT_SECRET": "of-the-tests-and-nothing-else-but-longer-than-64-characters-in-all",
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log),
                "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger),
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(health),
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
                "AIRFLOW__DAG_PROCESSOR__PARSING_CLEANUP_INTERVAL": "5",
            }
            | settings
        )


@pytest.fixture(scope="module")
def start_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., TargetAirflow]]:
    """Starts processes of one deployment: ``start_airflow(bin, dags, env_file, ["scheduler", …])``."""
    started: list[TargetAirflow] = []

    def start(bin: Path, dags: Path, env_file: Path, commands: Sequence[str]) -> TargetAirflow:
        airflow = TargetAirflow(bin, tmp_path_factory.mktemp("airflow"), dags, env_file)
        started.append(airflow)
        airflow.start(*commands)
        return airflow

    yield start
    for airflow in started:
        airflow.stop()


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the control Airflow and its tasks keep temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[Stage]:
    """The demo's scene, started once, as that takes half a minute; what it shows is in ``console.file``."""
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "terminal").open("w+") as terminal:
        console = Console(file=terminal, width=200)
        runtimes = REPOSITORY / "build" / "runtimes"
        stage = Stage(folder=folder / "demo", runtimes=runtimes, console=console, users=USERS)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TMPDIR", str(temporary))
                stage.set_up()
            yield stage
        finally:
            stage.stop()
            stage.server.remove()


@pytest.fixture(scope="session")
def restart_api_server(stage: Stage) -> Iterator[Callable[[], None]]:
    """Kills the demo's API server, and starts another in its place, which the rest of the session uses."""
    started: list[subprocess.Popen[bytes]] = []

    def restart() -> None:
        standalone = psutil.Process(stage.control.pid)
        (running,) = started or [each for each in standalone.children() if "api_server" in " ".join(each.cmdline())]
        running.kill()
        started.clear()
        with (stage.control.home / "api-server.log").open("ab") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("airflow"), "api-server"],
                env=standalone.environ(),
                cwd=stage.control.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)

    yield restart
    for process in started:
        stop_group(process.pid)


@pytest.fixture(scope="session")
def control_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For `Control`: a database of an Airflow that knows our DAGs and has run none."""
    return Control(tmp_path_factory.mktemp("control")).database
