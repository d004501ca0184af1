"""Stop, start and restart the deployments and stateful sets of an Airflow, and wait until they are what they should."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

from airflow_migration.deployments.kubernetes.cluster import (
    PODS,
    Cluster,
    ConflictError,
    ForbiddenError,
    JsonObject,
    NotFoundError,
)
from airflow_migration.deployments.kubernetes.discovery import PGBOUNCER, Workload
from airflow_migration.deployments.kubernetes.labels import PREFIX
from airflow_migration.deployments.kubernetes.secrets import ATTEMPTS
from airflow_migration.exceptions import MigrationError
from airflow_migration.progress import Listener, Progress

STOPPED = f"{PREFIX}/stopped"
"""Annotation of a workload that was scaled to zero: the migration's token, and how many replicas it had."""
RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""Annotation of pods that `kubectl rollout restart` sets."""
ON_DELETE = "OnDelete"
POLL = 0.5


class NotReadyError(MigrationError):
    """Pods did not come up or end in time; a later look may find that they did."""

    retryable = True


class Workloads:
    """The processes of one deployment of Airflow.

    :param found: in the order in which they are started
    :param patience: seconds that one act may wait in all for pods to end or to be ready
    """

    def __init__(self, cluster: Cluster, found: Sequence[Workload], *, patience: float, listener: Listener) -> None:
        self._cluster, self._found, self._patience, self._listen = cluster, found, patience, listener
        self._begun = time.monotonic()

    def stop(self, token: str) -> tuple[list[Workload], list[Workload]]:
        """Scale to zero, the number of replicas being noted in the same write, and wait until no pod is left.

        :returns: what is stopped, and what the account may not scale
        :raises NotReadyError: pods do not end
        """
        self._begun = time.monotonic()
        stopped, refused = [], []
        for workload in reversed(self._found):
            try:
                change(self._cluster, workload, lambda content: _stopping(content, token))
                stopped.append(workload)
            except ForbiddenError:
                refused.append(workload)
        self._wait("pods that end", stopped, lambda workload: not self._pods(workload, self._read(workload)))
        return stopped, refused

    def restart(self, token: str) -> tuple[list[Workload], list[str]]:
        """Start what `stop` has stopped, with as many replicas as there were; replace the pods of all others.

        PgBouncer comes first, as the others wait for it.

        :returns: what was started or restarted, and what a person must know
        :raises NotReadyError: pods do not get ready
        """
        self._begun = time.monotonic()
        done: list[Workload] = []
        remarks: list[str] = []
        for _, group in groupby(self._found, lambda workload: workload.component == PGBOUNCER):
            members = list(group)
            started = [each for each in members if _note(self._read(each), token) is not None]
            for workload in started:
                remarks += self._start(workload, token)
            for workload in members:
                if workload not in started and not self._roll(workload):
                    self._replace_pods(workload)
            self._wait("deployments that are not ready", members, lambda workload: is_ready(self._read(workload)))
            for workload in started:
                change(self._cluster, workload, _forgetting)
            remarks += [remark for each in members if (remark := _held_back(each, self._read(each)))]
            done += members
        return done, remarks

    def _start(self, workload: Workload, token: str) -> Iterator[str]:
        """The note stays until the pods are ready: a retry after a kill waits for them too."""
        content = self._read(workload)
        note = _note(content, token) or {}
        present, noted = replicas(content), note.get("replicas")
        if present not in (0, noted):
            yield f"{workload} was scaled to {present} by somebody else, and not back to {noted}"
        change(self._cluster, workload, lambda content: _starting(content, token))

    def _roll(self, workload: Workload) -> bool:
        """Have the controller replace the pods; False where it will not, or the account may not ask for it."""
        content = self._read(workload)
        if (content["spec"].get("updateStrategy") or {}).get("type") == ON_DELETE or partition_of(content):
            return False
        moment = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        template = {"metadata": {"annotations": {RESTARTED: moment}}}
        try:
            self._cluster.patch(workload.resource, workload.name, {"spec": {"template": template}})
        except ForbiddenError:
            self._listen(f"The account may not change {workload}: its pods are deleted one at a time")
            return False
        return True

    def _replace_pods(self, workload: Workload) -> None:
        """Delete the pods one at a time, each once the one before has a successor that is ready.

        Those that still wait to be deleted need not be ready: they may fail for want of the settings of now. A stateful
        set makes no pod while one of a lower number is not ready, so that the lowest comes first.
        """
        former = sorted(
            self._pods(workload, self._read(workload)),
            key=lambda pod: (len(pod["metadata"]["name"]), pod["metadata"]["name"]),
        )
        uids = {pod["metadata"]["uid"] for pod in former}
        for number, pod in enumerate(former, 1):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            try:
                self._cluster.delete(PODS, name, uid=uid)
            except (NotFoundError, ConflictError):
                continue  # replaced already

            def replaced(workload: Workload, uid: str = uid, number: int = number) -> bool:
                content = self._read(workload)
                present = {each["metadata"]["uid"]: each for each in self._pods(workload, content)}
                ready = sum(_is_pod_ready(each) for other, each in present.items() if other not in uids)
                return uid not in present and ready >= min(number, replicas(content))

            self._wait("pods without a successor", [workload], replaced)

    def _wait(self, what: str, workloads: Iterable[Workload], is_done: Callable[[Workload], bool]) -> None:
        waiting = list(workloads)
        total = len(waiting)
        while True:
            waiting = [each for each in waiting if not is_done(each)]
            seconds = time.monotonic() - self._begun
            self._listen(
                Progress(what=what, done=total - len(waiting), total=total, unit="deployments", seconds=seconds)
            )
            if not waiting:
                return
            if seconds > self._patience:
                reasons = "; ".join(f"{each}: {self._why(each)}" for each in waiting)
                raise NotReadyError(
                    f"{what} after {seconds:.0f} s: {reasons}",
                    where=self._cluster.where(PODS),
                    remedy="Look at these pods (kubectl describe), mend the cause or raise control's ready_timeout,"
                    " and retry",
                )
            time.sleep(POLL)

    def _why(self, workload: Workload) -> str:
        """What the pods themselves give as a reason."""
        content = self._read(workload)
        pods = self._pods(workload, content)
        reasons = {
            state["waiting"].get("reason", "waiting")
            for pod in pods
            for each in (pod.get("status") or {}).get("containerStatuses") or []
            if "waiting" in (state := each.get("state") or {})
        }
        ready = sum(map(_is_pod_ready, pods))
        return f"{ready} of {replicas(content)} wanted ready, {len(pods)} there" + "".join(
            f", {reason}" for reason in sorted(reasons)
        )

    def _read(self, workload: Workload) -> JsonObject:
        return self._cluster.get(workload.resource, workload.name)

    def _pods(self, workload: Workload, content: JsonObject) -> list[JsonObject]:
        """Its pods that have not ended. Pods of Airflow's own executors have no controller, and are not meant."""
        found = self._cluster.find(PODS, selector_of(content["spec"]["selector"]))
        return [
            pod
            for pod in found
            if any(owner.get("controller") for owner in pod["metadata"].get("ownerReferences") or [])
            and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]


def change(cluster: Cluster, workload: Workload, make: Callable[[JsonObject], JsonObject | None]) -> bool:
    """Patch a workload by what was read, and only if it is still what was read.

    :param make: from the object to the patch; None when there is nothing to change
    :returns: whether it was changed
    :raises ConflictError: others write it all the time
    """
    for _ in range(ATTEMPTS):
        content = cluster.get(workload.resource, workload.name)
        patch = make(content)
        if patch is None:
            return False
        patch.setdefault("metadata", {})["resourceVersion"] = content["metadata"]["resourceVersion"]
        try:
            cluster.patch(workload.resource, workload.name, patch)
        except ConflictError:  # its controller writes too
            continue
        return True
    raise ConflictError(
        f"it was changed by somebody else at each of {ATTEMPTS} tries",
        where=cluster.where(workload.resource, workload.name),
        remedy="Look what writes it all the time; then retry",
    )


def replicas(content: JsonObject) -> int:
    """How many are wanted."""
    wanted = content["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def partition_of(content: JsonObject) -> int:
    """How many pods of a stateful set keep the template of before, whatever restarts them."""
    update = (content["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    return min(int(update.get("partition") or 0), replicas(content))


def is_ready(content: JsonObject) -> bool:
    """Whether the controller has seen the newest template, and all pods are of it and ready; zeros are left out."""
    wanted, status = replicas(content), content.get("status") or {}
    if int(status.get("observedGeneration", 0)) < int(content["metadata"].get("generation", 0)):
        return False
    seen = {name: int(status.get(name) or 0) for name in ("replicas", "readyReplicas", "updatedReplicas")}
    return seen["replicas"] == seen["readyReplicas"] == wanted and seen["updatedReplicas"] >= wanted - partition_of(
        content
    )


def selector_of(spec: JsonObject) -> str:
    """A label selector as the API takes it in a query."""
    words = {
        "In": "{key} in ({values})",
        "NotIn": "{key} notin ({values})",
        "Exists": "{key}",
        "DoesNotExist": "!{key}",
    }
    parts = [f"{key}={value}" for key, value in (spec.get("matchLabels") or {}).items()]
    for each in spec.get("matchExpressions") or []:
        parts.append(words[each["operator"]].format(key=each["key"], values=",".join(each.get("values") or [])))
    return ",".join(parts)


def _held_back(workload: Workload, content: JsonObject) -> str | None:
    held = partition_of(content)
    if not held:
        return None
    return f"{workload} has a partition: its first {held} pod(s) are restarted, and keep the pod template of before"


def _stopping(content: JsonObject, token: str) -> JsonObject | None:
    note, present = _any_note(content), replicas(content)
    if present == 0 and note is not None:
        if note["migration"] == token:
            return None
        present = note["replicas"]  # a migration before this one has left it at rest
    value = json.dumps({"migration": token, "replicas": present})
    return {"metadata": {"annotations": {STOPPED: value}}, "spec": {"replicas": 0}}


def _starting(content: JsonObject, token: str) -> JsonObject | None:
    note = _note(content, token)
    if note is None or replicas(content) != 0 or note["replicas"] == 0:
        return None
    return {"spec": {"replicas": note["replicas"]}}


def _forgetting(content: JsonObject) -> JsonObject | None:
    if _any_note(content) is None:
        return None
    return {"metadata": {"annotations": {STOPPED: None}}}


def _note(content: JsonObject, token: str) -> dict[str, Any] | None:
    note = _any_note(content)
    return note if note and note["migration"] == token else None


def _any_note(content: JsonObject) -> dict[str, Any] | None:
    written = (content["metadata"].get("annotations") or {}).get(STOPPED)
    return None if written is None else dict(json.loads(written))


def _is_pod_ready(pod: JsonObject) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
