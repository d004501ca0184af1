"""Databases that real releases upgraded are verified; whatever is missing or changed in them is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import fix_sequences, repair
from airflow_migration.metadata.schedules import mend_before_start, read_schedules
from airflow_migration.planning.verification import VerificationResult, verify
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

    NewDatabase = Callable[..., DatabaseAddress]
    Corpus = Callable[[str], DatabaseAddress]

MIGRATION = "manual__2026-11-22T00:00:00+00:00"
TARGET = "3.3.2"
SETTINGS = {"AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"}
OTHER = Secret(Fernet.generate_key().decode())

# What people's 1.10 databases hold besides: work that was under way, runs and rows that 2.x cannot take,
# and tables that an earlier upgrade left behind.
ODD_ROWS = """
INSERT INTO dag_run (dag_id, execution_date, run_id, state, start_date)
VALUES ('hourly', '2021-03-01', 'scheduled__2021-03-01', 'running', '2021-03-01 01:00'),
       ('hourly', '2021-03-02', NULL, 'success', '2021-03-02 01:00'),
       (NULL, '2021-03-03', 'nobody', 'success', '2021-03-03 01:00');
INSERT INTO task_instance (dag_id, task_id, execution_date, state, start_date, try_number, pool, pool_slots)
VALUES ('hourly', 'push', '2021-03-01', 'running', '2021-03-01 01:00', 1, 'default_pool', 1),
       ('hourly', 'late', '2021-03-01', 'scheduled', NULL, 0, 'default_pool', 1),
       ('hourly', 'retry', '2021-03-01', 'up_for_retry', '2021-03-01 01:00', 1, 'default_pool', NULL),
       ('hourly', 'push', '2021-03-02', 'success', '2021-03-02 01:00', 2, 'default_pool', 1),
       ('hourly', 'push', '2021-03-09', 'failed', '2021-03-09 01:00', 1, 'default_pool', 1);
INSERT INTO task_reschedule
    (task_id, dag_id, execution_date, try_number, start_date, end_date, duration, reschedule_date)
VALUES ('push', 'hourly', '2021-03-02', 1, now(), now(), 1, now()),
       ('push', 'hourly', '2021-03-09', 1, now(), now(), 1, now());
INSERT INTO connection (conn_id, conn_type, password) VALUES ('http_x', 'http', 'third'), ('', 'ftp', NULL);
UPDATE connection SET extra = 'not json', is_extra_encrypted = false WHERE conn_id = 'local_mysql';
CREATE TABLE _airflow_moved__2_3__dangling__xcom AS SELECT * FROM xcom LIMIT 1;
CREATE TABLE "Notes of ours" (id serial PRIMARY KEY, note text);
INSERT INTO "Notes of ours" (note) VALUES ('kept');
DELETE FROM slot_pool WHERE pool = 'default_pool';
"""


@dataclass(frozen=True)
class Upgraded:
    clone: DatabaseAddress
    working: DatabaseAddress


@pytest.fixture(scope="session")
def migrate(
    new_database: NewDatabase, runtimes: VenvRuntime, fernet_key: Secret
) -> Callable[[DatabaseAddress, tuple[str, ...]], Upgraded]:
    """Clones, repairs, upgrades hop by hop and mends as a migration does."""

    def run(clone: DatabaseAddress, hops: tuple[str, ...]) -> Upgraded:
        working = new_database(template=clone.database)
        with clone.connect() as session:
            recorded, source_head = read_schedules(session), read_head(session)
        for hop in hops:
            with working.connect(read_only=False) as session:
                repair(
                    session,
                    head=read_head(session),
                    target_head=release(hop).head,
                    migration_id=MIGRATION,
                    listener=print,
                )
            runtimes.upgrade(hop, working, fernet_key, print, SETTINGS if hop >= "3" else {})
        with working.connect(read_only=False) as session:
            mend_before_start(
                session, source_head=source_head, recorded=recorded, migration_id=MIGRATION, listener=print
            )
            fix_sequences(session)
        return Upgraded(clone, working)

    return run


@pytest.fixture(scope="session")
def upgraded(corpus: Corpus, migrate: Callable[[DatabaseAddress, tuple[str, ...]], Upgraded]) -> Upgraded:
    """1.10.15 with everything wrong that is ever wrong, brought to 3.3.2 by way of 2.11.2."""
    clone = corpus("1.10.15")
    with clone.connect(read_only=False, autocommit=True) as session:
        session.execute(ODD_ROWS)  # type: ignore[arg-type,unused-ignore]
    return migrate(clone, ("2.11.2", TARGET))


@pytest.fixture
def changed(upgraded: Upgraded, new_database: NewDatabase) -> Callable[[str], Upgraded]:
    """The upgraded database after something else has happened to it."""

    def change(statement: str) -> Upgraded:
        working = new_database(template=upgraded.working.database)
        with working.connect(read_only=False, autocommit=True) as session:
            session.execute(statement)  # type: ignore[arg-type,unused-ignore]
        return Upgraded(upgraded.clone, working)

    return change


@pytest.fixture(scope="session")
def check(runtimes: VenvRuntime, fernet_key: Secret) -> Callable[..., VerificationResult]:
    def run(
        databases: Upgraded,
        *,
        target_keys: Secret = fernet_key,
        clone_keys: Secret = fernet_key,
        target: str = TARGET,
    ) -> VerificationResult:
        with databases.clone.connect() as clone, databases.working.connect() as working:
            return verify(
                clone=clone,
                working=working,
                working_address=databases.working,
                clone_keys=clone_keys,
                target_keys=target_keys,
                target_release=target,
                migration_id=MIGRATION,
                runtime=runtimes,
                settings=SETTINGS if target >= "3" else {},
                listener=print,
            )

    return run


Check = Callable[..., VerificationResult]
Change = Callable[[str], Upgraded]


@pytest.fixture(scope="module")
def verified(upgraded: Upgraded, check: Check) -> VerificationResult:
    return check(upgraded)


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


def test_a_clean_upgrade_from_2_10_is_verified(
    corpus: Corpus, migrate: Callable[[DatabaseAddress, tuple[str, ...]], Upgraded], check: Check
) -> None:
    assert check(migrate(corpus("2.10.5"), (TARGET,))).problems == ()


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
    working = new_database(template=clone.database)
    runtimes.upgrade("2.11.2", working, fernet_key, print)
    result = check(Upgraded(clone, working), target="2.11.2")
    assert result.problems == ()
    causes = {entry.table: [(cause.cause, cause.rows) for cause in entry.causes] for entry in result.ledger}
    assert causes["task_instance"] == [("archived by Airflow in _airflow_moved__2_2__dangling__task_instance", 1)]
    assert [rows for _, rows in causes["task_reschedule"]] == [1]
    assert [rows for _, rows in causes["xcom"]] == [2]


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
        ("xcom", "DELETE FROM _xcom_archive WHERE task_id = 'push'"),
        ("rendered_task_instance_fields", "DELETE FROM rendered_task_instance_fields"),
        ("ab_user", "DELETE FROM ab_user_role; DELETE FROM ab_user"),
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
    assert result.samples == ()


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
