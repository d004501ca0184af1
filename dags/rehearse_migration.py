"""### Rehearse a migration

Does to a copy of the **source** what `migrate_airflow` would do to it, while the source goes on, and says what was
found, what was repaired, whether all of it arrived, and how long each step took. Nothing is written to the source,
paused, shut out or waited for; nothing of the target is changed. Unpause this DAG first, as runs of a
paused one stay queued. It then rehearses every week as well; `[airflow_migration] rehearsal_schedule` says when, and
empty is never.

| step | what it does | where |
|---|---|---|
| `preflight` | drops what a killed rehearsal has left, runs every check, gets releases ready | reads both |
| `copy_source` | copies the source as it is at one moment, more slowly while that has much to do | reads the source |
| `restore_database` | makes the working database of that copy; without old history if so asked | scratch server |
| `swap_fernet_key` | rewrites what is encrypted, where the migration would; no key is changed | scratch server |
| `repair_n`, `upgrade_n` | repairs what a hop would stumble over, runs that release's own upgrade | scratch server |
| `mend_schedules` | mends what the upgrades leave broken for the scheduler | scratch server |
| `verify` | compares both scratch databases | scratch server |
| `check_dag_files` | imports the DAG files with the target release's parser, if they can be read here | nothing else |
| `check_configuration` | writes out what of an `airflow.cfg` must change, if one is given | nothing else |
| `drop_scratch` | drops both, whatever happened | scratch server |
| `report` | writes `report.json` and `report.html`, also when something failed | |
| `rehearsal_complete` | all went well: asset `airflow_migration/rehearsal` has a new event with the figures | |

What would stand in the way of the migration itself, such as a database that has the target's name, is in the report's
findings and does not end the rehearsal. What would make the upgrade fail does, once everything has been looked at.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param, TaskGroup, chain

from airflow_migration import params
from airflow_migration.notifications.migration import MigrationNotifier
from airflow_migration.operators.files import CheckConfigurationOperator, CheckDagFilesOperator
from airflow_migration.operators.rehearsal import (
    CopySourceOperator,
    DropScratchOperator,
    PreflightRehearsalOperator,
    RehearsalCompleteOperator,
    RestoreScratchOperator,
)
from airflow_migration.operators.report import ReportOperator
from airflow_migration.operators.upgrade import (
    MendSchedulesOperator,
    RepairOperator,
    SwapFernetKeyOperator,
    UpgradeOperator,
)
from airflow_migration.operators.verify import VerifyOperator
from airflow_migration.planning.rehearsal_options import REHEARSED_TRANSFERS
from airflow_migration.settings import rehearsal_schedule

LONG = timedelta(hours=12)

PARAMS = {
    "source_conn_id": params.source_conn_id("will be left. It is only read."),
    "target_conn_id": params.target_conn_id("will be moved to."),
    "target_database": params.target_database(
        "As of the migration: preflight says what is in the way of that name. Nothing gets it here."
    ),
    "scratch_conn_id": Param(
        None,
        type=["null", "string"],
        minLength=1,
        title="Scratch connection",
        description=(
            "Connection of type airflow_deployment to the server for the scratch databases, which needs 2.5 times the"
            " room of the source; empty takes the target's."
        ),
        section="Where",
    ),
    "transfer": params.transfer(
        REHEARSED_TRANSFERS,
        "As of the migration, whose checks depend on it. The rehearsal's own copy is the same for all.",
    ),
    "fernet": params.fernet(
        "swap: the source's key reads the working database. reencrypt: what is encrypted is rewritten with the"
        " target's key. keep: the target's keys must read everything. The target's own key stays as it is."
    ),
    "history_days": params.history_days(
        "Only runs newer than this are upgraded, with all that hangs on them; also unfinished runs and each DAG's"
        " last ones. Empty: everything."
    ),
    "repairs": params.repairs(
        description=(
            "Which may run. safe: all that lose nothing. all: also quarantine_undecryptable. Or a list of ids; one that"
            " is needed and not in it ends the rehearsal, as it would end the migration."
        )
    ),
    "cron_timetable": params.cron_timetable("As of the migration."),
    "dags_folder": Param(
        None,
        type=["null", "string"],
        minLength=1,
        title="DAGs folder",
        description=(
            "Where this Airflow can read the DAG files, which the target release's own parser then imports. Their code"
            " runs, away from every database. Empty: extra dags_folder of the target connection; without it no file"
            " is checked."
        ),
        section="DAG files",
    ),
    "dag_parse_timeout": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title="Seconds for a DAG file",
        description="Files that take longer are named first. Empty: the target's [core] dagbag_import_timeout.",
        section="DAG files",
    ),
    "airflow_cfg": Param(
        None,
        type=["null", "string"],
        minLength=1,
        title="airflow.cfg",
        description=(
            "Path of the source's airflow.cfg, as far as this Airflow can read it: what of it must change for the"
            " target is written out. No password or other hidden value of it is shown."
        ),
        section="Configuration",
    ),
    "max_source_load": Param(
        8,
        type="integer",
        minimum=0,
        title="Most load of the source",
        description=(
            "Active sessions of others on the source's server above which fewer jobs copy, down to one with pauses."
        ),
        section="Load",
    ),
    "jobs": Param(
        2,
        type="integer",
        minimum=1,
        maximum=16,
        title="Jobs",
        description="Sessions that copy at most, and that make indexes on the scratch server.",
        section="Load",
    ),
}

with DAG(
    dag_id="rehearse_migration",
    description="Rehearse a migration on copies, beside a source that goes on",
    schedule=rehearsal_schedule(),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={
        "owner": "airflow",
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": LONG,
        # A skipped step must not take the following ones with it.
        "trigger_rule": "none_failed",
    },
    params=PARAMS,
    tags=["migration"],
    doc_md=__doc__,
) as dag:
    preflight = PreflightRehearsalOperator(task_id="preflight", execution_timeout=timedelta(hours=1))

    with TaskGroup("copy", prefix_group_id=False, tooltip="Make both scratch databases"):
        copy_source = CopySourceOperator(task_id="copy_source")
        restore_database = RestoreScratchOperator(task_id="restore_database")

    swap_fernet_key = SwapFernetKeyOperator(task_id="swap_fernet_key")

    with TaskGroup("upgrade", prefix_group_id=False, tooltip="Release by release to the target's schema"):
        hops: list[RepairOperator | UpgradeOperator] = []
        for number in (1, 2, 3):
            hops.append(RepairOperator(task_id=f"repair_{number}", hop=number))
            hops.append(UpgradeOperator(task_id=f"upgrade_{number}", hop=number))
        mend_schedules = MendSchedulesOperator(task_id="mend_schedules")

    verify = VerifyOperator(task_id="verify")
    # The run is as good as this task: it is the only leaf that counts beside the teardowns' own failures.
    rehearsal_complete = RehearsalCompleteOperator(task_id="rehearsal_complete")

    runbook = [
        preflight, copy_source, restore_database, swap_fernet_key, *hops, mend_schedules, verify,
    ]  # fmt: skip
    chain(*runbook, rehearsal_complete)
    checks = [
        CheckDagFilesOperator(task_id="check_dag_files", execution_timeout=timedelta(hours=1)),
        CheckConfigurationOperator(task_id="check_configuration", execution_timeout=timedelta(minutes=15)),
    ]
    preflight >> checks >> rehearsal_complete

    drop_scratch = DropScratchOperator(task_id="drop_scratch", execution_timeout=timedelta(hours=1))
    report = ReportOperator(
        task_id="report",
        kind="rehearsal",
        step_task_ids=[task.task_id for task in (*runbook, *checks)],
        last_task_id="verify",
        completion_task_id=rehearsal_complete.task_id,
        on_success_callback=MigrationNotifier(),
        on_failure_callback=MigrationNotifier(),
        execution_timeout=timedelta(minutes=15),
    )
    # They run whatever happened, and their own failure fails the run.
    verify >> drop_scratch >> [report, rehearsal_complete]
    report >> rehearsal_complete
    checks >> report
    for teardown in (drop_scratch, report):
        teardown.as_teardown(on_failure_fail_dagrun=True)
