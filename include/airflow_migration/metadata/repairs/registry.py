"""Every repair that there is: what it does, and whether it loses nothing."""

from __future__ import annotations

from dataclasses import dataclass

QUARANTINE = "quarantine_undecryptable"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRepair:
    """One repair, as a person chooses it.

    :param does: a sentence, for guide and form
    :param safe: everything that a row said can still be read where it is; one that is not runs only when asked for
    :param instead: what a person does who does not want it
    """

    id: str
    does: str
    safe: bool = True
    instead: str = "Mend these rows in the source"


def _moves_orphans(table: str) -> KnownRepair:
    does = f"Moves rows of `{table}` that belong to no task instance."
    return KnownRepair(id=f"{table}_without_task_instance", does=does)


def _moves_dangling(table: str) -> KnownRepair:
    return KnownRepair(id=f"{table}_dangling", does=f"Moves rows of `{table}` that refer to a row that is not there.")


_ALL = (
    KnownRepair(
        id="left_over_table",
        does="Moves whole tables of an earlier upgrade (`_airflow_moved__…`, `_xcom_archive`) out of the way.",
        instead="Rename or drop these tables in the source",
    ),
    KnownRepair(
        id="schema_object_missing",
        does="Gives constraints and indexes the names by which the upgrade drops them, or makes an empty one.",
        instead="Rename or make them in the source as the evidence says",
    ),
    KnownRepair(
        id="schema_object_in_the_way",
        does="Renames indexes made by hand under a name that the upgrade gives to one of its own.",
        instead="Rename these indexes in the source",
    ),
    KnownRepair(
        id="fab_id_default",
        does="Gives the ids of FAB's tables the default and the sequence that they lack.",
        instead="Give these columns a sequence and a default in the source",
    ),
    KnownRepair(
        id="sequence_behind",
        does="Sets sequences above the highest id of their table.",
        instead="Set these sequences with setval in the source",
    ),
    KnownRepair(
        id="username_case",
        does="Renames users whose name differs from an earlier user's in case only.",
        instead="Rename these users in the source",
    ),
    KnownRepair(
        id="connection_type",
        does="Gives connections without a type the one that their extra, id or host names, else `generic`.",
        instead="Give these connections a type in the source",
    ),
    KnownRepair(
        id="connection_id",
        does="Renames connections without an id, or with that of an earlier one; none is removed.",
        instead="Rename these connections in the source",
    ),
    KnownRepair(id="run_without_run_id", does="Names dag runs without a run_id by their date."),
    KnownRepair(
        id="run_duplicate",
        does="Moves dag runs with the date of an earlier run of their DAG; renames those that share only the run_id.",
        instead="Delete or rename the later runs in the source",
    ),
    KnownRepair(id="run_without_key", does="Moves dag runs without a DAG or a date."),
    KnownRepair(id="task_instance_without_run", does="Moves task instances that belong to no dag run."),
    _moves_orphans("task_reschedule"),
    _moves_orphans("rendered_task_instance_fields"),
    _moves_orphans("task_fail"),
    _moves_orphans("xcom"),
    _moves_orphans("task_map"),
    _moves_orphans("task_instance_note"),
    _moves_orphans("task_instance_history"),
    KnownRepair(id="xcom_without_key", does="Moves XComs without a DAG, task, key or date."),
    KnownRepair(id="xcom_duplicate", does="Moves XComs of which a newer one has the same DAG, task, key and date."),
    _moves_dangling("dag_schedule_dataset_reference"),
    _moves_dangling("dag_schedule_dataset_alias_reference"),
    _moves_dangling("task_outlet_dataset_reference"),
    _moves_dangling("dataset_dag_run_queue"),
    _moves_dangling("dataset_alias_dataset"),
    _moves_dangling("dataset_alias_dataset_event"),
    _moves_dangling("dagrun_dataset_event"),
    _moves_dangling("ab_user_role"),
    _moves_dangling("ab_permission_view_role"),
    KnownRepair(id="dataset_uri_too_long", does="Moves datasets whose URI is longer than 1500 characters."),
    KnownRepair(id="dataset_uri_not_indexable", does="Moves datasets whose URI the index of 3.0 does not take."),
    KnownRepair(id="dataset_alias_too_long", does="Moves dataset aliases whose name is longer than 1500 characters."),
    KnownRepair(id="serialized_dag_nul", does="Moves serialized DAGs that hold the NUL character."),
    KnownRepair(id="registration_duplicate", does="Moves pending registrations that repeat an earlier one's e-mail."),
    KnownRepair(id="permission_incomplete", does="Moves permissions that name no action or no resource."),
    KnownRepair(
        id="conf_not_json",
        does="Writes confs of dag runs anew, of plain values, where 3.0 would stop at them, lose them or run what they"
        " name; NULL where JSON has no form for them.",
        instead="Set the conf of these runs to NULL in the source",
    ),
    KnownRepair(
        id="xcom_pickled",
        does="Decodes XComs that are pickles, without running what they name, to the JSON that 3.x reads.",
        instead="Delete these XComs in the source",
    ),
    KnownRepair(id="xcom_not_json", does="Replaces what JSON lacks in XComs; moves those that cannot become JSON."),
    KnownRepair(
        id="dropped_table",
        does="Copies the rows of tables that the upgrade drops.",
        instead="Empty these tables in the source",
    ),
    KnownRepair(
        id=QUARANTINE,
        does="Clears encrypted values that no key reads; the ciphertext is kept.",
        safe=False,
        instead="Give all fernet keys of the source, newest first, as secret_fernet_key of its connection, or enter"
        " those values anew in the source",
    ),
)  # fmt: skip

REPAIRS = {each.id: each for each in _ALL}
"""By id."""
SAFE_REPAIRS = frozenset(each.id for each in _ALL if each.safe)
"""Those that lose nothing."""
