"""Rows that Airflow's own migrations stop at or lose, as conditions that checks and repairs share.

Each condition is the one of the migration or of the `check_*` function of airflow/utils/db.py (2.11.2)
that it is taken from; `t` is the row in question. `%` is never used, so the texts need no escaping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from airflow_migration.metadata.repairs.catalog import Column, Tables
from airflow_migration.metadata.repairs.crossing import Crossing

RUN_KEY = "7b2661a43ba3"
"""2.2.0: task instances and reschedules are keyed by run_id, dag_run's keys become NOT NULL."""
FIRST_OF_3 = "044f740568ec"
"""3.0.0; from here on FAB brings migrations of its own, which run at the end of every upgrade."""

NO_RUN = """NOT EXISTS (SELECT FROM dag_run r
    WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date)"""

# Before 2.2 a task instance is keyed by execution_date, from 2.2 by run_id.
_NO_TASK_INSTANCE_BY_DATE = """NOT EXISTS (SELECT FROM dag_run r
    JOIN task_instance i ON i.dag_id = r.dag_id AND i.execution_date = r.execution_date
    WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date AND i.task_id = t.task_id)"""
_NO_TASK_INSTANCE_BY_RUN = """NOT EXISTS (SELECT FROM dag_run r
    JOIN task_instance i ON i.dag_id = r.dag_id AND i.run_id = r.run_id
    WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date AND i.task_id = t.task_id)"""

_TASK_KEY = "concat_ws(' ', t.dag_id, t.task_id, t.execution_date AT TIME ZONE 'UTC')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Rows of one table that must not be there when the hop starts; the repair moves them away.

    :param id: of the check and of the repair
    :param table: where the rows are
    :param columns: what the table must have for the question to make sense
    :param without: a column that shows that the migration in question was already applied
    :param condition: which rows `t`; over the table's own columns
    :param reason: SQL text expression over `t`: why a row is moved
    :param key: SQL text expression over `t` that names a row to a person
    :param revision: the migration that meets the rows
    :param since: the migration before which nothing needs to be done, as it removes the rows itself
    :param always: whether the rows are met on every way to `revision` or beyond
    :param summary: sentence with ``{count}``
    :param also: further migrations that meet them
    :param movable: False when nothing is moved
    :param severity: of the check where nothing is moved
    """

    id: str
    table: str
    columns: tuple[str, ...]
    condition: str
    reason: str
    key: str
    revision: str
    summary: str
    without: str | None = None
    since: str | None = None
    always: bool = False
    also: tuple[str, ...] = ()
    movable: bool = True
    severity: Literal["info", "warning", "blocker"] = "blocker"
    remedy: str = ""

    def rows(self) -> sql.Composed:
        """``FROM … t WHERE …``."""
        return sql.SQL("FROM {} t WHERE {}").format(sql.Identifier(self.table), sql.SQL(self.condition))

    @property
    def revisions(self) -> tuple[str, ...]:
        """The migrations that ask for it."""
        return (self.revision, *self.also)

    def met_on(self, crossing: Crossing) -> bool:
        """Whether a stretch runs the migrations in question."""
        return any(map(crossing.reaches if self.always else crossing.crosses, self.revisions))

    def applies(self, tables: Tables, crossing: Crossing) -> bool:
        """Whether this hop would meet such rows in this database."""
        has: Mapping[str, Column] = tables.get(self.table, {})
        return (
            self.met_on(crossing)
            and (self.since is None or crossing.starts_after(self.since))
            and all(column in has for column in self.columns)
            and self.without not in has
        )


def _no_task_instance(table: str, revision: str, tables: Tables) -> Fault:
    """`check_bad_references`, 2.11.2; `revision` makes the foreign key."""
    by_date = "run_id" not in tables.get("task_instance", {})
    return Fault(
        id=f"{table}_without_task_instance",
        table=table,
        columns=("dag_id", "task_id", "execution_date"),
        without="run_id",
        condition=_NO_TASK_INSTANCE_BY_DATE if by_date else _NO_TASK_INSTANCE_BY_RUN,
        reason="'no task instance, or no run, of that dag, task and execution date'",
        key=_TASK_KEY,
        revision=revision,
        summary=f"{{count}} row(s) of {table} belong to no task instance",
    )


def _no_task_instance_of_run(table: str, *also: str) -> Fault:
    """From 2.2 or 2.3 on a foreign key forbids them; one that is missing, or was switched off, does not.

    d59cbbef95eb makes all these foreign keys anew. The database may have got its rows from `pg_restore
    --disable-triggers` or from another server's dump, where nothing was checked.
    """
    return Fault(
        id=f"{table}_without_task_instance",
        table=table,
        columns=("dag_id", "task_id", "run_id", "map_index"),
        condition="""NOT EXISTS (SELECT FROM task_instance i WHERE i.dag_id = t.dag_id AND i.task_id = t.task_id
    AND i.run_id = t.run_id AND i.map_index = t.map_index)""",
        reason="'no task instance of that dag, task, run and map index'",
        key="concat_ws(' ', t.dag_id, t.task_id, t.run_id, t.map_index)",
        revision="d59cbbef95eb",
        also=also,
        summary=f"{{count}} row(s) of {table} belong to no task instance",
    )


def history_faults(tables: Tables) -> tuple[Fault, ...]:
    """Runs, task instances and what hangs on them, in the order in which they must be moved."""
    unusable_run = Fault(  # check_run_id_null
        id="run_without_key",
        table="dag_run",
        columns=("id", "dag_id", "execution_date", "run_id"),
        condition="t.dag_id IS NULL OR t.execution_date IS NULL",
        reason="'dag_id or execution_date is NULL'",
        key="concat_ws(' ', 'id', t.id, t.dag_id, t.run_id)",
        revision=RUN_KEY,
        summary="{count} dag run(s) have no dag_id or no execution date",
    )
    no_run = Fault(  # check_bad_references
        id="task_instance_without_run",
        table="task_instance",
        columns=("dag_id", "task_id", "execution_date"),
        without="run_id",
        condition=NO_RUN,
        reason="'no run of that dag and execution date'",
        key=_TASK_KEY,
        revision=RUN_KEY,
        summary="{count} task instance(s) belong to no dag run",
    )
    return (
        unusable_run,
        no_run,
        _no_task_instance("task_reschedule", RUN_KEY, tables),
        _no_task_instance("rendered_task_instance_fields", "4eaab2fe6582", tables),
        _no_task_instance("task_fail", "48925b2719cb", tables),
        _no_task_instance("xcom", "c306b5b5ae4a", tables),
        *_OLD_XCOM_KEYS,
    )


_NO_RUN_OF_ID = Fault(  # 2.9.2 makes the foreign key anew
    id="task_instance_without_run",
    table="task_instance",
    columns=("dag_id", "task_id", "run_id"),
    condition="NOT EXISTS (SELECT FROM dag_run r WHERE r.dag_id = t.dag_id AND r.run_id = t.run_id)",
    reason="'no run of that dag and run id'",
    key="concat_ws(' ', t.dag_id, t.task_id, t.run_id)",
    revision="686269002441",
    summary="{count} task instance(s) belong to no dag run",
)
_NO_TASK_INSTANCE_OF_RUN = (
    _no_task_instance_of_run("task_reschedule"),
    _no_task_instance_of_run("rendered_task_instance_fields"),
    _no_task_instance_of_run("task_fail"),
    _no_task_instance_of_run("xcom"),
    _no_task_instance_of_run("task_map", "c804e5c76e3e"),
    _no_task_instance_of_run("task_instance_note"),
    _no_task_instance_of_run("task_instance_history"),
)

_OLD_XCOM_KEYS = (  # 2.0.0 makes dag, task, key and date the primary key
    Fault(
        id="xcom_without_key",
        table="xcom",
        columns=("id", "dag_id", "task_id", "key", "execution_date"),
        condition="t.key IS NULL OR t.dag_id IS NULL OR t.task_id IS NULL OR t.execution_date IS NULL",
        reason="'a part of the primary key that 2.0 introduces is NULL'",
        key=_TASK_KEY,
        revision="bbf4a7ad0465",
        summary="{count} XCom(s) have no key",
    ),
    Fault(
        id="xcom_duplicate",
        table="xcom",
        columns=("id", "dag_id", "task_id", "key", "execution_date", "timestamp"),
        # 1.10 reads the newest (XCom.get_one orders by execution_date and timestamp), so it stays.
        condition="""t.id IN (SELECT d.id FROM (SELECT x.id, row_number() OVER (
            PARTITION BY x.dag_id, x.task_id, x.key, x.execution_date
            ORDER BY x."timestamp" DESC, x.id DESC) AS place FROM xcom x WHERE x.key IS NOT NULL) d
            WHERE d.place > 1)""",
        reason="'a newer XCom has the same dag, task, key and execution date'",
        key="concat_ws(' ', t.dag_id, t.task_id, t.key, t.execution_date AT TIME ZONE 'UTC')",
        revision="bbf4a7ad0465",
        summary="{count} XCom(s) are older duplicates of another",
    ),
)


def _dangling(table: str, parents: Mapping[str, tuple[str, str]], revision: str, *, always: bool = False) -> Fault:
    """Rows that point at nothing; `revision` makes the foreign keys anew.

    :param parents: column → table and column that it refers to
    """
    return Fault(
        id=f"{table}_dangling",
        table=table,
        columns=tuple(parents),
        condition=" OR ".join(
            f"(t.{column} IS NOT NULL AND NOT EXISTS (SELECT FROM {parent} p WHERE p.{key} = t.{column}))"
            for column, (parent, key) in parents.items()
        ),
        reason=f"'refers to a row that is not there ({', '.join(parent for parent, _ in parents.values())})'",
        key=f"concat_ws(' ', {', '.join(f't.{column}' for column in parents)})",
        revision=revision,
        always=always,
        summary=f"{{count}} row(s) of {table} refer to a row that is not there",
    )


_ASSET_NAMES = "05234396c6fc"
_DAG, _DATASET, _ALIAS, _EVENT = ("dag", "dag_id"), ("dataset", "id"), ("dataset_alias", "id"), ("dataset_event", "id")

# 2.10.3 and later lack the foreign key from dag_schedule_dataset_alias_reference to dag: 5f2621c13b39 makes another
# one under its name.
DANGLING = (
    _dangling("dag_schedule_dataset_reference", {"dataset_id": _DATASET, "dag_id": _DAG}, _ASSET_NAMES),
    _dangling("dag_schedule_dataset_alias_reference", {"alias_id": _ALIAS, "dag_id": _DAG}, _ASSET_NAMES),
    _dangling("task_outlet_dataset_reference", {"dataset_id": _DATASET, "dag_id": _DAG}, _ASSET_NAMES),
    _dangling("dataset_dag_run_queue", {"dataset_id": _DATASET, "target_dag_id": _DAG}, _ASSET_NAMES),
    _dangling("dataset_alias_dataset", {"alias_id": _ALIAS, "dataset_id": _DATASET}, _ASSET_NAMES),
    _dangling("dataset_alias_dataset_event", {"alias_id": _ALIAS, "event_id": _EVENT}, _ASSET_NAMES),
    _dangling("dagrun_dataset_event", {"dag_run_id": ("dag_run", "id"), "event_id": _EVENT}, _ASSET_NAMES),
    # FAB provider 3.5, 0001
    _dangling("ab_user_role", {"user_id": ("ab_user", "id"), "role_id": ("ab_role", "id")}, FIRST_OF_3, always=True),
    _dangling(
        "ab_permission_view_role",
        {"permission_view_id": ("ab_permission_view", "id"), "role_id": ("ab_role", "id")},
        FIRST_OF_3,
        always=True,
    ),
)

OTHER_FAULTS = (
    _NO_RUN_OF_ID,
    *_NO_TASK_INSTANCE_OF_RUN,
    *DANGLING,
    Fault(  # 3.0.0: name and uri become 1500 characters
        id="dataset_uri_too_long",
        table="dataset",
        columns=("uri",),
        condition="length(t.uri) > 1500",
        reason="'the URI is longer than the 1500 characters that 3.0 allows'",
        key="left(t.uri, 80)",
        revision="0d9e73a75ee4",
        summary="{count} dataset(s) have a URI longer than 1500 characters",
    ),
    Fault(
        id="dataset_alias_too_long",
        table="dataset_alias",
        columns=("name",),
        condition="length(t.name) > 1500",
        reason="'the name is longer than the 1500 characters that 3.0 allows'",
        key="left(t.name, 80)",
        revision="fb2d4922cd79",
        summary="{count} dataset alias(es) have a name longer than 1500 characters",
    ),
    Fault(  # 3.2.0 casts json to jsonb; coming from before 3.0, 2b47dc6bc8df empties the table
        id="serialized_dag_nul",
        table="serialized_dag",
        columns=("dag_id", "data"),
        condition=r"position('\u0000' IN replace(t.data::text, '\\', '')) > 0",
        reason="'holds the NUL character, which jsonb cannot; parsing the DAG writes it anew'",
        key="t.dag_id",
        revision="ab6dc0c82d0e",
        since="2b47dc6bc8df",
        summary="{count} serialized DAG(s) hold the NUL character",
    ),
    Fault(  # FAB provider 3.5, 0001: ab_register_user_email_uq
        id="registration_duplicate",
        table="ab_register_user",
        columns=("id", "email"),
        condition="EXISTS (SELECT FROM ab_register_user e WHERE e.email = t.email AND e.id < t.id)",
        reason="'an earlier registration has the same e-mail'",
        key="'id ' || t.id",
        revision=FIRST_OF_3,
        always=True,
        summary="{count} pending registration(s) repeat the e-mail of an earlier one",
    ),
    Fault(  # FAB provider 3.5, 0001: permission_id and view_menu_id become NOT NULL
        id="permission_incomplete",
        table="ab_permission_view",
        columns=("id", "permission_id", "view_menu_id"),
        condition="t.permission_id IS NULL OR t.view_menu_id IS NULL",
        reason="'names no action or no resource, so it permits nothing'",
        key="'id ' || t.id",
        revision=FIRST_OF_3,
        always=True,
        summary="{count} permission(s) name no action or no resource",
    ),
)

TEAM_FAULTS = tuple(  # 3.2.0 turns team ids into names without looking the names up
    Fault(
        id=f"{table}_of_a_team",
        table=table,
        columns=("team_id",),
        condition="t.team_id IS NOT NULL",
        reason="''",
        key="t.team_id::text",
        revision="b12d4f98a91e",
        summary=f"{{count}} row(s) of {table} belong to a team, which 3.2's migration cannot carry over",
        movable=False,
        remedy=f"Note the teams down, empty {table}.team_id (dag_bundle_team: delete), assign again after",
    )
    for table in ("connection", "variable", "slot_pool", "dag_bundle_team")
)
