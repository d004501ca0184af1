"""What a connection may say of a deployment in a Kubernetes cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_migration.deployments.kubernetes.discovery import FERNET, METADATA, PARTS, WORKLOADS

KIND = "kubernetes"
OPTIONS = {"conn_id", "namespace", "release", "workloads", "ready_timeout", *(part.says for part in PARTS)}
LONGEST_WAIT = 3600
"""Seconds; the DAGs' tasks that wait for pods may take longer."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PLACE = re.compile(rf"{_OBJECT.pattern}(/[-._a-zA-Z0-9]+)?")


def faults(control: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with it, each with what to do; nothing of the cluster is asked."""
    for name, pattern in (("conn_id", re.compile(".+")), ("namespace", _NAMESPACE), ("release", _LABEL)):
        value = control.get(name)
        if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
            yield f"{name} is no name", f"Give {name} as kubectl or the connections' list shows it"
    if "namespace" not in control:
        yield "namespace is missing", "Give the namespace of the release"
    if "release" not in control:
        missing = [name for name in (FERNET.says, METADATA.says, "workloads") if name not in control]
        if missing:
            yield f"release is missing, and so is {', '.join(missing)}", "Give the Helm release, or name its objects"
    for part in PARTS:
        value = control.get(part.says)
        if value is not None and not (isinstance(value, str) and _PLACE.fullmatch(value)):
            yield f"{part.says} names no {part.resource.singular}", f'Write it like "name" or "name/{part.key}"'
    workloads = control.get("workloads", [])
    if "workloads" in control and not (isinstance(workloads, list) and workloads and all(map(_is_workload, workloads))):
        yield "workloads is no list of them", 'Write it like ["deployment/scheduler", "statefulset/worker"]'
    timeout = control.get("ready_timeout", 1)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST_WAIT:
        yield "ready_timeout is no number of seconds", f"Give a number above 0, up to {LONGEST_WAIT}"


def _is_workload(value: object) -> bool:
    kind, _, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    return kind in WORKLOADS and _OBJECT.fullmatch(name) is not None
