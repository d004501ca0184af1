"""A pod that runs one `airflow` command: started once, found by whoever comes later, removed with its secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cryptography.fernet import Fernet

from airflow_migration.deployments.kubernetes.cluster import (
    PODS,
    SECRETS,
    AlreadyExistsError,
    Cluster,
    ConflictError,
    ForbiddenError,
    JsonObject,
    NotFoundError,
)
from airflow_migration.deployments.kubernetes.labels import MANAGED_BY
from airflow_migration.exceptions import OwnershipError, ServerUnreachableError, ToolError
from airflow_migration.progress import Listener
from airflow_migration.runtimes.pod_log import Line, PodLog, seconds
from airflow_migration.runtimes.pod_spec import secret_manifest

POLL_SECONDS = 0.5
GONE_DEADLINE = 60.0
HOPELESS = {"InvalidImageName", "ErrImageNeverPull"}
"""What no longer wait mends."""
ENDED = ("Failed", "Succeeded")
UNKNOWN_EXIT = -1
NOBODY = "nobody"
"""Stands for the uid of a pod that is not ours to remove."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a pod came to its end.

    :param exit_code: of the command; `UNKNOWN_EXIT` where it was evicted or its node was lost
    :param at: seconds since 1970
    """

    exit_code: int
    at: float
    reason: str


class AirflowPod:
    """A pod and its secret, which have one name.

    :param name: the same for every attempt at the same work
    :param labels: beside `MANAGED_BY`, to find it by
    """

    def __init__(self, cluster: Cluster, name: str, labels: Mapping[str, str]) -> None:
        self._cluster, self.name, self.labels = cluster, name, {**MANAGED_BY, **labels}
        self._tick = threading.Event()
        self._uid: str | None = None
        self._told = ""

    def find(self) -> JsonObject | None:
        """The pod of an earlier attempt; one that is being deleted is waited for until it is gone.

        :raises OwnershipError: something of that name is not ours
        """
        deadline = time.monotonic() + GONE_DEADLINE
        while True:
            try:
                pod = self._cluster.get(PODS, self.name)
            except NotFoundError:
                return None
            self._refuse_foreign(pod, self._cluster.where(PODS, self.name))
            if "deletionTimestamp" not in pod["metadata"]:
                self._uid = pod["metadata"]["uid"]
                return pod
            if time.monotonic() > deadline:
                raise ToolError(
                    "an earlier pod of that name does not go away",
                    where=self._cluster.where(PODS, self.name),
                    remedy="Look at its node; then retry",
                )
            self._tick.wait(POLL_SECONDS)

    def start(self, pod: JsonObject, variables: Mapping[str, str]) -> None:
        """Make the pod, then its secret, for which a kubelet waits. It belongs to the pod from its first moment, so
        that none is ever left without one, whatever becomes of us.

        :raises ForbiddenError: the account may not make them
        :raises OwnershipError: a secret of that name is not ours
        """
        self._delete_secret()  # of an earlier pod, which the new one would be given
        try:
            uid = self._cluster.create(PODS, pod)["metadata"]["uid"]
        except AlreadyExistsError as err:
            self._uid = NOBODY
            raise ToolError(
                "another attempt has just made the same pod", where=err.where, remedy="Retry: it is then found"
            ) from err
        self._uid = uid
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": uid}
        self._cluster.create(SECRETS, secret_manifest(self.name, self.labels, variables, owner))

    def secret(self) -> JsonObject | None:
        """Its secret, for nobody's log."""
        try:
            return self._cluster.get(SECRETS, self.name)
        except NotFoundError:
            return None

    def log(self, seal: Fernet) -> PodLog:
        """What its command prints.

        :param seal: the key that its lines are encrypted with
        """
        return PodLog(self._cluster, self.name, seal)

    def annotate_secret(self, name: str, value: str) -> None:
        """Note something where whoever comes later finds it."""
        try:
            self._cluster.patch(SECRETS, self.name, {"metadata": {"annotations": {name: value}}})
        except NotFoundError:
            raise self.lost() from None

    def started(self, listener: Listener) -> float | None:
        """When its command has begun, in seconds since 1970; None while it waits, and what for is told once.

        :raises ToolError: it never will, or the pod was deleted
        """
        pod = self._read()
        started, (reason, message) = _started(pod), _waits_for(pod)
        if started is None and reason != self._told:
            listener(f"Pod {self.name} waits: {reason}")
            self._told = reason
        if started is None and (reason in HOPELESS or pod["status"].get("phase") in ENDED):
            raise self._does_not_start(reason, message)
        return started

    def wait_for_start(self, patience: float, listener: Listener) -> float:
        """Wait until the command has begun.

        :param patience: seconds
        :returns: when it has, in seconds since 1970
        :raises ToolError: it has not in that time, or never will
        """
        deadline = time.monotonic() + patience
        while (started := self.started(listener)) is None:
            if time.monotonic() > deadline:
                raise self._does_not_start(*_waits_for(self._read()))
            self._tick.wait(POLL_SECONDS)
        return started

    def lines(self, log: PodLog) -> Iterator[Line]:
        """What it has printed and prints, to its end, whatever cuts the connection.

        :raises ToolError: the pod was deleted
        :raises ServerUnreachableError: the API server does not answer any more
        """
        while True:
            ended, whole = self.ended() is not None, True
            try:
                yield from log.read(follow=True)
            except ServerUnreachableError:
                whole = False
            except NotFoundError:
                raise self.lost() from None
            if ended and whole:
                return
            self._tick.wait(POLL_SECONDS)

    def news(self, log: PodLog) -> Iterator[Line]:
        """What it has printed since the last look.

        :raises ToolError: the pod was deleted
        :raises ServerUnreachableError: the API server does not answer
        """
        try:
            yield from log.read(follow=False)
        except NotFoundError:
            raise self.lost() from None

    def ended(self) -> Ended | None:
        """How it ended; None while it runs.

        :raises ToolError: it was deleted
        """
        pod = self._read()
        for status in pod["status"].get("containerStatuses") or []:
            if terminated := status["state"].get("terminated"):
                at = seconds(terminated["finishedAt"]) if terminated.get("finishedAt") else time.time()
                return Ended(int(terminated["exitCode"]), at, terminated.get("reason") or "")
        if pod["status"]["phase"] in ENDED:
            return Ended(UNKNOWN_EXIT, time.time(), pod["status"].get("reason") or pod["status"]["phase"])
        return None

    def remove_and_wait(self) -> None:
        """Delete what an earlier attempt has left, and wait until it is gone."""
        self.remove()
        self.find()

    def remove(self) -> None:
        """Delete pod and secret, what there is of them."""
        try:
            pod = self._cluster.get(PODS, self.name)
            self._refuse_foreign(pod, self._cluster.where(PODS, self.name))
            if self._uid not in (None, pod["metadata"]["uid"]):
                return  # another attempt's by now
            self._cluster.delete(PODS, self.name, uid=pod["metadata"]["uid"])
        except ConflictError:
            return  # another attempt's by now
        except NotFoundError:
            pass
        self._delete_secret()

    def _delete_secret(self) -> None:
        try:
            secret = self._cluster.get(SECRETS, self.name)
            self._refuse_foreign(secret, self._cluster.where(SECRETS, self.name))
            self._cluster.delete(SECRETS, self.name, uid=secret["metadata"]["uid"])
        except (NotFoundError, ConflictError):
            pass

    def _read(self) -> JsonObject:
        try:
            return self._cluster.get(PODS, self.name)
        except NotFoundError:
            raise self.lost() from None

    def lost(self) -> ToolError:
        """The error for a pod that is not there any more."""
        return ToolError(
            "the pod was deleted while its command ran",
            where=self._cluster.where(PODS, self.name),
            remedy="Retry: it goes on where it stopped",
        )

    def _does_not_start(self, reason: str, message: str) -> ToolError:
        return ToolError(
            f"the pod does not start: {reason}{f' ({message})' if message else ''}{self._warnings()}",
            where=self._cluster.where(PODS, self.name),
            remedy="Check image, image_pull_secrets, resources, node_selector and tolerations of the "
            "connection's runtime; then retry",
        )

    def _refuse_foreign(self, content: JsonObject, where: str) -> None:
        labels = content["metadata"].get("labels") or {}
        if not self.labels.items() <= labels.items():
            raise OwnershipError(
                "it was not made by this package", where=where, remedy="Rename or remove it, then retry"
            )

    def _warnings(self) -> str:
        try:
            events = self._cluster.events_of(self.name)
        except ForbiddenError:
            return ""
        warnings = [f"{each['reason']}: {each['message']}" for each in events if each.get("type") == "Warning"]
        return "".join(f"; {each}" for each in dict.fromkeys(warnings))


def _started(pod: JsonObject) -> float | None:
    for status in pod["status"].get("containerStatuses") or []:
        for state in ("running", "terminated"):
            if state in status["state"]:
                at = (status["state"][state] or {}).get("startedAt")
                return seconds(at) if at else time.time()
    return None


def _waits_for(pod: JsonObject) -> tuple[str, str]:
    """A reason in the cluster's word, and its message."""
    if pod["status"].get("phase") in ENDED:
        return pod["status"].get("reason") or pod["status"]["phase"], pod["status"].get("message") or ""
    for status in pod["status"].get("containerStatuses") or []:
        if waiting := status["state"].get("waiting"):
            return waiting.get("reason") or "ContainerCreating", waiting.get("message") or ""
    for condition in pod["status"].get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason") or "Unschedulable", condition.get("message") or ""
    return "Pending", ""
