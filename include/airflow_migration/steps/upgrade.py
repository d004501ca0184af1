"""Bring the working database to the target's release: the key, then repairs and hops, then the mending."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.deployments.control import control_of
from airflow_migration.deployments.control_result import ControlResult
from airflow_migration.metadata import encryption, journal, schedules
from airflow_migration.metadata.reencryption import RewrittenColumn, reencrypt, refuse_unread
from airflow_migration.metadata.repairs import Repair, RepairResult, repair
from airflow_migration.metadata.repairs.registry import QUARANTINE
from airflow_migration.metadata.repairs.undecryptable import quarantine
from airflow_migration.planning.keys import REENCRYPT, SWAP, Keys
from airflow_migration.progress import Listener
from airflow_migration.runtimes.runtime import DetachedUpgrade, UpgradeResult
from airflow_migration.steps.migration import Migration


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyResult:
    """What was done about the fernet keys.

    :param fernet: ``swap``, ``reencrypt`` or ``keep``
    :param control: what was changed in the target's settings; None when its key stays
    :param columns: what was rewritten in the working database
    :param repairs: what was cleared there before, as no key reads it
    """

    fernet: str
    control: ControlResult | None
    columns: tuple[RewrittenColumn, ...]
    repairs: tuple[Repair, ...] = ()


def swap_fernet_key(migration: Migration, listener: Listener) -> KeyResult:
    """Make the working database and the target's key fit each other, before the upgrade writes encrypted values.

    Values that no key reads are cleared first, where that may be: they would be refused otherwise.

    :raises InvalidInputError: an encrypted value is read by no key that would do; nothing was changed
    """
    keys = migration.keys
    cleared = _quarantine(migration, keys, listener)
    if keys.fernet == SWAP and migration.scratch is not None:
        listener("The target would get the source's key; a rehearsal leaves it alone")
        return KeyResult(fernet=SWAP, control=None, columns=(), repairs=cleared)
    if keys.fernet == SWAP:
        return KeyResult(fernet=SWAP, control=_give_keys(migration, keys, listener), columns=(), repairs=cleared)
    with migration.working.connect(read_only=False) as conn:
        if keys.fernet == REENCRYPT:
            columns = reencrypt(conn, old=keys.source, new=keys.target, listener=listener)
            rewritten, left = sum(each.rewritten for each in columns), sum(each.left for each in columns)
            listener(f"{rewritten} value(s) are rewritten with the target's key, {left} it read already")
        else:
            columns = ()
            refuse_unread(conn, keys.target)
            listener("The target's key reads every encrypted value, and stays")
    return KeyResult(fernet=keys.fernet, control=None, columns=columns, repairs=cleared)


def _quarantine(migration: Migration, keys: Keys, listener: Listener) -> tuple[Repair, ...]:
    if QUARANTINE not in migration.plan.repairs:
        return ()
    with migration.working.connect(read_only=False) as conn:
        return quarantine(conn, keys=keys.clone, target_keys=keys.working, migration_id=migration.id, listener=listener)


def _give_keys(migration: Migration, keys: Keys, listener: Listener) -> ControlResult:
    """Give the target the source's keys; the settings as they were are kept beside them.

    Undone by `roll_back.restore_target_settings`.
    """
    with migration.source.address.connect(read_only=False) as conn:
        detail = {"connection": migration.plan.options.target_conn_id, "token": migration.plan.token}
        journal.record_act(conn, migration.id, journal.SWAP, detail)
    result = control_of(migration.target).set_fernet_keys(keys.source, migration.plan.token)
    nothing = "nothing by this task" if result.instructions else "nothing, the target has this key already"
    listener(f"Changed: {', '.join(result.changed) or nothing}")
    return result


def repair_before_hop(migration: Migration, number: int, listener: Listener) -> RepairResult:
    """Repair what the migrations of hop `number` (from 1) would stumble over.

    What stands in the way of the upgrade is moved to schema ``airflow_migration``, never deleted.
    """
    hop = migration.plan.hops[number - 1]
    keys = migration.keys.working
    fernet = encryption.read_keys(keys) if keys else None
    with migration.working.connect(read_only=False) as conn:
        return repair(
            conn,
            head=hop.from_head,
            target_head=hop.head,
            migration_id=migration.id,
            listener=listener,
            allowed=migration.plan.repairs,
            decrypt=lambda token: encryption.decrypt_one(fernet, token),
        )


def upgrade_by_hop(migration: Migration, number: int, listener: Listener) -> UpgradeResult:
    """Run hop `number`'s own `airflow db upgrade` or `db migrate` on the working database.

    :raises ToolError: its head is not reached; the working database may then be half-way, the frozen
        clone is as it was
    """
    release, settings = migration.plan.hops[number - 1].release, migration.target_settings
    return migration.runtime().upgrade(release, migration.working, migration.keys.working, listener, settings)


def detached_upgrade_by_hop(migration: Migration, number: int, listener: Listener) -> DetachedUpgrade | None:
    """The same where the target's runtime goes on without us; None where it does not."""
    release, settings = migration.plan.hops[number - 1].release, migration.target_settings
    return migration.runtime().detached_upgrade(release, migration.working, migration.keys.working, listener, settings)


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
