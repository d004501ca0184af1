"""Makes, replaces and removes the pods of deployments and stateful sets, and writes their status."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import uuid

from tests.kubernetes.fake.resources import RESOURCES, ApiError, JsonObject, Resource
from tests.kubernetes.fake.store import Store

PODS = RESOURCES["", "pods"]
SECRETS = RESOURCES["", "secrets"]
DEPLOYMENTS = RESOURCES["apps", "deployments"]
STATEFULSETS = RESOURCES["apps", "statefulsets"]


class Controller(threading.Thread):
    """One thread that looks at every workload after every change, until it is stopped."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="controller", daemon=True)
        self._store, self._stopped = store, False
        self._templates: dict[tuple[str, str], JsonObject] = {}

    def run(self) -> None:
        seen: int | None = -1
        while (seen := self._store.next_version(seen, lambda: self._stopped)) is not None:
            with self._store.changed:
                for resource in (DEPLOYMENTS, STATEFULSETS):
                    for workload in self._store.all(resource):
                        self._reconcile(resource, workload)
                self._collect_garbage()

    def stop(self) -> None:
        with self._store.changed:
            self._stopped = True
            self._store.changed.notify_all()

    def _collect_garbage(self) -> None:
        """Remove the secrets of pods that are no more."""
        pods = {pod["metadata"]["uid"] for pod in self._store.all(PODS)}
        for secret in self._store.all(SECRETS):
            meta = secret["metadata"]
            owners = {owner["uid"] for owner in meta.get("ownerReferences") or [] if owner["kind"] == "Pod"}
            if owners and not owners & pods:
                self._store.delete(SECRETS, meta["namespace"], meta["name"])

    def _reconcile(self, resource: Resource, workload: JsonObject) -> None:
        namespace, name = workload["metadata"]["namespace"], workload["metadata"]["name"]
        template = workload["spec"]["template"]
        revision = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        self._templates[workload["metadata"]["uid"], revision] = template
        pods = [pod for pod in self._store.all(PODS, namespace) if _owner(pod) == _owner_uid(workload)]
        if resource is DEPLOYMENTS:
            self._replace_deployment(workload, pods, revision)
        else:
            self._replace_stateful_set(workload, pods, revision)
        pods = [pod for pod in self._store.all(PODS, namespace) if _owner(pod) == _owner_uid(workload)]
        self._tell(resource, namespace, name, [pod for pod in pods if _alive(pod)], revision)

    def _replace_deployment(self, workload: JsonObject, pods: list[JsonObject], revision: str) -> None:
        wanted = workload["spec"]["replicas"]
        current = [pod for pod in pods if _revision(pod) == revision and _alive(pod)]
        old = [pod for pod in pods if _revision(pod) != revision and _alive(pod)]
        for _ in range(wanted - len(current)):
            self._make(workload, f"{workload['metadata']['name']}-{revision}-{uuid.uuid4().hex[:5]}", revision)
        self._remove(current[wanted:])
        ready = sum(map(_ready, current))
        self._remove(old[: max(0, len(old) - (wanted - ready))])

    def _replace_stateful_set(self, workload: JsonObject, pods: list[JsonObject], revision: str) -> None:
        wanted, name = workload["spec"]["replicas"], workload["metadata"]["name"]
        strategy = workload["spec"]["updateStrategy"]
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        before = (workload.get("status") or {}).get("currentRevision", "").rpartition("-")[2] or revision
        by_name = {pod["metadata"]["name"]: pod for pod in pods}
        for number in range(wanted):
            pod = by_name.get(f"{name}-{number}")
            if pod is None:
                self._make(workload, f"{name}-{number}", before if number < partition else revision)
                return
            if not (_alive(pod) and _ready(pod)):
                return
        keep = {f"{name}-{number}" for number in range(wanted)}
        self._remove([pod for pod in pods if pod["metadata"]["name"] not in keep and _alive(pod)])
        if strategy["type"] == "OnDelete":
            return
        updated = {f"{name}-{number}" for number in range(partition, wanted)}
        outdated = [pod for pod in pods if _revision(pod) != revision and pod["metadata"]["name"] in updated]
        self._remove(outdated[-1:])

    def _make(self, workload: JsonObject, name: str, revision: str) -> None:
        meta = workload["metadata"]
        template = copy.deepcopy(self._templates[meta["uid"], revision])
        labels = (template.get("metadata") or {}).get("labels") or {}
        key = "pod-template-hash" if workload["kind"] == "Deployment" else "controller-revision-hash"
        pod = {
            "metadata": {
                **(template.get("metadata") or {}),
                "name": name,
                "labels": {**labels, key: revision},
                "ownerReferences": [_reference(workload, revision)],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        self._store.create(PODS, meta["namespace"], pod)

    def _remove(self, pods: list[JsonObject]) -> None:
        for pod in pods:
            self._store.mark_deleted(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], 30)

    def _tell(self, resource: Resource, namespace: str, name: str, pods: list[JsonObject], revision: str) -> None:
        def write(workload: JsonObject) -> JsonObject:
            current = [pod for pod in pods if _revision(pod) == revision]
            ready = sum(map(_ready, pods))
            status: JsonObject = {
                "replicas": len(pods),
                "updatedReplicas": len(current),
                "readyReplicas": ready,
                "availableReplicas": ready,
            }
            if resource is DEPLOYMENTS:
                status["unavailableReplicas"] = max(0, workload["spec"]["replicas"] - ready)
            # A real server leaves out what is 0 here, except a stateful set's replicas.
            kept = {"replicas", "availableReplicas"} if resource is STATEFULSETS else set()
            status = {key: value for key, value in status.items() if value or key in kept}
            status["observedGeneration"] = workload["metadata"]["generation"]
            if resource is STATEFULSETS:
                rolls = workload["spec"]["updateStrategy"]["type"] == "RollingUpdate"
                done = rolls and len(current) == len(pods) == workload["spec"]["replicas"]
                before = (workload.get("status") or {}).get("currentRevision", f"{name}-{revision}")
                status["currentRevision"] = f"{name}-{revision}" if done else before
                status["updateRevision"] = f"{name}-{revision}"
            return {**workload, "status": status}

        try:
            self._store.update(resource, namespace, name, write)
        except ApiError as err:
            if err.code != 404:  # deleted meanwhile
                raise


def _reference(workload: JsonObject, revision: str) -> JsonObject:
    """A deployment's pods belong to its replica sets, of which this cluster keeps no objects."""
    kind, name = workload["kind"], workload["metadata"]["name"]
    if kind == "Deployment":
        kind, name = "ReplicaSet", f"{name}-{revision}"
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": _owner_uid(workload), "controller": True}


def _owner_uid(workload: JsonObject) -> str:
    uid = workload["metadata"]["uid"]
    return uid if workload["kind"] == "StatefulSet" else str(uuid.uuid5(uuid.UUID(uid), "replica set"))


def _owner(pod: JsonObject) -> str:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid"))


def _revision(pod: JsonObject) -> str:
    labels = pod["metadata"]["labels"]
    return str(labels.get("pod-template-hash") or labels.get("controller-revision-hash"))


def _alive(pod: JsonObject) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


def _ready(pod: JsonObject) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
