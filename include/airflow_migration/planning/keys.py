"""Know which fernet keys read what in a migration: the one place that decides it."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.deployments.control import (
    ManualControl,
    configured_fernet_keys,
    control_of,
    fernet_keys_of,
)
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.secret import Secret

SWAP, REENCRYPT, KEEP = "swap", "reencrypt", "keep"
FERNET = (SWAP, REENCRYPT, KEEP)
"""What becomes of the fernet keys: the target takes the source's, or the values are rewritten with the target's, or
nothing is done as the target's read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of both sides.

    :param fernet: ``swap``, ``reencrypt`` or ``keep``
    :param source: the source's
    :param target: those that the target is set up with; not asked for where it takes the source's
    """

    fernet: str
    source: Secret
    target: Secret

    @property
    def clone(self) -> Secret:
        """What reads the source and its frozen clone: with the target's keys too, where those may do."""
        known = [keys.reveal() for keys in (self.source, self.target) if keys]
        return Secret(",".join(known))

    @property
    def working(self) -> Secret:
        """What reads and writes the working database once task `swap_fernet_key` is done, the upgrade included.

        ``db migrate`` itself encrypts trigger.kwargs on the way to 2.9.0, with the key that it is given.
        """
        return self.source if self.fernet == SWAP else self.target


def keys_of(source: Deployment, target: Deployment, fernet: str) -> Keys:
    """The keys as the connections and the control planes give them.

    A source without a key has none to give: then the target keeps its own.

    :raises InvalidInputError: a file that should hold a key cannot be read
    """
    theirs = fernet_keys_of(source)
    if fernet == SWAP and not theirs:
        fernet = KEEP
    return Keys(fernet=fernet, source=theirs, target=Secret("") if fernet == SWAP else configured_fernet_keys(target))


def keys_in_use(keys: Keys, target: Deployment) -> Secret:
    """The keys that the target will use by what its control plane says now.

    Where a person keeps them and was to set the source's, the source's.
    """
    control = control_of(target)
    if keys.fernet != SWAP:
        return keys.target
    return keys.source if control.kind == ManualControl.kind else control.fernet_keys()
