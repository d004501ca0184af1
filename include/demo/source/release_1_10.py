"""Runs the real 1.10.15: its commands and its scheduler, with an environment built from nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
FORKING_EXECUTOR = "demo_executor.ForkingLocalExecutor"

#: Runs the commands given on standard input one after the other in forks: one start of Airflow instead of hundreds,
#: and no secret in the arguments of a process. ``sys.argv`` is set because 1.10 writes it into its log table.
DRIVER = """
import json, sys
import airflow  # puts the plugins folder on the path
from demo_executor import run_in_fork
failed = []
for argv in json.load(sys.stdin):
    sys.argv = ["airflow"] + argv
    if run_in_fork(sys.argv):
        failed.append(argv[:3])
if failed:
    sys.exit("failed: %s" % failed)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A 1.10.15 environment, a home folder for it and the database it writes.

    :param environment: folder of the virtual environment
    :param home: becomes AIRFLOW_HOME; its dags folder's path is written into the database
    :param uri: ``postgresql://…``
    :param reference: the moment the history ends
    """

    environment: Path
    home: Path
    uri: str
    reference: datetime
    fernet_key: str

    def install_files(self) -> None:
        """Puts the DAGs, the executor and a link to the environment into the home folder."""
        (self.home / "venv").symlink_to(self.environment)
        for source, name in ((HERE / "dags_1_10", "dags"), (HERE / "plugins_1_10", "plugins")):
            shutil.copytree(source, self.home / name, ignore=shutil.ignore_patterns("__pycache__"))

    def commands(self) -> Path:
        """Folder of the environment's programs, by a name in the home folder: 1.10 logs the path it is started by."""
        return self.home / "venv" / "bin"

    def environ(self, *, history: Literal["short", "full"], executor: str, fernet_key: str) -> dict[str, str]:
        """Everything that the child sees."""
        settings = {
            "CORE__SQL_ALCHEMY_CONN": self.uri.replace("postgresql://", "postgresql+psycopg2://", 1),
            "CORE__FERNET_KEY": fernet_key,
            "CORE__EXECUTOR": executor,
            "CORE__PARALLELISM": "32",
            "CORE__DAGS_FOLDER": str(self.home / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__LOAD_DEFAULT_CONNECTIONS": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__STORE_SERIALIZED_DAGS": "True",
            "CORE__STORE_DAG_CODE": "True",
            "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "CORE__HOSTNAME_CALLABLE": "demo_executor:worker_host",
            "WEBSERVER__RBAC": "True",
            "SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "10",
            "SCHEDULER__MAX_THREADS": "2",
        }
        return {
            "PATH": f"{self.commands()}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "LOGNAME": "airflow",
            "PYTHONWARNINGS": "ignore",
            "AIRFLOW_HOME": str(self.home),
            "DEMO_REFERENCE": self.reference.strftime("%Y-%m-%dT%H:%M:%S"),
            "DEMO_HISTORY": history,
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    def run(
        self,
        commands: Sequence[Sequence[str]],
        *,
        history: Literal["short", "full"] = "short",
        executor: str = "LocalExecutor",
        encrypted: bool = True,
    ) -> None:
        """Runs ``airflow`` commands; the output goes to a file in the home folder."""
        environ = self.environ(history=history, executor=executor, fernet_key=self.fernet_key if encrypted else "")
        with (self.home / "commands.log").open("ab") as log:
            subprocess.run(
                [self.commands() / "python", "-c", DRIVER],
                input=json.dumps(commands).encode(),
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.home,
                check=True,
            )

    @contextmanager
    def scheduler(self, *, history: Literal["short", "full"]) -> Iterator[None]:
        """The real scheduler while the block runs, stopped by SIGTERM as an administrator does it."""
        environ = self.environ(history=history, executor=FORKING_EXECUTOR, fernet_key=self.fernet_key)
        with (self.home / "scheduler.log").open("ab") as log:
            process = subprocess.Popen(
                [self.commands() / "airflow", "scheduler"],
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.home,
                start_new_session=True,
            )
        try:
            yield
            if process.poll() is not None:
                sys.exit(f"the scheduler ended by itself, see {self.home}/scheduler.log")
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                print("the scheduler did not stop within a minute and is killed", file=sys.stderr)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
