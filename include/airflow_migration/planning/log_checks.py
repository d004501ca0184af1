"""See whether the target looks for task logs where the source has written them."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_migration.deployments.control import ManualControl, control_of
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import MigrationError
from airflow_migration.metadata.findings import Finding
from airflow_migration.postgres.address import Session

NAMES = ("REMOTE_LOGGING", "REMOTE_BASE_LOG_FOLDER", "BASE_LOG_FOLDER")
"""In section logging, before 2.0 in core."""


def check_logs(conn: Session, source: Deployment, target: Deployment) -> Iterator[Finding]:
    """Task logs are no part of the database: they stay where they are.

    :param conn: session on the source
    """
    row = conn.execute("SELECT count(*) FROM dag_run").fetchone()
    runs = int(str(row[0])) if row else 0
    if not runs:
        return
    old, new = _log_settings(source), _log_settings(target)
    if old is None or new is None:
        unseen = " and ".join(name for name, seen in (("source", old), ("target", new)) if seen is None)
        yield Finding(
            check="log_folder",
            severity="info",
            summary=f"the logs of {runs} run(s) stay where they are; where the {unseen} looks for logs cannot be seen",
            count=runs,
            remedy="Give the target the source's remote_base_log_folder, or copy base_log_folder, to read them there",
        )
        return
    different = tuple(name.lower() for name in NAMES if old.get(name) != new.get(name))
    if different:
        yield Finding(
            check="log_folder",
            severity="warning",
            summary=f"the logs of {runs} run(s) will not be found at the target: its settings of logging are others",
            count=runs,
            evidence=different,
            remedy="Give the target the source's values of these settings, or copy the logs",
        )


def _log_settings(deployment: Deployment) -> dict[str, str] | None:
    """Name → value of what the file says; None where no file can be read."""
    control = control_of(deployment)
    if control.kind == ManualControl.kind:
        return None
    try:
        read = control.read_settings(
            [f"AIRFLOW__{section}__{name}" for name in NAMES for section in ("CORE", "LOGGING")]
        )
    except MigrationError:  # said by the check of the control itself
        return None
    return {name.rpartition("__")[2]: value for name, value in read.items()}
