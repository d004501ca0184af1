"""Bring the working database to the target's release: the key, then repairs and hops, then the mending."""

from __future__ import annotations

from airflow_migration.deployments.control import ControlResult, control_of, fernet_keys_of
from airflow_migration.metadata import encryption, journal, schedules
from airflow_migration.metadata.journal import SWAP
from airflow_migration.metadata.repairs import RepairResult, repair
from airflow_migration.progress import Listener
from airflow_migration.runtimes.runtime import UpgradeResult
from airflow_migration.steps.migration import Migration


def swap_fernet_key(migration: Migration, listener: Listener) -> ControlResult:
    """Give the target the source's keys; the settings as they were are kept beside them.

    A source that encrypts nothing has no key to give: the target keeps its own. Undone by
    `roll_back.restore_target_settings`.
    """
    keys, control = fernet_keys_of(migration.source), control_of(migration.target)
    if not keys:
        listener("The source has no key; the target keeps its own")
        return ControlResult(kind=control.kind)
    with migration.source.address.connect(read_only=False) as conn:
        detail = {"connection": migration.plan.options.target_conn_id, "token": migration.plan.token}
        journal.record_act(conn, migration.id, SWAP, detail)
    result = control.set_fernet_keys(keys, migration.plan.token)
    listener(f"Changed: {', '.join(result.changed) or 'nothing, the target has this key already'}")
    return result


def repair_before_hop(migration: Migration, number: int, listener: Listener) -> RepairResult:
    """Repair what the migrations of hop `number` (from 1) would stumble over.

    What stands in the way of the upgrade is moved to schema ``airflow_migration``, never deleted.
    """
    hop = migration.plan.hops[number - 1]
    keys = fernet_keys_of(migration.source)
    fernet = encryption.read_keys(keys) if keys else None
    with migration.working.connect(read_only=False) as conn:
        return repair(
            conn,
            head=hop.from_head,
            target_head=hop.head,
            migration_id=migration.id,
            listener=listener,
            decrypt=lambda token: encryption.decrypt_one(fernet, token),
        )


def upgrade_by_hop(migration: Migration, number: int, listener: Listener) -> UpgradeResult:
    """Run hop `number`'s own `airflow db upgrade` or `db migrate` on the working database.

    :raises ToolError: its head is not reached; the working database may then be half-way, the frozen
        clone is as it was
    """
    hop = migration.plan.hops[number - 1]
    return migration.runtime().upgrade(
        hop.release,
        migration.working,
        fernet_keys_of(migration.source),
        listener,
        control_of(migration.target).settings(),
    )


def mend_schedules(migration: Migration, listener: Listener) -> schedules.MendResult:
    """Mend what the official upgrades leave broken for the target's scheduler, before it starts."""
    with migration.frozen.connect() as frozen:
        recorded = schedules.read_schedules(frozen)
    with migration.working.connect(read_only=False) as conn:
        return schedules.mend_before_start(
            conn,
            source_head=migration.plan.source_head,
            recorded=recorded,
            migration_id=migration.id,
            listener=listener,
        )
