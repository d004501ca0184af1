"""A pod that runs one `airflow` command: started once, found by whoever comes later, removed with its secret."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken

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
from airflow_migration.runtimes.pod_spec import CONTAINER, SEAL, data_of, secret_manifest

POLL_SECONDS = 0.5
GONE_DEADLINE = 60.0
HOPELESS = {"InvalidImageName", "ErrImageNeverPull"}
"""What no longer wait mends."""
SEALED = re.compile(r"(?P<stream>[12])(?P<more>[+.]) (?P<part>\S+)")
TIME = re.compile(r"(?P<seconds>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:\d\d)")
UNKNOWN_EXIT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that the command printed.

    :param at: seconds since 1970, by the node's clock
    :param stream: ``1`` standard output, ``2`` standard error; empty where the pod's Python itself speaks
    """

    at: float
    stream: str
    text: str = field(repr=False)


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
            made = self._cluster.create(PODS, pod)
            owner = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": made["metadata"]["uid"]}
            self._cluster.create(SECRETS, secret_manifest(self.name, self.labels, variables, owner))
        except AlreadyExistsError as err:
            raise ToolError(
                "another attempt has just made the same pod", where=err.where, remedy="Retry: it is then found"
            ) from err

    def seal(self) -> Fernet | None:
        """The key that its lines are encrypted with; None when its secret is gone."""
        try:
            data = data_of(self._cluster.get(SECRETS, self.name))
        except NotFoundError:
            return None
        return Fernet(data[SEAL]) if SEAL in data else None

    def wait_for_start(self, seconds: float, listener: Listener) -> float:
        """Wait until the command has begun, and tell what it waits for.

        :returns: when it has, in seconds since 1970
        :raises ToolError: it has not after `seconds`, or never will
        """
        deadline, told = time.monotonic() + seconds, ""
        while True:
            pod = self._read()
            if (started := _started(pod)) is not None:
                return started
            reason, message = _waits_for(pod)
            if reason != told:
                listener(f"Pod {self.name} waits: {reason}")
                told = reason
            if reason in HOPELESS or time.monotonic() > deadline:
                raise ToolError(
                    f"the pod does not start: {reason}{f' ({message})' if message else ''}{self._warnings()}",
                    where=self._cluster.where(PODS, self.name),
                    remedy="Check image, image_pull_secrets, resources, node_selector and tolerations of the "
                    "connection's runtime; then retry",
                )
            self._tick.wait(POLL_SECONDS)

    def lines(self, seal: Fernet) -> Iterator[Line]:
        """What it has printed and prints, from the beginning to its end, whatever cuts the connection.

        :raises ToolError: the pod was deleted
        :raises ServerUnreachableError: the API server does not answer any more
        """
        last, parts = -1, {"1": "", "2": ""}
        while True:
            ended, whole = self.ended() is not None, True
            try:
                for text in self._cluster.follow_log(self.name, CONTAINER):
                    at, line = _split(text)
                    if at <= last:
                        continue  # told before the connection was cut
                    last = at
                    if (found := SEALED.fullmatch(line)) is None:
                        yield Line(at=at / 1e9, stream="", text=line)
                        continue
                    parts[found["stream"]] += found["part"]
                    if found["more"] == ".":
                        yield Line(at=at / 1e9, stream=found["stream"], text=_open(seal, parts[found["stream"]]))
                        parts[found["stream"]] = ""
            except ServerUnreachableError:
                whole = False
            except NotFoundError:
                raise self._lost() from None
            if ended and whole:
                return
            self._tick.wait(POLL_SECONDS)

    def ended(self) -> Ended | None:
        """How it ended; None while it runs.

        :raises ToolError: it was deleted
        """
        pod = self._read()
        for status in pod["status"].get("containerStatuses") or []:
            if terminated := status["state"].get("terminated"):
                at = _nanoseconds(terminated["finishedAt"]) / 1e9 if terminated.get("finishedAt") else time.time()
                return Ended(int(terminated["exitCode"]), at, terminated.get("reason") or "")
        if pod["status"]["phase"] in ("Failed", "Succeeded"):
            return Ended(UNKNOWN_EXIT, time.time(), pod["status"].get("reason") or pod["status"]["phase"])
        return None

    def remove(self) -> None:
        """Delete pod and secret, what there is of them."""
        try:
            pod = self._cluster.get(PODS, self.name)
            self._refuse_foreign(pod, self._cluster.where(PODS, self.name))
            self._cluster.delete(PODS, self.name, uid=pod["metadata"]["uid"])
        except (NotFoundError, ConflictError):
            pass  # gone, or another attempt's by now
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
            raise self._lost() from None

    def _lost(self) -> ToolError:
        return ToolError(
            "the pod was deleted while its command ran",
            where=self._cluster.where(PODS, self.name),
            remedy="Retry: it goes on where it stopped",
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
                return _nanoseconds(at) / 1e9 if at else time.time()
    return time.time() if pod["status"].get("phase") in ("Failed", "Succeeded") else None


def _waits_for(pod: JsonObject) -> tuple[str, str]:
    """A reason in the cluster's word, and its message."""
    for status in pod["status"].get("containerStatuses") or []:
        if waiting := status["state"].get("waiting"):
            return waiting.get("reason") or "ContainerCreating", waiting.get("message") or ""
    for condition in pod["status"].get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason") or "Unschedulable", condition.get("message") or ""
    return "Pending", ""


def _split(text: str) -> tuple[int, str]:
    stamp, _, line = text.partition(" ")
    return _nanoseconds(stamp), line


def _nanoseconds(stamp: str) -> int:
    """Since 1970. Node and API server print nine digits, fewer, or none, and any time zone."""
    found = TIME.fullmatch(stamp)
    if found is None:
        raise ServerUnreachableError(
            "a line of the log has no time", where="log of a pod", remedy="Check what answers for the API server"
        )
    moment = datetime.fromisoformat(found["seconds"] + found["zone"].replace("Z", "+00:00"))
    return math.floor(moment.timestamp()) * 10**9 + int((found["fraction"] or "0").ljust(9, "0")[:9])


def _open(seal: Fernet, token: str) -> str:
    try:
        return seal.decrypt(token.encode()).decode("utf-8", "replace")
    except InvalidToken:
        return "(a line that cannot be decrypted)"
