"""The standard "restricted" of pod security, as far as our pods can meet or miss it."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.fake.resources import RESOURCES, ApiError, JsonObject, details_of

ENFORCE = "pod-security.kubernetes.io/enforce"


def require_restricted(namespace: JsonObject, pod: JsonObject) -> None:
    """
    :raises ApiError: 403 in the words of a real API server
    """
    if (namespace["metadata"].get("labels") or {}).get(ENFORCE) != "restricted":
        return
    name = pod["metadata"]["name"]
    missed = [each for container in pod["spec"]["containers"] for each in _missed(pod["spec"], container)]
    if missed:
        message = f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {", ".join(missed)}'
        raise ApiError(403, "Forbidden", message, details_of(RESOURCES["", "pods"], name))


def _missed(spec: JsonObject, container: JsonObject) -> list[str]:
    context: dict[str, Any] = (spec.get("securityContext") or {}) | (container.get("securityContext") or {})
    called = f'container "{container["name"]}"'
    wanted = {
        f"allowPrivilegeEscalation != false ({called} must set securityContext.allowPrivilegeEscalation=false)": (
            context.get("allowPrivilegeEscalation") is False
        ),
        f'unrestricted capabilities ({called} must set securityContext.capabilities.drop=["ALL"])': (
            "ALL" in ((context.get("capabilities") or {}).get("drop") or [])
        ),
        f"runAsNonRoot != true (pod or {called} must set securityContext.runAsNonRoot=true)": (
            context.get("runAsNonRoot") is True
        ),
        f"runAsUser=0 ({called} must not set runAsUser=0)": context.get("runAsUser") != 0,
        f'seccompProfile (pod or {called} must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")': (context.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"),
    }
    return [problem for problem, met in wanted.items() if not met]
