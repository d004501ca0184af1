"""Where a deployment's settings and processes are changed: in a file, in a cluster, or by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from airflow_migration.deployments.airflow_cfg import AirflowCfg
from airflow_migration.deployments.control_result import ControlResult
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.deployments.kubernetes.cluster import Cluster
from airflow_migration.deployments.kubernetes.control import KubernetesControl
from airflow_migration.deployments.settings_file import SETTINGS, SettingsChange, SettingsFile
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener
from airflow_migration.secret import Secret


class Control(Protocol):
    """The few acts on a deployment that a migration needs.

    :param stops_processes: `quiet` does it, and leaves it to nobody
    """

    kind: str
    stops_processes: bool

    def fernet_keys(self) -> Secret: ...

    def settings(self) -> Mapping[str, str]:
        """Settings of the deployment that decide what its own commands do to the database."""
        ...

    def read_settings(self, names: Sequence[str]) -> Mapping[str, str]:
        """The values of any settings, named as environment variables; of those that are set."""
        ...

    def check(self, database: str) -> None:
        """See whether the deployment could be pointed to this database; changes nothing.

        :raises InvalidInputError: it could not
        """
        ...

    def set_fernet_keys(self, keys: Secret, token: str) -> ControlResult: ...

    def point_to(self, database: str, token: str) -> ControlResult: ...

    def set_settings(self, settings: Mapping[str, str], token: str) -> ControlResult:
        """Give the deployment settings, named as environment variables."""
        ...

    def restore(self, token: str, *, keys: Secret, database: str, settings: Mapping[str, str]) -> ControlResult:
        """Undo of all three: what this migration has set, and nobody since, has its former value again.

        :param keys: the keys that were set
        :param database: the database that was pointed to
        :param settings: the other settings that were set
        """
        ...

    def quiet(self, token: str, listener: Listener) -> ControlResult:
        """Bring the deployment's processes to rest until `restart`, or say that a person has to."""
        ...

    def restart(self, token: str, client: Client, listener: Listener) -> ControlResult:
        """Have the processes read their settings again; those that `quiet` has stopped are started."""
        ...

    def restarts_parser(self, *, separate: bool) -> bool:
        """Whether `restart` has started a process that parses DAG files, so that its first heartbeat is on the way.

        :param separate: the scheduler of this release does not parse
        """
        ...


class FileControl:
    """``{"kind": "env_file" or "airflow_cfg", "path": …, "restart_command": …}``.

    :param opens: the kind of file
    :param restart_command: program and arguments that restart the deployment's processes; none leaves
        that to a person
    """

    stops_processes = False

    def __init__(self, opens: type[SettingsFile], path: str, restart_command: Sequence[str] = ()) -> None:
        self.kind = opens.kind
        self._opens = opens
        self._path = path
        self._command = restart_command

    def fernet_keys(self) -> Secret:
        return self._file().fernet_keys()

    def settings(self) -> Mapping[str, str]:
        return self.read_settings(SETTINGS)

    def read_settings(self, names: Sequence[str]) -> Mapping[str, str]:
        file = self._file()
        return {name: value for name in names if (value := file.get(name))}

    def check(self, database: str) -> None:
        self._file().check(database)

    def set_fernet_keys(self, keys: Secret, token: str) -> ControlResult:
        return self._result(self._file().set_fernet_keys(keys, token))

    def point_to(self, database: str, token: str) -> ControlResult:
        file = self._file()
        change = file.point_to(database, token)
        instructions: tuple[str, ...] = ()
        if file.connected_database() is None:
            instructions = (
                f'{self._path} names no database: make sure that the target\'s sql_alchemy_conn ends in "{database}"',
            )
        return self._result(change, instructions)

    def set_settings(self, settings: Mapping[str, str], token: str) -> ControlResult:
        return self._result(self._file().set_settings(settings, token))

    def restore(self, token: str, *, keys: Secret, database: str, settings: Mapping[str, str]) -> ControlResult:
        done = self._file().restore(token, keys=keys, database=database, settings=settings)
        if done is None:
            return ControlResult(kind=self.kind)
        instructions = tuple(
            f"{name} in {done.path} was changed by somebody else since the migration and is left as it is;"
            f" {done.backup} has the value of before"
            for name in done.left
        )
        return ControlResult(kind=self.kind, changed=done.restored, instructions=instructions, backup=done.backup)

    def quiet(self, token: str, listener: Listener) -> ControlResult:
        return ControlResult(
            kind=self.kind, instructions=(f"Stop the processes that read {self._path} until the migration is done",)
        )

    def restart(self, token: str, client: Client, listener: Listener) -> ControlResult:
        if not self._command:
            return ControlResult(
                kind=self.kind,
                instructions=(f"Restart the target's processes, so that they read {self._path} again",),
            )
        client.run(self._command, listener)
        return ControlResult(kind=self.kind, changed=(self._command[0],))

    def restarts_parser(self, *, separate: bool) -> bool:
        return bool(self._command)

    def _file(self) -> SettingsFile:
        return self._opens(self._path)

    def _result(self, change: SettingsChange, instructions: tuple[str, ...] = ()) -> ControlResult:
        backup = change.backup if change.changed else None
        return ControlResult(kind=self.kind, changed=change.changed, instructions=instructions, backup=backup)


class ManualControl:
    """A person changes the deployment; we say what."""

    kind = "manual"
    stops_processes = False

    def __init__(self, keys: Secret) -> None:
        self._keys = keys

    def fernet_keys(self) -> Secret:
        return self._keys

    def settings(self) -> Mapping[str, str]:
        return {}

    def read_settings(self, names: Sequence[str]) -> Mapping[str, str]:
        return {}

    def check(self, database: str) -> None:
        """Nothing is known of it."""

    def set_fernet_keys(self, keys: Secret, token: str) -> ControlResult:
        if keys == self._keys:
            return ControlResult(kind=self.kind)
        return self._instruct("Set AIRFLOW__CORE__FERNET_KEY of the target to the source's key")

    def point_to(self, database: str, token: str) -> ControlResult:
        return self._instruct(f'Make sure that the target\'s sql_alchemy_conn names the database "{database}"')

    def set_settings(self, settings: Mapping[str, str], token: str) -> ControlResult:
        sentences = (
            f"Set {name}={value} for the target's processes, before its DAG processor starts"
            for name, value in settings.items()
        )
        return ControlResult(kind=self.kind, instructions=tuple(sentences))

    def restore(self, token: str, *, keys: Secret, database: str, settings: Mapping[str, str]) -> ControlResult:
        return self._instruct(
            "Give the target the fernet key and the database in sql_alchemy_conn back that it had before the migration"
        )

    def quiet(self, token: str, listener: Listener) -> ControlResult:
        return self._instruct("Stop the target's processes until the migration is done")

    def restart(self, token: str, client: Client, listener: Listener) -> ControlResult:
        return self._instruct("Restart the target's processes")

    def restarts_parser(self, *, separate: bool) -> bool:
        return False

    def _instruct(self, sentence: str) -> ControlResult:
        return ControlResult(kind=self.kind, instructions=(sentence,))


FILES: Mapping[str, type[SettingsFile]] = {each.kind: each for each in (EnvFile, AirflowCfg)}


def control_of(deployment: Deployment) -> Control:
    """The control that a deployment's connection names."""
    control = deployment.control or {}
    opens = FILES.get(control.get("kind", ""))
    if opens:
        return FileControl(opens, control["path"], control.get("restart_command", ()))
    if control.get("kind") == KubernetesControl.kind:
        return KubernetesControl(
            control, lambda: Cluster(deployment.open_cluster(control.get("conn_id")), control["namespace"])
        )
    return ManualControl(deployment.fernet_keys)


def fernet_keys_of(deployment: Deployment) -> Secret:
    """The keys given in the connection, else those of the control plane, else none (unencrypted)."""
    return deployment.fernet_keys or control_of(deployment).fernet_keys()


def configured_fernet_keys(deployment: Deployment) -> Secret:
    """The keys that the deployment itself is set up with, as far as its control plane says; else the connection's."""
    return control_of(deployment).fernet_keys() or deployment.fernet_keys
