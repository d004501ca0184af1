"""Which columns of Airflow's tables keep their meaning from release to release, and by what rows are known.

What is not named here is compared as it is: every column that a table has on both sides, by its primary key. Names
are those of the source unless said otherwise. From ``airflow/migrations/versions`` of 2.11.2 and 3.3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

RUN = "run"
"""The run of a row: its run_id, or its date where one of the two sides does not know runs by id."""
TASK = ("dag_id", "task_id", RUN, "map_index")
"""What a task instance is known by in every release; from 3.0 on some tables have its UUID instead."""

PARSED = "written anew by every parse"
MENDED = "set for the target's scheduler"
DECRYPTED = "compared decrypted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """How the rows of one table are compared.

    :param key: parts that tell rows apart on both sides, here and there; columns, or `RUN`
    :param label: columns by which people know a row, where the key says little
    :param facts: parts of `TASK` that the row refers to, and that have to stay the same
    :param renamed: column before → column after
    :param negated: column before → column after that says the opposite
    :param filled: columns whose NULL a migration or the mending may replace by a value
    :param defaults: column → the value, as SQL, that a migration or the mending puts where it is NULL
    :param values: column → value before → value after, with the revision that does it
    :param rewritten: column → the revision that writes it anew; it is compared where that does not lie between
    :param converted: columns that another comparison reads where the two sides have them in different types
    :param skipped: column → why it is not compared
    """

    key: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    negated: Mapping[str, str] = field(default_factory=dict)
    filled: frozenset[str] = frozenset()
    defaults: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    rewritten: Mapping[str, str] = field(default_factory=dict)
    converted: frozenset[str] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def names(self, column: str) -> tuple[str, ...]:
        """The names that a column can have, from the oldest release to the newest."""
        after = self.renamed.get(column) or self.negated.get(column)
        return (column, after) if after else (column,)


_TASK_INSTANCE = Meaning(
    key=TASK,
    # 8646922c8a04 (2.0.2), 888b59e02a5b (3.2.0), and our own mending (`complete_task_instances`).
    defaults={"pool_slots": "1", "try_number": "0", "max_tries": "-1", "priority_weight": "1", "queue": "'default'"},
    values={"state": ("sensing", "failed", "f4ff391becb5")},
)

MEANINGS: Mapping[str, Meaning] = {
    "dag": Meaning(
        key=("dag_id",),
        negated={"is_active": "is_stale"},
        renamed={
            "concurrency": "max_active_tasks",
            "dataset_expression": "asset_expression",
            "schedule_interval": "timetable_summary",
        },
        filled=frozenset({"timetable_type", "bundle_name", "max_active_tasks", "concurrency"}),
        # 888b59e02a5b, edc4f85a4619 (3.2.0)
        defaults={"is_paused": "false", "is_active": "true"},
        # 2.3.0 has no tree, 2.9.2 sets all to 0.
        rewritten={"default_view": "b1b348e02d07", "max_consecutive_failed_dag_runs": "686269002441"},
        skipped={
            "last_parsed_time": PARSED,
            "next_dagrun": MENDED,
            "next_dagrun_create_after": MENDED,
            "next_dagrun_data_interval_end": MENDED,
            "next_dagrun_data_interval_start": MENDED,
        },
    ),
    "dag_run": Meaning(
        key=("id",),
        label=("dag_id", RUN),
        renamed={"execution_date": "logical_date"},
        filled=frozenset(
            {"data_interval_start", "data_interval_end", "run_type", "clear_number", "log_template_id", "span_status"}
        ),
        # 6a9e7a527a88 (3.0.0) copies the interval's start; the mending moves it to the end.
        skipped={"run_after": MENDED},
        converted=frozenset({"conf"}),
        values={"run_type": ("dataset_triggered", "asset_triggered", "0e9519b56710")},
    ),
    "task_instance": _TASK_INSTANCE,
    "task_instance_history": Meaning(key=(*TASK, "try_number"), skipped={"id": "a UUID from 3.0.0 on"}),
    "task_instance_note": Meaning(key=TASK),
    "dag_run_note": Meaning(key=("dag_run_id",)),
    "rendered_task_instance_fields": Meaning(key=TASK),
    "xcom": Meaning(key=(*TASK, "key")),
    "task_map": Meaning(key=TASK),
    "task_reschedule": Meaning(key=("id",), facts=TASK, label=("dag_id", "task_id")),
    "task_fail": Meaning(key=("id",), facts=TASK, label=("dag_id", "task_id")),
    "sla_miss": Meaning(key=("dag_id", "task_id", RUN)),
    "sensor_instance": Meaning(key=("id",), label=("dag_id", "task_id")),
    "variable": Meaning(
        key=("id",),
        label=("key",),
        renamed={"team_id": "team_name"},
        filled=frozenset({"key"}),
        defaults={"is_encrypted": "false"},
        skipped={"val": DECRYPTED},
    ),
    "connection": Meaning(
        key=("id",),
        label=("conn_id",),
        defaults={"is_encrypted": "false", "is_extra_encrypted": "false"},
        skipped={"password": DECRYPTED, "extra": DECRYPTED},
    ),
    "connection_test_request": Meaning(
        key=("id",), label=("connection_id",), skipped={"password": DECRYPTED, "extra": DECRYPTED}
    ),
    "slot_pool": Meaning(key=("id",), label=("pool",), defaults={"slots": "0", "include_deferred": "false"}),
    "log": Meaning(
        key=("id",), label=("event", "dag_id"), renamed={"execution_date": "logical_date"}, defaults={"event": "''"}
    ),
    "job": Meaning(key=("id",), label=("job_type",)),
    "trigger": Meaning(key=("id",), label=("classpath",), skipped={"kwargs": DECRYPTED}),
    "log_template": Meaning(key=("id",), skipped={"filename": MENDED}),
    "deadline": Meaning(key=("id",), renamed={"deadline": "deadline_time"}, defaults={"missed": "false"}),
    "deadline_alert": Meaning(skipped={"interval": "another type from 3.3.0 on"}),
    # 3.2.0 takes the deadlines out.
    "serialized_dag": Meaning(
        rewritten=dict.fromkeys(("data", "data_compressed", "dag_hash"), "55297ae24532"),
    ),
    "ab_user": Meaning(key=("id",), label=("username",)),
    "ab_register_user": Meaning(key=("id",), label=("username",)),
    "ab_role": Meaning(key=("id",), label=("name",)),
    "ab_user_role": Meaning(key=("id",), label=("user_id", "role_id")),
    "ab_permission": Meaning(key=("id",), label=("name",)),
    "ab_view_menu": Meaning(key=("id",), label=("name",)),
    "dataset": Meaning(key=("id",), label=("uri",)),
    "dataset_alias": Meaning(key=("id",), label=("name",)),
    "dataset_alias_dataset": Meaning(key=("alias_id", "dataset_id"), renamed={"dataset_id": "asset_id"}),
    "dataset_alias_dataset_event": Meaning(key=("alias_id", "event_id")),
    "dataset_dag_run_queue": Meaning(key=("dataset_id", "target_dag_id"), renamed={"dataset_id": "asset_id"}),
    "dataset_event": Meaning(key=("id",), renamed={"dataset_id": "asset_id"}),
    "dag_schedule_dataset_alias_reference": Meaning(key=("alias_id", "dag_id")),
    "dag_schedule_dataset_reference": Meaning(key=("dataset_id", "dag_id"), renamed={"dataset_id": "asset_id"}),
    "dagrun_dataset_event": Meaning(key=("dag_run_id", "event_id")),
    "task_outlet_dataset_reference": Meaning(
        key=("dataset_id", "dag_id", "task_id"), renamed={"dataset_id": "asset_id"}
    ),
}
"""Table, by its name on the source, → how it is compared."""


def meaning_of(table: str, primary_key: tuple[str, ...]) -> Meaning:
    """How a table is compared; by its primary key where nothing else is known of it.

    :param table: its name on the source
    :param primary_key: empty where it has none: then its rows are compared as a whole
    """
    found = MEANINGS.get(table, Meaning())
    return found if found.key else replace(found, key=primary_key)
