"""One value, one row, one password: whatever is changed after an upgrade is named, with table, key and column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from psycopg import sql
from tests.conftest import run_on
from tests.integration.planning.conftest import Upgraded

from airflow_migration.metadata.counts import Counts
from airflow_migration.metadata.fingerprints import Dialect, agree
from airflow_migration.metadata.kept_meanings import Meaning
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.shapes import Relation, Shaped, shape_of
from airflow_migration.planning.content_comparison import Contents
from airflow_migration.planning.row_comparison import RowComparison, RowDifferences, Side
from airflow_migration.planning.verification import VerificationResult
from airflow_migration.postgres.address import DatabaseAddress, Session

if TYPE_CHECKING:
    NewDatabase = Callable[..., DatabaseAddress]
    Check = Callable[..., VerificationResult]
    Change = Callable[[Upgraded, str], Upgraded]

TI = "dag_id=etl_daily, task_id=task 1, run_id=run 1, map_index=-1"
UUID = "(SELECT id FROM task_instance WHERE run_id = 'run 1' AND task_id = 'task {}')"
HEAD = "d2f4e1b3c5a7"


@pytest.fixture(scope="module")
def clean(upgraded_2_10: Upgraded, check: Check) -> VerificationResult:
    return check(upgraded_2_10)


def test_nothing_was_changed(clean: VerificationResult) -> None:
    assert clean.problems == ()
    assert all(entry.unaccounted == 0 for entry in clean.ledger)


def test_every_table_with_rows_is_compared_but_those_that_are_emptied(clean: VerificationResult) -> None:
    compared = {content.table: content for content in clean.contents}
    with_rows = {entry.table for entry in clean.ledger if entry.rows_in}
    assert with_rows - compared.keys() == {"alembic_version", "dag_code", "serialized_dag"}
    assert all(compared[table].compared or compared[table].key for table in with_rows & compared.keys())
    assert "conf" in compared["dag_run"].compared


def test_the_ledger_names_what_became_of_rows_and_values(clean: VerificationResult) -> None:
    entries = {entry.table: entry for entry in clean.ledger}
    causes = {table: {cause.cause: cause.rows for cause in entry.causes} for table, entry in entries.items()}
    assert causes["task_fail"] == {"dropped, kept in airflow_migration.moved_task_fail": entries["task_fail"].rows_in}
    assert causes["xcom"]["archived by Airflow in _xcom_archive"] == 1
    assert causes["serialized_dag"] == {"emptied by Airflow 3.0.0 (2b47dc6bc8df)": entries["serialized_dag"].rows_in}
    assert entries["dataset"].table_after == "asset"
    # One conf holds a datetime: either Airflow has made it NULL, or a repair has written it anew.
    run = entries["dag_run"]
    assert sum(cause.rows for cause in (*run.nulled, *run.changed)) == 1
    for entry in clean.ledger:
        assert entry.rows_in == entry.rows_out + sum(cause.rows for cause in entry.causes)


CHANGES = (
    ("dag", "dag_id=etl_daily was changed (is_paused, is_active, owners)"),
    "UPDATE dag SET is_paused = NOT is_paused, is_stale = NOT is_stale, owners = 'y' WHERE dag_id = 'etl_daily'",
    ("dag", "dag_id=fails_daily was changed (fileloc)"),
    "UPDATE dag SET fileloc = 'y' WHERE dag_id = 'fails_daily'",
    ("dag_run", "run_id=run 1 was changed (execution_date)"),
    "UPDATE dag_run SET logical_date = logical_date + interval '1 microsecond' WHERE run_id = 'run 1'",
    ("dag_run", "run_id=run 2 was changed (state, run_type)"),
    "UPDATE dag_run SET state = 'failed', run_type = 'manual' WHERE run_id = 'run 2'",
    ("dag_run", "run_id=run 1 was changed (conf)"),
    "UPDATE dag_run SET conf = jsonb_set(conf, '{rate}', '0.2') WHERE run_id = 'run 1'",
    # A repair has made its moment a text.
    ("dag_run", "run_id=run 2 was changed (conf)"),
    "UPDATE dag_run SET conf = '{\"when\": \"2025-01-02T00:00:00+00:00\"}' WHERE run_id = 'run 2'",
    ("dag_run", "run_id=run 3 was changed (conf)"),
    "UPDATE dag_run SET conf = '{\"a\": 1}' WHERE run_id = 'run 3'",
    ("dag_run", "run_id=run 4 was changed (conf)"),
    "UPDATE dag_run SET conf = NULL WHERE run_id = 'run 4'",
    ("task_instance", f"{TI} was changed (end_date)"),
    "UPDATE task_instance SET end_date = now() WHERE run_id = 'run 1' AND task_id = 'task 1'",
    ("task_instance", "task_id=task 2, run_id=run 1, map_index=-1 was changed (state, pool)"),
    "UPDATE task_instance SET state = 'failed', pool = 'y' WHERE run_id = 'run 1' AND task_id = 'task 2'",
    # Their states were cleared by the mending.
    ("task_instance", f"{TI.replace('run 1', 'run 3')} was changed (operator)"),
    "UPDATE task_instance SET operator = 'y' WHERE run_id = 'run 3' AND task_id = 'task 1'",
    ("task_instance", f"{TI.replace('run 1', 'run 3').replace('task 1', 'task 2')} was changed (state)"),
    "UPDATE task_instance SET state = 'failed' WHERE run_id = 'run 3' AND task_id = 'task 2'",
    ("task_instance_history", f"{TI}, try_number=1 was changed (state)"),
    "UPDATE task_instance_history SET state = 'y' WHERE run_id = 'run 1' AND task_id = 'task 1'",
    ("task_instance_note", f"{TI} was changed (content)"),
    f"UPDATE task_instance_note SET content = 'y' WHERE ti_id = {UUID.format(1)}",
    ("task_reschedule", "task_id=task 1 was changed (task_id)"),
    f"UPDATE task_reschedule SET ti_id = {UUID.format(2)} WHERE ti_id = {UUID.format(1)}",
    ("rendered_task_instance_fields", f"{TI} was changed (rendered_fields)"),
    "UPDATE rendered_task_instance_fields SET rendered_fields = '[1]' WHERE run_id = 'run 1' AND task_id = 'task 1'",
    ("task_map", f"{TI} was changed (length)"),
    "UPDATE task_map SET length = 7 WHERE run_id = 'run 1' AND task_id = 'task 1'",
    ("xcom", f"{TI}, key=k was changed (value)"),
    "UPDATE xcom SET value = '{\"a\": [1, 2.51, null]}' WHERE run_id = 'run 1' AND task_id = 'task 1'",
    # Repairs have made JSON of them, of a pickle and of NaN.
    ("xcom", "task_id=task 1, map_index=-1, key=k was changed (value)"),
    "UPDATE xcom SET value = '[1]' WHERE run_id = 'run 3' AND task_id = 'task 1'",
    ("xcom", "task_id=task 1, map_index=-1, key=k was changed (value)"),
    "UPDATE xcom SET value = '[0]' WHERE run_id = 'run 2' AND task_id = 'task 1'",
    ("xcom", "task_id=task 2, run_id=run 2, map_index=-1, key=k was changed (value)"),
    "UPDATE _xcom_archive SET value = '\\x8005'",
    ("task_fail", "was changed (start_date)"),
    "UPDATE airflow_migration.moved_task_fail SET start_date = '1999-01-01' WHERE id = 1",
    ("dataset", "id=7, uri=s3://bucket/a was changed (extra)"),
    "UPDATE asset SET extra = '{\"a\": 2}' WHERE id = 7",
    ("dataset_event", "id=9 was changed (source_task_id)"),
    "UPDATE asset_event SET source_task_id = 'y' WHERE id = 9",
    ("ab_user_role", "id=71, user_id=71, role_id=71 was changed (role_id)"),
    "UPDATE ab_user_role SET role_id = 72 WHERE id = 71",
    ("ab_user", "id=71, username=bob was changed (password)"),
    "UPDATE ab_user SET password = 'y' WHERE id = 71",
    ("slot_pool", "pool=default_pool was changed (slots)"),
    "UPDATE slot_pool SET slots = slots + 1 WHERE pool = 'default_pool'",
    ("connection", "conn_id=pg_dwh was changed (login)"),
    "UPDATE connection SET login = 'y' WHERE conn_id = 'pg_dwh'",
    ("variable", "key=cfg was changed (key)"),
    "UPDATE variable SET key = 'renamed' WHERE key = 'cfg'",
    ("job", "was changed (state)"),
    "UPDATE job SET state = 'y' WHERE id = (SELECT min(id) FROM job)",
    ("celery_taskmeta", "id=1 was changed (result)"),
    "UPDATE celery_taskmeta SET result = 'y'",
    ("of others.notes", "id=2 was changed (note)"),
    "UPDATE \"of others\".notes SET note = '' WHERE id = 2",
    ("Notes of ours", "number=1, place=south was changed (note)"),
    "UPDATE \"Notes of ours\" SET note = '' WHERE place = 'south'",
    ("Notes of ours", "number=1, place=north was changed (share)"),
    "UPDATE \"Notes of ours\" SET share = 0.2 WHERE place = 'north'",
)
ROWS = (
    ("dag", "dag_id=fails_daily is missing"),
    "DELETE FROM dag WHERE dag_id = 'fails_daily'",
    ("dag_tag", "name=nightly, dag_id=etl_daily is missing"),
    "DELETE FROM dag_tag",
    ("dag_run", "id=77, dag_id=y, run_id=new was added"),
    "INSERT INTO dag_run (id, dag_id, run_id, run_after, run_type, state, logical_date, clear_number)"
    " VALUES (77, 'y', 'new', now(), 'manual', 'success', now(), 0)",
    ("dag_run", "run_id=run 3 is missing"),
    "DELETE FROM dag_run WHERE run_id = 'run 3'",
    ("task_instance", f"{TI} is missing"),
    "DELETE FROM task_instance WHERE run_id = 'run 1' AND task_id = 'task 1'",
    ("xcom", f"{TI}, key=k is missing"),
    ("task_fail", "is missing"),
    "DELETE FROM airflow_migration.moved_task_fail WHERE id = (SELECT min(id) FROM airflow_migration.moved_task_fail)",
    ("dag_schedule_dataset_reference", "dataset_id=7, dag_id=etl_daily is missing"),
    "DELETE FROM dag_schedule_asset_reference",
    ("ab_role", "id=72, name=Writers is missing"),
    "DELETE FROM ab_role WHERE id = 72",
    ("ab_permission_view_role", "id=9001 was added"),
    "INSERT INTO ab_permission_view_role (id, permission_view_id, role_id) SELECT 9001, min(id), 71"
    " FROM ab_permission_view",
    ("slot_pool", "pool=new was added"),
    "INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('new', 1, false)",
    ("connection", "conn_id=pg_dwh is missing"),
    "DELETE FROM connection WHERE conn_id = 'pg_dwh'",
    ("variable", "key=new was added"),
    "INSERT INTO variable (id, key, val, is_encrypted) VALUES (77, 'new', '', false)",
    ("log", "is missing"),
    "DELETE FROM log WHERE id = (SELECT min(id) FROM log)",
    ("of others.notes", "id=1 is missing"),
    'DELETE FROM "of others".notes WHERE id = 1',
    ("celery_taskmeta", "id=2 was added"),
    "INSERT INTO celery_taskmeta (id) VALUES (2)",
    ("keyless", "a row without a key is missing"),
    "DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless)",
)
"""What is to be said, and before or after it the statement that brings it about."""


@pytest.fixture(scope="module")
def changed(upgraded_2_10: Upgraded, change: Change, check: Check) -> VerificationResult:
    """What is said once all these values are changed."""
    return check(change(upgraded_2_10, "; ".join(each for each in CHANGES if isinstance(each, str))))


@pytest.fixture(scope="module")
def moved(upgraded_2_10: Upgraded, change: Change, check: Check) -> VerificationResult:
    """What is said once all these rows are gone or added."""
    return check(change(upgraded_2_10, "; ".join(each for each in ROWS if isinstance(each, str))))


@pytest.mark.parametrize(("table", "said"), [each for each in CHANGES if not isinstance(each, str)])
def test_a_changed_value_is_named(changed: VerificationResult, table: str, said: str) -> None:
    assert any(said in problem for problem in of_table(changed, table)), changed.problems


@pytest.mark.parametrize(("table", "said"), [each for each in ROWS if not isinstance(each, str)])
def test_a_missing_or_added_row_is_named(moved: VerificationResult, table: str, said: str) -> None:
    assert any(said in problem for problem in of_table(moved, table)), moved.problems


def of_table(result: VerificationResult, table: str) -> list[str]:
    assert result.verified is False
    return [problem for problem in result.problems if problem.startswith(f"{table}: ")]


def test_nothing_else_is_blamed(changed: VerificationResult) -> None:
    named = [each[0] for each in CHANGES if not isinstance(each, str)]
    found = {content.table: content.different for content in changed.contents if content.different}
    assert found == {table: named.count(table) for table in named}
    assert all(entry.unaccounted == 0 for entry in changed.ledger)
    for content in changed.contents:
        assert len(content.first) == content.changed + content.missing + (0 if content.growth else content.added)


def test_a_changed_value_of_a_variable_is_named(upgraded_2_10: Upgraded, change: Change, check: Check) -> None:
    result = check(change(upgraded_2_10, "UPDATE variable SET val = 'x', is_encrypted = false WHERE key = 'token'"))
    assert result.encrypted.different.first == ("variable token (val)",)


def test_values_and_rows_of_a_big_table_are_found_by_narrowing(
    new_database: NewDatabase, corpus: Callable[[str], DatabaseAddress]
) -> None:
    clone = corpus("3.3.2")
    run_on(
        clone,
        "CREATE TABLE numbers AS SELECT n AS id, md5(n::text) AS words, n * 0.5 AS half"
        " FROM generate_series(1, 100000) n; ALTER TABLE numbers ADD PRIMARY KEY (id)",
    )
    working = new_database(template=clone.database)
    run_on(working, "UPDATE numbers SET words = 'x' WHERE id IN (17, 99999); DELETE FROM numbers WHERE id = 5")
    found = compare(clone, working, "numbers")
    assert (found.missing, found.added, found.changed) == (1, 0, 2)
    assert {str(each) for each in found.first} == {
        "id=17 was changed (words)",
        "id=99999 was changed (words)",
        "id=5 is missing",
    }
    run_on(working, "UPDATE numbers SET half = half + 1")
    found = compare(clone, working, "numbers")
    assert (found.changed, len(found.first)) == (99_999, 20)


def compare(clone: DatabaseAddress, working: DatabaseAddress, table: str) -> RowDifferences:
    with clone.connect() as before, working.connect() as after:
        counts = Counts(before={table: 100_000}, after={table: 100_000}, moved=(), from_head=HEAD, to_head=HEAD)
        content = Contents(before, after, counts, "", {}).compare(table)
    assert content is not None
    return RowDifferences(missing=content.missing, added=content.added, changed=content.changed, first=content.first)


@pytest.fixture
def other_worlds(postgres_server: DatabaseAddress) -> Iterator[tuple[Session, Session]]:
    """The same rows in databases whose encoding, time zone, dates and bytes are written otherwise."""
    rows = (
        "CREATE TABLE t (id bigint, at timestamptz, word varchar(20), ratio float4, data bytea, span interval);"
        " INSERT INTO t VALUES (1, '2025-03-30 01:30+00', 'Grüße', 0.1, '\\xff00', '1 day 02:03'),"
        " (2, NULL, '', 'NaN', NULL, NULL), (3, 'infinity', E'a\\tb\\\\', 1e30, '', '-1 month')"
    )
    run_on(
        postgres_server,
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        "latin",
    )
    run_on(postgres_server, "CREATE DATABASE {} TEMPLATE template0", "elsewhere")
    for setting in ("TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'", "bytea_output = 'escape'"):
        run_on(postgres_server, f"ALTER DATABASE {{}} SET {setting}", "elsewhere")
    run_on(postgres_server, "ALTER DATABASE {} SET IntervalStyle = 'iso_8601'", "latin")
    for name in ("latin", "elsewhere"):
        run_on(postgres_server.on(name), rows)
    with postgres_server.on("latin").connect() as one, postgres_server.on("elsewhere").connect() as other:
        yield one, other
    for name in ("latin", "elsewhere"):
        run_on(postgres_server, "DROP DATABASE {}", name)


@pytest.mark.parametrize("extended", [True, False], ids=["hashtextextended", "md5"])
def test_encodings_and_settings_make_no_difference(other_worlds: tuple[Session, Session], extended: bool) -> None:
    one, other = other_worlds
    agreed = agree(one, other)
    assert agreed.recode
    dialect = Dialect(extended=agreed.extended and extended, recode=agreed.recode)
    relation = Relation.table("t", read_tables(one)["t"])
    shape = shape_of("t", Meaning(key=("id",)), (relation, relation), frozenset(), {})
    sides = [Side(conn=conn, relations=(Shaped(relation, shape, dialect, {}),)) for conn in other_worlds]
    assert RowComparison(sides[0], sides[1], shape, dialect).differences(3) == RowDifferences()
    only = Relation.table("t", relation.columns, sql.SQL("t.id > 1"))
    sides[1] = Side(conn=other, relations=(Shaped(only, shape, dialect, {}),))
    assert RowComparison(sides[0], sides[1], shape, dialect).differences(3).missing == 1
