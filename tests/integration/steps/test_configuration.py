"""An airflow.cfg of 1.10 is judged by the releases on its way; nothing that it names is run, nothing hidden is told."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.listening import Heard

from airflow_migration.metadata.releases import release
from airflow_migration.planning.configuration_result import ConfigurationResult
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.command import script_environment
from airflow_migration.runtimes.kubernetes import KubernetesRuntime
from airflow_migration.runtimes.pod_spec import PodOptions
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret
from airflow_migration.steps.configuration import check_configuration

SECRET = "s3cr3t-of-somebody"
FILE = f"""[core]
executor = CeleryExecutor
sql_alchemy_conn = postgresql://airflow:{SECRET}@old:5432/airflow
fernet_key_cmd = touch {{marker}}
dag_concurrency = 16
remote_logging = True
logging_config_class = {SECRET}.nowhere.CONFIG
task_runner = StandardTaskRunner
parallelism = 0
log_format = [%(asctime)s] %(levelname)s
base_log_folder = 100%
[scheduler]
max_threads = 4
[webserver]
web_server_port = 8081
secret_key = {SECRET}
[celery]
broker_url = redis://:{SECRET}@redis:6379/0
result_backend = db+postgresql://airflow:{SECRET}@old/airflow
[smtp]
smtp_password_cmd = touch {{marker}}
[secrets]
backend = {SECRET}.nowhere.Backend
"""
ADDRESS = DatabaseAddress(host="new", port=5432, user="airflow", password=Secret(SECRET), database="airflow3")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "airflow.cfg").write_text(FILE.format(marker=folder / "ran"))
    return folder


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def result(place: Path, runtimes: VenvRuntime, heard: Heard) -> ConfigurationResult:
    return check_configuration(
        runtimes,
        path=str(place / "airflow.cfg"),
        source="1.10.15",
        releases=["2.11.2", "3.3.2", "3.3.2"],
        address=ADDRESS,
        cron_data_intervals=True,
        listener=heard,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "[core] sql_alchemy_conn = ***",
            "[database] sql_alchemy_conn = postgresql+psycopg2://airflow:***@new:5432/airflow3",
        ),
        ("[celery] result_backend = ***", "[celery] result_backend = db+postgresql://airflow:***@new:5432/airflow3"),
        ("[core] dag_concurrency = 16", "[core] max_active_tasks_per_dag = 16"),
        ("[core] remote_logging = True", "[logging] remote_logging = True"),
        ("[core] log_format = …", "[logging] log_format = …"),
        ("[core] base_log_folder = …", "[logging] base_log_folder = …"),
        ("[scheduler] max_threads = 4", "[dag_processor] parsing_processes = 4"),
        ("", "[scheduler] create_cron_data_intervals = True"),
    ],
)
def test_what_must_change_is_written_out(result: ConfigurationResult, before: str, after: str) -> None:
    found = {(each.before, each.after): each.required for each in result.changes}
    assert found[before, after]


def test_what_the_target_still_reads_and_what_it_drops_need_not(result: ConfigurationResult) -> None:
    found = {each.before: (each.after, each.required) for each in result.changes}
    assert found["[webserver] web_server_port = 8081"] == ("[api] port = 8081", False)
    assert found["[core] task_runner = …"] == ("", False)


def test_old_commands_have_new_names(result: ConfigurationResult) -> None:
    assert result.commands["worker"] == "celery worker"
    assert result.commands["webserver"] == "api-server"
    assert result.commands["upgradedb"] == "db migrate"


def test_findings_say_what_a_person_has_to_do(result: ConfigurationResult) -> None:
    found = {each.check: each for each in result.findings}
    assert found["configuration_required"].severity == "warning"
    assert "parallelism" in found["configuration_invalid"].evidence[0]
    assert found["configuration_commands"].evidence[1] == "airflow worker → airflow celery worker"


def test_no_secret_is_told_and_no_command_is_run(result: ConfigurationResult, place: Path, heard: Heard) -> None:
    assert SECRET not in json.dumps(asdict(result)) + heard.text
    assert [path.name for path in place.iterdir()] == ["airflow.cfg"]


def test_in_pods_no_release_can_be_asked(place: Path) -> None:
    pods = KubernetesRuntime(lambda: pytest.fail("no cluster is asked"), PodOptions(namespace="x", image="x"))
    unread = check_configuration(
        pods,
        path=str(place / "airflow.cfg"),
        source="1.10.15",
        releases=["3.3.2"],
        address=ADDRESS,
        cron_data_intervals=None,
        listener=Heard(),
    )
    assert (unread.release, unread.changes) == ("", ())
    assert [each.check for each in unread.findings] == ["configuration_unread"]


def test_the_releases_own_command_finds_the_same(runtimes: VenvRuntime, heard: Heard, tmp_path: Path) -> None:
    """The file holds nothing that starting an Airflow with it would run."""
    text = "[core]\ndag_concurrency = 16\nparallelism = 0\ntask_runner = x\n[webserver]\nweb_server_port = 8081\n"
    (tmp_path / "airflow.cfg").write_text(text)
    ours = check_configuration(
        runtimes,
        path=str(tmp_path / "airflow.cfg"),
        source="2.11.2",
        releases=["3.3.2"],
        address=ADDRESS,
        cron_data_intervals=None,
        listener=heard,
    )
    airflow = runtimes.prepare("3.3.2", heard) / "bin" / "airflow"
    theirs = subprocess.run(
        [airflow, "config", "lint"],
        env=script_environment(release("3.3.2"), tmp_path) | {"PATH": "/usr/bin:/bin", "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert ours.lint
    assert sorted(ours.lint) == sorted(line.strip() for line in re.findall(r"^  - (.*)$", theirs, re.M))
