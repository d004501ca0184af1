"""Where a deployment's settings and processes are changed: a file of environment variables, or by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.env_file import SETTINGS, EnvFile, EnvFileChange
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener
from airflow_migration.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """What was changed in a deployment's settings, or must be changed by a person.

    :param changed: names of settings, or what was started
    :param instructions: what is left to be done by hand
    :param backup: path of the settings as they were before
    """

    kind: str
    changed: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    backup: str | None = None

    def and_then(self, later: ControlResult) -> ControlResult:
        """Both as one."""
        return ControlResult(
            kind=self.kind,
            changed=self.changed + later.changed,
            instructions=self.instructions + later.instructions,
            backup=self.backup or later.backup,
        )


class Control(Protocol):
    """The few acts on a deployment that a migration needs."""

    kind: str

    def fernet_keys(self) -> Secret: ...

    def settings(self) -> Mapping[str, str]:
        """Settings of the deployment that decide what its own commands do to the database."""
        ...

    def set_fernet_keys(self, keys: Secret, token: str) -> ControlResult: ...

    def point_to(self, database: str, token: str) -> ControlResult: ...

    def set_settings(self, settings: Mapping[str, str], token: str) -> ControlResult:
        """Give the deployment settings, named as environment variables."""
        ...

    def restart(self, client: Client, listener: Listener) -> ControlResult: ...


class EnvFileControl:
    """``{"kind": "env_file", "path": …, "restart_command": …}``.

    :param restart_command: program and arguments that restart the deployment's processes; none leaves
        that to a person
    """

    kind = "env_file"

    def __init__(self, path: str, restart_command: Sequence[str] = ()) -> None:
        self._path = path
        self._command = restart_command

    def fernet_keys(self) -> Secret:
        return EnvFile(self._path).fernet_keys()

    def settings(self) -> Mapping[str, str]:
        file = EnvFile(self._path)
        return {name: value for name in SETTINGS if (value := file.get(name))}

    def set_fernet_keys(self, keys: Secret, token: str) -> ControlResult:
        return self._result(EnvFile(self._path).set_fernet_keys(keys, token))

    def point_to(self, database: str, token: str) -> ControlResult:
        file = EnvFile(self._path)
        change = file.point_to(database, token)
        instructions: tuple[str, ...] = ()
        if file.connected_database() is None:
            instructions = (
                f'{self._path} names no database: make sure that the target\'s sql_alchemy_conn ends in "{database}"',
            )
        return self._result(change, instructions)

    def set_settings(self, settings: Mapping[str, str], token: str) -> ControlResult:
        return self._result(EnvFile(self._path).set_settings(settings, token))

    def restart(self, client: Client, listener: Listener) -> ControlResult:
        if not self._command:
            return ControlResult(
                kind=self.kind,
                instructions=(f"Restart the target's processes, so that they read {self._path} again",),
            )
        client.run(self._command, listener)
        return ControlResult(kind=self.kind, changed=(self._command[0],))

    def _result(self, change: EnvFileChange, instructions: tuple[str, ...] = ()) -> ControlResult:
        backup = change.backup if change.changed else None
        return ControlResult(kind=self.kind, changed=change.changed, instructions=instructions, backup=backup)


class ManualControl:
    """A person changes the deployment; we say what."""

    kind = "manual"

    def __init__(self, keys: Secret) -> None:
        self._keys = keys

    def fernet_keys(self) -> Secret:
        return self._keys

    def settings(self) -> Mapping[str, str]:
        return {}

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

    def restart(self, client: Client, listener: Listener) -> ControlResult:
        return self._instruct("Restart the target's processes")

    def _instruct(self, sentence: str) -> ControlResult:
        return ControlResult(kind=self.kind, instructions=(sentence,))


def control_of(deployment: Deployment) -> Control:
    """The control that a deployment's connection names."""
    control = deployment.control or {}
    if control.get("kind") == EnvFileControl.kind:
        return EnvFileControl(control["path"], control.get("restart_command", ()))
    return ManualControl(deployment.fernet_keys)


def fernet_keys_of(deployment: Deployment) -> Secret:
    """The keys given in the connection, else those of the control plane, else none (unencrypted)."""
    return deployment.fernet_keys or control_of(deployment).fernet_keys()
