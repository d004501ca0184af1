"""An upgrade in a pod: whoever begins it, listens to it or ends it may be lost, and another goes on."""

from __future__ import annotations

import dataclasses
import json
import time

from cryptography.fernet import Fernet

from airflow_migration.deployments.kubernetes.cluster import JsonObject
from airflow_migration.deployments.kubernetes.labels import PREFIX
from airflow_migration.exceptions import MigrationError, ToolError
from airflow_migration.progress import Listener, Progress
from airflow_migration.runtimes.command import UPGRADE_OPTIONS, secret_values, upgrade_command
from airflow_migration.runtimes.pod import UNKNOWN_EXIT, AirflowPod, Ended
from airflow_migration.runtimes.pod_log import Line
from airflow_migration.runtimes.pod_spec import OPTIONS, SEAL, PodOptions, data_of, environment_of, pod_manifest
from airflow_migration.runtimes.redaction import Redactor
from airflow_migration.runtimes.runtime import UpgradeOrder, UpgradeResult
from airflow_migration.runtimes.upgrade import Before, UpgradeWatch, look_before, nothing_to_do
from airflow_migration.secret import Secret

BEFORE = f"{PREFIX}/before"
"""Annotation of the pod: the database as the upgrade found it."""
TOLD = f"{PREFIX}/told"
"""Annotation of the pod's secret: up to when its lines were told, in seconds since 1970."""


class PodUpgrade:
    """One upgrade of one database.

    :param pod: the same for every attempt at it
    """

    def __init__(self, pod: AirflowPod, options: PodOptions, order: UpgradeOrder, listener: Listener) -> None:
        self._pod, self._options, self._order, self._listener = pod, options, order, listener
        self._found: tuple[Before, Fernet] | None = None
        self._watch: UpgradeWatch | None = None
        self._now = self._read = self._told = 0.0
        self._began = time.monotonic()

    def begin(self) -> UpgradeResult | None:
        """Start the pod, unless that of an earlier attempt is there, or there is nothing to upgrade.

        Every other session on the database is ended before.

        :returns: None while the pod is at work
        :raises ToolError: the upgrade that was found has failed
        """
        order = self._order
        if self._attach():
            self._listener(f"Pod {self._pod.name} of an earlier attempt is there; going on with it")
            return self.finish() if self._pod.ended() else None
        before = look_before(order.goal, order.address, order.settings, self._listener)
        if before is None:
            self._pod.remove()
            return nothing_to_do(order.goal, order.address, self._listener)
        self._listener(f"Upgrading {order.address} from {before.head} to {order.goal.head} with Airflow {order.goal}")
        self._found = before, self._start(before)
        return None

    def look(self) -> bool:
        """Tell what is new, and note where others find it that it was told.

        :returns: whether there is nothing to wait for any more
        :raises ToolError: the pod was deleted, or does not start
        :raises ServerUnreachableError: the API server does not answer; a later look may find it well
        """
        if self._found is None and not self._attach():
            raise self._pod.lost()
        if self._watch is None:
            started = self._pod.started(self._listener)
            if started is None:
                return time.monotonic() - self._began > self._options.start_timeout
            self._listen_from(started)
        ended = self._pod.ended()
        for line in self._pod.news(self._log):
            self._take(line)
        if self._read > self._told:
            self._pod.annotate_secret(TOLD, repr(self._read))
            self._told = self._read
        return ended is not None

    def finish(self, patience: float | None = None) -> UpgradeResult:
        """Wait for the pod's end, judge the upgrade by the database, and remove the pod.

        :param patience: seconds to wait for its start; those of the options if None
        :raises ToolError: the head was not reached, or the pod did not start or was deleted
        """
        try:
            if self._found is None and not self._attach():
                raise self._pod.lost()
            patience = self._options.start_timeout if patience is None else patience
            watch = self._listen_from(self._pod.wait_for_start(patience, self._listener))
            for line in self._pod.lines(self._log):
                self._take(line)
            ended = self._pod.ended()
            assert ended is not None
            result = self._judge(watch, ended)
        except ToolError:
            self._pod.remove()
            raise
        except MigrationError:
            # The pod stays without us; the next attempt finds it.
            raise
        except BaseException:
            self._pod.remove()
            raise
        self._pod.remove()
        return result

    def stop(self) -> None:
        """End what the pod does, and remove it."""
        self._pod.remove()

    def _judge(self, watch: UpgradeWatch, ended: Ended) -> UpgradeResult:
        self._now, self._told = max(self._now, ended.at), -1.0
        if ended.exit_code == UNKNOWN_EXIT or ended.reason == "OOMKilled":
            self._listener(f"Pod {self._pod.name} was ended by the cluster: {ended.reason}")
        return watch.judge(self._order.address, ended.exit_code, self._order.settings)

    def _attach(self) -> bool:
        """Find what an earlier attempt has started, if it can be listened to."""
        present = self._pod.find()
        if present is None:
            return False
        secret, noted = self._pod.secret(), (present["metadata"].get("annotations") or {}).get(BEFORE)
        seal = data_of(secret).get(SEAL) if secret else None
        if secret is None or seal is None or noted is None:
            # Its maker was killed before it had given it a secret.
            self._pod.remove_and_wait()
            return False
        content = json.loads(noted)
        before = Before(
            head=content["head"],
            moved=frozenset(content["moved"]),
            extension_schemas=tuple(content["extension_schemas"]),
        )
        self._found = before, Fernet(seal)
        self._told = _told(secret)
        return True

    def _start(self, before: Before) -> Fernet:
        order, seal = self._order, Fernet.generate_key()
        inside = self._options.seen_from_inside(order.address).seeing(*before.extension_schemas)
        variables = environment_of(order.goal, inside, order.keys, order.settings, Secret(seal.decode()))
        if order.goal.number[0] == 2:
            variables[OPTIONS] = " ".join(UPGRADE_OPTIONS)
        noted = dataclasses.asdict(before) | {"moved": sorted(before.moved)}
        manifest = pod_manifest(
            self._pod.name,
            self._pod.labels,
            variables,
            upgrade_command(order.goal),
            self._options.image_of(order.goal),
            self._options,
            annotations={BEFORE: json.dumps(noted)},
        )
        try:
            self._pod.start(manifest, variables)
        except MigrationError:
            self._pod.remove()
            raise
        return Fernet(seal)

    def _listen_from(self, started: float) -> UpgradeWatch:
        assert self._found is not None
        before, seal = self._found
        order, self._now = self._order, started
        redactor = Redactor(secret_values(order.address, order.keys, order.settings))
        self._log = self._pod.log(seal)
        self._watch = UpgradeWatch(order.goal, before, self._tell, redactor, clock=lambda: self._now)
        return self._watch

    def _take(self, line: Line) -> None:
        assert self._watch is not None
        self._now, self._read = max(self._now, line.at), line.at
        self._watch.line(line.text)

    def _tell(self, said: Progress | str) -> None:
        """Hand on what nobody was told before."""
        if self._read > self._told:
            self._listener(said)


def _told(secret: JsonObject) -> float:
    return float((secret["metadata"].get("annotations") or {}).get(TOLD, 0))
