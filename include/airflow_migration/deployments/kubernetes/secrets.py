"""Change one value of a secret so that it can be taken back, and never over somebody else's change."""

from __future__ import annotations

import base64
from collections.abc import Callable

from airflow_migration.deployments.kubernetes.cluster import (
    SECRETS,
    AlreadyExistsError,
    Cluster,
    ConflictError,
    JsonObject,
    NotFoundError,
)
from airflow_migration.deployments.kubernetes.discovery import Place, decode
from airflow_migration.deployments.kubernetes.labels import PREFIX
from airflow_migration.exceptions import InvalidInputError, OwnershipError

MIGRATION = f"{PREFIX}/migration"
"""Label: the migration's token, as a run's id holds characters that no label may have."""
OF = f"{PREFIX}/of"
"""Annotation: the secret whose values are kept, as the name may be cut."""
SUFFIX = "-before-migration"
NAME_LENGTH = 253
ATTEMPTS = 5

Change = Callable[[str], str]
"""From the value of before the migration to the one that it sets."""


class KeptSecrets:
    """Secrets that a migration changes. What was there before is kept in ``<secret>-before-migration``.

    :param token: of the migration
    """

    def __init__(self, cluster: Cluster, token: str) -> None:
        self._cluster, self._token = cluster, token

    def set(self, place: Place, change: Change) -> bool:
        """Give a value; the former one is kept first.

        :returns: whether it had to be changed
        :raises InvalidInputError: somebody else has changed it since it was kept; it stays
        :raises ConflictError: others write the secret all the time
        """
        for _ in range(ATTEMPTS):
            secret = self._cluster.get(SECRETS, place.name)
            present, kept = decode(self._cluster, place, secret), self._kept_value(place)
            before = present if kept is None else kept
            wanted = change(before)
            if present == wanted:
                return False
            if present != before:
                raise InvalidInputError(
                    f"somebody else has changed {place.key} since this migration kept its former value",
                    where=self._cluster.where(SECRETS, place.name),
                    remedy=f"Look who sets it; to take it as it is now, delete {self.find(place)} and retry",
                )
            try:
                if kept is None:
                    self._keep(place, present)
                self._write(place, secret, wanted)
            except (ConflictError, AlreadyExistsError):
                continue
            return True
        raise self._contended(place)

    def restore(self, place: Place, change: Change) -> bool | None:
        """Undo of `set`.

        :returns: None when nothing was changed; False when somebody else has set another value since, which stays
        """
        kept = self._kept_value(place)
        if kept is None:
            return None
        for _ in range(ATTEMPTS):
            try:
                secret = self._cluster.get(SECRETS, place.name)
                present = decode(self._cluster, place, secret)
                if present not in (kept, change(kept)):
                    return False
                if present != kept:
                    self._write(place, secret, kept)
            except ConflictError:
                continue
            except NotFoundError:
                return False
            return True
        raise self._contended(place)

    def find(self, place: Place) -> str | None:
        """Name of the secret with the former values."""
        kept = self._read_kept(place)
        return None if kept is None else str(kept["metadata"]["name"])

    def forget(self, place: Place) -> None:
        """Delete the secret with the former values."""
        kept = self._read_kept(place)
        if kept is not None:
            self._cluster.delete(SECRETS, kept["metadata"]["name"], uid=kept["metadata"]["uid"])

    def _kept_value(self, place: Place) -> str | None:
        kept = self._read_kept(place)
        if kept is None or place.key not in (kept.get("data") or {}):
            return None
        return decode(self._cluster, place, kept)

    def _read_kept(self, place: Place) -> JsonObject | None:
        for name in self._names(place):
            try:
                secret = self._cluster.get(SECRETS, name)
            except NotFoundError:
                continue
            if self._is_ours(secret, place):
                return secret
        return None

    def _is_ours(self, secret: JsonObject, place: Place) -> bool:
        metadata = secret["metadata"]
        labelled = (metadata.get("labels") or {}).get(MIGRATION) == self._token
        return labelled and (metadata.get("annotations") or {}).get(OF) == place.name

    def _keep(self, place: Place, value: str) -> None:
        """Into our secret beside other keys, or into a new one under the first name that is free."""
        data = {place.key: encode(value)}
        kept = self._read_kept(place)
        if kept is not None:
            version = {"resourceVersion": kept["metadata"]["resourceVersion"]}
            self._cluster.patch(SECRETS, kept["metadata"]["name"], {"metadata": version, "data": data})
            return
        for name in self._names(place):
            metadata = {"name": name, "labels": {MIGRATION: self._token}, "annotations": {OF: place.name}}
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
            try:
                self._cluster.create(SECRETS, body)
            except AlreadyExistsError:
                continue
            return
        raise OwnershipError(
            f"secrets named {' and '.join(self._names(place))} exist, which this migration has not made",
            where=self._cluster.where(SECRETS),
            remedy="Delete or rename one of them",
        )

    def _names(self, place: Place) -> tuple[str, str]:
        """A former migration may have taken the first."""
        return kept_name(place.name), kept_name(place.name, f"{SUFFIX}-{self._token}")

    def _write(self, place: Place, secret: JsonObject, value: str) -> None:
        version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
        self._cluster.patch(SECRETS, place.name, {"metadata": version, "data": {place.key: encode(value)}})

    def _contended(self, place: Place) -> ConflictError:
        return ConflictError(
            f"it was changed by somebody else at each of {ATTEMPTS} tries",
            where=self._cluster.where(SECRETS, place.name),
            remedy="Look what writes it all the time; then retry",
        )


def kept_name(name: str, suffix: str = SUFFIX) -> str:
    """Name of a secret's copy, not longer than a name may be."""
    return name[: NAME_LENGTH - len(suffix)].rstrip("-.") + suffix


def encode(value: str) -> str:
    """As a secret's data hold it."""
    return base64.b64encode(value.encode()).decode()
