"""Which calls a client makes to the API, in RBAC's words, whatever answers them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes import client
from tests.kubernetes.fake.requests import parse


class RecordingClient(client.ApiClient):  # type: ignore[misc]
    """A client that notes verb and resource of each request before it is sent.

    :param calls: where they are noted, as ``get pods/log``
    """

    def __init__(self, configuration: client.Configuration, calls: set[str]) -> None:
        super().__init__(configuration)
        self._calls = calls

    def request(self, method: str, url: str, query_params: Any = None, **more: Any) -> Any:
        """Send one request."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query)) | {name: str(value) for name, value in query_params or []}
        found = parse(method, parts.path, query)
        self._calls.add(f"{found.verb} {found.resource_path}" if found.resource else "create selfsubjectaccessreviews")
        return super().request(method, url, query_params=query_params, **more)
