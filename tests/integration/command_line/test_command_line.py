"""The real command against real databases: its exit codes, its JSON, and what it must never do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from tests.integration.metadata.old_runs import OldRun, add_runs

from airflow_migration.metadata.history import filter_history
from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

Corpus = Callable[[str], DatabaseAddress]
OTHER = Fernet.generate_key().decode()
IMPORTS = """
import runpy, sys
try:
    runpy.run_module("airflow_migration", run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
heavy = sorted({name.partition(".")[0] for name in sys.modules} & {"airflow", "sqlalchemy"})
sys.stderr.write(f"{code} {heavy}")
"""


class Command:
    """Runs the command with connections in the environment, and sees to it that no secret comes out."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.secrets: set[str] = set()

    def connect(self, role: str, address: DatabaseAddress, **extra: str) -> None:
        content = {
            "conn_type": "airflow_deployment",
            "host": address.host,
            "port": address.port,
            "login": address.user,
            "password": address.password.reveal(),
            "schema": address.database,
            "extra": extra,
        }
        self.secrets |= {address.password.reveal(), extra.get("secret_fernet_key", "")} - {""}
        self.environment[f"AIRFLOW_CONN_MIGRATION_{role}"] = json.dumps(content)

    def run(self, *argv: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
        start = ["-m", "airflow_migration"] if code is None else ["-c", code]
        done = subprocess.run(
            [sys.executable, *start, *argv],
            env=clean_environment() | self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not [secret for secret in self.secrets if secret in done.stdout + done.stderr + " ".join(argv)]
        assert "Traceback" not in done.stderr
        return done

    def answer(self, *argv: str, exit_code: int) -> Mapping[str, Any]:
        done = self.run(*argv, "--json")
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert done.stderr == ""
        content: Mapping[str, Any] = json.loads(done.stdout)
        return content


@pytest.fixture
def command() -> Command:
    return Command()


def by_check(result: Mapping[str, Any]) -> dict[str, str]:
    """Check → its gravest severity."""
    order = ("ok", "info", "warning", "blocker")
    found: dict[str, str] = {}
    for each in result["findings"]:
        found[each["check"]] = max(each["severity"], found.get(each["check"], "ok"), key=order.index)
    return found


def test_a_source_alone(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    command.connect("SOURCE", corpus("2.10.5"), secret_fernet_key=fernet_key.reveal())
    result = command.answer("preflight", "--to", "3.0.6", exit_code=0)
    assert [hop["release"] for hop in result["hops"]] == ["3.0.6"]
    assert result["source_release"] == "2.10.3 to 2.11.2"
    assert by_check(result)["fernet_key"] == "ok"


def test_warnings_and_blockers_are_in_the_exit_code(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    source = corpus("1.10.15")
    command.connect("SOURCE", source, secret_fernet_key=fernet_key.reveal())
    assert by_check(command.answer("preflight", exit_code=1))["connection_type"] == "warning"
    command.connect("SOURCE", source, secret_fernet_key=OTHER)
    assert by_check(command.answer("preflight", exit_code=2))["fernet_key"] == "blocker"


def test_repairs_that_may_run(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    command.connect("SOURCE", corpus("1.10.15"), secret_fernet_key=fernet_key.reveal())
    found = by_check(command.answer("preflight", "--repairs", "connection_id, dropped_table", exit_code=2))
    assert (found["connection_id"], found["connection_type"]) == ("warning", "blocker")
    done = command.run("preflight", "--repairs", "connection_id,no_such_repair")
    assert done.returncode == 3
    assert "'no_such_repair'" in done.stderr


def test_the_whole_plan_with_a_target(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    source = corpus("2.10.5")
    with source.connect(read_only=False) as conn:
        add_runs(conn, [OldRun(dag_id="old", run_id=f"run {n}", date=f"2020-01-0{n}T00:00Z") for n in (1, 2, 3)])
    command.connect("SOURCE", source, secret_fernet_key=fernet_key.reveal())
    command.connect("TARGET", source.on("new one"), airflow_version="3.3.2")
    result = command.answer("preflight", "--history-days", "90", exit_code=1)
    assert (result["target_release"], result["target_database"]) == ("3.3.2", "new one")
    assert by_check(result)["history_days"] == "info"
    unkept = command.answer("preflight", "--history-days", "90", "--no-backup", exit_code=1)
    assert by_check(unkept)["history_days"] == "warning"
    again = command.answer("preflight", "--to", "3.1.8", "--transfer", "clone", "--fernet", "swap", exit_code=1)
    assert again["target_release"] == "3.1.8"
    # A database of that name that is in use is a blocker of the plan, not an error.
    command.connect("TARGET", corpus("3.1.8"), airflow_version="3.3.2")
    assert by_check(command.answer("preflight", exit_code=2))["target_database"] == "blocker"
    command.connect("TARGET", source, airflow_version="3.3.2")
    assert command.run("preflight").returncode == 2


def test_people_get_tables(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    source = corpus("1.10.15")
    with source.connect(read_only=False) as conn:
        conn.execute("UPDATE connection SET conn_id = E'[red]\\x1b[31m' WHERE id = (SELECT max(id) FROM connection)")
    command.connect("SOURCE", source, secret_fernet_key=fernet_key.reveal())
    done = command.run("preflight", "--verbose")
    assert done.returncode == 1
    assert "connection_type" in done.stdout
    assert "2.11.2" in done.stdout
    assert "\x1b" not in done.stdout
    assert "hop" in done.stderr


@pytest.fixture(scope="module")
def upgraded(
    corpus: Corpus, new_database: Callable[..., DatabaseAddress], runtimes: VenvRuntime, fernet_key: Secret
) -> tuple[DatabaseAddress, DatabaseAddress]:
    """A frozen clone with old runs, and what became of it without them."""
    clone = corpus("3.1.8")
    with clone.connect(read_only=False) as conn:
        add_runs(conn, [OldRun(dag_id="old", run_id=f"run {n}", date=f"2020-01-0{n}T00:00Z") for n in range(1, 10)])
    working = new_database(template=clone.database)
    with working.connect(read_only=False) as conn:
        filter_history(conn, datetime(2020, 1, 5, tzinfo=timezone.utc), "run 1", lambda message: None)
    runtimes.upgrade("3.3.2", working, fernet_key, lambda message: None)
    return clone, working


def test_verification_of_an_upgraded_database(
    command: Command, upgraded: tuple[DatabaseAddress, DatabaseAddress], fernet_key: Secret, new_database: Any
) -> None:
    clone, working = upgraded
    command.connect("SOURCE", clone.on("elsewhere"), secret_fernet_key=fernet_key.reveal())
    command.connect("TARGET", working)
    named = ("verify", "--source-database", clone.database)
    result = command.answer(*named, "--migration-id", "run 1", exit_code=0)
    assert result["verified"] is True
    assert result["samples"] == []
    (runs,) = [each for each in result["ledger"] if each["table"] == "dag_run"]
    assert [each["rows"] for each in runs["causes"]] == [4]
    # Without its ledger nobody knows why rows are missing.
    told = command.run(*named, "--verbose")
    assert told.returncode == 2
    assert "run 1" in told.stderr
    assert command.run(*named, "--migration-id", "run 2").returncode == 3

    broken = new_database(template=working.database)
    with broken.connect(read_only=False) as conn:
        conn.execute("DELETE FROM variable WHERE key = (SELECT min(key) FROM variable)")
    spoilt = command.answer(*named, "--target-database", broken.database, "--migration-id", "run 1", exit_code=2)
    assert any("variable" in problem for problem in spoilt["problems"])
    command.connect("TARGET", working, secret_fernet_key=OTHER)
    unread = command.answer(*named, "--migration-id", "run 1", exit_code=2)
    assert unread["encrypted"]["unreadable"]["count"] > 0


def test_verification_of_the_tables_that_have_travelled(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    source, target = corpus("2.10.5"), corpus("2.10.5")
    with target.connect(read_only=False) as conn:
        conn.execute("TRUNCATE ab_user, ab_role CASCADE")
        conn.execute("TRUNCATE xcom")
    command.connect("SOURCE", source, secret_fernet_key=fernet_key.reveal())
    command.connect("TARGET", target)
    whole = command.answer("verify", exit_code=2)
    assert {each.partition(":")[0] for each in whole["problems"]} > {"ab_user", "ab_role", "xcom"}
    alone = command.answer("verify", "--tables", "connection, dag_run", exit_code=0)
    (stays,) = [each for each in alone["ledger"] if each["table"] == "xcom"]
    assert stays["causes"]
    spoilt = command.answer("verify", "--tables", "default", exit_code=2)
    assert {each.partition(":")[0] for each in spoilt["problems"]} == {"xcom"}
    done = command.run("verify", "--tables", "")
    assert (done.returncode, done.stdout) == (3, "")


def test_a_source_whose_tables_may_not_be_read_is_told_in_json_too(
    command: Command, corpus: Corpus, new_role: Callable[..., DatabaseAddress]
) -> None:
    source, role = corpus("2.10.5"), new_role()
    with source.connect(read_only=False) as conn:
        name = sql.Identifier(role.user)
        conn.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(name))
        conn.execute(sql.SQL("REVOKE SELECT ON xcom FROM {}").format(name))
    command.connect("SOURCE", role.on(source.database))
    command.connect("TARGET", source.on("new one"))
    done = command.run("preflight", "--transfer", "data_only", "--json")
    assert done.returncode == 2
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["evidence"] == ["xcom"]
    assert finding["remedy"] in done.stderr


def test_nothing_is_written(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    source = corpus("2.10.5")

    def state() -> object:
        with source.connect() as conn:
            return conn.execute(
                "SELECT (SELECT count(*) FROM pg_class), (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)"
                " FROM pg_stat_user_tables)"
            ).fetchone()

    before = state()
    command.connect("SOURCE", source, secret_fernet_key=fernet_key.reveal())
    command.connect("TARGET", source.on("new one"))
    command.run("preflight")
    command.run("verify", "--target-database", source.database)
    assert state() == before


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (None, "not set"),
        ("airflow-deployment://l:hunter2secret@127.0.0.1:1/d", "127.0.0.1:1"),
        ("airflow-deployment://l:hunter2secret@127.0.0.1:port/d", "host or port"),
        ("hunter2secret", "neither"),
    ],
)
@pytest.mark.parametrize("name", ["preflight", "verify"])
def test_a_wrong_connection_is_one_sentence(command: Command, uri: str | None, words: str, name: str) -> None:
    command.secrets.add("hunter2secret")
    if uri:
        command.environment |= {"AIRFLOW_CONN_MIGRATION_SOURCE": uri, "AIRFLOW_CONN_MIGRATION_TARGET": uri}
    done = command.run(name, "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("migrate",),
        ("preflight", "--history-days", "many"),
        ("preflight", "--history-days", "-1"),
        ("preflight", "--to", "9.9.9"),
        ("preflight", "--to", "1.10.15"),
        ("preflight", "--target-conn-id", "nowhere"),
        ("verify", "--password", "x"),
    ],
)
def test_wrong_use(command: Command, corpus: Corpus, fernet_key: Secret, argv: tuple[str, ...]) -> None:
    command.connect("SOURCE", corpus("2.10.5"), secret_fernet_key=fernet_key.reveal())
    done = command.run(*argv)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr


def test_a_wrong_password(command: Command, corpus: Corpus, new_role: Any) -> None:
    address = replace(new_role(), database=corpus("2.10.5").database)
    command.connect("SOURCE", replace(address, password=Secret("wrong, and never shown")))
    done = command.run("preflight")
    assert (done.returncode, done.stdout) == (3, "")
    assert "password" in done.stderr


def test_neither_airflow_nor_sqlalchemy_is_imported(command: Command, corpus: Corpus, fernet_key: Secret) -> None:
    source = corpus("2.10.5")
    command.connect("SOURCE", source, secret_fernet_key=fernet_key.reveal())
    command.connect("TARGET", source.on("new one"))
    assert command.run("preflight", "--json", code=IMPORTS).stderr == "1 []"
    command.connect("TARGET", source)
    assert command.run("verify", "--json", code=IMPORTS).stderr.endswith(" []")
