"""Fernet keys as charts keep them: one value of a secret, which is encoded once by the API and not twice."""

from __future__ import annotations

from airflow_migration.deployments.deployment import FERNET_KEY
from airflow_migration.deployments.kubernetes.twice import decode_again
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret


def read_fernet_keys(value: str, where: str) -> Secret:
    """The keys, newest first, separated by commas; none where the value is empty.

    :raises InvalidInputError: it is none; it is not repeated
    """
    keys = [key.strip() for key in value.split(",") if key.strip()]
    for number, key in enumerate(keys, 1):
        if FERNET_KEY.fullmatch(key):
            continue
        if _is_encoded_key(key):
            raise InvalidInputError(
                f"fernet key {number} of {len(keys)} is encoded in base64 twice",
                where=where,
                remedy="Put the key itself (44 characters) into stringData, or its base64 into data; charts encode what"
                " fernetKey gives by themselves",
            )
        raise InvalidInputError(
            f"fernet key {number} of {len(keys)} is not a fernet key (44 characters of base64 for 32 bytes; it has"
            f" {len(key)} characters)",
            where=where,
            remedy="Name the secret and key that hold the deployment's [core] fernet_key",
        )
    return Secret(",".join(keys))


def _is_encoded_key(text: str) -> bool:
    """Whether it is one key or a list of them, encoded once too often, or twice."""
    inner = decode_again(text)
    if inner is None:
        return False
    keys = [key.strip() for key in inner.split(",") if key.strip()]
    return bool(keys) and all(FERNET_KEY.fullmatch(key) or _is_encoded_key(key) for key in keys)
