"""Know what Airflow's own upgrades do to whole tables, so that a comparison can say why rows differ.

Revisions and releases from ``airflow/migrations/versions`` of 2.11.2 and 3.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_migration.metadata.releases import applied_revisions

RENAMED = {
    # 05234396c6fc, 3.0.0
    "dataset": "asset",
    "dataset_alias": "asset_alias",
    "dataset_alias_dataset": "asset_alias_asset",
    "dataset_alias_dataset_event": "asset_alias_asset_event",
    "dataset_dag_run_queue": "asset_dag_run_queue",
    "dataset_event": "asset_event",
    "dag_schedule_dataset_alias_reference": "dag_schedule_asset_alias_reference",
    "dag_schedule_dataset_reference": "dag_schedule_asset_reference",
    "dagrun_dataset_event": "dagrun_asset_event",
    "task_outlet_dataset_reference": "task_outlet_asset_reference",
    # b87d2135fa50, 3.2.0
    "callback_request": "callback",
}
"""Name before → name after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Rows that a revision of Airflow deletes on purpose.

    :param cause: what does it, for the report
    :param whole: it deletes all of them
    """

    table: str
    revision: str
    cause: str
    whole: bool = True


_DROPPED = {
    "dag_stats": ("a56c9515abdc", "1.10.3"),
    "users": ("cf5dc11e79ad", "2.0.0"),
    "chart": ("cf5dc11e79ad", "2.0.0"),
    "kube_resource_version": ("bef4f3d11e8b", "2.0.0"),
    "kube_worker_uuid": ("bef4f3d11e8b", "2.0.0"),
    "sensor_instance": ("f4ff391becb5", "2.4.0"),
    "task_fail": ("5f57a45b8433", "3.0.0"),
    "dag_pickle": ("d03e4a635aa3", "3.0.0"),
    "asset_trigger": ("15d84ca19038", "3.2.0"),
}
_EMPTIED = {
    "serialized_dag": ("2b47dc6bc8df", "3.0.0"),
    "dag_code": ("2b47dc6bc8df", "3.0.0"),
    "dag_priority_parsing_request": ("be2cc2f742cf", "3.0.0"),
    "import_error": ("fe199e1abd77", "3.0.3"),
    "callback_request": ("b87d2135fa50", "3.2.0"),
}
_PERMISSION_TABLES = ("ab_permission", "ab_view_menu", "ab_permission_view", "ab_permission_view_role")
_PERMISSION_REVISIONS = {
    "849da589634d": "2.0.0",
    "2c6edca13270": "2.0.0",
    "82b7c48c147f": "2.0.1",
    "a13f7613ad25": "2.1.0",
}

REMOVALS = (
    *(
        Removal(table=table, revision=revision, cause=f"table dropped by Airflow {release} ({revision})")
        for table, (revision, release) in _DROPPED.items()
    ),
    *(
        Removal(table=table, revision=revision, cause=f"emptied by Airflow {release} ({revision})")
        for table, (revision, release) in _EMPTIED.items()
    ),
    *(
        Removal(
            table=table,
            revision=revision,
            cause=f"permissions rewritten by Airflow {release} ({revision})",
            whole=False,
        )
        for revision, release in _PERMISSION_REVISIONS.items()
        for table in _PERMISSION_TABLES
    ),
)
"""Tables that may have fewer rows, or be gone, once their revision is applied."""

SERIALIZED_TABLES = ("serialized_dag", "dag_code")
SERIALIZED_IS_HISTORY = "2b47dc6bc8df"
"""From this revision (3.0.0) on serialized DAGs are the versions that runs refer to. Before it they are a
cache, which every upgrade by 2.0 to 2.6 empties and fills again (`_reserialize_dags`, utils/db.py)."""

_GROWN = {
    "log": "audit rows of the upgrade's and the verification's own commands",
    "job": "rows of the upgrade's own commands",
    "log_template": "log templates written by the upgrade",
    "dag_bundle": "DAG bundles added by the upgrade (7582ea3f3dd5, 3.1.0)",
    "asset_active": "assets in use, noted by the upgrade (5a5d66100783, 3.0.0)",
    "dag": "DAGs parsed since the copy was taken",
    "dag_tag": "DAGs parsed since the copy was taken",
    "serialized_dag": "DAGs parsed since the copy was taken",
    "dag_code": "DAGs parsed since the copy was taken",
    "dag_version": "DAGs parsed since the copy was taken",
    "callback": "callbacks moved here from deadlines by Airflow 3.2.0",
    "session": "web sessions",
}
"""Tables that any upgrade may add rows to, and why."""

_ROLES_ADDED = "roles that every Airflow has, added with its permissions by Airflow {release} ({revision})"

USER_TABLES = frozenset(
    {
        "ab_register_user",
        "ab_user",
        "ab_user_role",
        "connection",
        "dag_run",
        "dag_run_note",
        "slot_pool",
        "task_instance",
        "task_instance_history",
        "task_instance_note",
        "variable",
        "xcom",
    }
)
"""Tables in which a row too many is as wrong as a row too few."""

DEFAULT_POOL = "default_pool"
"""Added by every upgrade where it is missing (`add_default_pool_if_not_exists`, utils/db.py)."""


def removal_of(table: str, from_head: str, to_head: str) -> Removal | None:
    """Why an upgrade from one alembic head to another may leave fewer rows of a table, if Airflow does that.

    :param table: its name before the upgrade
    """
    before = applied_revisions(from_head)
    crossed = applied_revisions(to_head) - before
    for removal in REMOVALS:
        if removal.table == table and removal.revision in crossed:
            return removal
    if table in SERIALIZED_TABLES and crossed and SERIALIZED_IS_HISTORY not in before:
        return Removal(table=table, revision="", cause="serialized anew by the upgrade")
    return None


def growth_of(table: str, from_head: str, to_head: str) -> str:
    """Why an upgrade from one alembic head to another may add rows to a table; empty where it may not.

    The permissions' revisions load Airflow's security manager, which writes its roles where they are missing:
    2c6edca13270 leaves five in a 1.10.15 without RBAC, which had none.

    :param table: its name after the upgrade
    """
    if table == "ab_role":
        crossed = applied_revisions(to_head) - applied_revisions(from_head)
        for revision, release in _PERMISSION_REVISIONS.items():
            if revision in crossed:
                return _ROLES_ADDED.format(release=release, revision=revision)
    return _GROWN.get(table, "")
