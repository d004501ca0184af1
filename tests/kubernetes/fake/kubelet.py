"""Schedules pods, pulls their images, runs their containers and writes their status and events."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from tests.kubernetes.fake.containers import Images, LocalProcess, MissingReferenceError, Output, environment_of
from tests.kubernetes.fake.resources import RESOURCES, ApiError, JsonObject
from tests.kubernetes.fake.store import Store, now

PODS, EVENTS = RESOURCES["", "pods"], RESOURCES["", "events"]
NODE = "node-1"
NODE_LABELS = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE}
NO_NODE = (
    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are "
    "available: 1 Preemption is not helpful for scheduling."
)


class Kubelet(threading.Thread):
    """Starts a thread for each new pod, and ends those that are deleted."""

    def __init__(self, store: Store, images: Images) -> None:
        super().__init__(name="kubelet", daemon=True)
        self._store, self._images = store, images
        self._stopped = False
        self._pods: dict[str, _RunningPod] = {}

    def run(self) -> None:
        seen: int | None = -1
        while (seen := self._store.next_version(seen, lambda: self._stopped)) is not None:
            pods = {pod["metadata"]["uid"]: pod for pod in self._store.all(PODS)}
            for uid, pod in pods.items():
                if uid not in self._pods:
                    self._pods[uid] = _RunningPod(self._store, self._images, pod)
                    self._pods[uid].start()
                if "deletionTimestamp" in pod["metadata"]:
                    self._pods[uid].end()
            for uid in self._pods.keys() - pods.keys():
                self._pods[uid].end()

    def output(self, pod: JsonObject, container: str) -> Output | None:
        """None before the container was created."""
        running = self._pods.get(pod["metadata"]["uid"])
        return running.outputs.get(container) if running else None

    def stop(self) -> None:
        with self._store.changed:
            self._stopped = True
            self._store.changed.notify_all()
        self.join()
        for pod in self._pods.values():
            pod.end()
        for pod in self._pods.values():
            pod.join()


class _RunningPod(threading.Thread):
    def __init__(self, store: Store, images: Images, pod: JsonObject) -> None:
        super().__init__(name=pod["metadata"]["name"], daemon=True)
        self._store, self._images, self._pod = store, images, pod
        self._namespace, self._name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._ended = threading.Event()
        self._begun = now()
        self._lock = threading.Lock()
        self._processes: list[LocalProcess] = []
        self.outputs: dict[str, Output] = {}

    def end(self) -> None:
        with self._lock:
            self._ended.set()
            for process in self._processes:
                process.kill()

    def run(self) -> None:
        if self._schedule() and self._pull() and self._create():
            self._carry_on()
        self._ended.wait()
        self._remove()

    def _schedule(self) -> bool:
        wanted = self._pod["spec"].get("nodeSelector") or {}
        if not wanted.items() <= NODE_LABELS.items():
            self._write(conditions=[_condition("PodScheduled", False, "Unschedulable", NO_NODE)])
            self._tell("Warning", "FailedScheduling", NO_NODE)
            return False
        self._write(spec={"nodeName": NODE}, conditions=[_condition("PodScheduled", True)])
        self._tell("Normal", "Scheduled", f"Successfully assigned {self._namespace}/{self._name} to {NODE}")
        return True

    def _pull(self) -> bool:
        for container in self._containers():
            image = container["image"]
            if not self._images.can_be_pulled(image):
                message = f'Failed to pull image "{image}": failed to resolve reference "{image}": not found'
                self._tell("Warning", "Failed", message)
                self._wait_for("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {message}')
                self._tell("Normal", "BackOff", f'Back-off pulling image "{image}"')
                return False
        return True

    def _create(self) -> bool:
        """Start the containers; while a secret is missing a kubelet tries again and again."""
        told = ""
        while not self._ended.is_set():
            try:
                variables = {each["name"]: environment_of(self._store, self._pod, each) for each in self._containers()}
            except MissingReferenceError as err:
                if str(err) != told:
                    self._wait_for("CreateContainerConfigError", str(err))
                    self._tell("Warning", "Failed", f"Error: {err}")
                    told = str(err)
                self._ended.wait(0.2)
                continue
            return self._start(variables)
        return False

    def _start(self, variables: dict[str, dict[str, str]]) -> bool:
        self._tell("Normal", "Started", "Container started")
        for container in self._containers():
            output = self.outputs[container["name"]] = Output()
            programs = self._images.programs.get(container["image"])
            with self._lock:
                if programs and not self._ended.is_set():
                    try:
                        self._processes.append(LocalProcess(container, variables[container["name"]], programs, output))
                    except OSError as err:
                        self._finish(128, "StartError", f"exec: {err.strerror}")
                        return False
        ready = not any(each["image"] in self._images.unready for each in self._containers())
        self._begun = now()
        state = {"running": {"startedAt": self._begun}}
        self._write(
            phase="Running",
            startTime=now(),
            podIP="127.0.0.1",
            conditions=[
                _condition("PodScheduled", True),
                _condition("Initialized", True),
                _condition("ContainersReady", ready),
                _condition("Ready", ready),
            ],
            containerStatuses=[self._status(each, state, ready=ready) for each in self._containers()],
        )
        return True

    def _carry_on(self) -> None:
        if not self._processes:
            self._ended.wait()
            for output in self.outputs.values():
                output.close()
            return
        codes = [process.wait() for process in self._processes]
        if not self._ended.is_set():
            self._finish(max(codes), "Error" if any(codes) else "Completed", "")

    def _finish(self, code: int, reason: str, message: str) -> None:
        terminated: JsonObject = {"exitCode": code, "reason": reason, "startedAt": self._begun, "finishedAt": now()}
        if message:
            terminated["message"] = message
        self._write(
            phase="Failed" if code else "Succeeded",
            conditions=[
                _condition("PodScheduled", True),
                _condition("Initialized", True),
                _condition("ContainersReady", False, "PodFailed" if code else "PodCompleted"),
                _condition("Ready", False, "PodFailed" if code else "PodCompleted"),
            ],
            containerStatuses=[self._status(each, {"terminated": terminated}) for each in self._containers()],
        )

    def _remove(self) -> None:
        try:
            present = self._store.get(PODS, self._namespace, self._name)
            if (
                present["metadata"]["uid"] == self._pod["metadata"]["uid"]
                and "deletionTimestamp" in present["metadata"]
            ):
                self._store.delete(PODS, self._namespace, self._name)
        except ApiError as err:
            if err.code != 404:
                raise

    def _containers(self) -> list[JsonObject]:
        return list(self._pod["spec"]["containers"])

    def _wait_for(self, reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        self._write(containerStatuses=[self._status(each, state) for each in self._containers()])

    def _status(self, container: JsonObject, state: JsonObject, *, ready: bool = False) -> JsonObject:
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "started": "running" in state,
            "restartCount": 0,
            "state": state,
        }

    def _write(self, spec: JsonObject | None = None, **status: Any) -> None:
        def change(pod: JsonObject) -> JsonObject:
            return {**pod, "spec": pod["spec"] | (spec or {}), "status": pod["status"] | status}

        try:
            self._store.update(PODS, self._namespace, self._name, change)
        except ApiError as err:
            if err.code != 404:  # deleted meanwhile
                raise

    def _tell(self, kind: str, reason: str, message: str) -> None:
        meta = self._pod["metadata"]
        event = {
            "metadata": {"name": f"{self._name}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "kind": "Pod",
                "namespace": self._namespace,
                "name": self._name,
                "uid": meta["uid"],
                "apiVersion": "v1",
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet"},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        self._store.create(EVENTS, self._namespace, event)


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> JsonObject:
    condition = {"type": kind, "status": str(holds), "lastTransitionTime": now()}
    return condition | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
