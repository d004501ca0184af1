"""Read a deployment's connection from the environment, as Airflow itself would, without an Airflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from airflow_migration.deployments.connection_type import CONNECTION_TYPE
from airflow_migration.deployments.deployment import Deployment, read_deployment
from airflow_migration.exceptions import InvalidInputError

PREFIX = "AIRFLOW_CONN_"
"""`CONN_ENV_PREFIX`, airflow/secrets/environment_variables.py of 3.3.2."""
_FIELDS = {"conn_type", "description", "extra", "host", "login", "password", "port", "schema"}


def variable_of(conn_id: str) -> str:
    """The environment variable in which Airflow looks for a connection."""
    return PREFIX + conn_id.upper()


def deployment_from_environment(conn_id: str, environment: Mapping[str, str]) -> Deployment:
    """The deployment that a connection in the environment describes, as JSON or as a URI.

    :raises InvalidInputError: there is none, or it says something that cannot be; the value is not repeated
    """
    name = variable_of(conn_id)
    value = environment.get(name, "").strip()
    if not value:
        raise InvalidInputError(
            "the environment variable is not set",
            where=name,
            remedy=f"Set it to a connection of type {CONNECTION_TYPE}, as JSON or as a URI (--help shows one)",
        )
    fields = _from_json(name, value) if value.startswith("{") else _from_uri(name, value)
    return read_deployment(
        where=name,
        conn_type=fields.get("conn_type"),
        host=fields.get("host"),
        port=_port(name, fields.get("port")),
        login=fields.get("login"),
        password=fields.get("password"),
        database=fields.get("schema"),
        extra=fields.get("extra"),
    )


def _from_json(name: str, value: str) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(value)
    except ValueError:
        raise _malformed(name, "is not JSON, though it begins like it") from None
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise _malformed(name, f"has fields that no connection has: {', '.join(unknown)}")
    for field in ("conn_type", "host", "login", "password", "schema"):
        if not isinstance(fields.get(field), str | None):
            raise _malformed(name, f"has a {field} that is not text")
    return fields | {"conn_type": _normalize(fields.get("conn_type"))}


def _from_uri(name: str, value: str) -> dict[str, Any]:
    """What `Connection._parse_from_uri` of 3.3.2 makes of it, but for hosts with a protocol of their own."""
    scheme, separator, _ = value.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise _malformed(name, "is neither a JSON object nor a URI (whose type is written with a hyphen)")
    try:
        parts = urlsplit(value[len(scheme) + 1 :])
        port = parts.port
    except ValueError:
        raise _malformed(name, "is a URI whose host or port cannot be read") from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "conn_type": _normalize(scheme.lower()),
        "host": _host(parts),
        "port": port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path[1:]),
        "extra": query["__extra__"] if "__extra__" in query else {key: _value(text) for key, text in query.items()},
    }


def _host(parts: SplitResult) -> str:
    """`hostname` is in lower case, which a path in place of a host must not be."""
    host = unquote(parts.hostname or "")
    if "/" not in host:
        return host
    return unquote(parts.netloc.rpartition("@")[2].partition(":")[0])


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text else text
    except ValueError:
        return text


def _normalize(conn_type: str | None) -> str | None:
    if conn_type is None:
        return None
    return "postgres" if conn_type == "postgresql" else conn_type.replace("-", "_")


def _port(name: str, port: object) -> int | None:
    if port in (None, ""):
        return None
    try:
        return int(str(port))
    except ValueError:
        raise _malformed(name, "has a port that is no number") from None


def _malformed(name: str, problem: str) -> InvalidInputError:
    return InvalidInputError(
        f"the environment variable {problem}",
        where=name,
        remedy=f"Write it as Airflow reads it: a JSON object, or {CONNECTION_TYPE.replace('_', '-')}://login:password@"
        "host:port/database, with % and two digits for what a URI cannot hold",
    )
