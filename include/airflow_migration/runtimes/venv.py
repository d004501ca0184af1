"""Run any Airflow release's own `airflow` command from a virtual environment on this machine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.metadata.releases import Release
from airflow_migration.metadata.releases import release as find_release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener
from airflow_migration.runtimes.build import build, build_environment, environment_at
from airflow_migration.runtimes.command import (
    QUIET,
    airflow_environment,
    bare_environment,
    script_environment,
    secret_values,
    upgrade_command,
    upgrade_options,
)
from airflow_migration.runtimes.home import own_home
from airflow_migration.runtimes.pythons import find_python, python_version, suitable_pythons
from airflow_migration.runtimes.redaction import Redactor
from airflow_migration.runtimes.runtime import NO_SETTINGS, CommandOutput, UpgradeResult
from airflow_migration.runtimes.silent import SilentCommand
from airflow_migration.runtimes.upgrade import UpgradeWatch, look_before, nothing_to_do
from airflow_migration.secret import Secret

AnyClient = TypeVar("AnyClient", Client, SilentCommand)

VERSION_LINE = re.compile(r"v?(\d+\.\d+\.\d+)\S*")


class VenvRuntime:
    """Environments given by path, or built with uv under one folder and kept there.

    :param root: folder for built environments, one for each release and Python
    :param environments: release → path of an existing virtual environment with it
    :param python: interpreter to build with; by default the best one found for each release
    """

    def __init__(
        self, root: Path, environments: Mapping[str, str] = NO_SETTINGS, python: str | Path | None = None
    ) -> None:
        self._root, self._python = Path(root).expanduser().absolute(), python
        self._given = {release: Path(path).expanduser().absolute() for release, path in environments.items()}
        self._checked: set[str] = set()
        self._client: Client | SilentCommand | None = None
        self._stopped = False

    def prepare(self, release: str, listener: Listener) -> Path:
        """The environment of a release, built when there is none; who builds the same is waited for.

        :raises InvalidInputError: the release is unknown, a given environment holds another one, or no
            Python that the release runs on can be had
        :raises ToolError: the package index failed
        """
        wanted = find_release(release)
        if wanted.version in self._given:
            return self._check_given(wanted, self._given[wanted.version])
        path, python = self._place(wanted)
        if not environment_at(path):
            started = time.monotonic()
            build(
                wanted,
                python,
                path,
                self._begin(Client(f"runtime for Airflow {wanted}", build_environment())),
                listener,
            )
            listener(f"Airflow {wanted} is ready in {path} after {time.monotonic() - started:.0f} s")
        return path

    def upgrade(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        listener: Listener,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> UpgradeResult:
        """Bring a database to the release's alembic head with the release's own command.

        Every other session on that database is ended first. Nothing is started at the head already.

        :param keys: fernet keys, newest first; from 2.9.0 on upgrades encrypt with them
        :param settings: more ``AIRFLOW__…`` variables, for example the target's auth manager
        :raises ToolError: the head was not reached; the database may stand between two releases
        """
        goal = find_release(release)
        before = look_before(goal, address, settings, listener)
        if before is None:
            return nothing_to_do(goal, address, listener)
        airflow = self.prepare(release, listener) / "bin" / "airflow"
        listener(f"Upgrading {address} from {before.head} to {goal.head} with Airflow {goal}")
        watch = UpgradeWatch(goal, before, listener, Redactor(secret_values(address, keys, settings)))
        with own_home() as home:
            argv: list[str | Path] = [airflow, *upgrade_command(goal), *self._options(goal, airflow)]
            place = address.seeing(*before.extension_schemas)
            variables = airflow_environment(goal, home, place, keys, settings)
            client = self._begin(Client(f"upgrade to Airflow {goal}", variables))
            try:
                code = client.run(argv, watch.line, directory=home, check=False)
            except BaseException:
                # A timeout or a signal ended our wait: the child would go on with nobody to watch it.
                client.stop()
                raise
        return watch.judge(address, code, settings)

    def detached_upgrade(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        listener: Listener,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> None:
        """Nothing: its process ends with ours."""

    def run(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        argv: Sequence[str],
        settings: Mapping[str, str] = NO_SETTINGS,
        dags_folder: Path | None = None,
    ) -> CommandOutput:
        """Run another `airflow` command on a database; what it prints is logged nowhere.

        :param argv: without ``airflow``: ``["connections", "get", "my_db", "-o", "json"]``
        :param dags_folder: DAG files that the command may read and run; none by default
        """
        wanted = find_release(release)
        airflow = self.prepare(release, lambda _: None) / "bin" / "airflow"
        with own_home() as home:
            variables = airflow_environment(wanted, home, address, keys, QUIET | dict(settings))
            if dags_folder is not None:
                variables["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags_folder)
            return self._begin(SilentCommand(f"airflow {argv[0]} of Airflow {wanted}", variables)).run(
                [airflow, *argv], directory=home
            )

    def run_script(self, release: str, script: Path, request: Mapping[str, Any], on_line: Callable[[str], None]) -> int:
        """Run a script of ours with the release's own Python, away from every database and every secret.

        Its home, its temporary files and what it takes for a metadata database are a folder that is gone afterwards.

        :param request: the script finds it as JSON in the file that its first argument names
        :param on_line: called with each line that it prints
        :returns: its exit code
        """
        wanted = find_release(release)
        python = self.prepare(release, lambda _: None) / "bin" / "python"
        with own_home() as home:
            asked = home / "request.json"
            asked.touch(0o600)
            asked.write_text(json.dumps(request), "utf-8")
            client = self._begin(Client(f"{script.stem} with Airflow {wanted}", script_environment(wanted, home)))
            return client.run([python, script, asked], on_line, directory=home, check=False)

    def clear(self, address: DatabaseAddress, listener: Listener) -> None:
        """Nothing: such a process ends with its session, and the next command removes its temporary home."""

    def stop(self) -> None:
        """End the command that is running, with everything that it started, and start no other."""
        self._stopped = True
        if self._client is not None:
            self._client.stop()

    def _begin(self, client: AnyClient) -> AnyClient:
        """Make the client the one that `stop` ends."""
        if self._stopped:
            raise ToolError("stopped before it began", where=client.step, remedy="Start the task again")
        self._client = client
        return client

    def _place(self, wanted: Release) -> tuple[Path, Path | str]:
        """Where the environment is or will be, and what to build it with."""
        if self._python is not None:
            minor = python_version(Path(self._python))
            if minor not in wanted.pythons:
                raise InvalidInputError(
                    f"{self._python} is Python {minor or 'no interpreter'}, Airflow {wanted} runs on "
                    f"{', '.join(wanted.pythons)}",
                    where=f"runtime for Airflow {wanted}",
                    remedy="Name another interpreter, or none to have one found",
                )
            return self._path(wanted, minor), self._python if isinstance(self._python, Path) else Path(self._python)
        for minor in suitable_pythons(wanted):
            if environment_at(self._path(wanted, minor)):
                return self._path(wanted, minor), minor
        found = find_python(wanted)
        minor, python = found or (suitable_pythons(wanted)[0],) * 2
        return self._path(wanted, minor), python

    def _path(self, wanted: Release, minor: str) -> Path:
        return self._root / f"{wanted}-py{minor}"

    def _check_given(self, wanted: Release, path: Path) -> Path:
        if wanted.version in self._checked:
            return path
        airflow, where = path / "bin" / "airflow", f"runtime for Airflow {wanted}"
        if not airflow.exists():
            raise InvalidInputError(
                f"{airflow} does not exist",
                where=where,
                remedy="Correct the path of the environment, or leave it out",
            )
        lines = self._bare(airflow, ("version",))
        found = [match[1] for line in lines if (match := VERSION_LINE.fullmatch(line.strip()))]
        if wanted.version not in found:
            raise InvalidInputError(
                f"{path} holds Airflow {found[-1] if found else 'of no version that it tells'}, not {wanted}",
                where=where,
                remedy="Correct the path of the environment, or leave it out",
            )
        self._checked.add(wanted.version)
        return path

    def _options(self, goal: Release, airflow: Path) -> tuple[str, ...]:
        if goal.number[0] != 2:
            return ()
        return upgrade_options("\n".join(self._bare(airflow, (*upgrade_command(goal), "--help"))))

    def _bare(self, airflow: Path, argv: Sequence[str]) -> list[str]:
        """The output of a command that needs no database."""
        lines: list[str] = []
        with own_home() as home:
            client = self._begin(Client(f"airflow {' '.join(argv)}", bare_environment(home)))
            client.run([airflow, *argv], lines.append, directory=home, check=False)
        return lines
