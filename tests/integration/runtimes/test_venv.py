"""Real releases upgrade real databases; what goes wrong is said without a secret and can be retried."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from tests.listening import Heard

from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.postgres.process import Client
from airflow_migration.progress import Progress
from airflow_migration.runtimes.build import build, build_environment
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]
FAB = {"AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"}
ROLE, PASSWORD = 'we"ird r%le ü', 'p%w$ "ü 1'
NAME, SCHEMA = 'we"ird %näme $x', 'air"flow é'
BROKEN = "broken{value of a row"


def execute(address: DatabaseAddress, *statements: str | sql.Composed) -> None:
    with address.connect(read_only=False, autocommit=True) as session:
        for statement in statements:
            session.execute(statement)


def head(address: DatabaseAddress) -> str:
    with address.connect() as session:
        return read_head(session)


def mend_connections(address: DatabaseAddress) -> None:
    execute(
        address,
        "UPDATE connection SET conn_type = 'generic' WHERE conn_type IS NULL",
        "UPDATE connection c SET conn_id = conn_id || '__2'"
        " WHERE EXISTS (SELECT FROM connection d WHERE d.conn_id = c.conn_id AND d.id < c.id)",
    )


def with_awkward_names(address: DatabaseAddress) -> DatabaseAddress:
    """The same database under a name, in a schema and with a role that all need quoting."""
    execute(
        address,
        sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(PASSWORD)),
        sql.SQL("ALTER SCHEMA public RENAME TO {}").format(sql.Identifier(SCHEMA)),
    )
    execute(
        address.maintenance(),
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(address.database), sql.Identifier(NAME)),
    )
    return dataclasses.replace(address, user=ROLE, password=Secret(PASSWORD), database=NAME, schema=SCHEMA)


def test_1_10_15_becomes_3_3_2_whatever_the_names(corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret) -> None:
    address, heard = with_awkward_names(corpus("1.10.15")), Heard()
    try:
        mend_connections(address)
        first = runtimes.upgrade("2.11.2", address, fernet_key, heard)
        second = runtimes.upgrade("3.3.2", address, fernet_key, heard, FAB)
        got = runtimes.run("3.3.2", address, fernet_key, ["connections", "get", "aws_default", "-o", "json"])
    finally:
        execute(
            address.maintenance(),
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME)),
        )
    assert (first.from_head, first.to_head) == (release("1.10.15").head, release("2.11.2").head)
    assert (second.from_head, second.to_head) == (release("2.11.2").head, release("3.3.2").head)
    assert [len(result.revisions) for result in (first, second)] == [94, 96]
    assert all(each.title and each.seconds >= 0 for each in second.revisions)
    assert sum(each.seconds for each in first.revisions) <= first.seconds
    assert any("_airflow_moved" in warning for warning in first.warnings)
    assert second.fab_head
    assert [(each.done, each.total) for each in heard.progress][-1] == (96, 96)
    assert got.exit_code == 0
    assert json.loads(got.output.reveal())[0]["conn_id"] == "aws_default"
    assert PASSWORD not in heard.text
    assert fernet_key.reveal() not in heard.text
    json.dumps([dataclasses.asdict(first), dataclasses.asdict(second)])


def test_other_sessions_are_ended_before_an_upgrade(corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret) -> None:
    address = corpus("2.10.5")
    left = address.connect(read_only=False)
    left.execute("LOCK TABLE task_instance")
    result = runtimes.upgrade("3.3.2", address, fernet_key, Heard())
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    assert result.to_head == head(address) == release("3.3.2").head


def test_a_database_at_the_head_starts_nothing(corpus: Corpus, fernet_key: Secret, tmp_path: Path) -> None:
    address, heard = corpus("2.10.5"), Heard()
    result = VenvRuntime(tmp_path, python="/nonexistent").upgrade("2.11.2", address, fernet_key, heard)
    assert (result.from_head, result.to_head, result.revisions) == (release("2.11.2").head, head(address), ())
    assert "already" in heard.text
    assert list(tmp_path.iterdir()) == []


def test_a_refused_upgrade_is_an_error_that_tells_why(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    address = corpus("1.10.15")
    with pytest.raises(ToolError) as caught:
        runtimes.upgrade("2.11.2", address, fernet_key, Heard())
    assert "conn_type" in caught.value.problem
    assert head(address) == release("1.10.15").head


def test_an_upgrade_that_stopped_half_way_goes_on_and_shows_no_row(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    address, heard = corpus("2.10.5"), Heard()
    execute(
        address,
        sql.SQL("UPDATE xcom SET value = convert_to({}, 'UTF8')").format(sql.Literal(BROKEN)),
    )
    with pytest.raises(ToolError) as caught:
        runtimes.upgrade("3.3.2", address, fernet_key, heard)
    assert "between Airflow 2.11.2 and 3.0.0" in caught.value.problem
    assert "json" in caught.value.problem
    assert BROKEN[:6] not in heard.text + str(caught.value)
    execute(address, "UPDATE xcom SET value = '{}'")
    again = runtimes.upgrade("3.3.2", address, fernet_key, heard)
    assert again.from_head == "9fc3fc5de720"
    assert again.to_head == release("3.3.2").head


def test_stopping_ends_the_upgrade_and_its_sessions(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret, tmp_path: Path
) -> None:
    address = corpus("2.10.5")
    runtime = VenvRuntime(tmp_path, environments={"3.3.2": str(runtimes.prepare("3.3.2", Heard()))})

    def stop_at_the_first_revision(what: Progress | str) -> None:
        if "Running upgrade" in str(what):
            runtime.stop()

    with pytest.raises(ToolError):
        runtime.upgrade("3.3.2", address, fernet_key, stop_at_the_first_revision)
    with pytest.raises(ToolError):
        runtime.run("3.3.2", address, fernet_key, ["version"])
    assert head(address) != release("3.3.2").head
    again = runtimes.upgrade("3.3.2", address, fernet_key, Heard())
    assert again.to_head == release("3.3.2").head


def test_an_environment_of_another_release_is_refused(runtimes: VenvRuntime, tmp_path: Path) -> None:
    path = runtimes.prepare("2.11.2", Heard())
    given = VenvRuntime(tmp_path, environments={"2.10.5": str(path), "2.11.2": str(path), "2.2.5": "/nonexistent"})
    assert given.prepare("2.11.2", Heard()) == path
    for version in ("2.10.5", "2.2.5"):
        with pytest.raises(InvalidInputError):
            given.prepare(version, Heard())


def prepare_in(root: Path) -> None:
    VenvRuntime(root).prepare("2.11.2", Heard())


def test_two_builders_make_one_whole_environment_and_clear_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in ("2.11.2-py3.12.partial-1", "2.10.5-py3.12.partial-1"):
        (tmp_path / name).mkdir()
    context = multiprocessing.get_context("spawn")
    builders = [context.Process(target=prepare_in, args=(tmp_path,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 1
    assert (folders[0] / "bin" / "airflow").exists()
    assert folders[0].name.startswith("2.11.2-py3.")


def test_a_build_without_its_python_leaves_nothing_and_names_the_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    monkeypatch.setenv("UV_PYTHON_PREFERENCE", "only-managed")
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))
    path = tmp_path / "root" / "1.10.15-py3.8"
    with pytest.raises(InvalidInputError) as caught:
        build(release("1.10.15"), "3.8", path, Client("build", build_environment()), Heard())
    assert "3.7" in caught.value.problem
    assert [each.name for each in path.parent.iterdir()] == ["1.10.15-py3.8.lock"]
