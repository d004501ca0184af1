"""Every call that is made to a Kubernetes API, with errors that say what to do and repeat no object's content."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_migration.exceptions import InvalidInputError, MigrationError, ServerUnreachableError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

JsonObject: TypeAlias = dict[str, Any]
OpenCluster: TypeAlias = "Callable[[str | None], ApiClient]"
"""Gives a client for a connection id, or for the cluster that the environment names."""

MANIFEST = "docs/kubernetes/rbac.yaml"
TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
"""Seconds for each of the client's four attempts at a server behind which nobody may be."""
PATIENCE = 60.0
"""Seconds for which a server that is busy (429) is asked again."""
LOG_TIMEOUT = 60.0
"""Seconds without a line after which a log is asked for anew: a connection may have died in silence."""
LOG_PATH = "/api/v1/namespaces/{namespace}/pods/{name}/log"
POD_SECURITY = re.compile(r'violates PodSecurity ("[\w.:-]+")')
"""How an API server says that the standard of a namespace forbids a pod; what it lists behind is not repeated."""
STRATEGIC = "application/strategic-merge-patch+json"


class ForbiddenError(InvalidInputError):
    """The account may not do this; another way may be open."""


class NotFoundError(InvalidInputError):
    """There is no such object."""


class AlreadyExistsError(MigrationError):
    """An object of that name exists."""


class ConflictError(MigrationError):
    """The object is not any more what was read; a fresh read tells."""

    retryable = True


class ExpiredError(MigrationError):
    """What was listed or watched is too old to be continued; a fresh list tells."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object, as RBAC and the paths of the API name it."""

    group: str
    plural: str
    singular: str
    version: str = "v1"

    @property
    def base(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


SECRETS = Resource("", "secrets", "secret")
CONFIG_MAPS = Resource("", "configmaps", "config map")
PODS = Resource("", "pods", "pod")
EVENTS = Resource("", "events", "event")
DEPLOYMENTS = Resource("apps", "deployments", "deployment")
STATEFUL_SETS = Resource("apps", "statefulsets", "stateful set")
_REVIEWS = Resource("authorization.k8s.io", "selfsubjectaccessreviews", "access review")


class Cluster:
    """One namespace of a cluster.

    Objects are given and taken as the API's own JSON. All methods raise `ServerUnreachableError` where no answer
    comes, or the server stays busy.

    :param api: a client of the library `kubernetes`
    :param timeout: seconds to wait for an answer
    """

    def __init__(self, api: ApiClient, namespace: str, *, timeout: float = TIMEOUT) -> None:
        self._api, self.namespace, self._timeout = api, namespace, timeout

    def get(self, resource: Resource, name: str) -> JsonObject:
        """:raises NotFoundError: there is none
        :raises ForbiddenError: it may not be read
        """
        return self._send("get", resource, name, "GET")

    def find(self, resource: Resource, selector: str = "") -> list[JsonObject]:
        """:param selector: of labels, e.g. ``release=a,component in (b,c)``
        :raises ForbiddenError: they may not be listed
        """
        query = [("labelSelector", selector)] if selector else []
        return list(self._send("list", resource, "", "GET", query=query).get("items") or [])

    def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        """:raises AlreadyExistsError: an object has that name
        :raises ForbiddenError: it may not be created
        """
        return self._send("create", resource, "", "POST", body=body, called=body["metadata"]["name"])

    def patch(self, resource: Resource, name: str, body: JsonObject) -> JsonObject:
        """Strategic merge. A ``metadata.resourceVersion`` in it is a precondition.

        :raises ConflictError: the object has another version
        :raises NotFoundError: there is none
        :raises ForbiddenError: it may not be changed
        """
        return self._send("patch", resource, name, "PATCH", body=body)

    def delete(self, resource: Resource, name: str, *, uid: str | None = None) -> None:
        """:param uid: delete only the object that has it
        :raises ConflictError: another object has the name by now
        :raises NotFoundError: there is none
        """
        body = {"apiVersion": "v1", "kind": "DeleteOptions"} | ({"preconditions": {"uid": uid}} if uid else {})
        self._send("delete", resource, name, "DELETE", body=body)

    def may(self, verb: str, resource: Resource) -> bool:
        """Whether the account has a right in the namespace, by the server's own word."""
        attributes = {
            "namespace": self.namespace,
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
        }
        body = {
            "apiVersion": _REVIEWS.api_version,
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = f"{_REVIEWS.base}/{_REVIEWS.plural}"
        answer = self._send("create", _REVIEWS, "", "POST", body=body, path=path)
        return bool(answer.get("status", {}).get("allowed"))

    def events_of(self, pod: str) -> list[JsonObject]:
        """What the cluster tells of a pod, in no order.

        :raises ForbiddenError: events may not be listed
        """
        query = [("fieldSelector", f"involvedObject.name={pod}")]
        return list(self._send("list", EVENTS, "", "GET", query=query).get("items") or [])

    def read_log(self, pod: str, container: str, *, follow: bool, since: int | None = None) -> Iterator[str]:
        """The lines that a container prints, each behind its time (RFC 3339).

        :param follow: until it ends; else those that are there
        :param since: seconds since 1970 before which lines are left out
        :raises NotFoundError: there is no such pod
        :raises InvalidInputError: the container has not begun
        :raises ServerUnreachableError: the connection was cut, or nothing was printed for `LOG_TIMEOUT`
        """
        from urllib3.exceptions import HTTPError

        query = [("container", container), ("follow", str(follow).lower()), ("timestamps", "true")]
        if since is not None:
            query.append(("sinceTime", f"{datetime.fromtimestamp(since, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"))
        response = self._request("get", PODS, pod, "GET", query=query, path=LOG_PATH)
        try:
            for line in response:
                yield line.decode("utf-8", "replace").rstrip("\n")
        except HTTPError as err:
            raise _unreachable(err, self.where(PODS, pod)) from None
        finally:
            response.close()

    def where(self, resource: Resource, name: str = "") -> str:
        """How errors name an object."""
        return f'{resource.singular} "{name}" in namespace {self.namespace}' if name else f"namespace {self.namespace}"

    def _send(
        self, verb: str, resource: Resource, name: str, method: str, *, called: str = "", **more: Any
    ) -> JsonObject:
        from urllib3.exceptions import HTTPError

        where = self.where(resource, name or called)
        response = self._request(verb, resource, name, method, called=called, **more)
        try:
            return _read(response.data, where)
        except HTTPError as err:
            raise _unreachable(err, where) from None

    def _request(
        self,
        verb: str,
        resource: Resource,
        name: str,
        method: str,
        *,
        body: JsonObject | None = None,
        query: list[tuple[str, str]] | None = None,
        path: str | None = None,
        called: str = "",
    ) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        path = path or f"{resource.base}/namespaces/{{namespace}}/{resource.plural}" + ("/{name}" if name else "")
        headers = {
            "Accept": "application/json",
            "Content-Type": STRATEGIC if method == "PATCH" else "application/json",
        }
        deadline = time.monotonic() + PATIENCE
        where = self.where(resource, name or called)
        while True:
            try:
                return self._api.call_api(
                    path,
                    method,
                    {"namespace": self.namespace, "name": name},
                    list(query or []),
                    dict(headers),
                    body=body,
                    auth_settings=["BearerToken"],
                    _return_http_data_only=True,
                    _preload_content=False,
                    _request_timeout=(CONNECT_TIMEOUT, LOG_TIMEOUT if path == LOG_PATH else self._timeout),
                )
            except ApiException as err:
                wait = _seconds_to_wait(err)
                if wait is None or time.monotonic() + wait > deadline:
                    raise translate(err, verb, resource, where) from None
                time.sleep(wait)
            except HTTPError as err:
                raise _unreachable(err, where) from None


def open_from_environment(conn_id: str | None) -> ApiClient:
    """A client for the cluster in which this process runs, or else the one that the kubeconfig names.

    :param conn_id: not known outside of an Airflow
    :raises InvalidInputError: there is neither
    """
    from kubernetes import config

    try:
        config.load_config()
    except config.ConfigException:
        raise InvalidInputError(
            "no cluster is configured here",
            where="kubeconfig",
            remedy="Set KUBECONFIG to a file that names the cluster and an account",
        ) from None
    from kubernetes.client import ApiClient

    return ApiClient()


def translate(err: ApiException, verb: str, resource: Resource, where: str) -> MigrationError:
    """What an answer of the API means to us. Its message is left out, as it may repeat what was sent.

    :param verb: as RBAC names it
    :param where: names the object
    """
    status = _status(err)
    reason = status.get("reason")
    match err.status:
        case 401:
            return InvalidInputError(
                "the API server does not know the account", where=where, remedy="Renew the token of the connection"
            )
        case 403 if violated := POD_SECURITY.search(status.get("message") or ""):
            return InvalidInputError(
                f"the namespace's pod security {violated[1]} refuses the pod",
                where=where,
                remedy="Set run_as_user in the connection's runtime to the number of the image's user "
                "(apache/airflow: 50000), or give the pods another namespace",
            )
        case 403:
            group = f" of API group {resource.group}" if resource.group else ""
            return ForbiddenError(
                f"the account may not {verb} {resource.plural}{group}",
                where=where,
                remedy=f"Bind it to the role of {MANIFEST}",
            )
        case 404:
            return NotFoundError("there is none", where=where, remedy="Correct namespace, release or name in control")
        case 409 if reason == "AlreadyExists":
            return AlreadyExistsError("it exists already", where=where, remedy="Look whose it is")
        case 409:
            return ConflictError("it was changed by somebody else at the same moment", where=where, remedy="Retry")
        case 410:
            return ExpiredError("what was read is too old to go on from", where=where, remedy="Retry")
        case 400 | 422:
            return InvalidInputError(
                f"the API server refuses the {verb}: {_fields(status) or reason or err.status}",
                where=where,
                remedy="Correct the object",
            )
        case _:
            return ServerUnreachableError(
                f"the API server answers {err.status} to {verb}", where=where, remedy="Retry once it is well again"
            )


def _read(data: bytes, where: str) -> JsonObject:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ServerUnreachableError(
            "what answers is no Kubernetes API", where=where, remedy="Check the server's address and proxies"
        )
    return content


def _status(err: ApiException) -> Mapping[str, Any]:
    """The ``Status`` object of an answer; empty where a proxy has answered."""
    try:
        status = json.loads(err.body or "{}")
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def _fields(status: Mapping[str, Any]) -> str:
    """Names of the fields that are refused, without what they hold."""
    causes = (status.get("details") or {}).get("causes") or []
    fields = [f"{each['field']} ({each.get('reason', 'invalid')})" for each in causes if each.get("field")]
    return ", ".join(dict.fromkeys(fields))


def _seconds_to_wait(err: ApiException) -> float | None:
    """How long a busy server asks to be left alone; None when it is not that."""
    if err.status != 429:
        return None
    try:
        return max(0.0, float((err.headers or {}).get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _unreachable(err: Exception, where: str) -> ServerUnreachableError:
    """Texts of urllib3 hold the path and what a proxy says; its types say enough."""
    reason = getattr(err, "reason", None)
    kind = type(reason if isinstance(reason, Exception) else err).__name__
    return ServerUnreachableError(
        f"the API server does not answer ({kind})", where=where, remedy="Check its address and certificate; then retry"
    )
