"""Compare the working database with the frozen clone before anybody uses it."""

from __future__ import annotations

from airflow_migration.metadata.history import kept_conditions, read_cutoff
from airflow_migration.planning.verification import VerificationResult, verify
from airflow_migration.progress import Listener
from airflow_migration.steps.migration import Migration


def verify_working_database(migration: Migration, listener: Listener) -> VerificationResult:
    """Prove that everything arrived; the result says so or names what did not.

    The target's keys are those that its control plane holds now. Where history was left behind, what the
    working database says of it decides which of the clone's rows are compared.
    """
    keys = migration.keys
    with migration.frozen.connect() as clone, migration.working.connect() as working:
        cutoff = read_cutoff(working, migration.id)
        return verify(
            clone=clone,
            working=working,
            working_address=migration.working,
            clone_keys=keys.clone,
            target_keys=migration.keys_in_use,
            target_release=migration.plan.target_release,
            migration_id=migration.id,
            runtime=migration.runtime(),
            settings=migration.target_settings,
            listener=listener,
            kept=kept_conditions(clone, cutoff) if cutoff else None,
            staying=migration.plan.staying,
        )
