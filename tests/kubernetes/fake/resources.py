"""Which resources the fake API server has, and the objects in which a real one says no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as the API names it."""

    group: str
    plural: str
    kind: str
    subresources: frozenset[str] = frozenset()
    namespaced: bool = True
    version: str = "v1"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As errors name it: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RBAC = "rbac.authorization.k8s.io"
RESOURCES = {
    (each.group, each.plural): each
    for each in (
        Resource("", "namespaces", "Namespace", namespaced=False),
        Resource("", "secrets", "Secret"),
        Resource("", "configmaps", "ConfigMap"),
        Resource("", "pods", "Pod", frozenset({"log", "status"})),
        Resource("", "events", "Event"),
        Resource("", "serviceaccounts", "ServiceAccount", frozenset({"token"})),
        Resource("apps", "deployments", "Deployment", frozenset({"scale", "status"})),
        Resource("apps", "statefulsets", "StatefulSet", frozenset({"scale", "status"})),
        Resource(RBAC, "roles", "Role"),
        Resource(RBAC, "rolebindings", "RoleBinding"),
    )
}


class ApiError(Exception):
    """What a real API server answers instead, as a ``Status`` object.

    :param retry_after: seconds for the header of that name
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: JsonObject | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after = code, retry_after
        self.status: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details is not None:
            self.status["details"] = details


def details_of(resource: Resource, name: str = "") -> JsonObject:
    return {
        key: value for key, value in (("name", name), ("group", resource.group), ("kind", resource.plural)) if value
    }


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', details_of(resource, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', details_of(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details_of(resource, name))


def forbidden(user: str, verb: str, resource: Resource, sub: str, namespace: str, name: str) -> ApiError:
    called = f'{resource.qualified} "{name}"' if name else resource.qualified
    path = f"{resource.plural}/{sub}" if sub else resource.plural
    scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = (
        f'{called} is forbidden: User "{user}" cannot {verb} resource "{path}" in API group "{resource.group}" {scope}'
    )
    return ApiError(403, "Forbidden", message, details_of(resource, name))


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def gone(asked: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def too_many_requests(seconds: int) -> ApiError:
    message = "Too many requests, please try again later."
    return ApiError(429, "TooManyRequests", message, {"retryAfterSeconds": seconds}, seconds)


def invalid(kind: str, name: str, *causes: tuple[str, str]) -> ApiError:
    """A 422; each cause is a field and what is wrong with it."""
    texts = [f"{field}: {problem}" for field, problem in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = {
        "name": name,
        "kind": kind,
        "causes": [{"reason": "FieldValueInvalid", "message": problem, "field": field} for field, problem in causes],
    }
    details = {key: value for key, value in details.items() if value}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {listed}', details)
