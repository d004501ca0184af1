"""Connection strings as charts keep them in secrets: read, and given another database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from airflow_migration.deployments.kubernetes.twice import decode_again
from airflow_migration.deployments.settings_file import split_at_database
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

_URI = re.compile(
    r"(?:db\+)?postgres(?:ql)?(?:\+\w+)?://"
    r"(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s/:?,]+))(?::(?P<port>\d+))?"
    r"/(?P<database>[^?]+)(?:\?(?P<query>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUri:
    """Where a connection string leads.

    :param database: not decoded, as SQLAlchemy does not either
    :param params: of its query, ``sslmode`` and the like
    """

    host: str
    port: int
    user: str
    password: Secret
    database: str
    params: Mapping[str, str] = field(default_factory=dict)


def read_uri(text: str, where: str) -> DatabaseUri:
    """What a URI of libpq, SQLAlchemy or Celery (``db+postgresql://``) says.

    :raises InvalidInputError: it is no URI of one PostgreSQL server; it is not repeated
    """
    match = _URI.fullmatch(text.strip())
    if match is None and _URI.fullmatch((decode_again(text) or "").strip()):
        raise InvalidInputError(
            "its value is a connection string that is encoded in base64 twice",
            where=where,
            remedy="Put the connection string itself into stringData, or its base64 into data",
        )
    if match is None:
        raise InvalidInputError(
            "its value is no connection string of a PostgreSQL server (postgresql://login:password@host:port/database)",
            where=where,
            remedy="Name the secret and key that hold one",
        )
    return DatabaseUri(
        host=match["literal"] or match["host"],
        port=int(match["port"] or 5432),
        user=unquote(match["user"] or ""),
        password=Secret(unquote(match["password"] or "")),
        database=match["database"],
        params=dict(parse_qsl(match["query"] or "")),
    )


def with_database(text: str, database: str) -> str:
    """The same URI with another database; all else stays as it is written."""
    match = _URI.fullmatch(text.strip())
    if match and match["database"] == database:
        return text
    before, after = split_at_database(text)
    return f"{before}{database}{after}"
