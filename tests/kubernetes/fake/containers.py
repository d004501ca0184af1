"""What a container of the fake cluster is: a command of this machine, or a server that does nothing."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from tests.kubernetes.fake.resources import RESOURCES, ApiError, JsonObject
from tests.kubernetes.fake.store import Store

REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
UNREACHABLE = ".invalid/"
"""A registry under this domain (RFC 2606) answers nobody, here and in a real cluster."""


@dataclass(slots=True)
class Images:
    """What the images of a cluster hold.

    :param programs: image → folder of programs that its containers really run, before PATH. A container of
        another image runs until its pod is deleted
    :param unready: images whose containers run and never get ready
    :param missing: images that no registry has, beside all of ``*.invalid``
    """

    programs: dict[str, Path] = field(default_factory=dict)
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    def can_be_pulled(self, image: str) -> bool:
        return image not in self.missing and UNREACHABLE not in image


class Output:
    """Lines of one container with their times; who follows waits for more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: list[tuple[int, str]] = []
        self._closed = False

    def write(self, line: str) -> None:
        with self._changed:
            last = self._lines[-1][0] if self._lines else 0
            self._lines.append((max(last + 1, time.time_ns()), line))
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def read(
        self, *, follow: bool, timestamps: bool, since: float | None, tail: int | None, gone: Callable[[], bool]
    ) -> Iterator[bytes]:
        """
        :param since: seconds since 1970
        :param gone: whether the reader has left, asked each second
        """
        with self._changed:
            start = 0 if tail is None else max(0, len(self._lines) - tail)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: len(self._lines) > start or self._closed or not follow,  # noqa: B023
                    timeout=1,
                )
                lines, closed = self._lines[start:], self._closed
            start += len(lines)
            for at, line in lines:
                if since is None or at >= since * 10**9:
                    yield f"{_stamp(at) if timestamps else ''}{line}\n".encode()
            if (not lines and (closed or not follow)) or gone():
                return


def _stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z "


class MissingReferenceError(Exception):
    """A secret or key that a variable refers to is not there; a kubelet waits for it."""


def environment_of(store: Store, pod: JsonObject, container: JsonObject) -> dict[str, str]:
    """The container's variables as a kubelet resolves them.

    :raises MissingReferenceError: in the kubelet's words
    """
    namespace = pod["metadata"]["namespace"]
    resolved: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if kind in source:
                data = _data(store, plural, namespace, source[kind]["name"]) or {}
                resolved |= {source.get("prefix", "") + key: value for key, value in data.items()}
    for variable in container.get("env") or []:
        value = variable.get("value", "")
        value = REFERENCE.sub(lambda found: resolved.get(found[1], found[0]), value)
        for kind, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            reference = (variable.get("valueFrom") or {}).get(kind)
            if reference:
                data = _data(store, plural, namespace, reference["name"]) or {}
                if reference["key"] not in data:
                    raise MissingReferenceError(
                        f"couldn't find key {reference['key']} in Secret {namespace}/{reference['name']}"
                    )
                value = data[reference["key"]]
        resolved[variable["name"]] = value
    return resolved


def _data(store: Store, plural: str, namespace: str, name: str) -> dict[str, str] | None:
    try:
        data = store.get(RESOURCES["", plural], namespace, name).get("data") or {}
    except ApiError as err:
        raise MissingReferenceError(f'{plural.rstrip("s")} "{name}" not found') from err
    if plural == "configmaps":
        return dict(data)
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


class LocalProcess:
    """A container's command on this machine, in a process group of its own, with a folder for its files."""

    def __init__(self, container: JsonObject, variables: dict[str, str], programs: Path, output: Output) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fake-pod-", ignore_cleanup_errors=True)
        self._output = output
        argv = [
            REFERENCE.sub(lambda found: variables.get(found[1], found[0]), part)
            for part in [*(container.get("command") or []), *(container.get("args") or [])]
        ]
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": self._folder.name,
            "TMPDIR": self._folder.name,
            **variables,
        }
        self._process = subprocess.Popen(
            argv,
            env=environment,
            cwd=self._folder.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def wait(self) -> int:
        """Its exit code, once its output has ended."""
        with self._process:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                self._output.write(line.rstrip("\n"))
        code = self._process.returncode
        self._output.close()
        self._folder.cleanup()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
