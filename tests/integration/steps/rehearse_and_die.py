"""A worker that is killed in the middle of a rehearsal: told on standard input what and when, it kills itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.progress import Progress
from airflow_migration.secret import Secret
from airflow_migration.steps import rehearsal
from airflow_migration.steps.migration import Migration, Workshop


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deployment(fields: dict[str, Any]) -> Deployment:
    address = DatabaseAddress(**(fields | {"password": Secret(fields["password"])}))
    return Deployment(address=address, runtime={"kind": "venv"})


def main() -> None:
    """Dies at the first measurement whose `what` is the wanted one, or after the wanted step."""
    told = json.load(sys.stdin)
    folder, moment = Path(told["folder"]), told["moment"]
    target = deployment(told["target"])
    migration = Migration(
        plan=Plan.from_json(told["plan"]),
        source=deployment(told["source"]),
        target=target,
        scratch=target.address,
        workshop=Workshop(runtimes_path=folder, dumps_path=folder, reports_path=str(folder)),
    )

    def listen(message: Progress | str) -> None:
        if isinstance(message, Progress) and message.what == moment:
            die()

    if moment == "claimed":
        rehearsal.claim_scratch(migration.plan, target.address, folder)
        die()
    if moment == "unlabelled":
        rehearsal.claim_scratch(migration.plan, target.address, folder)
        with target.address.maintenance().connect(read_only=False, autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{migration.plan.frozen_database}"')
        die()
    rehearsal.copy_source(migration, folder, listen)
    rehearsal.make_working_database(migration, listen)
    if moment == "restored":
        die()


if __name__ == "__main__":
    main()
