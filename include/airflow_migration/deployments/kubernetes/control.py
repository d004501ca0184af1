"""The acts of a migration on a deployment that a chart has put into a Kubernetes cluster."""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow_migration.deployments.control_result import ControlResult
from airflow_migration.deployments.kubernetes import database as metadata
from airflow_migration.deployments.kubernetes import templates
from airflow_migration.deployments.kubernetes.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    MANIFEST,
    PODS,
    SECRETS,
    STATEFUL_SETS,
    Cluster,
    ForbiddenError,
    JsonObject,
)
from airflow_migration.deployments.kubernetes.discovery import (
    CONFIG,
    DAG_PROCESSOR,
    FERNET,
    METADATA,
    PGBOUNCER,
    SCHEDULER,
    Place,
    Workload,
    decode,
    find,
    find_workloads,
    read,
    require,
)
from airflow_migration.deployments.kubernetes.fernet import read_fernet_keys
from airflow_migration.deployments.kubernetes.secrets import Change, KeptSecrets
from airflow_migration.deployments.kubernetes.workloads import Workloads, replicas
from airflow_migration.deployments.settings_file import FERNET_KEY, SETTINGS, SQL_ALCHEMY_CONN
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener
from airflow_migration.secret import Secret

READY_TIMEOUT = 600
RIGHTS = (
    *((verb, SECRETS) for verb in ("get", "create", "patch", "delete")),
    ("get", CONFIG_MAPS),
    *((verb, resource) for resource in (DEPLOYMENTS, STATEFUL_SETS) for verb in ("get", "list")),
    ("list", PODS),
)


class KubernetesControl:
    """``{"kind": "kubernetes", "conn_id": …, "namespace": …, "release": …}``; see `discovery` for the rest.

    :param control: as the connection says it, checked
    :param open_cluster: reaches the namespace, once it is needed
    """

    kind = "kubernetes"
    stops_processes = True

    def __init__(self, control: Mapping[str, Any], open_cluster: Callable[[], Cluster]) -> None:
        self._control, self._open = control, open_cluster

    def __str__(self) -> str:
        release = self._control.get("release")
        return (f'release "{release}" in ' if release else "") + f"namespace {self._control['namespace']}"

    def fernet_keys(self) -> Secret:
        place = require(self._cluster, self._control, FERNET)
        return read_fernet_keys(read(self._cluster, place), self._cluster.where(SECRETS, place.name))

    def settings(self) -> Mapping[str, str]:
        return self.read_settings(SETTINGS)

    def read_settings(self, names: Sequence[str]) -> Mapping[str, str]:
        """Variables of the pod templates count before the chart's airflow.cfg, as they do for Airflow."""
        known = self._configured() | templates.read_variables(self._contents().values())
        return {name: known[name] for name in names if known.get(name)}

    def check(self, database: str) -> None:
        """See whether everything is there that the acts below need; changes nothing.

        :raises InvalidInputError: it is not; names what is missing
        """
        self._check_rights()
        if "?" in database:
            raise InvalidInputError(
                f'"{database}" cannot be written in a connection string', where="database", remedy="Choose another name"
            )
        fernet, keys = require(self._cluster, self._control, FERNET), self.fernet_keys()
        for place, change in [(fernet, _always(keys)), *metadata.changes(self._cluster, self._control, database)]:
            secret = self._cluster.get(SECRETS, place.name)
            change(decode(self._cluster, place, secret))
            if secret.get("immutable"):
                raise InvalidInputError(
                    "the secret is immutable", where=self._cluster.where(SECRETS, place.name), remedy="Replace it"
                )
        for workload, content in self._contents().items():
            if content["spec"].get("paused"):
                raise InvalidInputError(
                    "its rollouts are paused, and no pod would get the new settings",
                    where=self._cluster.where(workload.resource, workload.name),
                    remedy=f"kubectl rollout resume {workload.resource.plural}/{workload.name}",
                )
        self._check_references(FERNET_KEY, fernet, FERNET.says)
        found = metadata.read_metadata(self._cluster, self._control)
        for name in SQL_ALCHEMY_CONN:
            self._check_references(name, found.place, METADATA.says)

    def set_fernet_keys(self, keys: Secret, token: str) -> ControlResult:
        place = require(self._cluster, self._control, FERNET)
        return self._set([(place, lambda _: keys.reveal())], token)

    def point_to(self, database: str, token: str) -> ControlResult:
        result = self._set(metadata.changes(self._cluster, self._control, database), token)
        if not result.changed:
            return result
        sentence = (
            f'Write the database "{database}" into the values of the chart (data.metadataConnection.db), or the next'
            " helm upgrade takes it back"
        )
        return result.and_then(ControlResult(kind=self.kind, instructions=(sentence,)))

    def set_settings(self, settings: Mapping[str, str], token: str) -> ControlResult:
        listed = ", ".join(f"{name}={value}" for name, value in settings.items())
        changed, fitting = False, 0
        for workload in self._workloads:
            try:
                done = templates.set_variables(self._cluster, workload, settings, token)
            except ForbiddenError:
                sentence = f"Set {listed} for {workload}: the account may not change it"
                return ControlResult(kind=self.kind, instructions=(sentence,))
            changed, fitting = changed or bool(done), fitting + (done is not None)
        if not fitting:
            sentence = f"Set {listed} for the target's processes: no pod template has variables of Airflow"
            return ControlResult(kind=self.kind, instructions=(sentence,))
        if not changed:
            return ControlResult(kind=self.kind)
        sentence = f"Write {listed} into the values of the chart (env), or the next helm upgrade takes it away"
        return ControlResult(kind=self.kind, changed=tuple(settings), instructions=(sentence,))

    def restore(self, token: str, *, keys: Secret, database: str, settings: Mapping[str, str]) -> ControlResult:
        kept = KeptSecrets(self._cluster, token)
        fernet = require(self._cluster, self._control, FERNET)
        restored: list[str] = []
        left: list[str] = []
        places = [(fernet, _always(keys)), *metadata.places(self._cluster, self._control, database)]
        outcomes = {place: kept.restore(place, change) for place, change in places}
        for place, outcome in outcomes.items():
            if outcome is False:
                left.append(
                    f"{place} was changed by somebody else since the migration and is left as it is;"
                    f" secret {kept.find(place)} has the value of before"
                )
            elif outcome:
                restored.append(str(place))
        untouched = {place.name for place, outcome in outcomes.items() if outcome is False}
        for place in outcomes:
            if place.name not in untouched:
                kept.forget(place)
        for workload in self._workloads:
            back, stays = templates.restore_variables(self._cluster, workload, settings, token)
            restored += [f"{name} of {workload}" for name in sorted(back)]
            left += [
                f"{name} of {workload} was changed by somebody else since the migration and is left as it is"
                for name in sorted(stays)
            ]
        return ControlResult(kind=self.kind, changed=tuple(restored), instructions=tuple(left))

    def quiet(self, token: str, listener: Listener) -> ControlResult:
        stopped, refused = self._processes(listener).stop(token)
        listener(f"At rest: {', '.join(map(str, stopped)) or 'nothing'}")
        return ControlResult(
            kind=self.kind,
            changed=tuple(map(str, stopped)),
            instructions=tuple(f"Scale {each} to zero: the account may not" for each in refused),
        )

    def restart(self, token: str, client: Client, listener: Listener) -> ControlResult:
        done, remarks = self._processes(listener).restart(token)
        listener(f"Ready: {', '.join(map(str, done))}")
        return ControlResult(kind=self.kind, changed=tuple(map(str, done)), instructions=tuple(remarks))

    def restarts_parser(self, *, separate: bool) -> bool:
        """What the connection names itself may be anything, and so a parser too."""
        parsers = {"", DAG_PROCESSOR} | (set() if separate else {SCHEDULER})
        return any(replicas(content) for workload, content in self._contents().items() if workload.component in parsers)

    @cached_property
    def _cluster(self) -> Cluster:
        return self._open()

    @cached_property
    def _workloads(self) -> list[Workload]:
        return find_workloads(self._cluster, self._control)

    def _processes(self, listener: Listener) -> Workloads:
        patience = float(self._control.get("ready_timeout", READY_TIMEOUT))
        return Workloads(self._cluster, self._workloads, patience=patience, listener=listener)

    def _contents(self) -> dict[Workload, JsonObject]:
        return {
            each: self._cluster.get(each.resource, each.name) for each in self._workloads if each.component != PGBOUNCER
        }

    def _configured(self) -> dict[str, str]:
        """The options of the chart's airflow.cfg, by the names of their variables."""
        place = find(self._cluster, self._control, CONFIG)
        if place is None:
            return {}
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
        try:
            parser.read_string(read(self._cluster, place))
        except configparser.Error as err:
            raise InvalidInputError(
                f"its {place.key} cannot be read ({type(err).__name__})",
                where=self._cluster.where(CONFIG_MAPS, place.name),
                remedy="Correct it, or name another one in control, as config_from",
            ) from None
        return {
            f"AIRFLOW__{section.upper()}__{option.upper()}": (value or "").replace("%%", "%")
            for section in parser.sections()
            for option, value in parser.items(section)
        }

    def _check_rights(self) -> None:
        missing = [(verb, resource) for verb, resource in RIGHTS if not self._cluster.may(verb, resource)]
        # Without it the pods are deleted one at a time.
        if not self._cluster.may("delete", PODS):
            patched = {each.resource for each in self._workloads} if not missing else {DEPLOYMENTS}
            missing += [("patch", each) for each in patched if not self._cluster.may("patch", each)]
        if missing:
            listed = ", ".join(f"{verb} {resource.plural}" for verb, resource in missing)
            raise ForbiddenError(
                f"the account may not {listed}",
                where=self._cluster.where(PODS),
                remedy=f"Bind it to the role of {MANIFEST}",
            )

    def _check_references(self, variable: str, place: Place, says: str) -> None:
        """The processes must take a setting from where we change it."""
        used = templates.read_references(self._contents().values(), variable)
        if used - {place}:
            others = ", ".join(sorted(f"{each.name}/{each.key}" for each in used - {place}))
            raise InvalidInputError(
                f"{variable} of its pods is taken from {others}, not from {place.name}/{place.key}",
                where=self._cluster.where(SECRETS),
                remedy=f"Name the right secret in control, as {says}",
            )

    def _set(self, changes: Sequence[tuple[Place, Change]], token: str) -> ControlResult:
        kept = KeptSecrets(self._cluster, token)
        changed = [place for place, change in changes if kept.set(place, change)]
        backup = f"secret {kept.find(changed[0])}" if changed else None
        return ControlResult(kind=self.kind, changed=tuple(map(str, changed)), backup=backup)


def _always(keys: Secret) -> Change:
    return lambda _: keys.reveal()
