"""Choose the tables whose rows travel where only rows do: history and settings, without what the target makes itself.

The set is that of Astronomer's guide of 2019 to moving metadata between two deployments of one release, carried on to
the tables of later releases (those of 1.10.0 to 3.3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.counts import count_rows
from airflow_migration.metadata.releases import applied_revisions
from airflow_migration.metadata.repairs.catalog import Tables, read_tables
from airflow_migration.metadata.staying import Staying
from airflow_migration.metadata.tables import SERIALIZED_IS_HISTORY, SERIALIZED_TABLES
from airflow_migration.metadata.users_schema import USER_TABLES
from airflow_migration.postgres.address import Session
from airflow_migration.postgres.references import ForeignKey, parents_first, read_foreign_keys

DEFAULT, USERS = "default", "users"
WHERE = "param tables"
SHOWN = 10

SETTING_TABLES = frozenset(
    {"connection", "variable", "slot_pool", "team", "dag_bundle", "dag_bundle_team", "dag_favorite", "log_template"}
)
HISTORY_TABLES = frozenset(
    {
        *(
            "dag",
            "dag_owner_attributes",
            "dag_run",
            "dag_run_note",
            "dag_stats",
            "dag_tag",
            "dag_version",
            "dag_warning",
        ),
        *("task_fail", "task_instance", "task_instance_history", "task_instance_note", "task_map", "task_reschedule"),
        *("task_state_store", "rendered_task_instance_fields", "sensor_instance", "sla_miss", "trigger", "xcom"),
        *("backfill", "backfill_dag_run", "callback", "callback_request", "deadline", "deadline_alert"),
        *("hitl_detail", "hitl_detail_history", "job", "log"),
        *("dataset", "dataset_alias", "dataset_alias_dataset", "dataset_alias_dataset_event", "dataset_dag_run_queue"),
        *("dataset_event", "dag_schedule_dataset_alias_reference", "dag_schedule_dataset_reference"),
        *("dagrun_dataset_event", "task_outlet_dataset_reference"),
        *("asset", "asset_active", "asset_alias", "asset_alias_asset", "asset_alias_asset_event", "asset_event"),
        *("asset_dag_run_queue", "asset_partition_dag_run", "asset_state_store", "asset_trigger", "asset_watcher"),
        *("dag_schedule_asset_alias_reference", "dag_schedule_asset_name_reference", "dag_schedule_asset_reference"),
        *("dag_schedule_asset_uri_reference", "dagrun_asset_event", "partitioned_asset_key_log"),
        *("task_inlet_asset_reference", "task_outlet_asset_reference"),
    }
)

_CACHE = "made anew by the target from its DAG files"
_EXECUTOR = "state of the source's executor"
_OLD_INTERFACE = "of the users of 1.10's interface without roles, who stay behind"
LEFT_BY_3_0 = "sla_miss"
"""An upgrade to 3.0 leaves it with its rows, and nothing reads them; a fresh 3.x does not have it (3.0.6, 3.3.2)."""
STAYING: Mapping[str, str] = {
    **dict.fromkeys(USER_TABLES, "users and roles travel only by choice (tables)"),
    **dict.fromkeys(("dag_code", "dag_pickle", "import_error", "serialized_dag"), _CACHE),
    **dict.fromkeys(("kube_resource_version", "kube_worker_uuid"), _EXECUTOR),
    **dict.fromkeys(("chart", "known_event", "known_event_type", "users"), _OLD_INTERFACE),
    "connection_test_request": "tests of connections under way",
    "dag_priority_parsing_request": "requests to the source's DAG processor",
    "revoked_token": "tokens of the source's API",
    "session": "web sessions",
}
"""Tables of Airflow outside the default set, and why they stay behind."""
_VERSIONS = "alembic_version"
_SCHEMA_VERSIONS = "the target's schema has its own version"
_OF_OTHERS = "none of Airflow's tables"
_OTHER_SCHEMAS = "transfer data_only takes Airflow's own schema"
_LEFT_OVER = "left by an upgrade from 2.x; Airflow 3 reads it no more"
_NOT_CHOSEN = "not chosen (tables)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChoice:
    """Which tables travel.

    :param travel: each after those that it points at
    :param added: of these, those that nobody asked for → why they come along
    :param left_out: every other table of the source → why it stays behind
    :param cleared: table that travels → columns that name a user, who does not; they become NULL
    """

    travel: tuple[str, ...]
    added: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    cleared: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def staying(self) -> Staying:
        """What of the source stays behind."""
        return Staying(tables=self.left_out, columns=self.cleared, schemas=_OTHER_SCHEMAS)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableChoice:
        cleared = {table: tuple(names) for table, names in data["cleared"].items()}
        return cls(**{**data, "travel": tuple(data["travel"]), "cleared": cleared})


def default_tables(tables: Iterable[str], head: str) -> frozenset[str]:
    """Those of a database's tables that travel unless others are chosen.

    :param head: alembic head of the database
    """
    wanted = SETTING_TABLES | HISTORY_TABLES
    if SERIALIZED_IS_HISTORY in applied_revisions(head):
        wanted = (wanted | set(SERIALIZED_TABLES)) - {LEFT_BY_3_0}
    return wanted & set(tables)


def choose_tables(conn: Session, head: str, asked: str | Sequence[str]) -> TableChoice:
    """Make a choice whole: what a chosen table's rows point at comes along.

    :param conn: session on the source; only read
    :param asked: ``default``, or a list of tables, in which ``default`` and ``users`` stand for theirs
    :raises InvalidInputError: a table is not there, or is none that may travel
    """
    tables, keys = read_tables(conn), read_foreign_keys(conn)
    wanted = set(_expand(tables, head, [asked] if isinstance(asked, str) else asked))
    added: dict[str, str] = {}
    cleared: dict[str, tuple[str, ...]] = {}
    waiting = sorted(wanted)
    while waiting:
        child = waiting.pop()
        for key in keys:
            if key.child != child or key.parent in wanted or not _points(conn, key):
                continue
            if key.parent in USER_TABLES and child not in USER_TABLES:
                cleared[child] = tuple(dict.fromkeys([*cleared.get(child, ()), *key.columns]))
                continue
            wanted.add(key.parent)
            added[key.parent] = f"{child} points at it"
            waiting.append(key.parent)
    return TableChoice(
        travel=parents_first(wanted, keys),
        added=added,
        left_out={table: _why(table, head) for table in sorted(tables.keys() - wanted)},
        cleared=cleared,
    )


def _expand(tables: Tables, head: str, asked: Iterable[str]) -> Iterable[str]:
    for name in asked:
        if name == DEFAULT:
            yield from default_tables(tables, head)
        elif name == USERS:
            yield from USER_TABLES & tables.keys()
        elif name.startswith(_VERSIONS):
            raise InvalidInputError(
                f"{name} cannot travel: {_SCHEMA_VERSIONS}", where=WHERE, remedy="Leave it out of the list"
            )
        elif name not in tables:
            near = ", ".join(sorted(tables)[:SHOWN])
            raise InvalidInputError(
                f'the source has no table "{name}"',
                where=WHERE,
                remedy=f"Name tables that it has ({near}, …), or {DEFAULT} or {USERS} for theirs",
            )
        else:
            yield name


def _points(conn: Session, key: ForeignKey) -> bool:
    """Whether any row has the reference; those of which a column is NULL point at nothing."""
    condition = sql.SQL(" AND ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns)
    return count_rows(conn, str(key.child), condition) > 0


def _why(table: str, head: str) -> str:
    if table.startswith(_VERSIONS):
        return _SCHEMA_VERSIONS
    if default_tables((table,), head):
        return _NOT_CHOSEN
    if table == LEFT_BY_3_0:
        return _LEFT_OVER
    return STAYING.get(table, _OF_OTHERS)
