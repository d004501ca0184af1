"""What a real API server refuses in an object, and the defaults that it adds."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from tests.kubernetes.fake.resources import ApiError, JsonObject, Resource, bad_request, invalid

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
NAME_RULE = "name part must consist of alphanumeric characters, '-', '_' or '.'"
SECRET_BYTES = 1024 * 1024
ANNOTATION_BYTES = 256 * 1024
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
# What may change in a pod that exists.
POD_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "nodeName")

Causes = list[tuple[str, str]]


def prepare(resource: Resource, content: JsonObject, present: JsonObject | None = None) -> JsonObject:
    """The object as it is stored, with defaults.

    :param present: what it replaces
    :raises ApiError: 422 with every fault that was found, or 400 where it cannot be read at all
    """
    name = content["metadata"].get("name", "")
    causes = _check_metadata(content["metadata"])
    match resource.kind:
        case "Secret":
            _prepare_secret(content)
            causes += _check_secret(content, present)
        case "Deployment" | "StatefulSet":
            _prepare_workload(content, resource.kind)
            causes += _check_workload(content, present)
        case "Pod":
            _prepare_pod_spec(content.setdefault("spec", {}))
            causes += _check_pod_spec(content["spec"], "spec")
            causes += _check_pod_update(content, present)
    if causes:
        raise invalid(f"{resource.kind}.{resource.group}".rstrip("."), name, *causes)
    return content


def bad_base64(content: JsonObject) -> str | None:
    """The words of Go's decoder on the first value of a secret that it cannot read."""
    for value in (content.get("data") or {}).values():
        if not isinstance(value, str):
            return "json: cannot unmarshal object into Go struct field Secret.data of type []uint8"
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            place = re.match(r"[A-Za-z0-9+/]*", value)
            return f"illegal base64 data at input byte {place.end() if place else 0}"
    return None


def refuse_bad_base64(content: JsonObject, patch: Any = None) -> None:
    """In a patch it is a 422 that repeats all of it (``apiserver/pkg/endpoints/handlers/patch.go``)."""
    problem = bad_base64(content)
    if problem is None:
        return
    if patch is None:
        raise bad_request(f'Secret in version "v1" cannot be handled as a Secret: {problem}')
    raise ApiError(
        422,
        "Invalid",
        f' "" is invalid: patch: Invalid value: {patch!r}: {problem}',
        {
            "causes": [
                {"reason": "FieldValueInvalid", "message": f"Invalid value: {patch!r}: {problem}", "field": "patch"}
            ]
        },
    )


def _check_metadata(metadata: JsonObject) -> Causes:
    causes: Causes = []
    name = metadata.get("name", "")
    if not name:
        causes.append(("metadata.name", "Required value: name or generateName is required"))
    elif not SUBDOMAIN.fullmatch(name) or len(name) > 253:
        causes.append(("metadata.name", f'Invalid value: "{name}": {SUBDOMAIN_RULE}'))
    for key, value in (metadata.get("labels") or {}).items():
        if not LABEL_NAME.fullmatch(key):
            causes.append(
                ("metadata.labels", f'Invalid value: "{key}": name part must consist of alphanumeric characters')
            )
        if len(value) > 63:
            causes.append(("metadata.labels", f'Invalid value: "{value}": must be no more than 63 bytes'))
        elif not LABEL.fullmatch(value):
            causes.append(("metadata.labels", f'Invalid value: "{value}": {LABEL_RULE}'))
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        if not LABEL_NAME.fullmatch(key):
            causes.append(("metadata.annotations", f'Invalid value: "{key}": {NAME_RULE}'))
    if sum(len(key) + len(str(value)) for key, value in annotations.items()) > ANNOTATION_BYTES:
        causes.append(("metadata.annotations", f"Too long: may not be more than {ANNOTATION_BYTES} bytes"))
    return causes


def _prepare_secret(content: JsonObject) -> None:
    content.setdefault("type", "Opaque")
    text = content.pop("stringData", None)
    if text:
        content["data"] = (content.get("data") or {}) | {
            key: base64.b64encode(value.encode()).decode() for key, value in text.items()
        }


def _check_secret(content: JsonObject, present: JsonObject | None) -> Causes:
    data = content.get("data") or {}
    causes: Causes = [
        (f"data[{key}]", f'Invalid value: "{key}": a valid config key must consist of alphanumeric characters')
        for key in data
        if not DATA_KEY.fullmatch(key)
    ]
    if sum(len(base64.b64decode(value)) for value in data.values()) > SECRET_BYTES:
        causes.append(("data", f"Too long: may not be more than {SECRET_BYTES} bytes"))
    if present is not None:
        if content["type"] != present["type"]:
            causes.append(("type", f'Invalid value: "{content["type"]}": field is immutable'))
        if present.get("immutable") and data != (present.get("data") or {}):
            causes.append(("data", "Forbidden: field is immutable when `immutable` is set"))
    return causes


def _prepare_workload(content: JsonObject, kind: str) -> None:
    spec = content.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    if kind == "StatefulSet":
        strategy = spec.setdefault("updateStrategy", {})
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _prepare_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}), restart="Always")


def _check_workload(content: JsonObject, present: JsonObject | None) -> Causes:
    spec = content["spec"]
    causes = _check_pod_spec(spec["template"]["spec"], "spec.template.spec")
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not wanted:
        causes.append(("spec.selector", "Required value"))
    elif not wanted.items() <= labels.items():
        causes.append(("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"))
    if not isinstance(spec["replicas"], int) or spec["replicas"] < 0:
        causes.append(("spec.replicas", f"Invalid value: {spec['replicas']}: must be greater than or equal to 0"))
    if present is not None and spec.get("selector") != present["spec"].get("selector"):
        causes.append(("spec.selector", "Invalid value: field is immutable"))
    return causes


def _prepare_pod_spec(spec: JsonObject, restart: str = "Always") -> None:
    spec.setdefault("restartPolicy", restart)
    spec.setdefault("terminationGracePeriodSeconds", 30)
    for container in spec.get("containers") or []:
        container.setdefault("imagePullPolicy", "IfNotPresent")


def _check_pod_spec(spec: JsonObject, path: str) -> Causes:
    containers = spec.get("containers") or []
    causes: Causes = [] if containers else [(f"{path}.containers", "Required value")]
    volumes = {each.get("name") for each in spec.get("volumes") or []}
    for index, container in enumerate(containers):
        at = f"{path}.containers[{index}]"
        causes += [(f"{at}.{field}", "Required value") for field in ("name", "image") if not container.get(field)]
        for number, variable in enumerate(container.get("env") or []):
            if variable.get("value") and variable.get("valueFrom"):
                causes.append(
                    (
                        f"{at}.env[{number}].valueFrom",
                        'Invalid value: "": may not be specified when `value` is not empty',
                    )
                )
        for number, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in volumes:
                causes.append((f"{at}.volumeMounts[{number}].name", f'Not found: "{mount.get("name")}"'))
    return causes


def _check_pod_update(content: JsonObject, present: JsonObject | None) -> Causes:
    if present is None:
        return []

    def fixed(pod: JsonObject) -> JsonObject:
        spec = {key: value for key, value in pod["spec"].items() if key not in POD_MUTABLE}
        spec["containers"] = [{**each, "image": ""} for each in spec["containers"]]
        return spec

    if fixed(content) == fixed(present):
        return []
    return [
        (
            "spec",
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)",
        )
    ]
