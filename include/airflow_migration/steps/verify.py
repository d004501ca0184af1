"""Compare the working database with the frozen clone before anybody uses it."""

from __future__ import annotations

from airflow_migration.deployments.control import control_of, fernet_keys_of
from airflow_migration.planning.verification import VerificationResult, verify
from airflow_migration.progress import Listener
from airflow_migration.steps.migration import Migration


def verify_working_database(migration: Migration, listener: Listener) -> VerificationResult:
    """Prove that everything arrived; the result says so or names what did not.

    The target's keys are those that its control plane holds now; where a person keeps them, the source's
    keys, which that person was told to set.
    """
    source_keys = fernet_keys_of(migration.source)
    control = control_of(migration.target)
    target_keys = control.fernet_keys() if control.kind != "manual" else source_keys
    with migration.frozen.connect() as clone, migration.working.connect() as working:
        return verify(
            clone=clone,
            working=working,
            working_address=migration.working,
            clone_keys=source_keys,
            target_keys=target_keys,
            target_release=migration.plan.target_release,
            migration_id=migration.id,
            runtime=migration.runtime(),
            settings=control.settings(),
            listener=listener,
        )
