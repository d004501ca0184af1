"""What each request of the API asks for, and what the store answers."""

from __future__ import annotations

import dataclasses
import json
import random
import string
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from tests.kubernetes.fake.patches import apply_patch
from tests.kubernetes.fake.pod_security import require_restricted
from tests.kubernetes.fake.resources import (
    RESOURCES,
    ApiError,
    JsonObject,
    Resource,
    bad_request,
    conflict,
    details_of,
    no_such_path,
)
from tests.kubernetes.fake.selectors import field_selector, label_selector
from tests.kubernetes.fake.store import Change
from tests.kubernetes.fake.validation import prepare, refuse_bad_base64

if TYPE_CHECKING:
    from tests.kubernetes.fake.cluster import FakeCluster

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
REVIEW = ("authorization.k8s.io", "selfsubjectaccessreviews")
POD_GRACE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call, in RBAC's words.

    :param resource: None for a ``SelfSubjectAccessReview`` and for the version
    :param sub: subresource
    :param namespace: empty for all, or for what has none
    """

    method: str
    resource: Resource | None
    special: str = ""
    namespace: str = ""
    name: str = ""
    sub: str = ""
    query: dict[str, str] = field(default_factory=dict)
    user: str = ""
    body: Any = None
    content_type: str = ""

    def by(self, user: str, body: Any, content_type: str) -> Request:
        return dataclasses.replace(self, user=user, body=body, content_type=content_type)

    @property
    def verb(self) -> str:
        if not self.name and self.method == "GET":
            return "watch" if self.query.get("watch") in ("true", "True", "1") else "list"
        if not self.name and self.method == "DELETE":
            return "deletecollection"
        return VERBS[self.method]

    @property
    def resource_path(self) -> str:
        assert self.resource is not None
        return f"{self.resource.qualified}/{self.sub}" if self.sub else self.resource.qualified


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that comes piece by piece; `chunks` is told how to learn that the client has gone."""

    content_type: str
    chunks: Callable[[Callable[[], bool]], Iterator[bytes]]


def parse(method: str, path: str, query: dict[str, str]) -> Request:
    """
    :raises ApiError: 404, there is no such path
    """
    parts = [part for part in path.split("/") if part]
    if parts == ["version"]:
        return Request(method=method, resource=None, special="version")
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3 and parts[2] == "v1":
        group, rest = parts[1], parts[3:]
    else:
        raise no_such_path()
    if (group, *rest) == REVIEW and method == "POST":
        return Request(method=method, resource=None, special="review")
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get((group, rest[0])) if rest else None
    sub = rest[2] if len(rest) > 2 else ""
    if resource is None or len(rest) > 3 or (sub and sub not in resource.subresources):
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    return Request(method=method, resource=resource, namespace=namespace, name=name, sub=sub, query=query)


def answer(cluster: FakeCluster, request: Request) -> JsonObject | Streamed:
    """
    :raises ApiError: whatever a real API server would refuse
    """
    if request.special == "version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"}
    if request.special == "review":
        return cluster.access.review(request.user, request.body)
    resource = request.resource
    assert resource is not None
    cluster.access.require(request.user, request.verb, resource, request.sub, request.namespace, request.name)
    if request.sub == "log":
        return _log(cluster, request)
    if request.sub == "token":
        return _token(cluster, request)
    match request.verb:
        case "get":
            return _shown(request, cluster.store.get(resource, request.namespace, request.name))
        case "list":
            return _list(cluster, request, resource)
        case "watch":
            return _watch(cluster, request, resource)
        case "create":
            return _create(cluster, request, resource)
        case "update" | "patch":
            return _change(cluster, request, resource)
        case "delete":
            return _delete(cluster, request, resource)
    raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def _shown(request: Request, content: JsonObject) -> JsonObject:
    """The object, or its scale, whose ``spec`` is empty at 0 (measured on 1.36)."""
    if request.sub != "scale":
        return content
    meta, wanted = content["metadata"], content["spec"]["replicas"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = content["spec"]["selector"]["matchLabels"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {
            "replicas": content.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


def _selected(request: Request, resource: Resource) -> Callable[[JsonObject], bool]:
    labels = label_selector(request.query.get("labelSelector", ""))
    fields = field_selector(request.query.get("fieldSelector", ""), resource)
    return lambda content: labels(content) and fields(content)


def _list(cluster: FakeCluster, request: Request, resource: Resource) -> JsonObject:
    selected = _selected(request, resource)
    with cluster.store.changed:
        items = cluster.store.all(resource, request.namespace or None)
        version = str(cluster.store.version)
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": {"resourceVersion": version},
        "items": [content for content in items if selected(content)],
    }


def _watch(cluster: FakeCluster, request: Request, resource: Resource) -> Streamed:
    selected, namespace = _selected(request, resource), request.namespace or None
    asked = request.query.get("resourceVersion") or "0"
    if not asked.isdigit():
        raise bad_request(f"invalid resource version: {asked}")
    seconds = float(request.query.get("timeoutSeconds") or 1800)

    def chunks(gone: Callable[[], bool]) -> Iterator[bytes]:
        deadline, after, store = time.monotonic() + seconds, int(asked), cluster.store
        if after == 0:
            with store.changed:
                present = [Change(0, "ADDED", resource, each) for each in store.all(resource, namespace)]
                after = store.version
            yield from (_event(change) for change in present if selected(change.content))
        while time.monotonic() < deadline and not gone():
            with store.changed:
                store.changed.wait_for(
                    lambda: store.version > after,  # noqa: B023
                    min(0.5, max(0.0, deadline - time.monotonic())),
                )
                try:
                    changes = store.history(resource, namespace, after)
                except ApiError as err:
                    yield json.dumps({"type": "ERROR", "object": err.status}).encode() + b"\n"
                    return
                after = store.version
            yield from (_event(change) for change in changes if selected(change.content))

    return Streamed("application/json", chunks)


def _event(change: Change) -> bytes:
    return json.dumps({"type": change.kind, "object": change.content}).encode() + b"\n"


def _create(cluster: FakeCluster, request: Request, resource: Resource) -> JsonObject:
    content = request.body
    if not isinstance(content, dict):
        raise bad_request("the object provided is unrecognized")
    meta = content.setdefault("metadata", {})
    if request.name:
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})
    if meta.get("namespace", request.namespace) != request.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + "".join(random.choices(string.ascii_lowercase, k=5))
    if resource.kind == "Secret":
        refuse_bad_base64(content)
    content = prepare(resource, content)
    if resource.namespaced:
        namespace = cluster.store.get(RESOURCES["", "namespaces"], "", request.namespace)
    if resource.kind == "Pod":
        require_restricted(namespace, content)
        content["status"] = {"phase": "Pending"}
    else:
        content.pop("status", None)
    return cluster.store.create(resource, request.namespace, content)


def _change(cluster: FakeCluster, request: Request, resource: Resource) -> JsonObject:
    def change(present: JsonObject) -> JsonObject:
        shown = _shown(request, present)
        replaced = request.method == "PUT"
        new = request.body if replaced else apply_patch(request.content_type, shown, request.body)
        meta = new.setdefault("metadata", {})
        if meta.get("name", request.name) != request.name:
            raise bad_request(
                f"the name of the object ({meta.get('name')}) does not match the name on the URL ({request.name})"
            )
        meta["name"] = request.name
        if request.sub == "scale":
            wanted = (new.get("spec") or {}).get("replicas") or 0
            given = {key: meta[key] for key in ("resourceVersion", "uid") if meta.get(key)}
            new = {**present, "metadata": present["metadata"] | given, "spec": present["spec"] | {"replicas": wanted}}
        elif request.sub == "status":
            new = {**present, "metadata": present["metadata"], "status": new.get("status", {})}
        elif resource.kind not in ("Secret", "ConfigMap", "Event", "Role", "RoleBinding", "ServiceAccount"):
            new["status"] = present.get("status", {})
        if resource.kind == "Secret":
            refuse_bad_base64(new, None if replaced else request.body)
        new["kind"], new["apiVersion"] = resource.kind, resource.api_version
        return prepare(resource, new, present)

    return _shown(request, cluster.store.update(resource, request.namespace, request.name, change))


def _delete(cluster: FakeCluster, request: Request, resource: Resource) -> JsonObject:
    options = request.body or {}
    with cluster.store.changed:
        present = cluster.store.get(resource, request.namespace, request.name)
        wanted = options.get("preconditions") or {}
        for field_name, called, said in (
            ("uid", "UID in precondition", "UID in object meta"),
            ("resourceVersion", "ResourceVersion in precondition", "ResourceVersion in object meta"),
        ):
            actual = present["metadata"][field_name]
            if wanted.get(field_name) not in (None, actual):
                why = f"Precondition failed: {called}: {wanted[field_name]}, {said}: {actual}"
                raise conflict(resource, request.name, why)
        if resource.kind == "Pod":
            grace = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds", POD_GRACE))
            if int(grace) > 0:
                return cluster.store.mark_deleted(resource, request.namespace, request.name, int(grace))
        removed = cluster.store.delete(resource, request.namespace, request.name)
    details = details_of(resource, request.name) | {"uid": removed["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _token(cluster: FakeCluster, request: Request) -> JsonObject:
    cluster.store.get(RESOURCES["", "serviceaccounts"], request.namespace, request.name)
    expires = datetime.now(timezone.utc) + timedelta(hours=1)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": request.name, "namespace": request.namespace},
        "spec": (request.body or {}).get("spec") or {},
        "status": {
            "token": cluster.access.issue(request.namespace, request.name),
            "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }


def _log(cluster: FakeCluster, request: Request) -> Streamed:
    assert request.resource is not None
    pod = cluster.store.get(request.resource, request.namespace, request.name)
    names = [each["name"] for each in pod["spec"]["containers"]]
    wanted = request.query.get("container") or (names[0] if len(names) == 1 else "")
    if not wanted:
        raise bad_request(f"a container name must be specified for pod {request.name}, choose one of: {names}")
    if wanted not in names:
        raise bad_request(f"container {wanted} is not valid for pod {request.name}")
    output = cluster.kubelet.output(pod, wanted)
    if output is None:
        states = (pod.get("status") or {}).get("containerStatuses") or [{}]
        reason = ((states[0].get("state") or {}).get("waiting") or {}).get("reason", "ContainerCreating")
        raise bad_request(f'container "{wanted}" in pod "{request.name}" is waiting to start: {reason}')
    query = request.query
    since = None
    if query.get("sinceSeconds"):
        since = time.time() - int(query["sinceSeconds"])
    if query.get("sinceTime"):
        since = datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")).timestamp()
    return Streamed(
        "text/plain",
        lambda gone: output.read(
            follow=query.get("follow") in ("true", "True"),
            timestamps=query.get("timestamps") in ("true", "True"),
            since=since,
            tail=int(query["tailLines"]) if query.get("tailLines") else None,
            gone=gone,
        ),
    )
