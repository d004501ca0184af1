"""The pod in which a release's `airflow` runs, and the secret that its variables refer to."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_migration.deployments.kubernetes.cluster import JsonObject
from airflow_migration.deployments.kubernetes.secrets import encode
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import Release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.command import SECRETIVE, airflow_environment
from airflow_migration.secret import Secret

CONTAINER = "airflow"
SEAL = "AIRFLOW_MIGRATION_SEAL"
OPTIONS = "AIRFLOW_MIGRATION_OPTIONS"
FILE_PREFIX = "AIRFLOW_MIGRATION_FILE_"
CERTIFICATES = ("PGSSLROOTCERT", "PGSSLCRL", "PGSSLCERT", "PGSSLKEY")
# Where `in_pod` makes the home by itself.
HOME_SETTINGS = ("AIRFLOW_HOME", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER")
GRACE_SECONDS = 10
PROGRAM = Path(__file__).with_name("in_pod.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOptions:
    """What a connection's ``runtime`` of kind ``kubernetes`` says.

    :param image: with ``{release}`` in it, or of one release
    :param host: of the database as pods see it; None for the deployment's own
    :param port: likewise
    :param run_as_user: number of the user that the command runs as; None for the image's own
    :param start_timeout: seconds for a pod to be scheduled, its image pulled and its command started
    """

    namespace: str
    image: str
    service_account: str | None = None
    image_pull_secrets: Sequence[str] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    host: str | None = None
    port: int | None = None
    run_as_user: int | None = None
    start_timeout: int = 600

    def image_of(self, release: Release) -> str:
        return self.image.replace("{release}", release.version)

    def seen_from_inside(self, address: DatabaseAddress) -> DatabaseAddress:
        """
        :raises InvalidInputError: it is a socket of this machine
        """
        seen = replace(address, host=self.host or address.host, port=self.port or address.port)
        if seen.host.startswith("/"):
            raise InvalidInputError(
                f"the database is reached by a socket of this machine ({seen.host}), which no pod sees",
                where=str(address),
                remedy='Give runtime the "host" of the database as pods see it',
            )
        return seen


def environment_of(
    release: Release, address: DatabaseAddress, keys: Secret, settings: Mapping[str, str], seal: Secret
) -> dict[str, str]:
    """The variables of the command, certificates by content, secrets included: never for a log.

    :raises InvalidInputError: a certificate cannot be read here
    """
    variables = airflow_environment(release, Path("/"), address, keys, settings)
    variables = {name: value for name, value in variables.items() if name not in HOME_SETTINGS}
    for name in CERTIFICATES:
        path = variables.get(name, "system")
        if path == "system":
            continue
        del variables[name]
        try:
            variables[FILE_PREFIX + name] = Path(path).expanduser().read_text()
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidInputError(
                f"{path} cannot be read ({type(err).__name__}), and pods need what is in it",
                where=str(address),
                remedy="Correct its path in the connection, or let this process read it",
            ) from err
    return variables | {SEAL: seal.reveal()}


def is_secret(name: str) -> bool:
    """Whether a variable must not be seen in a pod's specification."""
    return name == SEAL or name.startswith(FILE_PREFIX) or bool(SECRETIVE.search(name))


def secret_manifest(
    name: str, labels: Mapping[str, str], variables: Mapping[str, str], owner: Mapping[str, str]
) -> JsonObject:
    """The secret with what must not be seen; for the API alone.

    :param owner: reference to the pod, with which the cluster removes it
    """
    data = {each: encode(value) for each, value in variables.items() if is_secret(each)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": dict(labels), "ownerReferences": [dict(owner)]},
        "type": "Opaque",
        "data": data,
    }


def data_of(secret: JsonObject) -> dict[str, str]:
    """What a secret holds, decoded: never for a log."""
    return {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}


def pod_manifest(
    name: str,
    labels: Mapping[str, str],
    variables: Mapping[str, str],
    argv: Sequence[str],
    image: str,
    options: PodOptions,
    *,
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> JsonObject:
    """The pod, whose secret has the same name.

    :param argv: arguments of `airflow`
    """
    plain = {each: value for each, value in variables.items() if not is_secret(each)}
    env: list[JsonObject] = [{"name": each, "value": _verbatim(value)} for each, value in sorted(plain.items())]
    env += [
        {"name": each, "valueFrom": {"secretKeyRef": {"name": name, "key": each}}}
        for each in sorted(variables)
        if is_secret(each)
    ]
    container: JsonObject = {
        "name": CONTAINER,
        "image": image,
        "command": ["python", "-u", "-c", _verbatim(PROGRAM.read_text()), *map(_verbatim, argv)],
        "env": env,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if options.run_as_user is not None:
        # Pod security "restricted" asks for both.
        container["securityContext"] |= {"runAsUser": options.run_as_user, "runAsNonRoot": True}
    if options.resources:
        container["resources"] = dict(options.resources)
    spec: JsonObject = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": each} for each in options.image_pull_secrets]
    if options.node_selector:
        spec["nodeSelector"] = dict(options.node_selector)
    if options.tolerations:
        spec["tolerations"] = [dict(each) for each in options.tolerations]
    metadata = {"name": name, "labels": dict(labels), "annotations": dict(annotations)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _verbatim(text: str) -> str:
    """A kubelet replaces ``$(NAME)``, and takes ``$$`` for one ``$``."""
    return text.replace("$", "$$")
