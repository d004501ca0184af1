"""Schedulers of 1.10.15 and 2.10.5 that ran minutes ago, migrated to 3.3.2, whose scheduler goes on.

Both sources run at the same time, are killed with a task under way, and are migrated one after the other.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest
from tests.end_to_end.continuity import SOON, TARGET, Run, hand_over, plan_migration, rows, scheduled, upgrade_copy
from tests.polling import until

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from demo.ports import free_ports

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

RELEASES = ("1.10.15", "2.10.5")
LIVE_SECONDS = 400.0
DAY, MINUTE, DELTA = timedelta(days=1), timedelta(minutes=1), timedelta(minutes=2)
SAID = "covers the day"

# What differs between the source's and the target's files stands before this.
PIPELINES = """
def make(dag_id, schedule, start, tasks=(("work", "echo covers the day {{ ds }}"),), catchup=True):
    defaults = {"owner": "lab", "retries": 2, "retry_delay": RETRY_DELAY, "start_date": start}
    dag = DAG(dag_id, catchup=catchup, default_args=defaults, **{SCHEDULE: schedule})
    last = None
    for task_id, command in tasks:
        task = BashOperator(task_id=task_id, bash_command=command, dag=dag)
        if last:
            last >> task
        last = task
    return dag

minutely = make("minutely", "* * * * *", NOW - timedelta(minutes=3))
daily_catchup = make("daily_catchup", "@daily", MIDNIGHT - timedelta(days=2))
daily_latest = make("daily_latest", "@daily", MIDNIGHT - timedelta(days=9), catchup=False)
two_minutes = make("two_minutes", timedelta(minutes=2), NOW - timedelta(minutes=6))
half_done = make("half_done", None, MIDNIGHT - timedelta(days=9), [("was_running", LONG), ("waits", "echo went on")])
retrying = make("retrying", None, MIDNIGHT - timedelta(days=9), [("fails_first", FAILS), ("waits", "echo went on")])
paused = make("paused", "@daily", MIDNIGHT - timedelta(days=2))
"""
GONE = """
gone = make("gone", "@daily", MIDNIGHT - timedelta(days=2))
"""
OLD = """
from datetime import datetime, timedelta
from airflow import DAG
try:
    from airflow.operators.bash import BashOperator
except ImportError:
    from airflow.operators.bash_operator import BashOperator
SCHEDULE, RETRY_DELAY, LONG, FAILS = "schedule_interval", timedelta(hours=1), "sleep 600", "exit 1"
"""
NEW = """
from datetime import datetime, timedelta, timezone
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
SCHEDULE, RETRY_DELAY, LONG, FAILS = "schedule", timedelta(seconds=5), "echo again", "echo again"
"""
MANUAL = ("half_done", "retrying")
SCHEDULED = ("minutely", "two_minutes", "daily_catchup", "daily_latest", "paused", "gone")

# What the source has done before it is killed: each answers one row when it is so.
READY = """
SELECT (SELECT count(*) >= 3 FROM dag_run WHERE dag_id = 'minutely' AND state = 'success')
   AND (SELECT count(*) >= 2 FROM dag_run WHERE dag_id = 'two_minutes' AND state = 'success')
   AND (SELECT count(*) >= 2 FROM dag_run WHERE dag_id = 'daily_catchup' AND state = 'success')
   AND (SELECT count(*) >= 2 FROM dag_run WHERE dag_id = 'paused' AND state = 'success')
   AND (SELECT count(*) >= 2 FROM dag_run WHERE dag_id = 'gone' AND state = 'success')
   AND (SELECT count(*) >= 1 FROM dag_run WHERE dag_id = 'daily_latest' AND state = 'success')
   AND EXISTS (SELECT FROM task_instance WHERE task_id = 'was_running' AND state = 'running')
   AND EXISTS (SELECT FROM task_instance WHERE task_id = 'fails_first' AND state = 'up_for_retry')
"""


@dataclass
class LiveSource:
    """A real deployment of an old release, with its scheduler as a process.

    :param bin: folder of its `airflow`
    """

    release: str
    bin: Path
    home: Path
    database: DatabaseAddress
    fernet_key: Secret
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_1_10(self) -> bool:
        return self.release.startswith("1.")

    def environment(self) -> dict[str, str]:
        login = f"{self.database.user}:{quote(self.database.password.reveal(), safe='')}"
        place = f"{self.database.host}:{self.database.port}/{self.database.database}"
        url = f"postgresql+psycopg2://{login}@{place}"
        settings = {
            "CORE__SQL_ALCHEMY_CONN" if self.is_1_10 else "DATABASE__SQL_ALCHEMY_CONN": url,
            "CORE__FERNET_KEY": self.fernet_key.reveal(),
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__DAGS_FOLDER": str(self.home / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__LOAD_DEFAULT_CONNECTIONS": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "SCHEDULER__JOB_HEARTBEAT_SEC": "1",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            # 1.10 looks for work when it parses.
            "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "2" if self.is_1_10 else "30",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(free_ports(1)[0]),
        }
        return {
            "PATH": f"{self.bin}:{os.defpath}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "ignore",
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    def airflow(self, *argv: str) -> None:
        command = [str(self.bin / "airflow"), *argv]
        done = subprocess.run(command, env=self.environment(), cwd=self.home, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]

    def begin(self, now: datetime) -> None:
        """Make the metadata database and start the scheduler; two DAGs are triggered by hand."""
        write_dags(self.home / "dags", OLD, now, GONE)
        self.airflow(*(["upgradedb"] if self.is_1_10 else ["db", "migrate"]))
        with (self.home / "scheduler.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.bin / "airflow", "scheduler"],
                env=self.environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until(f"SELECT count(*) = {len(SCHEDULED) + len(MANUAL)} FROM dag")
        for dag_id in MANUAL:
            self.airflow(*(["trigger_dag"] if self.is_1_10 else ["dags", "trigger"]), dag_id)

    def until(self, question: str) -> None:
        """Wait until a question is answered with yes."""

        def runs() -> None:
            assert self.process
            assert self.process.poll() is None, self.tail()

        until(
            lambda: rows(self.database, question),
            lambda answer: answer == [(True,)],
            seconds=LIVE_SECONDS,
            pause=0.5,
            check=runs,
            told=lambda: f"{self.tail()}\n{rows(self.database, ALL_RUNS)}",
        )

    def tail(self) -> str:
        return (self.home / "scheduler.log").read_text(errors="replace")[-3000:]

    def pause(self, dag_id: str) -> None:
        self.airflow(*(["pause"] if self.is_1_10 else ["dags", "pause"]), dag_id)

    def kill(self) -> None:
        """As a machine that loses its power: the scheduler and every task, at once."""
        if self.process is None:
            return
        scheduler = psutil.Process(self.process.pid)
        # Whoever is frozen starts nothing that would be missed.
        scheduler.suspend()
        for process in [*scheduler.children(recursive=True), scheduler]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(20)
        self.process = None


ALL_RUNS = "SELECT dag_id, run_id, state FROM dag_run ORDER BY 1, 2"


def write_dags(folder: Path, imports: str, now: datetime, more: str = "") -> None:
    """The DAGs' file of one release, and for the source one that the target will not have."""
    folder.mkdir(parents=True)
    zone = ", tzinfo=timezone.utc" if imports is NEW else ""
    moments = (
        f"NOW = datetime({now:%Y}, {now.month}, {now.day}, {now.hour}, {now.minute}{zone})\n"
        f"MIDNIGHT = datetime({now:%Y}, {now.month}, {now.day}{zone})\n"
    )
    head = imports + moments
    (folder / "pipelines.py").write_text(head + PIPELINES)
    if more:
        make = PIPELINES.partition("\nminutely")[0]
        (folder / "leaving.py").write_text(head + make + more)


@dataclass(frozen=True)
class Story:
    """One source, its migration and the target that has gone on.

    :param before: logical dates of each DAG's scheduled runs on the source
    """

    source: LiveSource
    run: Run
    before: dict[str, list[datetime]]
    target: Any


@pytest.fixture(scope="module")
def live(
    new_database: Callable[..., DatabaseAddress],
    fernet_key: Secret,
    runtimes: VenvRuntime,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, LiveSource | str]]:
    """Both sources, killed; or why one cannot be run here."""
    now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
    found: dict[str, LiveSource | str] = {}
    for release in RELEASES:
        try:
            bin_folder = runtimes.prepare(release, lambda _: None) / "bin"
        except InvalidInputError as err:
            found[release] = str(err)
            continue
        home = tmp_path_factory.mktemp("live") / release
        found[release] = LiveSource(release, bin_folder, home, new_database(f"live_{release}"), fernet_key)
    sources = [source for source in found.values() if isinstance(source, LiveSource)]
    try:
        for source in sources:
            source.begin(now)
        for source in sources:
            source.until(READY)
            source.pause("paused")
            source.kill()
        yield found
    finally:
        for source in sources:
            source.kill()


@pytest.fixture(scope="module", params=RELEASES)
def story(
    request: pytest.FixtureRequest,
    live: dict[str, LiveSource | str],
    fernet_key: Secret,
    runtimes: VenvRuntime,
    warm_runtimes: VenvRuntime,
    start_airflow: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    source = live[request.param]
    if isinstance(source, str):
        pytest.skip(source)
    folder = tmp_path_factory.mktemp("migrated")
    now = rows(source.database, "SELECT min(execution_date) + interval '3 min' FROM dag_run WHERE dag_id = 'minutely'")
    assert isinstance(now[0][0], datetime)
    write_dags(folder / "dags", NEW, now[0][0].astimezone(timezone.utc))
    before = {dag_id: scheduled(source.database, dag_id, "execution_date") for dag_id in SCHEDULED}
    run = plan_migration(
        source.database,
        source.database.on(f"{source.database.database} moved"),
        fernet_key=fernet_key,
        runtimes=warm_runtimes,
        dags_folder=folder / "dags",
        folder=folder,
    )
    upgrade_copy(run)
    hand_over(run)
    bin_folder = runtimes.prepare(TARGET, lambda _: None) / "bin"
    target = start_airflow(bin_folder, folder / "dags", run.env_file, ["dag-processor", "api-server"])
    copytree(source.home / "logs", target.home / "logs", dirs_exist_ok=True, ignore=lambda *_: ["scheduler"])
    target.client().close()
    target.start("scheduler")
    yield Story(source, run, before, target)
    target.stop()


def dates(first: datetime, step: timedelta, number: int) -> list[datetime]:
    return [first + place * step for place in range(number)]


@pytest.mark.timeout(1200)
def test_the_next_intervals_follow_the_last_and_none_is_made_again(story: Story, tmp_path: Path) -> None:
    final, before = story.run.final, story.before
    verified = story.run.results["verify_working_database"]
    assert verified.verified, "\n".join(verified.problems)
    for dag_id, more in (("minutely", 2), ("two_minutes", 1)):
        wanted = len(before[dag_id]) + more
        story.target.until(lambda asked=dag_id, number=wanted: len(scheduled(final, asked)) >= number, 2 * SOON)
    after = {dag_id: scheduled(final, dag_id) for dag_id in SCHEDULED}
    write_runs(tmp_path / "runs.txt", before, after)
    for dag_id, step in (("minutely", MINUTE), ("two_minutes", DELTA)):
        assert after[dag_id][: len(before[dag_id])] == before[dag_id]
        assert after[dag_id] == dates(before[dag_id][0], step, len(after[dag_id]))
    for dag_id in ("daily_catchup", "daily_latest"):
        over = (datetime.now(timezone.utc) - before[dag_id][0]) // DAY
        assert after[dag_id] == dates(before[dag_id][0], DAY, over)
    for dag_id in ("paused", "gone"):
        assert after[dag_id] == before[dag_id]
    assert "run already exists" not in story.target.said("scheduler")


def write_runs(path: Path, before: dict[str, list[datetime]], after: dict[str, list[datetime]]) -> None:
    """The list of runs before and after, to look at (`pytest -s`)."""
    lines = []
    for dag_id, there in before.items():
        new = after[dag_id][len(there) :]
        lines.append(f"{dag_id}: source {', '.join(map(str, there))}; target then {', '.join(map(str, new)) or 'none'}")
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


def test_the_forecast_said_so(story: Story) -> None:
    forecast = story.run.results["unpause_dags"].forecast
    said = {dag.dag_id: dag for dag in forecast.dags}
    for dag_id, step in (("minutely", MINUTE), ("two_minutes", DELTA)):
        assert said[dag_id].target_next == (story.before[dag_id][-1] + step).isoformat()
        assert said[dag_id].differences == ()
    midnight = story.before["daily_catchup"][-1] + DAY
    for dag_id in ("daily_catchup", "daily_latest"):
        assert (said[dag_id].target_next, said[dag_id].at_once) == (midnight.isoformat(), 0)
    assert [each.kind for each in said["gone"].differences] == ["not parsed"]
    assert "paused" not in said


def test_nothing_hangs(story: Story) -> None:
    final = story.run.final
    for table in ("task_instance", "dag_run"):
        statement = f"SELECT DISTINCT state FROM {table} WHERE dag_id = ANY(%s)"
        story.target.until(lambda asked=statement: rows(final, asked, list(MANUAL)) == [("success",)], SOON)
    tries = "SELECT task_id, try_number FROM task_instance WHERE dag_id = ANY(%s) ORDER BY 1, 2"
    assert rows(final, tries, list(MANUAL)) == [("fails_first", 2), ("waits", 1), ("waits", 1), ("was_running", 2)]


def test_what_was_paused_stays_paused_and_what_is_gone_is_stale(story: Story) -> None:
    final = story.run.final
    assert rows(final, "SELECT dag_id FROM dag WHERE is_paused AND dag_id <> 'gone'") == [("paused",)]
    story.target.until(lambda: rows(final, "SELECT is_stale FROM dag WHERE dag_id = 'gone'") == [(True,)], SOON)


def test_history_is_read_its_log_is_found_and_an_old_task_runs_again(story: Story) -> None:
    final, day = story.run.final, story.before["daily_catchup"][0]
    (row,) = rows(final, "SELECT run_id FROM dag_run WHERE dag_id = 'daily_catchup' AND logical_date = %s", day)
    path = f"/dags/daily_catchup/dagRuns/{quote(str(row[0]), safe='')}"
    with story.target.client() as api:
        assert api.get(path).json()["state"] == "success"
        old = api.get(f"{path}/taskInstances/work/logs/1", params={"full_content": True}).text
        assert f"{SAID} {day:%Y-%m-%d}" in old
        body = {"dry_run": False, "task_ids": ["work"], "dag_run_id": row[0], "only_failed": False}
        assert api.post("/dags/daily_catchup/clearTaskInstances", json=body).status_code == 200

        def ran_again() -> bool:
            task = api.get(f"{path}/taskInstances/work").json()
            return bool(task["state"] == "success" and task["try_number"] == 2)

        story.target.until(ran_again, SOON)
        # The state may be there before the last lines of the log.
        again = f"{path}/taskInstances/work/logs/2"
        story.target.until(lambda: f"{SAID} {day:%Y-%m-%d}" in api.get(again, params={"full_content": True}).text, SOON)
