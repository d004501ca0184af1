"""Settings are carried from release to release by what each of them says; a hidden value is shown nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.releases import release
from airflow_migration.planning.carried_settings import Settings, commands_between
from airflow_migration.planning.configuration import Knowledge, SettingChange, read_options, written
from airflow_migration.planning.wanted_settings import new_settings, point_connections
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

ADDRESS = DatabaseAddress(host="new", port=5432, user="airflow", password=Secret("hidden-1"), database="airflow3")
NOTHING: dict[str, Any] = {
    "lint": [],
    "renamed": [],
    "sections": {},
    "values": [],
    "executors": ["CeleryExecutor", "LocalExecutor"],
    "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    "commands": {},
    "sensitive": [],
}


def knowing(version: str = "3.3.2", **said: Any) -> Knowledge:
    return Knowledge.from_answer(release(version), NOTHING | said)


def carried(options: dict[tuple[str, str], str], *known: Knowledge) -> list[SettingChange]:
    settings = Settings.of(options)
    for each in known:
        settings.carry(each)
    return list(settings.changes(known[-1]))


def test_a_setting_goes_through_the_names_of_every_release() -> None:
    older = knowing("2.11.2", renamed=[["scheduler", "max_threads", "scheduler", "parsing_processes", "1.10.14"]])
    rule = {"section": "scheduler", "option": "parsing_processes", "kind": "renamed", "message": "moved"}
    newer = knowing(lint=[rule | {"to": ["dag_processor", "parsing_processes"]}])
    assert carried({("scheduler", "max_threads"): "4"}, older, newer) == [
        SettingChange(
            before="[scheduler] max_threads = 4",
            after="[dag_processor] parsing_processes = 4",
            why="moved",
            required=True,
        )
    ]


def test_a_name_that_the_target_still_reads_need_not_change() -> None:
    known = knowing(renamed=[["webserver", "workers", "api", "workers", "3.0"]])
    assert [each.required for each in carried({("webserver", "workers"): "4"}, known)] == [False]


def test_what_is_removed_is_left_out() -> None:
    rule = {"section": "core", "option": "task_runner", "kind": "removed", "to": None, "message": "gone"}
    (change,) = carried({("core", "task_runner"): "StandardTaskRunner"}, knowing(lint=[rule]))
    assert (change.after, change.why) == ("", "gone")


def test_rules_for_3_0_change_nothing_for_an_older_target() -> None:
    rule = {"section": "core", "option": "task_runner", "kind": "removed", "to": None, "message": "gone"}
    assert carried({("core", "task_runner"): "x"}, knowing("2.11.2", lint=[rule])) == []


def test_of_two_names_for_one_setting_the_new_one_counts() -> None:
    known = knowing(renamed=[["core", "old", "core", "new", "2.3.0"]])
    (change,) = carried({("core", "old"): "1", ("core", "new"): "2"}, known)
    assert (change.before, change.after) == ("[core] old = 1", "")


def test_a_command_that_gives_the_value_is_renamed_as_well() -> None:
    known = knowing(renamed=[["core", "sql_alchemy_conn", "database", "sql_alchemy_conn", "2.3.0"]])
    (change,) = carried({("core", "sql_alchemy_conn_cmd"): "cat /run/secret"}, known)
    assert change.after == "[database] sql_alchemy_conn_cmd = ***"


def test_a_renamed_section_takes_its_settings_along() -> None:
    known = knowing("2.11.2", sections={"kubernetes": "kubernetes_executor"})
    (change,) = carried({("kubernetes", "multi_namespace_mode"): "True"}, known)
    assert change.after == "[kubernetes_executor] multi_namespace_mode = True"


def test_whatever_names_the_metadata_database_names_the_targets() -> None:
    settings = Settings.of(
        {
            ("database", "sql_alchemy_conn"): "postgresql://airflow:hidden-2@old/airflow",
            ("celery", "result_backend"): "db+postgresql://airflow:hidden-3@old/airflow",
            ("celery", "broker_url"): "redis://:hidden-4@redis/0",
        }
    )
    point_connections(settings, ADDRESS)
    changes = list(settings.changes(knowing()))
    assert [each.after for each in changes] == [
        "[database] sql_alchemy_conn = postgresql+psycopg2://airflow:***@new:5432/airflow3",
        "[celery] result_backend = db+postgresql://airflow:***@new:5432/airflow3",
    ]
    assert all(each.required for each in changes)
    assert "hidden" not in str(changes)


def test_another_result_backend_and_a_database_that_is_the_targets_stay() -> None:
    settings = Settings.of(
        {
            ("database", "sql_alchemy_conn"): "postgresql+psycopg2://airflow:hidden-2@new/airflow3",
            ("celery", "result_backend"): "redis://redis/1",
        }
    )
    point_connections(settings, ADDRESS)
    assert list(settings.changes(knowing())) == []


@pytest.mark.parametrize(
    ("value", "wanted", "count"), [("True", True, 0), (None, True, 1), ("True", False, 1), (None, False, 0)]
)
def test_the_plans_cron_setting_is_written_out_where_it_differs(value: str | None, wanted: bool, count: int) -> None:
    options = {("core", "auth_manager"): "ours"}
    if value:
        options["scheduler", "create_cron_data_intervals"] = value
    assert len(list(new_settings(Settings.of(options), knowing(), wanted))) == count


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("CeleryExecutor", 0),
        ("LocalExecutor,ours.executors.MyExecutor", 0),
        ("fast:CeleryExecutor", 0),
        ("CeleryKubernetesExecutor", 1),
    ],
)
def test_an_executor_that_the_target_does_not_have_is_named(value: str, count: int) -> None:
    settings = Settings.of({("core", "executor"): value, ("core", "auth_manager"): "ours"})
    changes = list(new_settings(settings, knowing(), None))
    assert len(changes) == count
    assert all(value in each.why and "CeleryExecutor, LocalExecutor" in each.after for each in changes)


def test_an_old_default_that_the_release_replaces_is_shown_with_its_new_value() -> None:
    known = knowing(values=[["core", "executor", "LocalExecutor"]])
    (change,) = carried({("core", "executor"): "SequentialExecutor"}, known)
    assert (change.before, change.after) == ("[core] executor = SequentialExecutor", "[core] executor = LocalExecutor")


def test_users_are_kept_only_by_their_own_auth_manager() -> None:
    (change,) = new_settings(Settings.of({}), knowing(), None)
    assert change.after.endswith("FabAuthManager")
    assert list(new_settings(Settings.of({}), knowing("2.11.2"), None)) == []


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        (("core", "parallelism"), "32", "32"),
        (("core", "executor"), "CeleryExecutor", "CeleryExecutor"),
        (("smtp", "smtp_password"), "12345", "***"),
        (("api", "secret_key"), "True", "***"),
        (("ours", "pin"), "x y", "…"),
        (("celery", "broker_url"), "redis://x", "***"),
        (("elsewhere", "listed"), "1", "***"),
    ],
)
def test_only_switches_numbers_and_classes_are_shown(option: tuple[str, str], value: str, shown: str) -> None:
    assert written(option, value, frozenset({("elsewhere", "listed")})).endswith(f"= {shown}")


def test_commands_go_through_the_releases_as_well() -> None:
    older = knowing("2.11.2", commands={"worker": "celery worker", "backfill": "dags backfill", "initdb": "db init"})
    newer = knowing(commands={"webserver": "api-server", "dags backfill": "backfill create"})
    assert commands_between(release("1.10.15"), [older, newer]) == {
        "worker": "celery worker",
        "backfill": "backfill create",
        "initdb": "db migrate",
        "webserver": "api-server",
    }
    assert commands_between(release("2.10.5"), [newer]) == newer.commands
    assert commands_between(release("3.0.6"), [newer]) == {}


@pytest.mark.parametrize("content", [b"no section = hidden-5\n", b"[core\nx = hidden-5", b"\xff\xfe\x00"])
def test_a_file_that_is_none_is_refused_without_a_line_of_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "airflow.cfg").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        read_options(tmp_path / "airflow.cfg")
    assert "hidden-5" not in str(caught.value)
    with pytest.raises(InvalidInputError):
        read_options(tmp_path / "absent.cfg")


def test_a_file_may_hold_what_only_airflow_would_fill_in(tmp_path: Path) -> None:
    (tmp_path / "airflow.cfg").write_text("\ufeff[Core]\nA = %(x)s %%\nA = 2\n[logging]\nb\n")
    assert read_options(tmp_path / "airflow.cfg") == {("core", "a"): "2", ("logging", "b"): ""}
