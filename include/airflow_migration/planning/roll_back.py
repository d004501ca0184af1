"""Look at what a migration has left, and decide how it is taken back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError, OwnershipError, ServerUnreachableError
from airflow_migration.metadata import journal, pausing
from airflow_migration.metadata.draining import read_in_flight
from airflow_migration.metadata.fencing import FENCE
from airflow_migration.metadata.hand_over import HandOver, count_runs_since, read_hand_over
from airflow_migration.metadata.journal import CREATE_FROZEN, CREATE_WORKING, FILL, QUIET, ROLL_BACK, SWAP
from airflow_migration.planning.options import refuse_unknown
from airflow_migration.planning.plan import label_of, set_aside_name
from airflow_migration.postgres.address import APPLICATION_NAME, DatabaseAddress, Session
from airflow_migration.postgres.databases import database_exists, describe_server
from airflow_migration.progress import Listener

LEAVING_SECONDS, PAUSE = 5.0, 0.1
"""For so long a session is seen, so often: the server lists one that was closed for another moment."""
READ = (CREATE_FROZEN, CREATE_WORKING, FENCE, FILL, SWAP, QUIET, ROLL_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackOptions:
    """Params of ``roll_back_migration``, each as it is named there."""

    migration_id: str
    source_conn_id: str = "migration_source"
    target_conn_id: str = "migration_target"
    purge: bool = False
    require_approval: bool = True

    @classmethod
    def from_params(cls, params: Mapping[str, Any], given: Sequence[str]) -> RollBackOptions:
        """Read a run's params.

        :param given: the keys of the run's conf; Airflow itself lets unknown ones pass
        :raises InvalidInputError: a key is unknown, or no migration is named
        """
        known = set(cls.__dataclass_fields__)
        refuse_unknown(known, given)
        options = cls(**{name: params[name] for name in known if params.get(name) is not None} | _named(params))
        if not options.migration_id:
            raise InvalidInputError(
                "no migration_id is given",
                where="params of the run",
                remedy="Give the run id of the migrate_airflow run that is to be taken back",
            )
        return options


def _named(params: Mapping[str, Any]) -> dict[str, str]:
    return {"migration_id": str(params.get("migration_id") or "").strip()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackPlan:
    """The decisions of one roll back, from what the source's journal says.

    :param state: of the migration in that journal, before this roll back
    :param opened_at: when the source was opened for the migration, in ISO 8601; its copies say the same
    :param target_cluster: system identifier of the server that was migrated to; None in journals that lack it
    :param frozen_database: None when the migration did not come so far as to claim the name; likewise
        `working_database`
    :param set_aside_as: name that a fresh database of the target has, if there was one
    :param touches_target: the target's settings or its database may have been changed
    :param handed_over: the database with the target's name is the migration's
    :param filled: rows of the target's own database were replaced, or were about to be (transfer ``data_only``)
    :param lost_runs: DAG runs that the target has made since, and that are lost
    :param running: task instances that run on the target now
    :param active_dags: DAGs of the source that were active before the migration
    """

    options: RollBackOptions
    token: str
    state: str
    opened_at: str
    source_database: str
    target_database: str
    target_server: str
    frozen_database: str | None
    working_database: str | None
    set_aside_as: str
    touches_target: bool
    handed_over: bool
    lost_runs: int
    running: int
    fenced: bool
    active_dags: int
    target_cluster: str | None = None
    filled: bool = False

    @property
    def migration_id(self) -> str:
        return self.options.migration_id

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RollBackPlan:
        return cls(**(dict(data) | {"options": RollBackOptions(**data["options"])}))

    def in_words(self) -> str:
        """The plan as Markdown, for the person who approves it."""
        return "\n".join(
            [
                f"**Back to the source**: database `{self.source_database}`, as before migration"
                f" `{self.migration_id}` (now: {self.state}).",
                "",
                "What will happen:",
                "",
                *(f"{number}. {sentence}" for number, sentence in enumerate(self._sentences(), 1)),
            ]
        )

    def _sentences(self) -> Iterator[str]:
        if self.handed_over:
            yield "All DAGs of the target are paused."
            yield (
                f"**{self.lost_runs} DAG run(s) that the target has made since the hand-over are lost**;"
                f" {self.running} task instance(s) run there now and lose their database."
            )
        if self.touches_target:
            yield "The target's settings become what they were, but for what somebody else has changed since."
            if self.filled:
                yield f"`{self.target_database}` has the rows again that the target had in it; the target is restarted."
            else:
                yield f"A fresh database that was named `{self.target_database}` is so again; the target is restarted."
        if self.fenced:
            yield "The source's database can be written again."
        yield f"Exactly the DAGs that were active on the source are unpaused ({self.active_dags})."
        if self.working_database:
            yield f"The migrated database is dropped (`{self.working_database}` by then)."
        if self.frozen_database:
            purge = self.options.purge
            yield f"The frozen clone `{self.frozen_database}` and the dump are {'removed' if purge else 'kept'}."


def make_roll_back_plan(
    *, options: RollBackOptions, source: Deployment, target: Deployment, listener: Listener
) -> RollBackPlan:
    """Read the journal of the source and look at the target; changes nothing.

    :raises InvalidInputError: the source does not know the migration, or went on with another since
    :raises OwnershipError: the migrated database is not where the migration left it
    :raises ServerUnreachableError: a step of the migration still works
    """
    with source.address.connect() as there, target.address.maintenance().connect() as here:
        plan = _read_journal(there, options, target)
        _refuse_running(there, here, plan)
        final = target.address.on(plan.target_database)
        handed_over = find_hand_over(here, final, plan)
        if handed_over is None and plan.working_database and plan.state != journal.ROLLED_BACK:
            _refuse_astray(here, target.address, plan)
        plan = _with_target(plan, final, handed_over)
    listener(f"Migration {plan.migration_id} of this source: {plan.state}; {plan.active_dags} DAG(s) were active")
    if plan.handed_over:
        listener(f'"{plan.target_database}" is its database, with {plan.lost_runs} run(s) of the target\'s own')
    return plan


def find_hand_over(here: Session, address: DatabaseAddress, plan: RollBackPlan) -> HandOver | None:
    """The hand-over that a database tells of, if there is such a database and it is this migration's.

    :param here: session on the database's server
    :raises InvalidInputError: there is none, and this is not the server that was migrated to
    """
    found = None
    if database_exists(here, address.database):
        with address.connect() as conn:
            found = read_hand_over(conn, plan.migration_id, datetime.fromisoformat(plan.opened_at))
    if found is None and plan.target_cluster not in (None, describe_server(here).cluster):
        # The target that it was handed over to may schedule on, elsewhere.
        raise InvalidInputError(
            f"{address.server} is another server than the one that was migrated to",
            where="target connection",
            remedy="Let it name the server of then, for as long as the roll back takes",
        )
    return found


def _read_journal(there: Session, options: RollBackOptions, target: Deployment) -> RollBackPlan:
    migration_id = options.migration_id
    entry = journal.require_known(there, migration_id)
    if entry.state != journal.ROLLED_BACK:
        journal.refuse_later(there, migration_id)
    opened_at = journal.read_opening(there, migration_id)
    assert opened_at is not None
    acts = {act: journal.read_act(there, migration_id, act) for act in READ}
    names = journal.read_act(there, migration_id, journal.PLAN) or {}
    target_database = str(names.get("target_database") or target.address.database)
    token = journal.read_token(there, migration_id)
    return RollBackPlan(
        options=options,
        token=token,
        state=entry.state,
        opened_at=opened_at.isoformat(),
        source_database=there.info.dbname,
        target_database=target_database,
        target_server=target.address.server,
        frozen_database=_name(acts[CREATE_FROZEN]),
        working_database=_name(acts[CREATE_WORKING]),
        set_aside_as=set_aside_name(target_database, token),
        # An earlier try, which was killed, has found it handed over.
        touches_target=any(acts[act] is not None for act in (FILL, SWAP, QUIET, ROLL_BACK)),
        handed_over=False,
        lost_runs=0,
        running=0,
        fenced=acts[FENCE] is not None,
        active_dags=len(pausing.read_active(there, migration_id)),
        filled=acts[FILL] is not None,
        target_cluster=None if names.get("target_cluster") is None else str(names["target_cluster"]),
    )


def _name(detail: Mapping[str, object] | None) -> str | None:
    return None if detail is None else str(detail["database"])


def _with_target(plan: RollBackPlan, final: DatabaseAddress, handed_over: HandOver | None) -> RollBackPlan:
    if handed_over is None:
        return plan
    with final.connect() as conn:
        journal.refuse_later(conn, plan.migration_id)
        seen = {
            "handed_over": True,
            "touches_target": True,
            "lost_runs": count_runs_since(conn, handed_over.last_run),
            "running": read_in_flight(conn).running,
        }
    return RollBackPlan.from_json(plan.to_json() | seen)


def _refuse_running(there: Session, here: Session, plan: RollBackPlan) -> None:
    """A step that still works, and is not waiting for anything, has a session in one of its databases."""
    names = [plan.source_database, plan.frozen_database, plan.working_database, plan.target_database]
    deadline = time.monotonic() + LEAVING_SECONDS
    for session in (there, here):
        while working := _at_work(session, names, there.info.backend_pid):
            if time.monotonic() > deadline:
                raise ServerUnreachableError(
                    f"a migration works in {working} at this moment",
                    where="preflight of the roll back",
                    remedy="Mark its run as failed, or wait for its end; then retry",
                )
            time.sleep(PAUSE)


def _at_work(session: Session, names: Sequence[str | None], own: int) -> object:
    """In which of the databases the package has another session than its own."""
    session.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees its first look again and again
    row = session.execute(
        "SELECT string_agg(DISTINCT datname, ', ') FROM pg_stat_activity WHERE application_name = %s"
        " AND datname = ANY(%s) AND pid <> pg_backend_pid() AND pid <> %s",
        (APPLICATION_NAME, names, own),
    ).fetchone()
    return row and row[0]


def _refuse_astray(here: Session, target: DatabaseAddress, plan: RollBackPlan) -> None:
    """The migrated database must not go on under another name, where its scheduler might be."""
    rows = here.execute(
        "SELECT datname::text FROM pg_database WHERE shobj_description(oid, 'pg_database') = %s"
        " AND datallowconn AND datname <> ALL(%s)",
        (label_of(plan.migration_id), [plan.frozen_database or "", plan.working_database, plan.target_database]),
    ).fetchall()
    for (name,) in rows:
        if find_hand_over(here, target.on(str(name)), plan):
            raise OwnershipError(
                f'the database that this migration handed over to the target is now named "{name}"',
                where=plan.target_server,
                remedy=f'Rename it to "{plan.target_database}", or drop it; then retry',
            )
