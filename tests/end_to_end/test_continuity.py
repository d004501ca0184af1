"""After 1.10.15 → 2.11.2 → 3.3.2 the target's own scheduler goes on where the source stopped, and only then.

The source is a database that 1.10.15 wrote, with runs added that end a few minutes and days ago.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from tests.end_to_end.continuity import SOON, TARGET, Run, hand_over, plan_migration, rows, scheduled, upgrade_copy
from tests.polling import until

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

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


@dataclass(frozen=True)
class Copies:
    """The same migration at two earlier moments.

    :param unmended: after the upgrades
    :param mended: after `mend_schedules`, for a target that is not told what keeps the meaning of its dates
    """

    unmended: DatabaseAddress
    mended: DatabaseAddress


@pytest.fixture(scope="module")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "ported.py").write_text(PORTED)
    return folder


@pytest.fixture(scope="module")
def moments() -> Moments:
    return Moments.now()


@pytest.fixture(scope="module")
def story(
    moments: Moments,
    corpus: Callable[[str], DatabaseAddress],
    new_database: Callable[..., DatabaseAddress],
    fernet_key: Secret,
    warm_runtimes: VenvRuntime,
    dags_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Run, Copies]:
    """Every step of the runbook, by the library; the working database is copied before and after it is mended."""
    source = corpus("1.10.15")
    fill(source, moments)
    run = plan_migration(
        source,
        source.on("continuity target"),
        fernet_key=fernet_key,
        runtimes=warm_runtimes,
        dags_folder=dags_folder,
        folder=tmp_path_factory.mktemp("migration"),
    )
    upgrade_copy(run)
    working = run.migration.plan.working_database
    unmended = new_database(template=working)
    mended: list[DatabaseAddress] = []
    hand_over(run, after_mending=lambda: mended.append(new_database(template=working)))
    return run, Copies(unmended, mended[0])


@pytest.fixture(scope="module")
def run(story: tuple[Run, Copies]) -> Run:
    return story[0]


@pytest.fixture(scope="module")
def copies(story: tuple[Run, Copies]) -> Copies:
    return story[1]


@pytest.fixture(scope="module")
def bin_folder(runtimes: VenvRuntime) -> Path:
    return runtimes.prepare(TARGET, lambda _: None) / "bin"


def start_unmended(
    database: DatabaseAddress,
    run: Run,
    folder: Path,
    start: Callable[[Path], Any],
    *,
    active: tuple[str, ...],
    **had: str,
) -> Any:
    """A target on one of the copies.

    :param active: DAGs that are unpaused
    :param had: settings that it has instead of those that the migration gave
    """
    env_file = folder / f"{database.database}.env"
    env_file.write_text(run.env_file.read_text())
    settings = EnvFile(str(env_file))
    settings.point_to(database.database, "unmended")
    EnvFile(str(env_file)).set_settings(had, "unmended")
    with database.connect(read_only=False) as session:
        session.execute("UPDATE dag SET is_paused = NOT dag_id = ANY(%s)", (list(active),))
    return start(env_file)


def test_without_mending_the_target_stalls_hangs_finds_no_log_and_ends(
    run: Run,
    copies: Copies,
    moments: Moments,
    bin_folder: Path,
    dags_folder: Path,
    start_airflow: Callable[..., Any],
    tmp_path: Path,
) -> None:
    unmended = copies.unmended
    commands = ["scheduler", "dag-processor", "api-server"]
    airflow = start_unmended(
        unmended,
        run,
        tmp_path,
        lambda env_file: start_airflow(bin_folder, dags_folder, env_file, commands),
        active=("minutely", "by_hand", "half_done"),
    )
    write_old_log(airflow.home, moments)
    before = scheduled(unmended, "minutely")

    def stalled() -> bool:
        lines = [line for line in airflow.said("scheduler").splitlines() if "run already exists" in line]
        return sum("minutely" in line for line in lines) >= 5

    airflow.until(stalled, SOON)
    airflow.until(lambda: "does not have a dag_version_id set" in airflow.said("scheduler"), SOON)
    assert scheduled(unmended, "minutely") == before
    left = "SELECT task_id, state FROM task_instance WHERE dag_id = ANY(%s) AND try_number > 0 ORDER BY 1"
    hanging = [("done", "success"), ("waits", "queued"), ("was_running", "running")]
    # The scheduler says why it leaves a task queued before it has committed that it is.
    airflow.until(lambda: rows(unmended, left, ["by_hand", "half_done"]) == hanging, SOON)
    with airflow.client() as api:
        answer = api.get(old_log_path(moments), params={"full_content": True})
        assert answer.status_code == 200
        assert OLD_LOG not in answer.text
    # The task instance of this one has no priority.
    with unmended.connect(read_only=False) as session:
        session.execute("UPDATE dag SET is_paused = false WHERE dag_id = 'retrying'")
    # Its loop has ended then; its executor may wait for ever for the tasks that it takes for running.
    ended = re.compile("ValidationError: .*\npriority_weight\n(.*\n)*.*Shutting down")
    until(lambda: ended.search(airflow.said("scheduler")), seconds=SOON, told=airflow.tail)


def test_a_target_that_is_not_told_to_keep_the_meaning_of_dates_leaves_one_out(
    run: Run,
    copies: Copies,
    moments: Moments,
    bin_folder: Path,
    dags_folder: Path,
    start_airflow: Callable[..., Any],
    tmp_path: Path,
) -> None:
    airflow = start_unmended(
        copies.mended,
        run,
        tmp_path,
        lambda env_file: start_airflow(bin_folder, dags_folder, env_file, ["scheduler", "dag-processor"]),
        active=("minutely",),
        AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS="False",
    )
    airflow.until(lambda: len(scheduled(copies.mended, "minutely")) > 3, SOON)
    airflow.stop()
    assert scheduled(copies.mended, "minutely")[2:4] == [moments.minute, moments.minute + 2 * MINUTE]


@pytest.fixture(scope="module")
def airflow(run: Run, moments: Moments, bin_folder: Path, dags_folder: Path, start_airflow: Callable[..., Any]) -> Any:
    """The target, from the env file that the migration has changed."""
    target = start_airflow(bin_folder, dags_folder, run.env_file, ["dag-processor", "api-server"])
    # A task that starts before its API server answers costs a try.
    target.client().close()
    target.start("scheduler")
    write_old_log(target.home, moments)
    return target


def write_old_log(home: Path, moments: Moments) -> None:
    """Where a worker of 1.10 has written it."""
    old = home / "logs" / "daily_catchup" / "work" / moments.midnight.isoformat() / "1.log"
    old.parent.mkdir(parents=True)
    old.write_text(f"[2026-11-01 00:00:00,000] {{x.py:1}} INFO - {OLD_LOG}\n")


def old_run_path(moments: Moments) -> str:
    return f"/dags/daily_catchup/dagRuns/{quote(f'scheduled__{moments.midnight.isoformat()}', safe='')}"


def old_log_path(moments: Moments) -> str:
    return f"{old_run_path(moments)}/taskInstances/work/logs/1"


@pytest.fixture(scope="module")
def api(airflow: Any) -> Iterator[Any]:
    with airflow.client() as client:
        yield client


def test_the_target_was_told_to_keep_the_meaning_of_logical_dates(run: Run) -> None:
    settings = EnvFile(str(run.env_file))
    assert settings.get("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS") == "True"
    assert "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS" in run.results["point_target"].control.changed
    assert run.results["verify_working_database"].verified


def test_the_next_intervals_follow_the_last_and_no_run_is_made_again(run: Run, moments: Moments, airflow: Any) -> None:
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


def test_the_forecast_said_so(run: Run, moments: Moments) -> None:
    forecast = run.results["unpause_dags"].forecast
    dags = {dag.dag_id: dag for dag in forecast.dags}
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


def test_history_is_read_and_an_old_task_runs_again_with_its_interval(moments: Moments, airflow: Any, api: Any) -> None:
    at, path = moments.midnight, old_run_path(moments)
    history = api.get(path)
    assert history.status_code == 200
    interval = [history.json()[name].replace("Z", "+00:00") for name in ("data_interval_start", "data_interval_end")]
    assert interval == [at.isoformat(), (at + DAY).isoformat()]
    assert OLD_LOG in api.get(old_log_path(moments), params={"full_content": True}).text
    body = {"dry_run": False, "task_ids": ["work"], "dag_run_id": f"scheduled__{at.isoformat()}", "only_failed": False}
    assert api.post("/dags/daily_catchup/clearTaskInstances", json=body).status_code == 200

    def ran_again() -> bool:
        task = api.get(f"{path}/taskInstances/work").json()
        return bool(task["state"] == "success" and task["try_number"] == 2)

    airflow.until(ran_again, SOON)
    # The state may be there before the last lines of the log.
    again, said = (
        f"{path}/taskInstances/work/logs/2",
        f"covers {at:%Y-%m-%d} 00:00:00+00:00 {at + DAY:%Y-%m-%d} 00:00:00+00:00",
    )
    airflow.until(lambda: said in api.get(again, params={"full_content": True}).text, SOON)
