"""Where a release's metadata database is, by its secrets, also where PgBouncer stands in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_migration.deployments.kubernetes import pgbouncer, uri
from airflow_migration.deployments.kubernetes.cluster import SECRETS, Cluster
from airflow_migration.deployments.kubernetes.discovery import (
    METADATA,
    POOLER,
    RESULT_BACKEND,
    Place,
    find,
    read,
    require,
)
from airflow_migration.deployments.kubernetes.secrets import Change
from airflow_migration.exceptions import InvalidInputError

KEDA = "kedaConnection"
"""Key in the metadata secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the secrets say of the metadata database.

    :param direct: its address on the server itself
    :param written: what the metadata secret says
    :param pooler: where PgBouncer's configuration is, if it stands in front
    """

    direct: uri.DatabaseUri
    written: uri.DatabaseUri
    place: Place
    pooler: Place | None = None


def read_metadata(cluster: Cluster, control: Mapping[str, Any]) -> Metadata:
    """Follow the metadata secret to the server.

    :raises InvalidInputError: a secret is missing, or says something that cannot be followed
    """
    place = require(cluster, control, METADATA)
    where = cluster.where(SECRETS, place.name)
    written = uri.read_uri(read(cluster, place), where)
    pooler = _pooler(cluster, control, written)
    if pooler is None:
        return Metadata(direct=written, written=written, place=place)
    ini = read(cluster, pooler)
    behind = pgbouncer.read_databases(ini).get(written.database)
    if behind is None:
        raise InvalidInputError(
            f'the metadata secret leads to PgBouncer, whose configuration knows no database "{written.database}"',
            where=cluster.where(SECRETS, pooler.name),
            remedy="Name the right secret in control, as pgbouncer_from; or fill in the connection's host and schema",
        )
    mode = pgbouncer.read_options(ini).get("server_tls_sslmode")
    params = {"sslmode": mode} if mode else {}
    direct = replace(written, host=behind.host, port=behind.port, database=behind.database, params=params)
    return Metadata(direct=direct, written=written, place=place, pooler=pooler)


def changes(cluster: Cluster, control: Mapping[str, Any], database: str) -> list[tuple[Place, Change]]:
    """The values that name the metadata database, each with the change that has it name another one.

    :raises InvalidInputError: a secret is missing, or says something that cannot be followed
    """
    metadata = read_metadata(cluster, control)

    def change(text: str) -> str:
        return uri.with_database(text, database)

    if metadata.pooler is not None:
        name = metadata.written.database
        beside = [(place, change) for place in _past_pooler(cluster, metadata.place)]
        return [*beside, (metadata.pooler, lambda ini: pgbouncer.with_database(ini, name, database))]
    results = find(cluster, control, RESULT_BACKEND)
    if results is None or not _leads_to(cluster, results, metadata.written):
        return [(metadata.place, change)]
    # The metadata secret comes last: by what it says a retry knows whether the other has to follow.
    return [(results, change), (metadata.place, change)]


def places(cluster: Cluster, control: Mapping[str, Any], database: str) -> list[tuple[Place, Change]]:
    """All values that `changes` may have changed, each with the change that was made.

    :raises InvalidInputError: a secret is missing, or says something that cannot be followed
    """
    found, results = changes(cluster, control, database), find(cluster, control, RESULT_BACKEND)
    if results is not None and all(place != results for place, _ in found):
        found.append((results, lambda text: uri.with_database(text, database)))
    return found


def _leads_to(cluster: Cluster, results: Place, metadata: uri.DatabaseUri) -> bool:
    other = uri.read_uri(read(cluster, results), cluster.where(SECRETS, results.name))
    return (other.host, other.port, other.database) == (metadata.host, metadata.port, metadata.database)


def _pooler(cluster: Cluster, control: Mapping[str, Any], written: uri.DatabaseUri) -> Place | None:
    """PgBouncer's configuration, where the metadata secret leads to it.

    The official chart names its service ``<release>-pgbouncer`` or ``<fullname>-pgbouncer`` (templates/pgbouncer,
    1.0 to 1.22); behind a service of another name it is known by its configuration.
    """
    place, by_name = find(cluster, control, POOLER), written.host.partition(".")[0].endswith("pgbouncer")
    if place is None and by_name:
        raise InvalidInputError(
            "the metadata secret leads to PgBouncer, and no secret with its configuration is found",
            where=cluster.where(SECRETS),
            remedy="Name it in control, as pgbouncer_from",
        )
    if place is None or POOLER.says in control or by_name:
        return place
    return place if _listens(read(cluster, place), written) else None


def _listens(ini: str, written: uri.DatabaseUri) -> bool:
    """Whether a connection string fits PgBouncer itself, and not the server behind it."""
    behind = pgbouncer.read_databases(ini).get(written.database)
    port = pgbouncer.read_options(ini).get("listen_port", pgbouncer.DEFAULT_PORT)
    address = (written.host, written.port)
    return behind is not None and str(written.port) == port and (behind.host, behind.port) != address


def _past_pooler(cluster: Cluster, metadata: Place) -> list[Place]:
    """What leads past PgBouncer: the chart writes it for KEDA, which counts the tasks that wait."""
    place = Place(metadata.name, KEDA)
    return [place] if KEDA in (cluster.get(SECRETS, metadata.name).get("data") or {}) else []
