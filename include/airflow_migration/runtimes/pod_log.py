"""What a pod's command prints, decrypted, each line once, whatever cuts the connection."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken

from airflow_migration.deployments.kubernetes.cluster import Cluster
from airflow_migration.exceptions import ServerUnreachableError
from airflow_migration.runtimes.pod_spec import CONTAINER

SEALED = re.compile(r"(?P<stream>[12])(?P<more>[+.]) (?P<part>\S+)")
TIME = re.compile(r"(?P<seconds>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that the command printed.

    :param at: seconds since 1970, by the node's clock
    :param stream: ``1`` standard output, ``2`` standard error; empty where the pod's Python itself speaks
    """

    at: float
    stream: str
    text: str = field(repr=False)


class PodLog:
    """The lines of one pod.

    :param seal: the key that they are encrypted with
    """

    def __init__(self, cluster: Cluster, pod: str, seal: Fernet) -> None:
        self._cluster, self._pod, self._seal = cluster, pod, seal
        self._last = -1
        self._parts = {"1": "", "2": ""}

    def read(self, *, follow: bool) -> Iterator[Line]:
        """What was printed since the last read.

        :param follow: go on until the command ends
        :raises NotFoundError: the pod was deleted
        :raises ServerUnreachableError: the API server does not answer, or no more; another read goes on from there
        """
        since = None if self._last < 0 else self._last // 10**9
        for text in self._cluster.read_log(self._pod, CONTAINER, follow=follow, since=since):
            at, line = _split(text)
            if at <= self._last:
                continue  # told before
            self._last = at
            if (found := SEALED.fullmatch(line)) is None:
                yield Line(at=at / 1e9, stream="", text=line)
                continue
            self._parts[found["stream"]] += found["part"]
            if found["more"] == ".":
                whole, self._parts[found["stream"]] = self._parts[found["stream"]], ""
                yield Line(at=at / 1e9, stream=found["stream"], text=_open(self._seal, whole))


def seconds(stamp: str) -> float:
    """A time of the API as seconds since 1970."""
    return _nanoseconds(stamp) / 1e9


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
