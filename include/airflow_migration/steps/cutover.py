"""Hand over: close the source, put the working database in its place, restart the target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_migration.deployments.control import control_of
from airflow_migration.deployments.control_result import ControlResult
from airflow_migration.exceptions import OwnershipError
from airflow_migration.metadata import fencing, journal
from airflow_migration.metadata.fresh import read_occupancy
from airflow_migration.metadata.hand_over import POINT, read_last_run
from airflow_migration.metadata.replaced_rows import read_replaced
from airflow_migration.planning.plan import set_aside_name
from airflow_migration.postgres import databases
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener
from airflow_migration.steps.migration import Migration


@dataclass(frozen=True, slots=True, kw_only=True)
class PointResult:
    """:param set_aside_as: name of the fresh database that had the target's name
    :param control: what was changed in the target's settings
    """

    database: str
    set_aside_as: str | None
    control: ControlResult


def fence_source(migration: Migration, listener: Listener) -> fencing.FenceResult:
    """Leave the source unable to schedule; undone by `roll_back.lift_fence`."""
    fence = migration.plan.options.fence_source
    return fencing.close_source(migration.source.address, migration_id=migration.id, fence=fence, listener=listener)


def point_target(migration: Migration, listener: Listener) -> PointResult:
    """Rename the working database into place and tell the target, where it was told another name.

    A control that can do so brings the target's processes to rest before. A fresh database of that name is set
    aside, which is checked again at the last moment. With ``data_only`` the target's own database was filled, and
    nothing is renamed. Undone by `roll_back.restore_target_settings` and `roll_back.put_back_target_database`.

    :raises OwnershipError: something else has that name now
    """
    plan, final = migration.plan, migration.final
    with migration.source.address.connect() as conn:
        journal.refuse_rolled_back(conn, migration.id)
    control = control_of(migration.target)
    result = ControlResult(kind=control.kind)
    if control.stops_processes:
        result = quiet_target(migration, listener)
    (_hand_over_filled if plan.in_place else _rename)(migration, listener)
    with final.connect() as conn:
        recorded = journal.read_act(conn, migration.id, POINT) or {}
    name = recorded.get("set_aside_as")
    result = result.and_then(control.point_to(plan.target_database, plan.token))
    if plan.settings:
        listener(f"Settings of the target: {', '.join(f'{name}={value}' for name, value in plan.settings.items())}")
        result = result.and_then(control.set_settings(plan.settings, plan.token))
    return PointResult(
        database=plan.target_database, set_aside_as=str(name) if name is not None else None, control=result
    )


def quiet_target(migration: Migration, listener: Listener) -> ControlResult:
    """Bring the target's processes to rest, or say that a person has to; `restart_target` starts them again.

    Undone by `roll_back.restart_target`.
    """
    with migration.source.address.connect(read_only=False) as conn:
        journal.record_act(conn, migration.id, journal.QUIET, {"token": migration.plan.token})
    result = control_of(migration.target).quiet(migration.plan.token, listener)
    for sentence in result.instructions:
        listener(sentence)
    # In the report they would be read too late.
    return result if migration.plan.options.require_approval else replace(result, instructions=())


def _rename(migration: Migration, listener: Listener) -> None:
    plan, final = migration.plan, migration.final
    with final.maintenance().connect() as conn:
        waiting = databases.database_exists(conn, plan.working_database)
        occupied = databases.database_exists(conn, plan.target_database)
    if waiting:
        aside = _choose_aside(migration) if occupied else None
        _record_hand_over(migration, aside)
        if aside:
            databases.rename_database(final, plan.target_database, aside, listener)
        databases.rename_database(final, plan.working_database, plan.target_database, listener)
    elif not is_ours(migration):
        raise _not_ours(migration)


def _hand_over_filled(migration: Migration, listener: Listener) -> None:
    with migration.final.connect() as conn:
        filled = read_replaced(conn, migration.id)
    if not filled or any(each.loaded_rows is None for each in filled):
        raise _not_ours(migration)
    _record_hand_over(migration, None)
    listener(f'The target\'s database "{migration.plan.target_database}" is filled; it keeps its name')


def _not_ours(migration: Migration) -> OwnershipError:
    return OwnershipError(
        f'database "{migration.plan.target_database}" is not the one that this migration made or filled',
        where=migration.final.server,
        remedy="Look for the working database; nothing was renamed",
    )


def is_ours(migration: Migration) -> bool:
    """Whether the database with the target's name is this migration's, by the journal that it carries."""
    with migration.final.maintenance().connect() as conn:
        if not databases.database_exists(conn, migration.plan.target_database):
            return False
    with migration.final.connect() as conn:
        return journal.read_act(conn, migration.id, POINT) is not None


def _choose_aside(migration: Migration) -> str:
    with migration.final.connect() as conn:
        occupancy = read_occupancy(conn)
    if occupancy is not None:
        raise OwnershipError(
            f'database "{migration.plan.target_database}" is {occupancy}',
            where=migration.final.server,
            remedy="Choose another target_database, or move that one out of the way by hand",
        )
    return set_aside_name(migration.plan.target_database, migration.plan.token)


def _record_hand_over(migration: Migration, set_aside: str | None) -> None:
    """Write it into the working database itself, before the rename: the source may be read-only by now."""
    with migration.working.connect(read_only=False) as conn:
        detail = {
            "database": migration.plan.target_database,
            "set_aside_as": set_aside,
            "token": migration.plan.token,
            "settings": dict(migration.plan.settings),
            "last_run": read_last_run(conn),
        }
        journal.record_act(conn, migration.id, POINT, detail)


def restart_target(migration: Migration, listener: Listener) -> ControlResult:
    """Restart the target's processes, or say that a person has to."""
    client = Client("restart_target", {})
    migration.running.add(client.stop)
    return control_of(migration.target).restart(migration.plan.token, client, listener)
