"""Airflow's settings as the pod templates of its deployments give them: read, set, taken back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_migration.deployments.kubernetes.cluster import Cluster, JsonObject
from airflow_migration.deployments.kubernetes.discovery import Place, Workload
from airflow_migration.deployments.kubernetes.labels import PREFIX
from airflow_migration.deployments.kubernetes.workloads import change

AIRFLOW = "AIRFLOW__"


def read_variables(contents: Iterable[JsonObject]) -> dict[str, str]:
    """Settings that are written in pod templates; of several values the first workload's."""
    found: dict[str, str] = {}
    for content in contents:
        for container in _containers(content):
            for each in container.get("env") or []:
                if each["name"].startswith(AIRFLOW) and each.get("value"):
                    found.setdefault(each["name"], each["value"])
    return found


def read_references(contents: Iterable[JsonObject], name: str) -> set[Place]:
    """The secrets from which a variable is taken."""
    references = [
        (each.get("valueFrom") or {}).get("secretKeyRef")
        for content in contents
        for container in _containers(content)
        for each in container.get("env") or []
        if each["name"] == name
    ]
    return {Place(each["name"], each["key"]) for each in references if each}


def set_variables(cluster: Cluster, workload: Workload, settings: Mapping[str, str], token: str) -> bool | None:
    """Give the containers of Airflow variables; what they had is noted in the same write.

    :returns: whether there was something to change; None when no container of it is Airflow's
    """
    if not any(map(_is_airflow, _containers(cluster.get(workload.resource, workload.name)))):
        return None

    def make(content: JsonObject) -> JsonObject | None:
        noted, containers = _noted(content, token), []
        for container in filter(_is_airflow, _containers(content)):
            present = _variables(container)
            differing = {name: value for name, value in settings.items() if present.get(name, {}).get("value") != value}
            if not differing:
                continue
            before = noted.setdefault(container["name"], {})
            for name in differing:
                before.setdefault(name, present.get(name))
            env = [_in_place_of(present.get(name), {"name": name, "value": value}) for name, value in differing.items()]
            containers.append({"name": container["name"], "env": env})
        if not containers:
            return None
        return _patch(containers, token, json.dumps(noted))

    return change(cluster, workload, make)


def restore_variables(
    cluster: Cluster, workload: Workload, settings: Mapping[str, str], token: str
) -> tuple[set[str], set[str]]:
    """Undo of `set_variables`.

    :returns: names that have their former value again, and those that somebody else has changed since, which stay
    """
    restored: set[str] = set()
    left: set[str] = set()

    def make(content: JsonObject) -> JsonObject | None:
        restored.clear()
        left.clear()
        noted, containers = _noted(content, token), []
        if not noted:
            return None
        for container in _containers(content):
            present, env = _variables(container), []
            for name, before in noted.get(container["name"], {}).items():
                entry = present.get(name)
                if entry == before:
                    continue
                if (entry or {}).get("value") != settings.get(name):
                    left.add(name)
                    continue
                restored.add(name)
                env.append(_in_place_of(entry, before) if before else {"name": name, "$patch": "delete"})
            if env:
                containers.append({"name": container["name"], "env": env})
        return _patch(containers, token, None)

    change(cluster, workload, make)
    return restored, left


def _patch(containers: list[JsonObject], token: str, note: str | None) -> JsonObject:
    patch: JsonObject = {"metadata": {"annotations": {_annotation(token): note}}}
    if containers:
        patch["spec"] = {"template": {"spec": {"containers": containers}}}
    return patch


def _in_place_of(present: JsonObject | None, wanted: JsonObject) -> JsonObject:
    """A variable has a value or a source; a merge would give it both."""
    return {name: None for name in present or {} if name not in wanted} | wanted


def _annotation(token: str) -> str:
    """One for each migration: an earlier one's must not be overwritten."""
    return f"{PREFIX}/settings-before-{token}"


def _noted(content: JsonObject, token: str) -> dict[str, dict[str, Any]]:
    written = (content["metadata"].get("annotations") or {}).get(_annotation(token))
    return {} if written is None else dict(json.loads(written))


def _containers(content: JsonObject) -> list[JsonObject]:
    return list(content["spec"]["template"]["spec"]["containers"])


def _variables(container: JsonObject) -> dict[str, JsonObject]:
    return {each["name"]: each for each in container.get("env") or []}


def _is_airflow(container: JsonObject) -> bool:
    return any(name.startswith(AIRFLOW) for name in _variables(container))
