"""Whatever goes wrong in a real Airflow, nothing secret is told, and what a kill has left behind is made good."""

from __future__ import annotations

import json
import os
import secrets as random
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from tests.polling import until

from airflow_migration.metadata.releases import release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from demo.leaks import Arguments, Search, logs_and_reports
from demo.stage import CONTROL_DATABASE, DAG_ID, Stage

DEADLINE = 400.0
WRONG_PASSWORD, REFUSED_ROW, UNLUCKY = "wrong_password", "refused_row", "unlucky"
HEAD = release("3.3.2").head
# What the upgrade's first statement on alembic_version sets off: Postgres then shows the whole row in its DETAIL.
REFUSE_IN_UPGRADE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE connection SET description = 'touched' WHERE conn_id = 'leaky'; RETURN new; END $$;
CREATE TRIGGER refuse AFTER UPDATE ON alembic_version FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE connection ADD CONSTRAINT never_touched CHECK (description IS DISTINCT FROM 'touched') NOT VALID;
"""
ALLOW_IN_UPGRADE = "DROP TRIGGER refuse ON alembic_version; DROP FUNCTION refuse"
# At its end the upgrade changes a value, which `verify` must notice and must not tell.
TAMPER = """
CREATE FUNCTION tamper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE variable SET val = {tampered}, is_encrypted = false WHERE key = 'leaky'; RETURN new; END $$;
CREATE TRIGGER tamper AFTER UPDATE ON alembic_version FOR EACH ROW WHEN (new.version_num = {head})
    EXECUTE FUNCTION tamper();
"""
REFUSE_TO_PAUSE = "ALTER TABLE dag ADD CONSTRAINT never_paused CHECK (NOT is_paused OR dag_id <> {dag}) NOT VALID"


@dataclass(kw_only=True)
class Story:
    """Three runs of the DAG: a wrong password, a row that Postgres refuses, and one that everything befalls.

    :param secrets: name that may be shown → value
    :param states: of the third run's tasks, when it had failed, and at its end
    :param killed_home: mode of the killed release's home, and what its files held
    """

    stage: Stage
    source: DatabaseAddress
    secrets: dict[str, str]
    arguments: set[str] = field(default_factory=set)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: list[dict[str, str]] = field(default_factory=list)
    killed_home: int = 0
    home_leaks: list[str] = field(default_factory=list)
    verdicts: list[bool] = field(default_factory=list)


@pytest.fixture(scope="module")
def story(
    stage: Stage,
    temporary: Path,
    tmp_path_factory: pytest.TempPathFactory,
    corpus: Callable[[str], DatabaseAddress],
    fernet_key: Secret,
) -> Story:
    source = corpus("2.10.5")
    target_key = Fernet.generate_key().decode()
    env_file = tmp_path_factory.mktemp("target") / "airflow.env"
    env_file.touch(mode=0o600)
    env_file.write_text(f"AIRFLOW__CORE__FERNET_KEY={target_key}\n")
    told = Story(
        stage=stage,
        source=source,
        secrets={
            "the source's fernet key": fernet_key.reveal(),
            "the target's fernet key": target_key,
            "the database's password": source.password.reveal(),
            **{
                name: f"{random.token_urlsafe(12)}' \"{name}"
                for name in (
                    "a wrong password",
                    "a DAG's description",
                    "a plain password",
                    "an extra",
                    "a variable",
                    "another variable",
                )
            },
        },
    )
    plant(told, fernet_key)
    with stage.control.client() as api, Arguments() as arguments:
        connect(api, told, env_file, fernet_key)
        tell_of_a_wrong_password(told, api)
        tell_of_a_refused_row(told, api)
        tell_of_everything(told, api, temporary)
    told.arguments = arguments.seen
    return told


def plant(story: Story, key: Secret) -> None:
    """Secrets in the source, each where an error may show it, and the faults that bring the errors about."""
    values = story.secrets
    with story.source.connect(read_only=False) as session:
        session.execute("UPDATE dag SET description = %s, is_paused = false", (values["a DAG's description"],))
        session.execute(
            "INSERT INTO connection (conn_id, conn_type, password, extra, is_encrypted, is_extra_encrypted)"
            " VALUES ('leaky', 'http', %s, %s, false, false)",
            (values["a plain password"], json.dumps({"token": values["an extra"]})),
        )
        token = Fernet(key.reveal()).encrypt(values["a variable"].encode()).decode()
        session.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('leaky', %s, true)", (token,))
        session.execute(REFUSE_IN_UPGRADE)
        session.execute(
            sql.SQL(TAMPER).format(tampered=sql.Literal(values["another variable"]), head=sql.Literal(HEAD))
        )
        row = session.execute("SELECT min(dag_id) FROM dag").fetchone()
        assert row
        session.execute(sql.SQL(REFUSE_TO_PAUSE).format(dag=sql.Literal(row[0])))


def connect(api: httpx.Client, story: Story, env_file: Path, key: Secret) -> None:
    address = story.source
    common = {"conn_type": "airflow_deployment", "host": address.host, "port": address.port, "login": address.user}
    password, wrong = address.password.reveal(), story.secrets["a wrong password"]
    extra = {"secret_fernet_key": key.reveal()}
    target = {"airflow_version": "3.3.2", "control": {"kind": "env_file", "path": str(env_file)}}
    for conn_id, word, schema, more in (
        ("leaky_source", password, address.database, extra),
        ("leaky_source_wrong", wrong, address.database, extra),
        ("leaky_target", password, "leaky target", target),
    ):
        body = common | {"connection_id": conn_id, "password": word, "schema": schema, "extra": json.dumps(more)}
        api.post("/connections", json=body).raise_for_status()


def tell_of_a_wrong_password(story: Story, api: httpx.Client) -> None:
    trigger(api, WRONG_PASSWORD, source_conn_id="leaky_source_wrong")
    wait_for_run(api, WRONG_PASSWORD, "failed")
    story.reports[WRONG_PASSWORD] = report_of(story, WRONG_PASSWORD)


def tell_of_a_refused_row(story: Story, api: httpx.Client) -> None:
    trigger(api, REFUSED_ROW)
    wait_for_run(api, REFUSED_ROW, "failed")
    story.reports[REFUSED_ROW] = report_of(story, REFUSED_ROW)
    execute(story.source, "ALTER TABLE dag DROP CONSTRAINT never_paused")


def tell_of_everything(story: Story, api: httpx.Client, temporary: Path) -> None:
    """The upgrade meets a row that is refused, then is killed, then works; then `verify` finds a changed value."""
    trigger(api, UNLUCKY)
    wait_for_task(api, "upgrade_1", "up_for_retry", 1)
    working = story.source.on(str(plan_of(api)["working_database"]))
    execute(working, ALLOW_IN_UPGRADE)

    child = wait_for_upgrade(working)
    os.kill(int(status_of(child)["PPid"]), signal.SIGKILL)
    wait_for_task(api, "upgrade_1", "up_for_retry", 2)
    (home,) = temporary.glob("airflow-migration-*")
    story.killed_home = stat.S_IMODE(home.stat().st_mode)
    search = Search(story.secrets)
    search.files([home])
    assert search.looked
    story.home_leaks = search.leaks

    wait_for_run(api, UNLUCKY, "failed")
    story.states.append(states_of(api))
    story.verdicts.append(report_of(story, UNLUCKY)["verified"])
    with story.source.connect() as source, working.connect(read_only=False) as session:
        row = source.execute("SELECT val FROM variable WHERE key = 'leaky'").fetchone()
        session.execute("UPDATE variable SET val = %s, is_encrypted = true WHERE key = 'leaky'", row)
    clear = {"dag_run_id": UNLUCKY, "task_ids": ["verify"], "include_downstream": True, "only_failed": False}
    answer = api.post(f"/dags/{DAG_ID}/clearTaskInstances", json=clear | {"dry_run": False, "reset_dag_runs": True})
    answer.raise_for_status()
    wait_for_run(api, UNLUCKY, "success")
    story.states.append(states_of(api))
    story.reports[UNLUCKY] = report_of(story, UNLUCKY)
    story.verdicts.append(story.reports[UNLUCKY]["verified"])


# --- what is promised ---


def test_each_failure_is_told_with_its_cause(story: Story) -> None:
    wrong, refused = story.reports[WRONG_PASSWORD], story.reports[REFUSED_ROW]
    assert (wrong["status"], wrong["plan"]) == ("failed", None)
    for report, task_id, cause in ((wrong, "preflight", "password"), (refused, "pause_dags", "never_paused")):
        (failed,) = (step for step in report["steps"] if step["error"])
        assert failed["task_id"] == task_id
        assert cause in failed["error"]["problem"]


def test_a_refused_row_leaves_the_source_as_it_was(story: Story) -> None:
    assert not [
        step for step in story.reports[REFUSED_ROW]["steps"] if step["task_id"] == "clone_database" and step["result"]
    ]
    assert story.reports[UNLUCKY]["plan"]["active_dags"] > 0


def test_the_retry_after_a_kill_completes_the_upgrade(story: Story) -> None:
    failed, ended = story.states
    assert failed["upgrade_1"] == "success"
    assert failed["verify"] == "failed"
    assert failed["unpause_dags"] == "upstream_failed"
    assert ended["migration_complete"] == "success"
    assert story.verdicts == [False, True]


def test_nobody_else_could_read_the_home_of_the_killed_release_and_it_held_no_secret(story: Story) -> None:
    assert story.killed_home == stat.S_IRWXU
    assert story.home_leaks == []


def test_nothing_is_left_of_the_killed_release(story: Story, temporary: Path) -> None:
    assert not [*temporary.glob("airflow-migration-*")]
    assert not [pid for pid in processes() if str(temporary / "airflow-migration-") in read(pid, "environ")]


def test_no_secret_is_in_a_log_a_report_or_a_temporary_file(story: Story, temporary: Path) -> None:
    search = Search(story.secrets)
    search.files([*logs_and_reports(story.stage.control), temporary])
    assert search.looked > 30
    assert search.leaks == []


def test_no_secret_is_in_the_control_airflows_database(story: Story) -> None:
    search = Search(story.secrets)
    search.database(story.stage.server.address.on(CONTROL_DATABASE))
    assert search.looked > 100
    assert search.leaks == []


@pytest.mark.parametrize("run_id", [WRONG_PASSWORD, REFUSED_ROW, UNLUCKY])
def test_no_secret_is_in_what_the_rest_api_answers(story: Story, run_id: str) -> None:
    search = Search(story.secrets)
    with story.stage.control.client() as api:
        search.answers(api, DAG_ID, run_id)
    assert search.looked > 30
    assert search.leaks == []


def test_no_secret_was_in_the_arguments_of_a_process(story: Story) -> None:
    assert any("db migrate" in each for each in story.arguments)
    search = Search(story.secrets)
    search.texts(story.arguments, "arguments of a process")
    assert search.leaks == []


# --- how it is brought about ---


def execute(address: DatabaseAddress, statement: str) -> None:
    with address.connect(read_only=False) as session:
        session.execute(statement)


def trigger(api: httpx.Client, run_id: str, **conf: Any) -> None:
    conf = {"require_approval": False, "source_conn_id": "leaky_source", "target_conn_id": "leaky_target"} | conf
    run = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
    api.post(f"/dags/{DAG_ID}/dagRuns", json=run).raise_for_status()


def wait_for_run(api: httpx.Client, run_id: str, wanted: str) -> None:
    def reached(state: str) -> bool:
        assert state in (wanted, "queued", "running"), f"{run_id} is {state}"
        return state == wanted

    until(
        lambda: state_of(api, run_id),
        reached,
        seconds=DEADLINE,
        pause=0.5,
        told=lambda: f"{run_id} is still {state_of(api, run_id)}",
    )


def state_of(api: httpx.Client, run_id: str) -> str:
    return str(api.get(f"/dags/{DAG_ID}/dagRuns/{run_id}").raise_for_status().json()["state"])


def wait_for_task(api: httpx.Client, task_id: str, wanted: str, try_number: int) -> None:
    path = f"/dags/{DAG_ID}/dagRuns/{UNLUCKY}/taskInstances/{task_id}"

    def look() -> tuple[str, int]:
        task = api.get(path).raise_for_status().json()
        return task["state"], task["try_number"]

    def goes_on() -> None:
        assert state_of(api, UNLUCKY) in ("queued", "running"), states_of(api)

    until(look, (wanted, try_number).__eq__, seconds=DEADLINE, pause=0.2, check=goes_on)


def states_of(api: httpx.Client) -> dict[str, str]:
    answer = api.get(f"/dags/{DAG_ID}/dagRuns/{UNLUCKY}/taskInstances?limit=100").raise_for_status()
    return {each["task_id"]: each["state"] for each in answer.json()["task_instances"]}


def plan_of(api: httpx.Client) -> dict[str, Any]:
    path = f"/dags/{DAG_ID}/dagRuns/{UNLUCKY}/taskInstances/preflight/xcomEntries/return_value"
    plan: dict[str, Any] = api.get(path).raise_for_status().json()["value"]["result"]
    return plan


def report_of(story: Story, run_id: str) -> dict[str, Any]:
    path = story.stage.control.home / "migration-reports" / run_id / "report.json"
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def wait_for_upgrade(working: DatabaseAddress) -> int:
    """Wait until an upgrade is half-way.

    :returns: its process, by what only it has in its environment
    """
    before = release("2.10.5").head
    with working.connect(autocommit=True) as session:
        # The upgrade ends other sessions on its database: look from another one once it has begun.
        assert session.execute("SELECT version_num FROM alembic_version").fetchone() == (before,)

    def look() -> int | None:
        for pid in processes():
            if f"PGDATABASE={working.database}\0" in read(pid, "environ") and "migrate" in read(pid, "cmdline"):
                with working.connect() as session:
                    if session.execute("SELECT version_num FROM alembic_version").fetchone() not in ((before,), None):
                        return pid
        return None

    pid = until(look, seconds=DEADLINE, pause=0.1, told=lambda: "no upgrade was seen")
    assert pid is not None
    return pid


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def status_of(pid: int) -> dict[str, str]:
    lines = read(pid, "status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
