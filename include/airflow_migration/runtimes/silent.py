"""Run a command whose output may be a secret: nothing of it is logged, filtered or written anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_migration.exceptions import ToolError
from airflow_migration.postgres.address import clean_environment
from airflow_migration.postgres.process import GRACE_SECONDS
from airflow_migration.runtimes.runtime import CommandOutput
from airflow_migration.secret import Secret


class SilentCommand:
    """One process whose standard output and standard error come back hidden and apart.

    :param step: names the step in errors
    :param environment: added to a nearly empty environment
    """

    def __init__(self, step: str, environment: Mapping[str, str]) -> None:
        self.step = step
        self._environment = clean_environment() | dict(environment)
        self._process: subprocess.Popen[str] | None = None

    def run(self, argv: Sequence[str | Path], *, directory: Path) -> CommandOutput:
        """Run the program to its end, in its own process group.

        :raises ToolError: the program cannot be started
        """
        try:
            self._process = subprocess.Popen(
                [str(part) for part in argv],
                env=self._environment,
                cwd=directory,
                encoding="utf-8",
                errors="replace",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as err:
            raise ToolError(
                f"{argv[0]} cannot be started ({err.strerror})",
                where=self.step,
                remedy="Install it and retry",
            ) from err
        try:
            output, errors = self._process.communicate()
        except BaseException:
            # A timeout or a signal ended our wait: the child would go on with nobody to watch it.
            self.stop()
            raise
        return CommandOutput(exit_code=self._process.returncode, output=Secret(output), errors=Secret(errors))

    def stop(self) -> None:
        """End the program and everything that it started."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
