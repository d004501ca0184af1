"""### Take a migration back

Puts the world back as it was before one run of `migrate_airflow`, finished or failed: the source's DAGs run again,
the target is what it was. Give the run's id; every undo is called from what the source's own journal says, so this
works after a failure at any step, after success, and twice.

| step | undoes | what it does |
|---|---|---|
| `allow_connections` | `clone_database` | opens the source's doors, should a killed clone have left them shut |
| `preflight_roll_back` | | reads the journal, looks at the target, changes nothing |
| `approve_roll_back` | | a person reads what will be lost, and approves it |
| `pause_target` | `unpause_dags` | pauses the target's DAGs; counts its runs since the hand-over: **they are lost** |
| `restore_target_settings` | `swap_fernet_key`, `point_target` | key and database address of before |
| `put_back_target_database` | `point_target` | the database that was set aside gets the target's name back |
| `restart_target` | `restart_target` | restarts the target's processes; the source does not wait for them |
| `lift_fence` | `fence_source` | the source can be written again |
| `resume_source` | `pause_dags` | unpauses exactly the DAGs that were active |
| `drop_created` | the copies | drops the migrated database; with `purge` also the frozen clone and the dump |
| `roll_back_complete` | | closes the journal: the source can be migrated anew |
| `report_roll_back` | | writes `report.json` and `report.html` beside the migration's |

The source is unpaused only when the target can no longer schedule. A task that failed can be cleared and a run that
was killed triggered anew: each step looks first. Nothing is dropped that the migration did not make.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param, chain

from airflow_migration import params
from airflow_migration.notifications.migration import MigrationNotifier
from airflow_migration.operators.approval import ApprovePlanOperator
from airflow_migration.operators.cutover import PODS
from airflow_migration.operators.roll_back import (
    CloseJournalOperator,
    DropCreatedOperator,
    LiftFenceOperator,
    OpenSourceOperator,
    PauseTargetOperator,
    PreflightRollBackOperator,
    PutBackTargetDatabaseOperator,
    ReportRollBackOperator,
    RestartTargetAgainOperator,
    RestoreTargetSettingsOperator,
    ResumeSourceAgainOperator,
)

PARAMS = {
    "migration_id": Param(
        type="string",
        minLength=1,
        title="Migration",
        description="Run id of the migrate_airflow run that is taken back.",
        section="What",
    ),
    "source_conn_id": params.source_conn_id("was left."),
    "target_conn_id": params.target_conn_id("was moved to."),
    "purge": Param(
        False,
        type="boolean",
        title="Remove the backup too",
        description="Also drop the frozen clone, and remove the dump. Otherwise both are kept.",
        section="How",
    ),
    "require_approval": params.require_approval(
        "A person approves before anything is touched, and says when a part is done that control manual leaves to"
        " be done by hand."
    ),
}

with DAG(
    dag_id="roll_back_migration",
    description="Put the world back as it was before a migration",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={
        "owner": "airflow",
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": timedelta(minutes=15),
        # A skipped approval must not take the following steps with it.
        "trigger_rule": "none_failed",
    },
    params=PARAMS,
    tags=["migration"],
    doc_md=__doc__,
) as dag:
    allow_connections = OpenSourceOperator(task_id="allow_connections")
    preflight = PreflightRollBackOperator(task_id="preflight_roll_back")
    approve = ApprovePlanOperator(
        task_id="approve_roll_back",
        subject="Roll back migration {{ params.migration_id }}",
        body="{{ ti.xcom_pull(task_ids='preflight_roll_back', key='plan_in_words') }}",
        execution_timeout=None,
    )
    pause_target = PauseTargetOperator(task_id="pause_target")
    restore_target_settings = RestoreTargetSettingsOperator(task_id="restore_target_settings")
    put_back_target_database = PutBackTargetDatabaseOperator(task_id="put_back_target_database", execution_timeout=PODS)
    restart_target = RestartTargetAgainOperator(task_id="restart_target", execution_timeout=PODS)
    lift_fence = LiftFenceOperator(task_id="lift_fence")
    resume_source = ResumeSourceAgainOperator(task_id="resume_source")
    drop_created = DropCreatedOperator(task_id="drop_created")
    # The run is as good as this task: it is the only leaf that counts beside the report's own failure.
    roll_back_complete = CloseJournalOperator(task_id="roll_back_complete")

    runbook = [
        allow_connections, preflight, approve, pause_target, restore_target_settings, put_back_target_database,
        restart_target, lift_fence, resume_source, drop_created,
    ]  # fmt: skip
    chain(allow_connections, preflight, approve, pause_target, restore_target_settings, put_back_target_database)
    # A target that does not come up again does not keep the source waiting.
    put_back_target_database >> [restart_target, lift_fence]
    lift_fence >> resume_source
    [restart_target, resume_source] >> drop_created

    report = ReportRollBackOperator(
        task_id="report_roll_back",
        step_task_ids=[task.task_id for task in runbook if task is not preflight],
        approval_task_id=approve.task_id,
        completion_task_id=roll_back_complete.task_id,
        on_success_callback=MigrationNotifier(),
        on_failure_callback=MigrationNotifier(),
        # Of a roll back that was refused there is nothing to report.
        on_skipped_callback=MigrationNotifier(),
    )
    drop_created >> [roll_back_complete, report]
    report.as_teardown(on_failure_fail_dagrun=True)
