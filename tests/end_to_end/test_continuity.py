"""After 1.10.15 → 2.11.2 → 3.3.2 the target's own scheduler goes on where the source stopped, and only then.

The source is a database that 1.10.15 wrote, with runs added that end a few minutes and days ago.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.planning.options import Options
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.preflight import ControlRun, make_plan
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, cutover, quiesce, unpausing, upgrade, verify
from airflow_migration.steps.migration import Migration, Workshop

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

TARGET = "3.3.2"
SOON = 120.0
"""Seconds within which the target's processes do what they are expected to do."""

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
DELTA = json.dumps({"type": "timedelta", "attrs": {"days": 0, "seconds": 7200, "microseconds": 0}})

DAGS = {
    "minutely": '"* * * * *"',
    "daily_catchup": '"@daily"',
    "daily_latest": '"@daily"',
    "two_hours": DELTA,
    "by_hand": "null",
    "retrying": "null",
    "half_done": "null",
    "paused": '"@daily"',
    "gone": '"@daily"',
}

UNFINISHED = ("by_hand", "retrying", "half_done")

PORTED = """
import datetime, pendulum
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator

START = pendulum.datetime(2026, 1, 1)
COMMAND = "echo covers {{ data_interval_start }} {{ data_interval_end }}"
RETRIES = {"retries": 2, "retry_delay": datetime.timedelta(seconds=5)}

def make(dag_id, schedule, tasks=(), catchup=True):
    with DAG(dag_id, schedule=schedule, catchup=catchup, start_date=START, default_args=RETRIES):
        if not tasks:
            EmptyOperator(task_id="work")
        last = None
        for task_id in tasks:
            task = BashOperator(task_id=task_id, bash_command=COMMAND)
            last = last >> task if last else task

make("minutely", "* * * * *")
make("daily_catchup", "@daily", ["work"])
make("daily_latest", "@daily", catchup=False)
make("two_hours", datetime.timedelta(hours=2))
make("by_hand", None, ["was_running", "waits"])
make("retrying", None, ["fails_first", "waits"])
make("half_done", None, ["done", "waits"])
make("paused", "@daily")
"""

OLD_LOG = "written by a worker of 1.10"


@dataclass(frozen=True)
class Moments:
    """Logical dates of the source's last runs."""

    minute: datetime
    midnight: datetime
    hours: datetime

    @classmethod
    def now(cls) -> Moments:
        now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        return cls(
            minute=now - 4 * MINUTE,
            midnight=now.replace(hour=0, minute=0) - 4 * DAY,
            hours=now - timedelta(hours=5),
        )

    def runs(self) -> list[tuple[str, datetime, str, str]]:
        """DAG, logical date, kind and state."""
        runs = [("minutely", self.minute - back * MINUTE, "scheduled", "success") for back in range(3)]
        for dag_id in ("daily_catchup", "daily_latest", "paused", "gone"):
            runs += [(dag_id, self.midnight - back * DAY, "scheduled", "success") for back in range(2)]
        runs += [("two_hours", self.hours - timedelta(hours=2 * back), "scheduled", "success") for back in range(2)]
        runs.append(("minutely", self.minute + timedelta(seconds=7), "manual", "success"))
        return [*runs, *((dag_id, self.minute, "manual", "running") for dag_id in UNFINISHED)]

    def tasks(self) -> list[tuple[str, str, datetime, str | None, int]]:
        """DAG, task, logical date, state and tries."""
        finished = [(dag, "work", at, state, 1) for dag, at, _, state in self.runs() if state == "success"]
        return [
            *finished,
            ("by_hand", "was_running", self.minute, "running", 1),
            ("by_hand", "waits", self.minute, None, 0),
            ("retrying", "fails_first", self.minute, "up_for_retry", 1),
            ("retrying", "waits", self.minute, None, 0),
            ("half_done", "done", self.minute, "success", 1),
            ("half_done", "waits", self.minute, None, 0),
        ]


def fill(source: DatabaseAddress, moments: Moments) -> None:
    """What a 1.10.15 that was just stopped leaves behind."""
    with source.connect(read_only=False) as session, session.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO dag (dag_id, is_paused, is_active, is_subdag, fileloc, schedule_interval)"
            " VALUES (%s, %s, true, false, '/opt/airflow/dags/old.py', %s)",
            [(dag_id, dag_id == "paused", schedule) for dag_id, schedule in DAGS.items()],
        )
        cursor.executemany(
            "INSERT INTO dag_run (dag_id, execution_date, run_id, state, external_trigger, start_date)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (dag, at, f"{kind}__{at.isoformat()}", state, kind == "manual", at)
                for dag, at, kind, state in moments.runs()
            ],
        )
        cursor.executemany(
            "INSERT INTO task_instance (dag_id, task_id, execution_date, state, try_number, pool, pool_slots, queue,"
            " priority_weight, max_tries, start_date, end_date, operator, hostname, unixname)"
            " VALUES (%s, %s, %s, %s, %s, 'default_pool', 1, 'default', %s, 2, %s, %s, 'BashOperator', '', 'airflow')",
            [(*task, None if task[1] == "fails_first" else 1, task[2], task[2] + MINUTE) for task in moments.tasks()],
        )


class Run:
    """A migration up to the target's start."""

    def __init__(self, migration: Migration, moments: Moments, unmended: DatabaseAddress) -> None:
        self.migration, self.moments, self.unmended = migration, moments, unmended
        self.results: dict[str, Any] = {}

    @property
    def final(self) -> DatabaseAddress:
        return self.migration.final


def rows(address: DatabaseAddress, statement: str, *values: object) -> list[tuple[object, ...]]:
    with address.connect() as session:
        return session.execute(statement.encode(), values).fetchall()


def scheduled(address: DatabaseAddress, dag_id: str) -> list[datetime]:
    """Logical dates of the runs that a scheduler made, in order."""
    found = rows(
        address,
        "SELECT logical_date FROM dag_run WHERE dag_id = %s AND run_type = 'scheduled' ORDER BY 1",
        dag_id,
    )
    return [date for (date,) in found if isinstance(date, datetime)]


@pytest.fixture(scope="module")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "ported.py").write_text(PORTED)
    return folder


@pytest.fixture(scope="module", params=["data_interval"])
def run(
    request: pytest.FixtureRequest,
    corpus: Callable[[str], DatabaseAddress],
    new_database: Callable[..., DatabaseAddress],
    fernet_key: Secret,
    runtimes: VenvRuntime,
    dags_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Every step of the runbook, by the library; the working database is copied before it is mended."""
    source, moments, folder = corpus("1.10.15"), Moments.now(), tmp_path_factory.mktemp("migration")
    fill(source, moments)
    final = source.on("continuity target")
    env_file = folder / "airflow.env"
    login = f"{final.user}:{quote(final.password.reveal())}@{final.host}:{final.port}"
    env_file.write_text(
        f"AIRFLOW__CORE__FERNET_KEY=x\nAIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2://{login}/elsewhere\n"
    )
    environments = {release: str(runtimes.prepare(release, lambda _: None)) for release in ("2.11.2", TARGET)}
    there = Deployment(address=source, fernet_keys=fernet_key, runtime={"kind": "venv"})
    here = Deployment(
        address=final,
        airflow_version=TARGET,
        control={"kind": "env_file", "path": str(env_file)},
        runtime={"kind": "venv", "environments": environments},
        dags_folder=str(dags_folder),
    )
    options = Options(backup=False, require_approval=False, cron_timetable=request.param)
    plan = make_plan(
        options=options,
        migration_id="continuity",
        control_run=ControlRun(dag_id="x", run_id="x"),
        source=there,
        target=here,
        bin_path=None,
        listener=lambda _: None,
    )
    workshop = Workshop(runtimes_path=folder, dumps_path=folder, reports_path=str(folder))
    migration = Migration(plan=Plan.from_json(plan.to_json()), source=there, target=here, workshop=workshop)
    steps: list[Any] = [quiesce.pause_dags, quiesce.settle, copy.clone_source, copy.make_working_database]
    steps.append(upgrade.swap_fernet_key)
    for step in steps:
        step(migration, print)
    for number in range(1, len(plan.hops) + 1):
        upgrade.repair_before_hop(migration, number, print)
        upgrade.upgrade_by_hop(migration, number, print)
    run = Run(migration, moments, new_database(template=plan.working_database))
    steps = [upgrade.mend_schedules, verify.verify_working_database, cutover.fence_source, cutover.point_target]
    for step in [*steps, unpausing.unpause_dags]:
        run.results[step.__name__] = step(migration, print)
    return run


@pytest.fixture(scope="module")
def bin_folder(runtimes: VenvRuntime) -> Path:
    return runtimes.prepare(TARGET, lambda _: None) / "bin"


def test_without_mending_the_target_stalls_hangs_and_ends(
    run: Run, bin_folder: Path, dags_folder: Path, start_airflow: Callable[..., Any], tmp_path: Path
) -> None:
    settings = EnvFile(run.migration.target.control["path"])  # type: ignore[index]
    env_file = tmp_path / "unmended.env"
    env_file.write_text(settings.path.read_text())
    EnvFile(str(env_file)).point_to(run.unmended.database, "unmended")
    with run.unmended.connect(read_only=False) as session:
        session.execute("UPDATE dag SET is_paused = false WHERE dag_id IN ('minutely', 'by_hand', 'half_done')")
    before = scheduled(run.unmended, "minutely")
    airflow = start_airflow(bin_folder, dags_folder, env_file, ["scheduler", "dag-processor"])

    def stalled() -> bool:
        lines = [line for line in airflow.said("scheduler").splitlines() if "run already exists" in line]
        return sum("minutely" in line for line in lines) >= 5

    airflow.until(stalled, SOON)
    airflow.until(lambda: "does not have a dag_version_id set" in airflow.said("scheduler"), SOON)
    assert scheduled(run.unmended, "minutely") == before
    left = "SELECT task_id, state FROM task_instance WHERE dag_id = ANY(%s) AND try_number > 0 ORDER BY 1"
    assert rows(run.unmended, left, ["by_hand", "half_done"]) == [
        ("done", "success"),
        ("waits", "queued"),
        ("was_running", "running"),
    ]
    # The task instance of this one has no priority.
    with run.unmended.connect(read_only=False) as session:
        session.execute("UPDATE dag SET is_paused = false WHERE dag_id = 'retrying'")
    airflow.wait_for_end("scheduler", SOON)
    assert "priority_weight" in airflow.said("scheduler")


@pytest.fixture(scope="module")
def airflow(run: Run, bin_folder: Path, dags_folder: Path, start_airflow: Callable[..., Any]) -> Any:
    """The target, from the env file that the migration has changed."""
    path = Path(run.migration.target.control["path"])  # type: ignore[index]
    target = start_airflow(bin_folder, dags_folder, path, ["dag-processor", "api-server"])
    # A task that starts before its API server answers costs a try.
    target.client().close()
    target.start("scheduler")
    old = target.home / "logs" / "daily_catchup" / "work" / run.moments.midnight.isoformat() / "1.log"
    old.parent.mkdir(parents=True)
    old.write_text(f"[2026-11-01 00:00:00,000] {{x.py:1}} INFO - {OLD_LOG}\n")
    return target


@pytest.fixture(scope="module")
def api(airflow: Any) -> Iterator[Any]:
    with airflow.client() as client:
        yield client


def test_the_target_was_told_to_keep_the_meaning_of_logical_dates(run: Run) -> None:
    settings = EnvFile(run.migration.target.control["path"])  # type: ignore[index]
    assert settings.get("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS") == "True"
    assert "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS" in run.results["point_target"].control.changed
    assert run.results["verify_working_database"].verified


def test_the_next_intervals_follow_the_last_and_no_run_is_made_again(run: Run, airflow: Any) -> None:
    moments = run.moments

    def expected(dag_id: str, last: datetime, step: timedelta, made: int) -> list[datetime]:
        """What the source had made, and the `made` next ones."""
        had = sorted(at for dag, at, kind, _ in moments.runs() if dag == dag_id and kind == "scheduled")
        return [*had, *(last + number * step for number in range(1, made + 1))]

    def minutes() -> int:
        """How many whole minutes have passed since the source's last interval."""
        return int((datetime.now(timezone.utc) - moments.minute) / MINUTE) - 1

    # The scheduler has made all that were due, and goes on in time.
    due = minutes()
    airflow.until(lambda: len(scheduled(run.final, "minutely")) > due + 3, SOON)
    airflow.until(lambda: len(scheduled(run.final, "daily_catchup")) >= 5, SOON)
    airflow.until(lambda: len(scheduled(run.final, "daily_latest")) >= 3, SOON)
    airflow.until(lambda: len(scheduled(run.final, "two_hours")) >= 3, SOON)
    found = scheduled(run.final, "minutely")
    assert found == expected("minutely", moments.minute, MINUTE, len(found) - 3)
    assert scheduled(run.final, "daily_catchup") == expected("daily_catchup", moments.midnight, DAY, 3)
    assert scheduled(run.final, "two_hours") == expected("two_hours", moments.hours, timedelta(hours=2), 1)
    latest = moments.midnight + 3 * DAY
    assert scheduled(run.final, "daily_latest") == [moments.midnight - DAY, moments.midnight, latest]
    assert "run already exists" not in airflow.said("scheduler")


def test_the_forecast_said_so(run: Run) -> None:
    forecast = run.results["unpause_dags"].forecast
    dags = {dag.dag_id: dag for dag in forecast.dags}
    moments = run.moments
    following = {
        "minutely": moments.minute + MINUTE,
        "daily_catchup": moments.midnight + DAY,
        "daily_latest": moments.midnight + 3 * DAY,
        "two_hours": moments.hours + timedelta(hours=2),
    }
    assert {dag_id: dags[dag_id].target_next for dag_id in following} == {
        dag_id: at.isoformat() for dag_id, at in following.items()
    }
    assert [dags[dag_id].at_once for dag_id in ("daily_catchup", "daily_latest", "two_hours")] == [3, 1, 1]
    assert dags["minutely"].at_once >= 3
    # 1.10 records no catchup of a DAG that it has not serialized.
    kinds = {dag.dag_id: [each.kind for each in dag.differences] for dag in forecast.dags if dag.differences}
    assert kinds == {"daily_latest": ["skipped"], "gone": ["not parsed"]}
    assert dags["daily_latest"].differences[0].text.startswith("2 from ")
    assert dags.keys() == DAGS.keys() - {"paused", *UNFINISHED}
    late = {finding.check: finding for finding in run.migration.plan.findings}["catch_up"]
    assert any(text.startswith("daily_catchup: 3 ") for text in late.evidence)


def test_nothing_hangs(run: Run, airflow: Any, api: Any) -> None:
    states = "SELECT DISTINCT state FROM {} WHERE dag_id = ANY(%s)"
    for table in ("task_instance", "dag_run"):
        statement = states.format(table)
        airflow.until(lambda asked=statement: rows(run.final, asked, list(UNFINISHED)) == [("success",)], SOON)
    tries = "SELECT dag_id, task_id, try_number FROM task_instance WHERE dag_id = ANY(%s) ORDER BY 1, 2"
    assert rows(run.final, tries, list(UNFINISHED)) == [
        ("by_hand", "waits", 1),
        ("by_hand", "was_running", 2),
        ("half_done", "done", 1),
        ("half_done", "waits", 1),
        ("retrying", "fails_first", 2),
        ("retrying", "waits", 1),
    ]


def test_what_was_paused_stays_paused_and_what_is_gone_is_stale(run: Run, airflow: Any) -> None:
    assert len(scheduled(run.final, "paused")) == 2
    assert rows(run.final, "SELECT is_paused FROM dag WHERE dag_id = 'paused'") == [(True,)]
    airflow.until(lambda: rows(run.final, "SELECT is_stale FROM dag WHERE dag_id = 'gone'") == [(True,)], SOON)
    assert len(scheduled(run.final, "gone")) == 2
    known = [dag_id for dag_id in DAGS if dag_id != "gone"]
    stale = "SELECT dag_id FROM dag WHERE is_stale AND dag_id = ANY(%s)"
    assert rows(run.final, stale, known) == []


def test_history_is_read_and_an_old_task_runs_again_with_its_interval(run: Run, airflow: Any, api: Any) -> None:
    at = run.moments.midnight
    path = f"/dags/daily_catchup/dagRuns/{quote(f'scheduled__{at.isoformat()}', safe='')}"
    history = api.get(path)
    assert history.status_code == 200
    interval = [history.json()[name].replace("Z", "+00:00") for name in ("data_interval_start", "data_interval_end")]
    assert interval == [at.isoformat(), (at + DAY).isoformat()]
    assert OLD_LOG in api.get(f"{path}/taskInstances/work/logs/1", params={"full_content": True}).text
    body = {"dry_run": False, "task_ids": ["work"], "dag_run_id": f"scheduled__{at.isoformat()}", "only_failed": False}
    assert api.post("/dags/daily_catchup/clearTaskInstances", json=body).status_code == 200

    def ran_again() -> bool:
        task = api.get(f"{path}/taskInstances/work").json()
        return bool(task["state"] == "success" and task["try_number"] == 2)

    airflow.until(ran_again, SOON)
    new = api.get(f"{path}/taskInstances/work/logs/2", params={"full_content": True}).text
    assert f"covers {at:%Y-%m-%d} 00:00:00+00:00 {at + DAY:%Y-%m-%d} 00:00:00+00:00" in new
