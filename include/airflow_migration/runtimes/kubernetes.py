"""Run any Airflow release's own `airflow` command as a pod of that release's image."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet

from airflow_migration.deployments.kubernetes.cluster import PODS, Cluster, JsonObject
from airflow_migration.deployments.kubernetes.labels import MANAGED_BY, PREFIX
from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.metadata.releases import Release
from airflow_migration.metadata.releases import release as find_release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Listener
from airflow_migration.runtimes.command import QUIET
from airflow_migration.runtimes.pod import ENDED, AirflowPod
from airflow_migration.runtimes.pod_spec import (
    SEAL,
    PodOptions,
    environment_of,
    pod_manifest,
)
from airflow_migration.runtimes.pod_upgrade import PodUpgrade
from airflow_migration.runtimes.runtime import NO_SETTINGS, CommandOutput, UpgradeOrder, UpgradeResult
from airflow_migration.secret import Secret

NAME = "airflow-migration"
PURPOSE, RELEASE, DATABASE = f"{PREFIX}/purpose", f"{PREFIX}/release", f"{PREFIX}/database"
VERSION = re.compile(r"\d+\.\d+\.\d+")
PREPARE_SECONDS = 300


class KubernetesRuntime:
    """Pods of one namespace, at whose end nothing is left of them.

    What a pod must not show (password, keys, the settings that hold a secret) is in a secret of the same name. What
    its command prints is encrypted before it reaches the pod's log.

    :param open_cluster: called once, when the first pod is needed
    """

    def __init__(self, open_cluster: Callable[[], Cluster], options: PodOptions) -> None:
        self._open_cluster, self._options = open_cluster, options
        self._cluster: Cluster | None = None
        self._pod: AirflowPod | None = None
        self._stopped = False

    def prepare(self, release: str, listener: Listener) -> str:
        """Let a node pull the release's image, and see that the image holds that release.

        :returns: the image
        :raises InvalidInputError: it holds another release, or the account may not make pods
        :raises ToolError: no pod of it starts
        """
        wanted = find_release(release)
        self._remove_ended("prepare")
        pod = self._begin("prepare", wanted, uuid.uuid4().hex[:10])
        seal, image = Fernet.generate_key(), self._options.image_of(wanted)
        listener(f"Trying image {image}")
        variables = {SEAL: seal.decode()}
        manifest = pod_manifest(pod.name, pod.labels, variables, ["version"], image, self._options)
        manifest["spec"]["activeDeadlineSeconds"] = self._options.start_timeout + PREPARE_SECONDS
        try:
            pod.start(manifest, variables)
            pod.wait_for_start(self._options.start_timeout, listener)
            lines = [line.text for line in pod.lines(pod.log(Fernet(seal)))]
        finally:
            pod.remove()
        if wanted.version not in {found for line in lines for found in VERSION.findall(line)}:
            raise InvalidInputError(
                f"image {image} holds no Airflow {wanted}: {' | '.join(lines[-2:]) or 'it printed nothing'}",
                where=f"runtime for Airflow {wanted}",
                remedy="Correct image in the connection's runtime, with {release} where the release stands",
            )
        return image

    def upgrade(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        listener: Listener,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> UpgradeResult:
        """Bring a database to the release's alembic head with the release's own command.

        A pod that an earlier attempt has started, and lost, is found and listened to from its first line. Otherwise
        every other session on the database is ended first. Nothing is started at the head already.

        :raises ToolError: the head was not reached, or the pod did not start or was deleted
        """
        upgrade = self.detached_upgrade(release, address, keys, listener, settings)
        return upgrade.begin() or upgrade.finish()

    def detached_upgrade(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        listener: Listener,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> PodUpgrade:
        """The same for somebody who does not stay."""
        goal = find_release(release)
        pod = self._begin("upgrade", goal, database_token(address))
        order = UpgradeOrder(goal=goal, address=address, keys=keys, settings=settings)
        return PodUpgrade(pod, self._options, order, listener)

    def run(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        argv: Sequence[str],
        settings: Mapping[str, str] = NO_SETTINGS,
        dags_folder: Path | None = None,
    ) -> CommandOutput:
        """Run another `airflow` command on a database; what it prints is logged nowhere.

        :raises InvalidInputError: `dags_folder` is given, which no pod sees
        """
        wanted = find_release(release)
        if dags_folder is not None:
            raise InvalidInputError(
                f"pods do not see the folder {dags_folder}",
                where="runtime of kind kubernetes",
                remedy="Leave dags_folder out: the target's DAG processor is waited for instead",
            )
        pod = self._begin("run", wanted, database_token(address))
        if pod.find() is not None:
            pod.remove_and_wait()  # of an attempt that was killed
        seal = Fernet.generate_key()
        inside = self._options.seen_from_inside(address)
        variables = environment_of(wanted, inside, keys, QUIET | dict(settings), Secret(seal.decode()))
        image = self._options.image_of(wanted)
        try:
            pod.start(pod_manifest(pod.name, pod.labels, variables, argv, image, self._options), variables)
            pod.wait_for_start(self._options.start_timeout, lambda _: None)
            texts: dict[str, list[str]] = {"1": [], "2": [], "": []}
            for line in pod.lines(pod.log(Fernet(seal))):
                texts[line.stream].append(line.text)
            ended = pod.ended()
        finally:
            pod.remove()
        assert ended is not None
        output, errors = ("".join(f"{text}\n" for text in part) for part in (texts["1"], texts["2"] + texts[""]))
        return CommandOutput(exit_code=ended.exit_code, output=Secret(output), errors=Secret(errors))

    def clear(self, address: DatabaseAddress, listener: Listener) -> None:
        """Remove the pods of lost attempts at this database, with their secrets."""
        for pod in self._find({DATABASE: database_token(address)}):
            listener(f"Removing pod {pod.name}")
            pod.remove()

    def stop(self) -> None:
        """Delete the pod that is at work, and start no other."""
        self._stopped = True
        if self._pod is not None:
            self._pod.remove()

    def _begin(self, purpose: str, release: Release, token: str) -> AirflowPod:
        """Make the pod the one that `stop` ends."""
        if self._stopped:
            raise ToolError("stopped before it began", where=f"pod for {purpose}", remedy="Start the task again")
        labels = {PURPOSE: purpose, RELEASE: release.version, DATABASE: token}
        self._pod = AirflowPod(self._opened(), pod_name(purpose, release.version, token), labels)
        return self._pod

    def _opened(self) -> Cluster:
        if self._cluster is None:
            self._cluster = self._open_cluster()
        return self._cluster

    def _remove_ended(self, purpose: str) -> None:
        """Remove what attempts have left that were killed; a pod that runs may be another migration's."""
        for pod in self._find({PURPOSE: purpose}):
            present = pod.find()
            if present is not None and present["status"].get("phase") in ENDED:
                pod.remove()

    def _find(self, labels: Mapping[str, str]) -> list[AirflowPod]:
        selector = ",".join(f"{key}={value}" for key, value in {**MANAGED_BY, **labels}.items())
        found = self._opened().find(PODS, selector)
        return [AirflowPod(self._opened(), pod["metadata"]["name"], _own_labels(pod)) for pod in found]


def _own_labels(pod: JsonObject) -> dict[str, str]:
    return {key: value for key, value in pod["metadata"]["labels"].items() if key.startswith(f"{PREFIX}/")}


def pod_name(purpose: str, release: str, token: str) -> str:
    """The same for every attempt at the same work."""
    return f"{NAME}-{purpose}-{release.replace('.', '-')}-{token}"


def database_token(address: DatabaseAddress) -> str:
    """Stands for a database in names and labels; a working database is one migration's own."""
    text = json.dumps([address.host, address.port, address.database])
    return hashlib.sha256(text.encode()).hexdigest()[:10]
