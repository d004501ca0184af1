"""Find what the charts of Airflow make of a release in a namespace, or what a connection names itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_migration.deployments.kubernetes.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    SECRETS,
    STATEFUL_SETS,
    Cluster,
    JsonObject,
    NotFoundError,
    Resource,
)
from airflow_migration.exceptions import InvalidInputError

PGBOUNCER, SCHEDULER, DAG_PROCESSOR = "pgbouncer", "scheduler", "dag-processor"
COMPONENTS = (PGBOUNCER, SCHEDULER, DAG_PROCESSOR, "api-server", "webserver", "triggerer", "worker")
"""Values of the charts' label ``component``, in the order in which they are started."""
WORKLOADS = {"deployment": DEPLOYMENTS, "statefulset": STATEFUL_SETS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One value that a deployment keeps in an object of the cluster.

    :param says: name of the entry of `control` that says where it is, as ``object`` or ``object/key``
    :param names: of the object in the charts, with the release's name put in
    :param key: in its data
    """

    what: str
    says: str
    names: tuple[str, ...]
    key: str
    resource: Resource = SECRETS


FERNET = Part(what="fernet key", says="fernet_from", names=("{}-fernet-key",), key="fernet-key")
METADATA = Part(
    what="metadata database", says="metadata_from", names=("{}-airflow-metadata", "{}-metadata"), key="connection"
)
RESULT_BACKEND = Part(
    what="result backend",
    says="result_backend_from",
    names=("{}-airflow-result-backend", "{}-result-backend"),
    key="connection",
)
POOLER = Part(
    what="PgBouncer's configuration",
    says="pgbouncer_from",
    names=("{}-pgbouncer-config", "{}-airflow-pgbouncer-config"),
    key="pgbouncer.ini",
)
CONFIG = Part(
    what="airflow.cfg",
    says="config_from",
    names=("{}-config", "{}-airflow-config"),
    key="airflow.cfg",
    resource=CONFIG_MAPS,
)
PARTS = (FERNET, METADATA, RESULT_BACKEND, POOLER, CONFIG)


@dataclass(frozen=True, slots=True)
class Place:
    """A value's place in the cluster.

    :param name: of the secret or config map
    """

    name: str
    key: str
    resource: Resource = SECRETS

    def __str__(self) -> str:
        return f"{self.resource.singular} {self.name}/{self.key}"


@dataclass(frozen=True, slots=True)
class Workload:
    """A deployment or stateful set that runs processes of Airflow.

    :param component: its label; where the connection names it, empty or ``pgbouncer``
    """

    resource: Resource
    name: str
    component: str = ""

    def __str__(self) -> str:
        return f"{self.resource.singular} {self.name}"


def find(cluster: Cluster, control: Mapping[str, Any], part: Part) -> Place | None:
    """Where a part is; None when the connection does not name it and no object has a chart's name for it.

    :raises InvalidInputError: it is not where the connection says, it is not in the object, or two objects match
    """
    if part.says in control:
        name, _, key = control[part.says].partition("/")
        place = Place(name, key or part.key, part.resource)
        _require_key(cluster, place, cluster.get(part.resource, name))
        return place
    candidates = [name.format(control["release"]) for name in part.names] if "release" in control else []
    found = {}
    for name in candidates:
        try:
            found[name] = cluster.get(part.resource, name)
        except NotFoundError:
            continue
    if len(found) > 1:
        raise InvalidInputError(
            f"two of them may hold the {part.what}: {' and '.join(found)}",
            where=cluster.where(part.resource),
            remedy=f"Name the right one in control, as {part.says}",
        )
    for name, content in found.items():
        place = Place(name, part.key, part.resource)
        _require_key(cluster, place, content)
        return place
    return None


def require(cluster: Cluster, control: Mapping[str, Any], part: Part) -> Place:
    """Where a part is.

    :raises InvalidInputError: also where there is none
    """
    place = find(cluster, control, part)
    if place is None:
        names = " or ".join(name.format(control.get("release", "<release>")) for name in part.names)
        raise InvalidInputError(
            f"there is no {part.resource.singular} {names} with the {part.what}",
            where=cluster.where(part.resource),
            remedy=f"Correct namespace or release in control, or name the object as {part.says}",
        )
    return place


def decode(cluster: Cluster, place: Place, content: JsonObject) -> str:
    """The text of a value; `content` is the object that holds it.

    :raises InvalidInputError: it is not there, or is not text
    """
    _require_key(cluster, place, content)
    value = content["data"][place.key]
    if place.resource is not SECRETS:
        return str(value)
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidInputError(
            f"the value of {place.key} is not text",
            where=cluster.where(place.resource, place.name),
            remedy="Correct it",
        ) from None


def read(cluster: Cluster, place: Place) -> str:
    """The text of a value, read anew."""
    return decode(cluster, place, cluster.get(place.resource, place.name))


def find_workloads(cluster: Cluster, control: Mapping[str, Any]) -> list[Workload]:
    """The deployments and stateful sets of a release, in the order in which they are started.

    :raises InvalidInputError: there is none
    """
    if "workloads" in control:
        named = [each.partition("/") for each in control["workloads"]]
        listed = [Workload(WORKLOADS[kind], name, PGBOUNCER if PGBOUNCER in name else "") for kind, _, name in named]
        return sorted(listed, key=lambda each: each.component != PGBOUNCER)
    selector = f"tier=airflow,release={control['release']},component in ({','.join(COMPONENTS)})"
    found = [
        Workload(resource, each["metadata"]["name"], each["metadata"]["labels"]["component"])
        for resource in WORKLOADS.values()
        for each in cluster.find(resource, selector)
    ]
    if not any(each.component == SCHEDULER for each in found):
        raise InvalidInputError(
            f"nothing here has the labels tier=airflow, release={control['release']}, component=scheduler",
            where=cluster.where(DEPLOYMENTS),
            remedy='Correct namespace or release in control, or give workloads, e.g. ["deployment/scheduler"]',
        )
    return sorted(found, key=lambda each: (COMPONENTS.index(each.component), each.name))


def _require_key(cluster: Cluster, place: Place, content: JsonObject) -> None:
    data = content.get("data") or {}
    if place.key not in data:
        raise InvalidInputError(
            f'it has no key "{place.key}", only {", ".join(sorted(data)) or "none at all"}',
            where=cluster.where(place.resource, place.name),
            remedy="Name the key in control, as object/key",
        )
