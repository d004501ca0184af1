"""The demo is the promise to a newcomer: one real migration, in a real Airflow, that leaks nothing."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from rich.console import Console

from airflow_migration.deployments.env_file import EnvFile
from airflow_migration.postgres.address import DatabaseAddress
from demo.deployments import FACTS, TARGET_DATABASE
from demo.stage import CONTROL_DATABASE, DAG_ID, RUN_ID, SOURCE_DATABASE, Stage

SAMPLE_EVERY = 0.1
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Demo:
    """A finished demo.

    :param arguments: arguments of every process that was seen during the run
    :param shown: what stood in the terminal
    """

    stage: Stage
    report: dict[str, Any]
    arguments: set[str]
    shown: str
    secrets: dict[str, str]

    def database(self, name: str) -> DatabaseAddress:
        return self.stage.server.address.on(name)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "terminal").open("w+") as terminal:
        console = Console(file=terminal, width=200)
        stage = Stage(folder=folder / "demo", runtimes=REPOSITORY / "build" / "runtimes", console=console)
        seen: set[str] = set()
        done = threading.Event()
        sampler = threading.Thread(target=_sample_arguments, args=(seen, done))
        try:
            stage.set_up()
            secrets = _secrets(stage)
            sampler.start()
            report = stage.migrate()
            done.set()
            sampler.join()
            terminal.seek(0)
            secrets |= _secrets(stage)
            yield Demo(stage=stage, report=report, arguments=seen, shown=terminal.read(), secrets=secrets)
        finally:
            done.set()
            stage.stop()
            stage.server.remove()


def _sample_arguments(seen: set[str], done: threading.Event) -> None:
    while not done.wait(SAMPLE_EVERY):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue


def _secrets(stage: Stage) -> dict[str, str]:
    """Every secret of both sides, by a name that may be shown."""
    facts = json.loads(FACTS.read_text())
    target = EnvFile(str(stage.folder / "target" / "airflow.env"))
    found = {"the source's fernet key": facts["fernet_key"], "the target's fernet key": target.fernet_keys().reveal()}
    found["the superuser's password"] = stage.server.address.password.reveal()
    login = str(target.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")).partition("@")[0].rpartition(":")[2]
    found["the deployments' database password"] = login
    # Every password, extra and variable of the shipped database that is secret begins so.
    found["a secret of the source"] = facts["secret_prefix"]
    return found


def test_the_run_is_green_and_verified(demo: Demo) -> None:
    assert demo.report["verified"] is True, demo.report["verification"]
    assert demo.report["status"] == "success"
    assert [hop["release"] for hop in demo.report["plan"]["hops"]] == ["2.11.2", "3.3.2"]
    with demo.stage.control.client() as api:
        assert api.get(f"/dags/{DAG_ID}/dagRuns/{RUN_ID}").json()["state"] == "success"


def test_the_shipped_database_has_secrets_to_leak(demo: Demo) -> None:
    facts = json.loads(FACTS.read_text())
    with demo.database(SOURCE_DATABASE).connect() as source:
        row = source.execute(
            "SELECT count(*) FROM connection WHERE position(%s in password) > 0", (facts["secret_prefix"],)
        )
        assert row.fetchone() == (facts["counts"]["plaintext_passwords"],)


def test_exactly_the_dags_that_were_active_are_active_again(demo: Demo) -> None:
    query = "SELECT dag_id FROM airflow_migration.paused_dag WHERE was_paused IS NOT TRUE ORDER BY dag_id"
    with demo.database(SOURCE_DATABASE).connect() as source, demo.database(TARGET_DATABASE).connect() as target:
        before = source.execute(query).fetchall()
        after = target.execute("SELECT dag_id FROM dag WHERE NOT is_paused ORDER BY dag_id").fetchall()
        still = source.execute("SELECT count(*) FROM dag WHERE is_paused IS NOT TRUE").fetchone()
    assert before
    assert after == before
    assert still == (0,)


def test_the_history_is_complete(demo: Demo) -> None:
    facts = json.loads(FACTS.read_text())
    with demo.database(TARGET_DATABASE).connect() as target:
        for table in ("dag_run", "variable", "connection"):
            row = target.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
            assert row is not None
            assert row[0] == facts["tables"][table], table


def test_the_source_is_fenced_and_its_copy_is_kept(demo: Demo) -> None:
    frozen = demo.report["plan"]["frozen_database"]
    import psycopg

    for name in (SOURCE_DATABASE, frozen):
        with (
            psycopg.connect(
                host="127.0.0.1",
                port=demo.stage.server.address.port,
                user="postgres",
                password=demo.stage.server.address.password.reveal(),
                dbname=name,
            ) as session,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            session.execute("CREATE TABLE not_allowed (id int)")


def test_no_secret_is_in_any_file_that_others_may_read_or_that_is_a_log_or_report(demo: Demo) -> None:
    home = demo.stage.control.home
    # Dumps hold everything; nobody else gets into their folder.
    dumps = home / "migration-dumps"
    assert stat.S_IMODE(dumps.stat().st_mode) == 0o700
    checked = 0
    for path in demo.stage.folder.rglob("*"):
        if not path.is_file() or path.is_symlink() or {demo.stage.folder / "postgres", dumps} & {*path.parents}:
            continue
        logged = home / "logs" in path.parents or path == demo.stage.control.log or path.name == "report.json"
        if logged or path.stat().st_mode & stat.S_IROTH:
            checked += 1
            _assert_clean(path.read_text(errors="replace"), str(path.relative_to(demo.stage.folder)), demo.secrets)
    assert checked > len(demo.report["steps"])


def test_no_secret_is_in_the_control_airflows_database(demo: Demo) -> None:
    """XComs, rendered fields, the audit log and all the rest; its own connections are encrypted there."""
    with demo.database(CONTROL_DATABASE).connect() as control:
        tables = [str(name) for (name,) in control.execute("SELECT relname FROM pg_stat_user_tables").fetchall()]
        assert {"xcom", "rendered_task_instance_fields", "log"} <= set(tables)
        for table in tables:
            for (row,) in control.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))):
                _assert_clean(str(row), f"table {table}", demo.secrets)


def test_no_secret_was_in_the_arguments_of_a_process_or_in_the_terminal(demo: Demo) -> None:
    assert any("pg_dump" in each for each in demo.arguments)
    assert any("db migrate" in each for each in demo.arguments)
    for each in demo.arguments:
        _assert_clean(each, "arguments of a process", demo.secrets)
    _assert_clean(demo.shown, "the terminal", demo.secrets)


def test_no_secret_is_in_what_the_rest_api_answers(demo: Demo) -> None:
    with demo.stage.control.client() as api:
        tasks = [step["task_id"] for step in demo.report["steps"]]
        paths = ["/connections", f"/dags/{DAG_ID}/dagRuns/{RUN_ID}", f"/dags/{DAG_ID}/details"]
        paths += [f"/dags/{DAG_ID}/dagRuns/{RUN_ID}/taskInstances/{task}" for task in ["preflight", *tasks]]
        paths += [f"{path}/xcomEntries/return_value?deserialize=false" for path in paths if "taskInstances" in path]
        paths += [
            f"{path}/logs/1?full_content=true" for path in paths if "/taskInstances/" in path and "xcom" not in path
        ]
        for path in paths:
            _assert_clean(api.get(path).text, f"answer of {path}", demo.secrets)


def _assert_clean(text: str, where: str, secrets: dict[str, str]) -> None:
    leaked = [name for name, value in secrets.items() if value in text]
    assert not leaked, f"{where} holds {leaked}"
