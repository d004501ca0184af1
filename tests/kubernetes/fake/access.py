"""Who may do what: tokens of service accounts, and the rules of roles bound to them."""

from __future__ import annotations

import secrets

from tests.kubernetes.fake.resources import RBAC, RESOURCES, JsonObject, Resource, forbidden, unauthorized
from tests.kubernetes.fake.store import Store

ADMINISTRATOR = "kubernetes-admin"


class Access:
    """Roles and bindings are read from the store at each request, as they may change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.admin_token = secrets.token_urlsafe()
        self._users = {self.admin_token: ADMINISTRATOR}

    def issue(self, namespace: str, account: str) -> str:
        """A token of a service account, as its subresource ``token`` gives."""
        token = secrets.token_urlsafe()
        self._users[token] = f"system:serviceaccount:{namespace}:{account}"
        return token

    def user(self, authorization: str | None) -> str:
        user = self._users.get((authorization or "").removeprefix("Bearer ").strip())
        if user is None:
            raise unauthorized()
        return user

    def require(self, user: str, verb: str, resource: Resource, sub: str, namespace: str, name: str) -> None:
        """
        :raises ApiError: 403 in the words of a real API server
        """
        if not self.allows(user, verb, resource, sub, namespace, name):
            raise forbidden(user, verb, resource, sub, namespace, name)

    def allows(self, user: str, verb: str, resource: Resource, sub: str, namespace: str, name: str) -> bool:
        if user == ADMINISTRATOR:
            return True
        path = f"{resource.plural}/{sub}" if sub else resource.plural
        return any(
            _has(rule, "verbs", verb)
            and _has(rule, "apiGroups", resource.group)
            and _has(rule, "resources", path)
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self._rules(user, namespace)
        )

    def review(self, user: str, review: JsonObject) -> JsonObject:
        """Answer a ``SelfSubjectAccessReview``."""
        asked = (review.get("spec") or {}).get("resourceAttributes") or {}
        resource = RESOURCES.get((asked.get("group", ""), asked.get("resource", "")))
        allowed = resource is not None and self.allows(
            user,
            asked.get("verb", ""),
            resource,
            asked.get("subresource", ""),
            asked.get("namespace", ""),
            asked.get("name", ""),
        )
        return {**review, "metadata": review.get("metadata") or {}, "status": {"allowed": allowed}}

    def _rules(self, user: str, namespace: str) -> list[JsonObject]:
        roles = {
            role["metadata"]["name"]: role["rules"] for role in self._store.all(RESOURCES[RBAC, "roles"], namespace)
        }
        return [
            rule
            for binding in self._store.all(RESOURCES[RBAC, "rolebindings"], namespace)
            for subject in binding.get("subjects") or []
            if subject.get("kind") == "ServiceAccount"
            and user == f"system:serviceaccount:{subject.get('namespace', namespace)}:{subject['name']}"
            for rule in roles.get(binding["roleRef"]["name"], [])
        ]


def _has(rule: JsonObject, field: str, value: str) -> bool:
    listed = rule.get(field) or []
    return value in listed or "*" in listed
