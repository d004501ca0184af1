"""The objects of the fake cluster, each with a version, and the history that watches read."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from tests.kubernetes.fake.resources import JsonObject, Resource, already_exists, conflict, gone, not_found

GENERATED = ("Deployment", "StatefulSet")


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history, as a watch tells it."""

    version: int
    kind: str
    resource: Resource
    content: JsonObject


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def copied(content: JsonObject) -> JsonObject:
    """Of plain JSON, ten times as fast as ``copy.deepcopy``."""
    copy: JsonObject = json.loads(json.dumps(content))
    return copy


class Store:
    """Thread-safe; what it gives and takes are copies.

    ``changed`` is notified at each change, and whoever waits for one holds it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._objects: dict[tuple[Resource, str, str], JsonObject] = {}
        self._history: list[Change] = []
        self._version = 100
        self._oldest = 100

    @property
    def version(self) -> int:
        return self._version

    def next_version(self, seen: int | None, stopped: Callable[[], bool]) -> int | None:
        """Wait until there is another one than what was seen; None once the waiting was stopped."""
        with self.changed:
            self.changed.wait_for(lambda: stopped() or self._version != seen)
            return None if stopped() else self._version

    def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        with self.changed:
            return copied(self._find(resource, namespace, name))

    def all(self, resource: Resource, namespace: str | None = None) -> list[JsonObject]:
        """In the order of their names; of every namespace without one."""
        with self.changed:
            keys = [key for key in self._objects if key[0] == resource and (namespace is None or key[1] == namespace)]
            return [copied(self._objects[key]) for key in sorted(keys, key=lambda key: key[1:])]

    def create(self, resource: Resource, namespace: str, content: JsonObject) -> JsonObject:
        with self.changed:
            content = copied(content)
            name = content["metadata"]["name"]
            key = (resource, namespace, name)
            if key in self._objects:
                raise already_exists(resource, name)
            content["kind"], content["apiVersion"] = resource.kind, resource.api_version
            meta = content["metadata"]
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            if resource.namespaced:
                meta["namespace"] = namespace
            if resource.kind in GENERATED:
                meta["generation"] = 1
                # There before a controller has looked.
                content.setdefault("status", {} if resource.kind == "Deployment" else {"replicas": 0})
            return self._put(key, "ADDED", content)

    def update(
        self, resource: Resource, namespace: str, name: str, change: Callable[[JsonObject], JsonObject]
    ) -> JsonObject:
        """Replace an object by what `change` makes of it; what changes nothing makes no new version.

        A ``resourceVersion`` or ``uid`` in the new object that is not the present one is a conflict.
        """
        with self.changed:
            key = (resource, namespace, name)
            present = self._find(*key)
            new = copied(change(copied(present)))
            for field in ("resourceVersion", "uid"):
                given = new.setdefault("metadata", {}).get(field)
                if given and given != present["metadata"][field]:
                    raise conflict(resource, name)
            kept = ("uid", "creationTimestamp", "resourceVersion", "generation", "namespace", "deletionTimestamp")
            new["metadata"] |= {each: present["metadata"][each] for each in kept if each in present["metadata"]}
            if new == present:
                return copied(present)
            if resource.kind in GENERATED and new.get("spec") != present.get("spec"):
                new["metadata"]["generation"] = present["metadata"]["generation"] + 1
            return self._put(key, "MODIFIED", new)

    def mark_deleted(self, resource: Resource, namespace: str, name: str, grace: int) -> JsonObject:
        """Set ``deletionTimestamp``; whoever runs it removes it."""
        with self.changed:
            key = (resource, namespace, name)
            content = copied(self._find(*key))
            if "deletionTimestamp" in content["metadata"]:
                return content
            content["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
            return self._put(key, "MODIFIED", content)

    def delete(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        with self.changed:
            key = (resource, namespace, name)
            content = copied(self._find(*key))
            del self._objects[key]
            self._record("DELETED", resource, content)
            return content

    def history(self, resource: Resource, namespace: str | None, after: int) -> list[Change]:
        """What has changed since a version.

        :raises ApiError: 410, the history does not go back so far
        """
        with self.changed:
            if after < self._oldest:
                raise gone(after, self._oldest)
            return [
                change
                for change in self._history
                if change.version > after
                and change.resource == resource
                and namespace in (None, change.content["metadata"].get("namespace", ""))
            ]

    def compact(self) -> None:
        """Forget the history, as etcd does every five minutes."""
        with self.changed:
            self._version += 1
            self._oldest = self._version
            self._history.clear()

    def _find(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        try:
            return self._objects[resource, namespace, name]
        except KeyError:
            raise not_found(resource, name) from None

    def _put(self, key: tuple[Resource, str, str], kind: str, content: JsonObject) -> JsonObject:
        self._objects[key] = content
        self._record(kind, key[0], content)
        return copied(content)

    def _record(self, kind: str, resource: Resource, content: JsonObject) -> None:
        self._version += 1
        content["metadata"]["resourceVersion"] = str(self._version)
        self._history.append(Change(self._version, kind, resource, copied(content)))
        self.changed.notify_all()
