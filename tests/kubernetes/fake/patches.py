"""The three kinds of patch that the API takes."""

from __future__ import annotations

import copy
from typing import Any

from tests.kubernetes.fake.resources import ApiError, JsonObject

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

# From the patchMergeKey tags of k8s.io/api; every other list is replaced as a whole.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "ownerReferences": "uid",
    "conditions": "type",
}


def apply_patch(content_type: str, present: JsonObject, patch: Any) -> JsonObject:
    """The object after the patch.

    :raises ApiError: 415 for another kind, 400 or 422 for a patch that cannot be applied
    """
    kind = content_type.partition(";")[0].strip()
    if kind == JSON:
        return _json_patch(copy.deepcopy(present), patch)
    if kind not in (MERGE, STRATEGIC):
        raise ApiError(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            f"{JSON}, {MERGE}, {STRATEGIC}",
            {},
        )
    if not isinstance(patch, dict):
        raise ApiError(400, "BadRequest", "error decoding patch: json: cannot unmarshal array into Go value")
    merged = _merge(present, patch) if kind == MERGE else _strategic(present, patch)
    assert isinstance(merged, dict)
    return merged


def _merge(present: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(present) if isinstance(present, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _strategic(present: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
    result = copy.deepcopy(present) if isinstance(present, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list) and name in MERGE_KEYS:
            result[name] = _merge_lists(result.get(name) or [], value, MERGE_KEYS[name])
        else:
            result[name] = _strategic(result.get(name), value)
    return result


def _merge_lists(present: list[Any], patch: list[Any], key: str) -> list[Any]:
    if any(each.get("$patch") == "replace" for each in patch):
        return [copy.deepcopy(each) for each in patch if "$patch" not in each]
    result = copy.deepcopy(present)
    for item in patch:
        if key not in item:
            raise ApiError(
                422, "Invalid", f' "" is invalid: map: {item} does not contain declared merge key: {key}', {}
            )
        place = next((index for index, each in enumerate(result) if each.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [each for each in result if each.get(key) != item[key]]
        elif place is None:
            result.append(_strategic({}, item))
        else:
            result[place] = _strategic(result[place], item)
    return result


def _json_patch(document: Any, operations: Any) -> JsonObject:
    """RFC 6902."""
    if not isinstance(operations, list):
        raise ApiError(400, "BadRequest", "error decoding patch: json: cannot unmarshal object into Go value")
    try:
        for each in operations:
            document = _operate(document, each)
    except (KeyError, IndexError, ValueError, TypeError):
        message = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", message, {}) from None
    assert isinstance(document, dict)
    return document


def _operate(document: Any, operation: JsonObject) -> Any:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    if not parts:
        raise ValueError("the whole object")
    parent = document
    for part in parts[:-1]:
        parent = parent[int(part)] if isinstance(parent, list) else parent[part]
    last: Any = parts[-1]
    if isinstance(parent, list):
        last = len(parent) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(parent, list):
            parent.insert(last, operation["value"])
        case "add":
            parent[last] = operation["value"]
        case "replace":
            parent[last]  # must be there
            parent[last] = operation["value"]
        case "remove":
            del parent[last]
        case "test":
            if parent[last] != operation["value"]:
                raise ValueError("test failed")
        case _:
            raise ValueError("unknown operation")
    return document
