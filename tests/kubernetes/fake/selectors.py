"""Label and field selectors of lists and watches."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.kubernetes.fake.resources import JsonObject, Resource, bad_request

Matches = Callable[[JsonObject], bool]

FIELDS = {
    "Pod": {"metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.restartPolicy"},
    "Event": {
        "metadata.name",
        "metadata.namespace",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    },
    "Secret": {"metadata.name", "metadata.namespace", "type"},
}
SET = re.compile(r"\s*([^\s=!,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
EQUAL = re.compile(r"\s*([^\s=!,()]+)\s*(==|!=|=)\s*([^\s=!,()]*)\s*$")
PRESENT = re.compile(r"\s*(!?)\s*([^\s=!,()]+)\s*$")


def label_selector(text: str) -> Matches:
    """Equality and set-based requirements, all of which must hold."""
    tests = [_label_test(part) for part in re.split(r",(?![^(]*\))", text)] if text else []
    return lambda content: all(test(content["metadata"].get("labels") or {}) for test in tests)


def _label_test(text: str) -> Callable[[dict[str, str]], bool]:
    if found := SET.match(text):
        name, operator, listed = found[1], found[2], {each.strip() for each in found[3].split(",")}
        if operator == "in":
            return lambda labels: labels.get(name) in listed
        return lambda labels: labels.get(name) not in listed
    if found := EQUAL.match(text):
        name, operator, value = found.groups()
        if operator == "!=":
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    if found := PRESENT.match(text):
        absent, name = bool(found[1]), found[2]
        return lambda labels: (name in labels) != absent
    raise bad_request(f"unable to parse requirement: found '{text}'")


def field_selector(text: str, resource: Resource) -> Matches:
    known = FIELDS.get(resource.kind, {"metadata.name", "metadata.namespace"})
    tests: list[tuple[str, bool, str]] = []
    for part in text.split(",") if text else []:
        found = EQUAL.match(part)
        if not found:
            raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
        if found[1] not in known:
            raise bad_request(f"field label not supported: {found[1]}")
        tests.append((found[1], found[2] != "!=", found[3]))
    return lambda content: all((_field(content, name) == value) == wanted for name, wanted, value in tests)


def _field(content: JsonObject, path: str) -> str:
    value: Any = content
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return str(value or "")
