"""Databases that real releases upgraded, as a migration brings them about, for every test that compares them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from tests.integration.metadata.old_runs import OldRun, add_runs

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


# And what a 2.10 holds besides its runs.
ROWS_OF_2_10 = """
INSERT INTO dataset (id, uri, extra, created_at, updated_at, is_orphaned)
VALUES (7, 's3://bucket/a', '{"a": 1}', '2025-01-01', '2025-01-01', false);
INSERT INTO dag_schedule_dataset_reference (dataset_id, dag_id, created_at, updated_at)
VALUES (7, 'etl_daily', '2025-01-01', '2025-01-01');
INSERT INTO dataset_event (id, dataset_id, extra, source_task_id, source_dag_id, source_run_id, source_map_index,
    timestamp) VALUES (9, 7, '{"b": 2}', 'push', 'etl_daily', 'run 1', -1, '2025-01-01');
INSERT INTO dag_tag (name, dag_id) VALUES ('nightly', 'etl_daily');
INSERT INTO ab_role (id, name) VALUES (71, 'Readers'), (72, 'Writers');
INSERT INTO ab_user (id, first_name, last_name, username, password, active, email)
VALUES (71, 'Bob', 'B', 'bob', 'x', true, 'bob@example.com');
INSERT INTO ab_user_role (id, user_id, role_id) VALUES (71, 71, 71);
CREATE TABLE celery_taskmeta (id integer PRIMARY KEY, task_id varchar(155) UNIQUE, status varchar(50), result bytea);
INSERT INTO celery_taskmeta VALUES (1, 'aaaa', 'SUCCESS', 'x');
CREATE TABLE "Notes of ours" (place text, number integer, note text, share real, PRIMARY KEY (number, place));
INSERT INTO "Notes of ours" VALUES ('north', 1, 'kept', 0.1), ('south', 1, NULL, 0.3);
CREATE SCHEMA "of others";
CREATE TABLE "of others".notes (id integer PRIMARY KEY, note text);
INSERT INTO "of others".notes VALUES (1, 'kept'), (2, 'kept');
CREATE TABLE keyless (words text);
INSERT INTO keyless VALUES ('twice'), ('twice'), ('once');
UPDATE dag_run SET run_type = 'dataset_triggered' WHERE run_id = 'run 2';
UPDATE task_instance SET state = 'running' WHERE run_id = 'run 3' AND task_id = 'task 1';
UPDATE task_instance SET priority_weight = NULL WHERE run_id = 'run 3' AND task_id = 'task 2';
UPDATE xcom SET value = convert_to('{"a": [1, 2.50, null]}', 'UTF8') WHERE run_id = 'run 1';
UPDATE xcom SET value = convert_to('[NaN]', 'UTF8') WHERE run_id = 'run 2' AND task_id = 'task 1';
UPDATE xcom SET value = '\\x80055d942e' WHERE run_id = 'run 3' AND task_id = 'task 1';
UPDATE xcom SET value = '\\x8005636f730a73797374656d0a2e' WHERE run_id = 'run 2' AND task_id = 'task 2';
"""
CONFS: tuple[tuple[str, object], ...] = (
    ("run 1", {"day": "2025-01-01", "rate": 0.1, "deep": [1, {"a": None}], "ö": True}),
    ("run 2", {"when": datetime(2025, 1, 1, tzinfo=timezone.utc)}),
    ("run 4", ["a"]),
)


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


@pytest.fixture(scope="session")
def upgraded_2_10(corpus: Corpus, migrate: Callable[[DatabaseAddress, tuple[str, ...]], Upgraded]) -> Upgraded:
    """2.10.5 with rows in every table that belongs to runs, brought to 3.3.2."""
    clone = corpus("2.10.5")
    runs = [
        OldRun(dag_id="etl_daily", run_id=f"run {n}", date=f"2025-01-0{n}T00:00Z", kind="manual") for n in (1, 2, 4)
    ]
    with clone.connect(read_only=False) as session:
        add_runs(
            session,
            [*runs, OldRun(dag_id="etl_daily", run_id="run 3", date="2025-01-03T00:00Z", state="running")],
        )
        session.execute(ROWS_OF_2_10)  # type: ignore[arg-type,unused-ignore]
        for run_id, conf in CONFS:
            session.execute("UPDATE dag_run SET conf = %s WHERE run_id = %s", (pickle.dumps(conf), run_id))
    return migrate(clone, (TARGET,))


@pytest.fixture(scope="session")
def change(new_database: NewDatabase) -> Callable[[Upgraded, str], Upgraded]:
    """The upgraded database after something else has happened to it."""

    def run(upgraded: Upgraded, statement: str) -> Upgraded:
        working = new_database(template=upgraded.working.database)
        with working.connect(read_only=False, autocommit=True) as session:
            session.execute(statement)  # type: ignore[arg-type,unused-ignore]
        return Upgraded(upgraded.clone, working)

    return run


@pytest.fixture(scope="session")
def check(runtimes: VenvRuntime, fernet_key: Secret) -> Callable[..., VerificationResult]:
    """Verifies; `asking` also asks the target's own commands, which takes their time."""

    def run(
        databases: Upgraded,
        *,
        target_keys: Secret = fernet_key,
        clone_keys: Secret = fernet_key,
        target: str = TARGET,
        asking: bool = False,
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
                runtime=runtimes if asking else None,
                settings=SETTINGS if target >= "3" else {},
                listener=print,
            )

    return run
