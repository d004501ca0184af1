"""### Move a live Airflow to a newer one

Carries the metadata database of the **source** deployment into a **target** deployment of the same or a newer
release. Trigger it with two connections of type `airflow_deployment`; the form explains every param.

| step | what it does | on the source |
|---|---|---|
| `preflight` | runs every check, makes the plan, gets the needed Airflow releases ready | reads |
| `approve_plan` | a person reads the plan and approves it | |
| `pause_dags` | pauses all DAGs, and records which were active | **`dag.is_paused`**, schema `airflow_migration` |
| `drain_running_tasks` | waits until nothing runs | reads |
| `clone_database` | frozen clone by `CREATE DATABASE … TEMPLATE` | ends sessions for a moment |
| `dump_database` | backup, or the way to another server | |
| `quiet_target` | with transfer `data_only`, brings the target's processes to rest | |
| `restore_database` | makes the working database, or fills the target's own; without old history if so asked | |
| `swap_fernet_key` | the target gets the source's key, or the values are rewritten with the target's | |
| `repair_n`, `upgrade_n` | repairs what a hop would stumble over, then runs that release's own upgrade | |
| `mend_schedules` | mends what the upgrades leave broken for the scheduler | |
| `verify` | compares both copies; a difference that nothing explains ends the run here | |
| `fence_source` | the old deployment can be read, and schedule nothing | **read-only** |
| `point_target`, `restart_target` | the working database gets its final name | |
| `unpause_dags` | unpauses exactly what was active | |
| `migration_complete` | keeps the frozen clone and the dump, or removes them if no backup is wanted | |
| `report` | writes `report.json` and `report.html`, also when something failed | |

**When it fails** up to `clone_database`, `allow_connections` and `resume_source` put the source back as it was.
Later the source stays paused and whole: mend the cause and clear the failed task, which goes on where it
stopped, or go back to the source with `roll_back_migration`. Nothing is ever dropped or overwritten that this run did
not create.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG, Param, TaskGroup, chain

from airflow_migration import params
from airflow_migration.metadata.repairs.registry import REPAIRS
from airflow_migration.notifications.migration import MigrationNotifier
from airflow_migration.operators.approval import ApprovePlanOperator
from airflow_migration.operators.copy import (
    AllowConnectionsOperator,
    CloneDatabaseOperator,
    DiscardCopiesOperator,
    DumpDatabaseOperator,
    QuietTargetOperator,
    RestoreDatabaseOperator,
)
from airflow_migration.operators.cutover import (
    PODS,
    FenceSourceOperator,
    PointTargetOperator,
    RestartTargetOperator,
    UnpauseDagsOperator,
)
from airflow_migration.operators.preflight import PreflightOperator
from airflow_migration.operators.quiesce import (
    DrainRunningTasksOperator,
    PauseDagsOperator,
    ResumeSourceOperator,
)
from airflow_migration.operators.report import ReportOperator
from airflow_migration.operators.upgrade import (
    MendSchedulesOperator,
    RepairOperator,
    SwapFernetKeyOperator,
    UpgradeOperator,
)
from airflow_migration.operators.verify import VerifyOperator
from airflow_migration.planning.options import TRANSFERS

SHORT, LONG = timedelta(minutes=15), timedelta(hours=12)

PARAMS = {
    "source_conn_id": params.source_conn_id("is left."),
    "target_conn_id": params.target_conn_id("is moved to."),
    "target_database": params.target_database(
        "Final name of the target's metadata database; empty takes the target connection's schema. A fresh"
        " Airflow of that name is set aside (with data_only: filled), anything else of that name is a blocker."
    ),
    "transfer": params.transfer(
        TRANSFERS,
        "clone: within one server. dump: across two, by pg_dump and pg_restore. auto: looks which of these."
        " data_only: the rows of some tables go into the database that a fresh target of the same release has made.",
    ),
    "tables": Param(
        "default",
        anyOf=[
            {"type": "string", "enum": ["default"]},
            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
        ],
        title="Tables",
        description=(
            "With transfer data_only, the tables whose rows travel. default: history and settings, without users and"
            " what the target makes itself. Or a list of tables, in which default and users stand for theirs."
        ),
        section="How",
    ),
    "fernet": params.fernet(
        "swap: the target takes the source's key. reencrypt: what is encrypted is rewritten with the target's key."
        " keep: nothing is done; the target's keys must read everything."
    ),
    "history_days": params.history_days(
        "Only runs newer than this travel, with all that hangs on them; also unfinished runs and each DAG's last"
        " ones. The rest stays in the frozen clone. Empty: everything travels."
    ),
    "repairs": params.repairs(
        description_md=(
            "Which may run, on the new database only. `safe`: all that lose nothing. `all`: also"
            " `quarantine_undecryptable`. Or a list of ids; one that is needed and not in it ends the run before"
            " anything is touched.\n\n" + "\n".join(f"- `{each.id}`: {each.does}" for each in REPAIRS.values())
        )
    ),
    "backup": Param(
        True,
        type="boolean",
        title="Keep a backup",
        description=(
            "Keep the frozen clone on the source's server, and a dump of it in the control Airflow's"
            " [airflow_migration] dumps_path. Off: after success the clone is dropped, and a dump removed."
        ),
        section="How",
    ),
    "cron_timetable": params.cron_timetable(
        "data_interval: they keep the meaning that they had on the source; a 3.x target gets [scheduler]"
        " create_cron_data_intervals=True. trigger: a 3.x target names a cron's runs for the moment at which they"
        " start."
    ),
    "drain_timeout": Param(
        3600,
        type="integer",
        minimum=0,
        title="Drain timeout",
        description="Seconds to wait for running tasks of the source.",
        section="How",
    ),
    "on_drain_timeout": Param(
        "fail",
        enum=["fail", "proceed"],
        title="When the drain takes too long",
        description="fail: unpause the source again. proceed: go on; what still ran runs again at the target.",
        section="How",
    ),
    "require_approval": params.require_approval(
        "A person approves the plan before anything is touched, and says when a part is done that control manual"
        " leaves to be done by hand."
    ),
    "max_rehearsal_age_days": Param(
        14,
        type=["null", "integer"],
        minimum=0,
        maximum=36500,
        title="Age of the last rehearsal",
        description=(
            "Days. Preflight warns when the last rehearsal of this source and target is older, did not end well or was"
            " never made. Empty: it does not."
        ),
        section="How",
    ),
    "fence_source": Param(
        True,
        type="boolean",
        title="Fence the source",
        description="Leave the source's database read-only, so that it can schedule nothing any more.",
        section="Afterwards",
    ),
    "unpause": Param(
        "previously_active",
        anyOf=[
            {"type": "string", "enum": ["previously_active", "none"]},
            {"type": "array", "items": {"type": "string"}},
        ],
        title="Unpause at the target",
        description="previously_active: exactly what was active. none. Or a list of DAG ids.",
        section="Afterwards",
    ),
}

with DAG(
    dag_id="migrate_airflow",
    description="Move a live Airflow to a newer one",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={
        "owner": "airflow",
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": SHORT,
        # A skipped step must not take the following ones with it.
        "trigger_rule": "none_failed",
    },
    params=PARAMS,
    tags=["migration"],
    doc_md=__doc__,
) as dag:
    preflight = PreflightOperator(task_id="preflight", execution_timeout=timedelta(hours=1))
    approve_plan = ApprovePlanOperator(
        task_id="approve_plan",
        subject="{{ ti.xcom_pull(task_ids='preflight', key='approval_subject') }}",
        body="{{ ti.xcom_pull(task_ids='preflight', key='plan_in_words') }}",
        execution_timeout=None,
    )

    with TaskGroup("quiesce", prefix_group_id=False, tooltip="Bring the source to rest"):
        pause_dags = PauseDagsOperator(task_id="pause_dags")
        drain_running_tasks = DrainRunningTasksOperator(task_id="drain_running_tasks", execution_timeout=None)

    with TaskGroup("copy", prefix_group_id=False, tooltip="Make the frozen clone and the working database"):
        clone_database = CloneDatabaseOperator(task_id="clone_database", execution_timeout=LONG)
        dump_database = DumpDatabaseOperator(task_id="dump_database", execution_timeout=LONG)
        quiet_target = QuietTargetOperator(task_id="quiet_target", execution_timeout=PODS)
        restore_database = RestoreDatabaseOperator(task_id="restore_database", execution_timeout=LONG)

    swap_fernet_key = SwapFernetKeyOperator(task_id="swap_fernet_key", execution_timeout=LONG)

    with TaskGroup("upgrade", prefix_group_id=False, tooltip="Release by release to the target's schema"):
        hops: list[RepairOperator | UpgradeOperator] = []
        for number in (1, 2, 3):
            hops.append(RepairOperator(task_id=f"repair_{number}", hop=number, execution_timeout=LONG))
            hops.append(UpgradeOperator(task_id=f"upgrade_{number}", hop=number, execution_timeout=LONG))
        mend_schedules = MendSchedulesOperator(task_id="mend_schedules", execution_timeout=LONG)

    verify = VerifyOperator(task_id="verify", execution_timeout=LONG)
    fence_source = FenceSourceOperator(task_id="fence_source")
    point_target = PointTargetOperator(task_id="point_target", execution_timeout=PODS)
    restart_target = RestartTargetOperator(task_id="restart_target", execution_timeout=PODS)
    unpause_dags = UnpauseDagsOperator(task_id="unpause_dags", execution_timeout=timedelta(hours=1))
    # The run is as good as this task: it is the only leaf that counts beside the teardowns' own failures.
    migration_complete = DiscardCopiesOperator(task_id="migration_complete")

    runbook = [
        preflight, approve_plan, pause_dags, drain_running_tasks, clone_database, dump_database, quiet_target,
        restore_database, swap_fernet_key, *hops, mend_schedules, verify, fence_source, point_target, restart_target,
        unpause_dags,
    ]  # fmt: skip
    chain(*runbook, migration_complete)

    allow_connections = AllowConnectionsOperator(task_id="allow_connections")
    resume_source = ResumeSourceOperator(task_id="resume_source", clone_task_id="clone_database")
    report = ReportOperator(
        task_id="report",
        step_task_ids=[task.task_id for task in runbook],
        approval_task_id=approve_plan.task_id,
        completion_task_id=migration_complete.task_id,
        last_task_id="unpause_dags",
        on_success_callback=MigrationNotifier(),
        on_failure_callback=MigrationNotifier(),
    )
    # They run whatever happened, and their own failure fails the run.
    clone_database >> allow_connections >> resume_source
    [unpause_dags, resume_source] >> report
    [allow_connections, resume_source] >> migration_complete
    for undo in (allow_connections, resume_source, report):
        undo.as_teardown(on_failure_fail_dagrun=True)
