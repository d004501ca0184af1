"""Databases that real releases upgraded are verified; whatever is missing or changed in them is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from tests.integration.planning.conftest import Upgraded

from airflow_migration.planning.verification import VerificationResult
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

    NewDatabase = Callable[..., DatabaseAddress]
    Corpus = Callable[[str], DatabaseAddress]

OTHER = Secret(Fernet.generate_key().decode())

Check = Callable[..., VerificationResult]
Change = Callable[[str], Upgraded]


@pytest.fixture
def changed(upgraded: Upgraded, change: Callable[[Upgraded, str], Upgraded]) -> Change:
    return lambda statement: change(upgraded, statement)


@pytest.fixture(scope="module")
def verified(upgraded: Upgraded, check: Check) -> VerificationResult:
    return check(upgraded, asking=True)


def test_a_clean_upgrade_from_1_10_is_verified(verified: VerificationResult) -> None:
    result = verified
    assert result.problems == ()
    assert result.verified is True
    assert all(entry.unaccounted == 0 for entry in result.ledger)
    assert {sample.command.split()[0] for sample in result.samples} == {
        "db",
        "connections",
        "variables",
        "dags",
    }
    assert {content.table: content.rows for content in result.contents}["task_instance"] == 27
    causes = {entry.table: {cause.cause: cause.rows for cause in entry.causes} for entry in result.ledger}
    assert sum(causes["task_instance"].values()) == 2
    assert sum(causes["task_reschedule"].values()) == 1
    assert sum(causes["dag_run"].values()) == 1
    assert causes["slot_pool"] == {"default_pool added by the upgrade": -1}


def test_the_result_is_json_without_secrets(verified: VerificationResult, fernet_key: Secret) -> None:
    text = json.dumps(dataclasses.asdict(verified))
    for secret in ("s3cret", "t0k", fernet_key.reveal(), "gAAAA", "third"):
        assert secret not in text


def test_rows_that_airflow_itself_moves_or_deletes_are_explained(
    corpus: Corpus, new_database: NewDatabase, runtimes: VenvRuntime, fernet_key: Secret, check: Check
) -> None:
    clone = corpus("1.10.15")
    with clone.connect(read_only=False, autocommit=True) as session:
        session.execute("DELETE FROM connection WHERE conn_id = 'http_x'")
        session.execute("UPDATE connection SET conn_type = 'generic' WHERE conn_type IS NULL")
        session.execute(
            "INSERT INTO task_reschedule"
            " (task_id, dag_id, execution_date, try_number, start_date, end_date, duration, reschedule_date)"
            " SELECT task_id, dag_id, execution_date, 1, now(), now(), 1, now() FROM task_instance t WHERE"
            " dag_id = 'parent' OR NOT EXISTS (SELECT FROM dag_run r"
            " WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date)"
        )
        # As it is where the web server of 1.10 runs without RBAC.
        session.execute(
            "TRUNCATE ab_permission, ab_view_menu, ab_permission_view, ab_permission_view_role, ab_role,"
            " ab_user, ab_user_role, ab_register_user"
        )
    working = new_database(template=clone.database)
    runtimes.upgrade("2.11.2", working, fernet_key, print)
    result = check(Upgraded(clone, working), target="2.11.2")
    assert result.problems == ()
    causes = {entry.table: [(cause.cause, cause.rows) for cause in entry.causes] for entry in result.ledger}
    assert causes["task_instance"] == [("archived by Airflow in _airflow_moved__2_2__dangling__task_instance", 1)]
    assert [rows for _, rows in causes["task_reschedule"]] == [1]
    assert [rows for _, rows in causes["xcom"]] == [2]
    assert [rows for _, rows in causes["ab_role"]] == [-5]


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("connection", "DELETE FROM connection WHERE conn_id = 'plain_pw'"),
        (
            "connection",
            "INSERT INTO connection (conn_id, conn_type, is_encrypted, is_extra_encrypted)"
            " VALUES ('new', 'http', false, false)",
        ),
        ("connection", "UPDATE connection SET host = 'elsewhere' WHERE conn_id = 'pg_dwh'"),
        ("connection", "UPDATE connection SET conn_id = 'renamed' WHERE conn_id = 'pg_dwh'"),
        ("connection", "UPDATE connection SET conn_type = 'mysql' WHERE conn_id = 'pg_dwh'"),
        ("variable", "DELETE FROM variable WHERE key = 'nullenc'"),
        ("variable", "UPDATE variable SET val = 'other' WHERE key = 'plain'"),
        ("variable", "UPDATE variable SET key = 'renamed' WHERE key = 'plain'"),
        ("slot_pool", "UPDATE slot_pool SET slots = slots + 1 WHERE pool <> 'default_pool'"),
        ("dag", "DELETE FROM dag WHERE dag_id = 'hourly'"),
        ("dag", "UPDATE dag SET is_paused = NOT is_paused WHERE dag_id = 'hourly'"),
        ("dag_run", "DELETE FROM dag_run WHERE dag_id = 'parent'"),
        ("dag_run", "UPDATE dag_run SET state = 'failed' WHERE dag_id = 'parent'"),
        ("dag_run", "UPDATE dag_run SET logical_date = '2020-01-01' WHERE dag_id = 'parent'"),
        ("task_instance", "DELETE FROM task_instance WHERE dag_id = 'parent'"),
        ("task_instance", "UPDATE task_instance SET end_date = now() WHERE dag_id = 'parent'"),
        ("task_instance", "UPDATE task_instance SET task_id = 'other' WHERE task_id = 'after'"),
        ("task_instance", "DELETE FROM airflow_migration.moved_task_instance"),
        ("xcom", "DELETE FROM xcom WHERE task_id = 'push'"),
        ("rendered_task_instance_fields", "DELETE FROM rendered_task_instance_fields"),
        ("ab_user", "DELETE FROM ab_user_role; DELETE FROM ab_user"),
        ("connection", "UPDATE connection SET host = 'elsewhere' WHERE conn_id = 'http_x__2'"),
        ("connection", "UPDATE airflow_migration.changed_connection SET conn_id = 'another'"),
        ("connection", "DELETE FROM airflow_migration.changed_connection"),
        ("users", "DELETE FROM airflow_migration.moved_users"),
        ("ab_user_role", "UPDATE ab_user_role SET role_id = role_id + 1"),
        ("log", "DELETE FROM log WHERE id IN (SELECT id FROM log ORDER BY id LIMIT 50)"),
        ("job", "DELETE FROM job"),
        ("known_event", "DROP TABLE known_event"),
        ("Notes of ours", 'DELETE FROM "Notes of ours"'),
    ],
)
def test_what_is_missing_or_changed_is_named(changed: Change, check: Check, table: str, statement: str) -> None:
    result = check(changed(statement))
    assert result.verified is False
    assert any(problem.startswith(f"{table}:") or f" {table} " in problem for problem in result.problems)
    assert result.contents


def test_what_a_repair_has_written_is_compared_too(changed: Change, check: Check) -> None:
    result = check(
        changed(
            "SET session_replication_role = replica;"
            " UPDATE connection SET conn_type = 'mysql' WHERE conn_id = 'no_type';"
            " UPDATE connection SET conn_id = 'another' WHERE conn_id = 'http_x__2';"
            " UPDATE dag_run SET run_id = 'another' WHERE run_id = 'manual__2021-03-02T00:00:00+00:00'"
        )
    )
    (connection, run) = (
        next(content for content in result.contents if content.table == table) for table in ("connection", "dag_run")
    )
    assert sorted(each.columns for each in connection.first) == [("conn_id",), ("conn_type",)]
    assert ("run_id",) in [each.columns for each in run.first]


def test_two_swapped_passwords_are_both_named(changed: Change, check: Check) -> None:
    result = check(
        changed(
            "UPDATE connection c SET password = o.password FROM connection o WHERE"
            " (c.conn_id, o.conn_id) IN (('pg_dwh', 'local_mysql'), ('local_mysql', 'pg_dwh'))"
        )
    )
    assert result.verified is False
    assert result.encrypted.readable == result.encrypted.encrypted
    assert result.encrypted.different.first == (
        "connection local_mysql (password)",
        "connection pg_dwh (password)",
    )
    assert "s3cret" not in str(result)


def test_a_wrong_key_of_the_target_is_found(upgraded: Upgraded, check: Check) -> None:
    result = check(upgraded, target_keys=OTHER)
    assert result.verified is False
    assert result.encrypted.readable == 0
    assert result.encrypted.unreadable.count == result.encrypted.encrypted > 0


def test_no_key_of_the_target_is_found(upgraded: Upgraded, check: Check) -> None:
    assert check(upgraded, target_keys=Secret("")).verified is False


def test_a_wrong_key_on_both_sides_is_found(upgraded: Upgraded, check: Check) -> None:
    assert check(upgraded, target_keys=OTHER, clone_keys=OTHER).verified is False


def test_values_encrypted_anew_with_the_target_s_key_are_the_same(
    changed: Change, check: Check, fernet_key: Secret
) -> None:
    databases = changed("SELECT 1")
    old, new = Fernet(fernet_key.reveal().encode()), Fernet(OTHER.reveal().encode())
    with databases.working.connect(read_only=False) as session:
        for table, column, flag in (
            ("connection", "password", "is_encrypted"),
            ("connection", "extra", "is_extra_encrypted"),
            ("variable", "val", "is_encrypted"),
        ):
            rows = session.execute(f"SELECT id, {column} FROM {table} WHERE {flag} AND {column} <> ''")  # type: ignore[arg-type,unused-ignore]
            for row, token in rows.fetchall():
                again = new.encrypt(old.decrypt(str(token).encode())).decode()
                session.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", (again, row))  # type: ignore[arg-type,unused-ignore]
    assert check(databases, target_keys=OTHER).problems == ()


def test_a_sequence_below_its_ids_is_found(changed: Change, check: Check) -> None:
    result = check(changed("SELECT setval('connection_id_seq', 1)"))
    assert result.verified is False
    assert result.sequences.behind == ("connection_id_seq",)


def test_another_release_s_schema_is_found(changed: Change, check: Check) -> None:
    result = check(changed("UPDATE alembic_version SET version_num = '5f2621c13b39'"))
    assert result.verified is False
    assert result.heads.problem is not None
