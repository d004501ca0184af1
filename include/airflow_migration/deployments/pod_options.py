"""What a connection's ``runtime`` of kind ``kubernetes`` may say, checked before anything uses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

Refuse = Callable[[str, str], NoReturn]

POD_OPTIONS = {
    "conn_id",
    "namespace",
    "image",
    "service_account",
    "image_pull_secrets",
    "resources",
    "node_selector",
    "tolerations",
    "host",
    "port",
    "run_as_user",
    "start_timeout",
}
TEXTS = ("conn_id", "service_account", "host")
PLACEHOLDER = re.compile(r"\{[^}]*\}?|\}")
NUMBERS = {"port": range(1, 65536), "run_as_user": range(1, 2**31), "start_timeout": range(1, 86401)}


def check_pod_options(options: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse what is missing, unknown to a pod, or of another type.

    :param refuse: raises the error of the connection; takes the problem and the remedy
    """
    for name in ("namespace", "image"):
        if not isinstance(options.get(name), str):
            refuse(f"extra runtime: {name} is missing or not text", f"Give {name} as text")
    for name in TEXTS:
        if name in options and not isinstance(options[name], str):
            refuse(f"extra runtime: {name} is not text", f"Give {name} as text")
    if set(PLACEHOLDER.findall(options["image"])) - {"{release}"} or any(map(str.isspace, options["image"])):
        refuse(f"extra runtime: image is {options['image']!r}", "Write it like apache/airflow:{release}")
    _check_numbers(options, refuse)
    secrets = options.get("image_pull_secrets", [])
    if not isinstance(secrets, list) or not all(isinstance(each, str) and each for each in secrets):
        refuse("extra runtime: image_pull_secrets is no list of names", 'Write it like ["registry-credentials"]')
    tolerations = options.get("tolerations", [])
    if not isinstance(tolerations, list) or not all(isinstance(each, Mapping) for each in tolerations):
        refuse("extra runtime: tolerations is no list of objects", "Write it as in a pod's specification")
    _check_objects(options, refuse)


def _check_numbers(options: Mapping[str, Any], refuse: Refuse) -> None:
    for name, allowed in NUMBERS.items():
        value = options.get(name, 1)
        if isinstance(value, bool) or value not in allowed:
            refuse(f"extra runtime: {name} is no number from 1 to {allowed[-1]}", f"Give {name} without quotes")


def _check_objects(options: Mapping[str, Any], refuse: Refuse) -> None:
    selector = options.get("node_selector", {})
    if not isinstance(selector, Mapping) or not all(isinstance(each, str) for each in selector.values()):
        refuse("extra runtime: node_selector is no object of text", 'Write it like {"disk": "fast"}')
    resources = options.get("resources", {})
    if not isinstance(resources, Mapping) or not set(resources) <= {"requests", "limits"}:
        refuse("extra runtime: resources holds more than requests and limits", "Write it as in a pod's specification")
    for each in resources.values():
        if not isinstance(each, Mapping) or not all(isinstance(amount, str | int) for amount in each.values()):
            refuse("extra runtime: resources has no amounts", 'Write them like {"memory": "2Gi", "cpu": 1}')
