"""A release of Airflow as the official chart makes it, with processes that do nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from tests.kubernetes.conftest import ClusterUnderTest
from tests.polling import until

RELEASE = "fresh"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_KEY = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
PASSWORD = "never&shown"
URI = "postgresql://air%40flow:never%26shown@db.example:5433/fresh?sslmode=require"
STATEFUL = ("worker",)
COMPONENTS = ("scheduler", "webserver", *STATEFUL)


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Release:
    """What the tests see and change as the administrator of the cluster."""

    cluster: ClusterUnderTest
    image: str

    @property
    def core(self) -> Any:
        return client.CoreV1Api(self.cluster.admin)

    @property
    def apps(self) -> Any:
        return client.AppsV1Api(self.cluster.admin)

    def install(self, *, replicas: int = 1, uri: str = URI, results: str | None = None) -> None:
        """Secrets, and a scheduler, a webserver and a worker with their pods."""
        self.secret(f"{RELEASE}-fernet-key", **{"fernet-key": KEY})
        self.secret(f"{RELEASE}-metadata", connection=uri)
        self.secret(f"{RELEASE}-result-backend", connection=results or f"db+{uri}")
        for component in COMPONENTS:
            self.workload(component, replicas=replicas)
        until(lambda: [len(self.pods(each)) for each in COMPONENTS], lambda seen: set(seen) == {replicas})

    def secret(self, name: str, **data: str) -> None:
        body = {"metadata": {"name": name}, "data": {key: encode(value) for key, value in data.items()}}
        self.core.create_namespaced_secret(self.cluster.namespace, body)

    def value(self, name: str, key: str) -> str:
        data = self.core.read_namespaced_secret(name, self.cluster.namespace).data
        return base64.b64decode(data[key]).decode()

    def change(self, name: str, key: str, value: str) -> None:
        self.core.patch_namespaced_secret(name, self.cluster.namespace, {"data": {key: encode(value)}})

    def secrets(self) -> dict[str, dict[str, str]]:
        """All of the namespace, with their data."""
        listed = self.core.list_namespaced_secret(self.cluster.namespace).items
        return {each.metadata.name: dict(each.data or {}) for each in listed}

    def workload(
        self,
        component: str,
        *,
        replicas: int = 1,
        image: str | None = None,
        env: Mapping[str, str] | None = None,
        strategy: Mapping[str, Any] | None = None,
    ) -> None:
        """:param strategy: of a stateful set, how it replaces its pods"""
        labels = {"tier": "airflow", "component": component, "release": RELEASE}
        reference = {"name": f"{RELEASE}-fernet-key", "key": "fernet-key"}
        variables = [
            {"name": "AIRFLOW__CORE__FERNET_KEY", "valueFrom": {"secretKeyRef": reference}},
            *({"name": name, "value": value} for name, value in (env or {}).items()),
        ]
        container = {"name": component, "image": image or self.image, "env": variables}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        }
        body = {"metadata": {"name": f"{RELEASE}-{component}", "labels": labels}, "spec": spec}
        if component in STATEFUL:
            more = {"serviceName": component} | ({"updateStrategy": strategy} if strategy else {})
            self.apps.create_namespaced_stateful_set(self.cluster.namespace, body | {"spec": spec | more})
        else:
            self.apps.create_namespaced_deployment(self.cluster.namespace, body)

    def look(self, component: str) -> Any:
        name = f"{RELEASE}-{component}"
        if component in STATEFUL:
            return self.apps.read_namespaced_stateful_set(name, self.cluster.namespace)
        return self.apps.read_namespaced_deployment(name, self.cluster.namespace)

    def scale(self, component: str, replicas: int) -> None:
        name, patch = f"{RELEASE}-{component}", {"spec": {"replicas": replicas}}
        self.apps.patch_namespaced_deployment(name, self.cluster.namespace, patch)

    def pods(self, component: str) -> set[str]:
        """Uids of those that are not about to end."""
        listed = self.core.list_namespaced_pod(self.cluster.namespace, label_selector=f"component={component}").items
        return {each.metadata.uid for each in listed if each.metadata.deletion_timestamp is None}

    def variables(self, component: str) -> dict[str, Any]:
        containers = self.look(component).spec.template.spec.containers
        return {each.name: each.value for each in containers[0].env or []}
