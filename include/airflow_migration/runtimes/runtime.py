"""What every place that can run another release's `airflow` offers, and what comes back from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from airflow_migration.metadata.releases import Release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Listener
from airflow_migration.secret import Secret

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionTime:
    """One alembic revision that an upgrade applied.

    :param seconds: from its line in the output to the next revision's, or to the end
    :param title: as alembic printed it
    """

    revision: str
    seconds: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeResult:
    """What one upgrade did.

    :param revisions: empty when the database was at the head already
    :param seconds: for the whole command, Airflow's own start included
    :param exit_code: Airflow's; it does not decide whether the upgrade succeeded
    :param fab_head: head in ``alembic_version_fab``; None without that table
    :param warnings: what the reader of the report should know
    """

    release: str
    from_head: str
    to_head: str
    revisions: tuple[RevisionTime, ...]
    seconds: float
    exit_code: int
    fab_head: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutput:
    """What an `airflow` command printed; hidden, as it may be a decrypted password.

    :param output: standard output as it came
    :param errors: standard error as it came
    """

    exit_code: int
    output: Secret
    errors: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeOrder:
    """What an upgrade is given.

    :param keys: fernet keys, newest first
    :param settings: more ``AIRFLOW__…`` variables, which may hold secrets
    """

    goal: Release
    address: DatabaseAddress
    keys: Secret
    settings: Mapping[str, str] = field(repr=False)


class DetachedUpgrade(Protocol):
    """An upgrade that goes on without the process that has begun it. Any other may go on with what is left to do."""

    def begin(self) -> UpgradeResult | None:
        """Start it, or find it; None while it is at work."""

    def look(self) -> bool:
        """Tell what is new; whether there is nothing to wait for any more."""

    def finish(self, patience: float | None = None) -> UpgradeResult:
        """Wait for its end, or at most `patience` seconds for its start, and judge it by the database."""

    def stop(self) -> None:
        """End it."""


class Runtime(Protocol):
    """A place where the `airflow` command of a given release runs against a given database."""

    def prepare(self, release: str, listener: Listener) -> object:
        """Make the release ready to run, so that the upgrade itself need not wait for it."""

    def upgrade(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        listener: Listener,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> UpgradeResult:
        """Bring the database to the release's alembic head."""

    def detached_upgrade(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        listener: Listener,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> DetachedUpgrade | None:
        """The same for somebody who does not stay; None where an upgrade ends with who began it."""

    def run(
        self,
        release: str,
        address: DatabaseAddress,
        keys: Secret,
        argv: Sequence[str],
        settings: Mapping[str, str] = NO_SETTINGS,
        dags_folder: Path | None = None,
    ) -> CommandOutput:
        """Run any other `airflow` command of the release; without `dags_folder` it sees no DAG files."""

    def clear(self, address: DatabaseAddress, listener: Listener) -> None:
        """End and remove what attempts that were killed have left at work on a database."""

    def stop(self) -> None:
        """End what is running; called from another thread or a signal handler."""
