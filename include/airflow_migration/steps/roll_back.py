"""Take a migration back, finished or failed: every act of it is undone by what the source's journal says of it.

The order keeps one promise at every instant: the source is unpaused only when the target can no longer
schedule. Each step looks anew, so that all of them may be repeated after a kill.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from airflow_migration.deployments.control import control_of, fernet_keys_of
from airflow_migration.deployments.control_result import ControlResult
from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError, MigrationError, OwnershipError, ServerUnreachableError
from airflow_migration.metadata import fencing, journal, pausing
from airflow_migration.metadata.draining import read_in_flight
from airflow_migration.metadata.hand_over import HandOver, count_runs_since
from airflow_migration.planning.plan import dump_name
from airflow_migration.planning.roll_back import RollBackOptions, RollBackPlan, find_hand_over
from airflow_migration.postgres import clone, databases, dump_directory
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Listener
from airflow_migration.steps.data_only import restore_target_rows
from airflow_migration.steps.migration import Running, Workshop, build_runtime

WHERE = "roll back"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """One roll back under way."""

    plan: RollBackPlan
    source: Deployment
    target: Deployment
    workshop: Workshop
    running: Running = field(default_factory=Running)

    @property
    def id(self) -> str:
        return self.plan.migration_id

    @property
    def final(self) -> DatabaseAddress:
        return self.target.address.on(self.plan.target_database)

    @property
    def dump_path(self) -> Path:
        return self.workshop.dumps_path / dump_name(self.plan.token)

    def read_hand_over(self, database: str | None = None) -> HandOver | None:
        """What the target's database says, or another one of its server; None when it is not the migration's."""
        address = self.target.address.on(database or self.plan.target_database)
        with address.maintenance().connect() as here:
            return find_hand_over(here, address, self.plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseTargetResult:
    """:param paused: DAGs of the target that this call paused
    :param lost_runs: DAG runs that the target has made since the hand-over
    :param running: task instances that ran there when it was paused
    """

    paused: int
    lost_runs: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBackResult:
    """:param moved_to: name of the migrated database until it is dropped; None when it had not the target's
    :param put_back: the fresh database of before has its name again, or its rows
    :param warnings: what a person must know
    """

    moved_to: str | None
    put_back: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropResult:
    """:param dropped: databases that this call dropped
    :param kept: what is left of the migration: a database, a directory
    """

    dropped: tuple[str, ...]
    removed_dump: str | None
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseResult:
    """:param state: of the migration in the source's journal"""

    state: str


def allow_connections(options: RollBackOptions, source: Deployment, listener: Listener) -> bool:
    """Open the doors that a killed clone of this migration left shut; before, the journal cannot be read.

    :returns: whether they were shut
    :raises InvalidInputError: it was not this migration that shut them; they are shut again
    """
    address = source.address
    if not clone.allow_connections(address, address.database):
        listener("The source lets connections in")
        return False
    with address.connect() as conn:
        ours = journal.read_act(conn, options.migration_id, journal.BLOCK) is not None
    if not ours:
        clone.block_connections(address, address.database, listener)
        raise InvalidInputError(
            f'the source lets no connections in, and it was not migration "{options.migration_id}" that shut them out',
            where=str(address),
            remedy="If it is the right source: ALTER DATABASE … ALLOW_CONNECTIONS true, then retry",
        )
    listener("Connections to the source are let in again")
    return True


def pause_target(roll_back: RollBack, listener: Listener) -> PauseTargetResult:
    """Take the migration up again in the source's journal, and have its target schedule nothing any more."""
    with roll_back.source.address.connect(read_only=False) as conn:
        state = journal.begin_roll_back(conn, roll_back.id).state
    if state == journal.ROLLED_BACK:
        listener(f"Migration {roll_back.id} is rolled back already")
        return PauseTargetResult(paused=0, **_read_lost(roll_back))
    hand_over = roll_back.read_hand_over()
    paused = 0
    if hand_over is not None:
        with roll_back.final.connect(read_only=False) as conn:
            journal.refuse_later(conn, roll_back.id)
            paused = pausing.pause_all(conn)
            conn.commit()
            lost = {"lost_runs": count_runs_since(conn, hand_over.last_run), "running": read_in_flight(conn).running}
        with roll_back.source.address.connect(read_only=False) as conn:
            journal.record_undo(conn, roll_back.id, journal.ROLL_BACK, lost)
    result = PauseTargetResult(paused=paused, **_read_lost(roll_back))
    listener(f"{paused} DAG(s) of the target paused; {result.lost_runs} run(s) of its own are lost")
    return result


def _read_lost(roll_back: RollBack) -> dict[str, int]:
    """What the first try saw: a later one finds the database gone."""
    with roll_back.source.address.connect() as conn:
        lost = journal.read_act(conn, roll_back.id, journal.ROLL_BACK) or {}
    return {name: int(str(lost.get(name, 0))) for name in ("lost_runs", "running")}


def restore_target_settings(roll_back: RollBack, listener: Listener) -> ControlResult:
    """Give the target its own key and database address again; undo of `swap_fernet_key` and `point_target`.

    What a person has changed since is left alone, and named.
    """
    control = control_of(roll_back.target)
    if not _concerns_target(roll_back):
        listener("The target's settings were not changed")
        return ControlResult(kind=control.kind)
    keys = fernet_keys_of(roll_back.source)
    hand_over = roll_back.read_hand_over()
    result = control.restore(
        roll_back.plan.token,
        keys=keys,
        database=roll_back.plan.target_database,
        settings=hand_over.settings if hand_over else {},
    )
    listener(f"As before: {', '.join(result.changed) or 'nothing had to be changed'}")
    for sentence in result.instructions:
        listener(sentence)
    return result


def put_back_target_database(roll_back: RollBack, listener: Listener) -> PutBackResult:
    """Take the target's name from the migrated database and give it back to the one that was set aside.

    Undo of `point_target`'s renames. The migrated database has its working name until it is dropped. Where the
    target's own database was filled, it gets its rows back instead: undo of `data_only.fill_target`.
    """
    plan = roll_back.plan
    if plan.filled:
        return _put_back_rows(roll_back, listener)
    moved = None
    if (hand_over := roll_back.read_hand_over()) is not None:
        _refuse_early(roll_back)
        moved = plan.working_database
        assert moved is not None
        acting = _acting(roll_back, plan.target_database)
        databases.rename_database(acting, plan.target_database, moved, listener)
    elif plan.working_database is not None:
        hand_over = roll_back.read_hand_over(plan.working_database)
    aside = (hand_over.set_aside_as if hand_over else None) or plan.set_aside_as
    with roll_back.final.maintenance().connect() as conn:
        waiting = databases.database_exists(conn, aside)
        occupied = databases.database_exists(conn, plan.target_database)
    if not waiting:
        return PutBackResult(moved_to=moved, put_back=False, warnings=())
    if occupied:
        sentence = f'"{plan.target_database}" is somebody else\'s by now; the database of before is still "{aside}"'
        listener(sentence)
        return PutBackResult(moved_to=moved, put_back=False, warnings=(sentence,))
    databases.rename_database(_acting(roll_back, aside), aside, plan.target_database, listener)
    return PutBackResult(moved_to=moved, put_back=True, warnings=())


def _put_back_rows(roll_back: RollBack, listener: Listener) -> PutBackResult:
    if roll_back.read_hand_over() is not None:
        _refuse_early(roll_back)
    control = control_of(roll_back.target)
    # Where only a person could stop them, paused DAGs have to do; restart_target follows.
    if control.stops_processes:
        control.quiet(roll_back.plan.token, listener)
    tables = restore_target_rows(roll_back.final, roll_back.id, listener)
    return PutBackResult(moved_to=None, put_back=tables > 0, warnings=())


def restart_target(roll_back: RollBack, listener: Listener) -> ControlResult:
    """Restart the target's processes with their settings of before, or say that a person has to."""
    control = control_of(roll_back.target)
    if not _concerns_target(roll_back):
        listener("The target was not touched")
        return ControlResult(kind=control.kind)
    client = Client("restart_target", roll_back.final.environment())
    roll_back.running.add(client.stop)
    return control.restart(roll_back.plan.token, client, listener)


def lift_fence(roll_back: RollBack, listener: Listener) -> bool:
    """Let the source write again; undo of `fence_source`.

    :returns: whether there was a fence of this migration to lift
    """
    if not _is_under_way(roll_back) or _is_resumed(roll_back):
        listener("The source goes on already")
        return False
    _refuse_scheduling_target(roll_back)
    return fencing.lift_fence(roll_back.source.address, migration_id=roll_back.id, listener=listener)


def resume_source(roll_back: RollBack, listener: Listener) -> pausing.UnpauseResult:
    """Unpause exactly the DAGs that were active; undo of `pause_dags`."""
    if _is_under_way(roll_back) and not _is_resumed(roll_back):
        _refuse_scheduling_target(roll_back)
    with roll_back.source.address.connect(read_only=False) as conn:
        result = pausing.give_flags_back(conn, migration_id=roll_back.id)
    listener(f"{result.unpaused} DAG(s) of the source are active again; {result.already_active} were already")
    return result


def drop_created(roll_back: RollBack, listener: Listener) -> DropResult:
    """Drop what the migration made; the backup stays unless it is to be purged."""
    plan = roll_back.plan
    _refuse_not_resumed(roll_back)
    dropped, kept = [], []
    if plan.working_database:
        runtime = build_runtime(roll_back.target, roll_back.workshop)
        runtime.clear(roll_back.target.address.on(plan.working_database), listener)
    if plan.working_database and _drop(roll_back, plan.working_database, listener):
        dropped.append(plan.working_database)
    removed = None
    if plan.options.purge:
        if plan.frozen_database and databases.drop_database(roll_back.source.address, plan.frozen_database, listener):
            dropped.append(plan.frozen_database)
        removed = _remove_dump(roll_back, listener)
    else:
        kept = _list_kept(roll_back)
    listener(f"Dropped: {', '.join(dropped) or 'nothing'}; kept: {', '.join(kept) or 'nothing'}")
    return DropResult(dropped=tuple(dropped), removed_dump=removed, kept=tuple(kept))


def close_journal(roll_back: RollBack, listener: Listener) -> CloseResult:
    """Let the source be migrated anew, last of all."""
    _refuse_not_resumed(roll_back)
    with roll_back.source.address.connect(read_only=False) as conn:
        journal.set_state(conn, roll_back.id, journal.ROLLED_BACK)
    listener(f"Migration {roll_back.id} is rolled back")
    return CloseResult(state=journal.ROLLED_BACK)


def _drop(roll_back: RollBack, database: str, listener: Listener) -> bool:
    with roll_back.target.address.maintenance().connect() as conn:
        if not databases.database_exists(conn, database):
            return False
    return databases.drop_database(_acting(roll_back, database), database, listener)


def _remove_dump(roll_back: RollBack, listener: Listener) -> str | None:
    path = roll_back.dump_path
    dump_directory.discard_partial(path)
    if not path.exists():
        return None
    shutil.rmtree(path)
    listener(f"The dump {path} was removed")
    return str(path)


def _list_kept(roll_back: RollBack) -> list[str]:
    kept = []
    if roll_back.plan.frozen_database:
        with roll_back.source.address.maintenance().connect() as conn:
            if databases.database_exists(conn, roll_back.plan.frozen_database):
                kept.append(roll_back.plan.frozen_database)
    if roll_back.dump_path.exists():
        kept.append(str(roll_back.dump_path))
    return kept


def _acting(roll_back: RollBack, database: str) -> DatabaseAddress:
    """Whoever may rename and drop a database of the target's server.

    A template clone belongs to the source's role until it is handed over.
    """
    target, source = roll_back.target.address, roll_back.source.address
    with target.maintenance().connect() as here, source.maintenance().connect() as there:
        if databases.may_alter(here, database):
            return target
        same_server = databases.describe_server(here).identity == databases.describe_server(there).identity
        if same_server and databases.may_alter(there, database):
            return source
    raise OwnershipError(
        f'neither "{target.user}" nor "{source.user}" owns database "{database}"',
        where=roll_back.plan.target_server,
        remedy="Use its owner's login in the target's connection",
    )


def _concerns_target(roll_back: RollBack) -> bool:
    return _is_under_way(roll_back) and (roll_back.plan.touches_target or roll_back.read_hand_over() is not None)


def _is_under_way(roll_back: RollBack) -> bool:
    with roll_back.source.address.connect() as conn:
        entry = journal.require_known(conn, roll_back.id)
    if entry.state == journal.ROLLED_BACK:
        return False
    _refuse_not_begun(entry.state)
    return True


def _refuse_not_begun(state: str) -> None:
    if state != journal.ROLLING_BACK:
        raise MigrationError(f"the migration is {state}", where=WHERE, remedy="Run pause_target first")


def _refuse_early(roll_back: RollBack) -> None:
    """The target's database is taken away only when it schedules nothing, and nobody has migrated it on."""
    with roll_back.final.connect() as conn:
        journal.refuse_later(conn, roll_back.id)
    _is_under_way(roll_back)
    _refuse_scheduling_target(roll_back)


def _is_resumed(roll_back: RollBack) -> bool:
    with roll_back.source.address.connect() as conn:
        return journal.read_act(conn, roll_back.id, pausing.RESUME) is not None


def _refuse_not_resumed(roll_back: RollBack) -> None:
    if not _is_resumed(roll_back):
        raise MigrationError("the source does not go on yet", where=WHERE, remedy="Run resume_source first")


def _refuse_scheduling_target(roll_back: RollBack) -> None:
    """:raises ServerUnreachableError: DAGs of the target are active again, as of a step that still works"""
    if roll_back.read_hand_over() is None:
        return
    with roll_back.final.connect() as conn:
        active = pausing.count_active(conn)
    if active:
        raise ServerUnreachableError(
            f"{active} DAG(s) of the target are active",
            where=WHERE,
            remedy="Run pause_target again",
        )
