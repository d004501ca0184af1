"""Each fault that an upgrade would meet is found on a real database, counted, and gone after its repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.checks import find_problems
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import dropped, moved_rows, repair
from airflow_migration.metadata.repairs.dataset_uris import NOT_INDEXABLE
from airflow_migration.postgres.address import DatabaseAddress

Corpus = Callable[[str], DatabaseAddress]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A database made bad, and what must be found. `origins`: rows that the repair moves, by table."""

    check: str
    source: str
    count: int
    statement: str
    origins: tuple[tuple[str, int], ...] = ()
    target: str = "2.11.2"

    def __str__(self) -> str:
        return f"{self.check}-{self.source}"


ONE_TASK = """(SELECT dag_id, task_id, execution_date FROM task_instance
    JOIN dag_run r USING (dag_id, execution_date) LIMIT 1)"""
RESCHEDULES = """INSERT INTO task_reschedule (dag_id, task_id, execution_date, try_number, start_date,
    end_date, duration, reschedule_date)"""
ORPHANS = """INSERT INTO task_instance (dag_id, task_id, execution_date, pool, state)
    SELECT 'hourly', 'orphan', '2019-01-01'::timestamptz + n * interval '1 h', 'default_pool', 'success'
      FROM generate_series(1, 7) n"""
XCOM = "INSERT INTO xcom (key, value, timestamp, dag_id, task_id, execution_date)"
OLD_XCOM = f"{XCOM} SELECT v.key, v.value, now(), t.dag_id, t.task_id, t.execution_date FROM {ONE_TASK} t,"
BAD_VALUES = r"""(VALUES ('fine', '{"a": [1]}'::bytea), ('none', NULL), ('empty', ''), ('latin', '\xff41'),
    ('nan', '[NaN, -Infinity]'), ('quoted', '"NaN"'), ('nul', convert_to('"a\u0000b"', 'UTF8')),
    ('not nul', convert_to('"a\\u0000b"', 'UTF8')), ('words', 'hello'), ('pickle 0', 'I1'),
    ('pickle 2', '\x80024b012e')) v (key, value)"""
NEW_XCOM = f"""INSERT INTO xcom (key, value, timestamp, dag_id, task_id, run_id, map_index, dag_run_id)
    SELECT v.key, v.value, now(), t.dag_id, t.task_id, t.run_id, t.map_index, t.id FROM
    (SELECT i.*, r.id FROM task_instance i JOIN dag_run r USING (dag_id, run_id) LIMIT 1) t, {BAD_VALUES}"""
UNCHECKED = "SET session_replication_role = replica; {}; SET session_replication_role = origin"
FEW_XCOMS = "DELETE FROM xcom; "

CASES = (
    # Number 42 has no type in the corpus itself, number 43 has the id of another.
    Case(check="connection_type", source="1.10.15", count=3, statement="""INSERT INTO connection (conn_id)
        VALUES ('x'), ('y')"""),
    Case(check="connection_id", source="1.10.15", count=5, statement="""
        INSERT INTO connection (conn_id, conn_type)
        VALUES (NULL, 'http'), (NULL, 'http'), ('', 'http'), ('http_x', 'http'), ('http_x__2', 'http')"""),
    Case(check="run_without_run_id", source="1.10.15", count=3, statement="""UPDATE dag_run SET run_id = NULL
        WHERE id IN (SELECT id FROM dag_run ORDER BY id LIMIT 3)"""),
    Case(check="run_without_key", source="1.10.15", count=2, origins=(("dag_run", 2),), statement="""
        INSERT INTO dag_run (dag_id, execution_date, run_id) VALUES (NULL, now(), 'a'), ('x', NULL, 'b')"""),
    Case(check="task_instance_without_run", source="1.10.15", count=8, statement=f"""{ORPHANS};
        {RESCHEDULES} SELECT dag_id, task_id, execution_date, 1, now(), now(), 1, now() FROM task_instance
         WHERE task_id = 'orphan'""", origins=(("task_instance", 8), ("task_reschedule", 7))),
    Case(check="task_reschedule_without_task_instance", source="1.10.15", count=1, statement=f"""
        ALTER TABLE task_reschedule DROP CONSTRAINT task_reschedule_dag_task_date_fkey;
        {RESCHEDULES} VALUES ('hourly', 'nobody', now(), 1, now(), now(), 1, now())""",
        origins=(("task_reschedule", 1),)),
    Case(check="rendered_task_instance_fields_without_task_instance", source="1.10.15", count=2, statement="""
        INSERT INTO rendered_task_instance_fields VALUES ('hourly', 'nobody', now(), '{}')""",
        origins=(("rendered_task_instance_fields", 2),)),
    Case(check="task_fail_without_task_instance", source="1.10.15", count=1, statement="""
        INSERT INTO task_fail (dag_id, task_id, execution_date) VALUES ('hourly', 'nobody', now())""",
        origins=(("task_fail", 1),)),
    Case(check="xcom_without_task_instance", source="1.10.15", count=3, origins=(("xcom", 3),),
        statement=f"{XCOM} VALUES ('k', '1', now(), 'hourly', 'nobody', now())"),
    Case(check="xcom_without_key", source="1.10.15", count=2, origins=(("xcom", 2),),
        statement=f"{OLD_XCOM} generate_series(1, 2), (VALUES (NULL, '1'::bytea)) v (key, value)"),
    Case(check="xcom_duplicate", source="1.10.15", count=2, origins=(("xcom", 2),),
        statement=f"{OLD_XCOM} generate_series(1, 3), (VALUES ('same', '1'::bytea)) v (key, value)"),
    Case(check="left_over_table", source="1.10.15", count=2, statement="""
        CREATE TABLE _airflow_moved__2_2__dangling__task_instance (x int); -- the corpus has such a row
        CREATE TABLE _airflow_moved__2_2__dangling__dag_run (x int); -- and no such row
        CREATE TABLE _airflow_moved__2_3__dangling__xcom (x int)"""),
    Case(check="left_over_table", source="2.10.5", count=1, target="3.3.2",
        statement="CREATE TABLE _xcom_archive (x int);"
        "CREATE TABLE _airflow_moved__2_3__dangling__xcom (x int)"),
    Case(check="username_case", source="2.2.5", count=4, statement="""
        INSERT INTO ab_user (id, first_name, last_name, username, email) VALUES (101, '', '', 'Bob', 'a'),
            (102, '', '', 'bob', 'b'), (103, '', '', 'BOB', 'c'), (104, '', '', 'bob__2', 'd');
        INSERT INTO ab_register_user (id, first_name, last_name, username, email) SELECT n, '', '', name, n
          FROM (VALUES (1, repeat('x', 64)), (2, repeat('X', 64)), (3, 'y'), (4, 'Y')) v (n, name)"""),
    Case(check="fab_id_default", source="1.10.15", count=3, statement="""
        ALTER TABLE ab_permission ALTER id DROP DEFAULT; ALTER TABLE ab_role ALTER id DROP DEFAULT;
        ALTER SEQUENCE ab_view_menu_id_seq RENAME TO hand_made; DROP SEQUENCE ab_role_id_seq"""),
    Case(check="sequence_behind", source="2.10.5", count=2, target="3.3.2", statement="""
        SELECT setval('dag_run_id_seq', 1); SELECT setval('log_id_seq', 1, false)"""),
    Case(check="xcom_without_task_instance", source="2.2.5", count=1, origins=(("xcom", 1),), statement="""
        INSERT INTO xcom (key, value, timestamp, dag_id, task_id, execution_date)
        SELECT 'k', '1', now(), dag_id, 'nobody', execution_date FROM dag_run LIMIT 1"""),
    Case(check="dataset_uri_too_long", source="2.10.5", count=1, target="3.3.2", statement="""
        INSERT INTO dataset (id, uri, extra, created_at, updated_at)
        SELECT n, repeat('x', 1499 + n), '{}', now(), now() FROM generate_series(1, 2) n;
        INSERT INTO dag_schedule_dataset_reference (dataset_id, dag_id, created_at, updated_at)
        SELECT n, (SELECT min(dag_id) FROM dag), now(), now() FROM generate_series(1, 2) n""",
        origins=(("dag_schedule_dataset_reference", 1), ("dataset", 1))),
    Case(check="dataset_alias_too_long", source="2.10.5", count=1, target="3.3.2",
        origins=(("dataset_alias", 1),),
        statement="INSERT INTO dataset_alias (name) VALUES (repeat('x', 1501)), ('short')"),
    Case(check="registration_duplicate", source="2.10.5", count=2, target="3.3.2", statement="""
        ALTER TABLE ab_register_user DROP CONSTRAINT IF EXISTS ab_register_user_email_uq;
        INSERT INTO ab_register_user (id, first_name, last_name, username, email)
        SELECT n, '', '', n, 'same' FROM generate_series(1, 3) n""", origins=(("ab_register_user", 2),)),
    Case(check="permission_incomplete", source="2.10.5", count=1, target="3.3.2", statement="""
        INSERT INTO ab_permission_view (id) VALUES (9001);
        INSERT INTO ab_permission_view_role (id, permission_view_id) VALUES (9001, 9001)""",
        origins=(("ab_permission_view", 1), ("ab_permission_view_role", 1))),
    # Loaded with pg_restore --disable-triggers, or from a server where the foreign keys were missing.
    Case(check="task_instance_without_run", source="2.2.5", count=2, statement=UNCHECKED.format("""
        INSERT INTO task_instance (dag_id, task_id, run_id, pool, pool_slots)
        VALUES ('hourly', 'a', 'gone', 'default_pool', 1), ('hourly', 'b', 'gone', 'default_pool', 1)"""),
        origins=(("task_instance", 2),)),
    *(
        Case(check=f"{table}_without_task_instance", source=source, count=1, target="3.3.2", origins=((table, 1),),
            statement=UNCHECKED.format(f"""INSERT INTO {table} (dag_id, task_id, run_id, map_index, {columns})
            VALUES ('d', 'nobody', 'r', -1, {values})"""))
        for source in ("2.10.5", "2.11.2") for table, columns, values in (
            ("xcom", "dag_run_id, key, timestamp", "-1, 'k', now()"),
            ("task_map", "length", "1"),
            ("task_fail", "start_date", "now()"),
            ("rendered_task_instance_fields", "rendered_fields", "'{}'"),
            ("task_instance_note", "created_at, updated_at", "now(), now()"),
            ("task_instance_history", "try_number, pool, pool_slots", "1, 'default_pool', 1"),
            ("task_reschedule", "try_number, start_date, end_date, duration, reschedule_date",
                "1, now(), now(), 1, now()"))
    ),
    *(
        Case(check=f"{table.split()[0]}_dangling", source="2.10.5", count=1, target="3.3.2",
            origins=((table.split()[0], 1),),
            statement=UNCHECKED.format(f"INSERT INTO {table} VALUES ({values})"))
        for table, values in (
            ("dag_schedule_dataset_reference", "-1, 'gone', now(), now()"),
            ("dag_schedule_dataset_alias_reference", "-1, 'gone', now(), now()"),
            ("task_outlet_dataset_reference", "-1, 'gone', 't', now(), now()"),
            ("dataset_dag_run_queue", "-1, 'gone', now()"),
            ("dataset_alias_dataset", "-1, -1"),
            ("dataset_alias_dataset_event", "-1, -1"),
            ("dagrun_dataset_event", "-1, -1"),
            ("ab_user_role (id, user_id, role_id)", "901, -1, -1"),
            ("ab_permission_view_role (id, permission_view_id, role_id)", "901, -1, -1"))
    ),
    # Measured with real upgrades: NUL and NaN abort 3.0.6, only NUL 3.1.8, neither 3.3.2. These stay, mended.
    Case(check="xcom_not_json", source="2.10.5", count=6, target="3.0.6", statement=FEW_XCOMS + NEW_XCOM,
        origins=(("xcom", 4),)),
    Case(check="xcom_not_json", source="2.10.5", count=5, target="3.1.8", statement=FEW_XCOMS + NEW_XCOM,
        origins=(("xcom", 4),)),
    Case(check="xcom_not_json", source="2.10.5", count=4, target="3.3.2", statement=FEW_XCOMS + NEW_XCOM,
        origins=(("xcom", 4),)),
)  # fmt: skip


def look(address: DatabaseAddress, target: str) -> dict[str, Finding]:
    """Every finding by its id, as preflight sees it: in a session that cannot write."""
    with address.connect(read_only=True) as session:
        findings = find_problems(session, head=read_head(session), target_head=release(target).head)
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def spoil(address: DatabaseAddress, statements: str) -> None:
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statements))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault_is_found_and_counted_and_gone_after_its_repair(corpus: Corpus, case: Case) -> None:
    address = corpus(case.source)
    spoil(address, case.statement)

    found = look(address, case.target)[case.check]
    assert (found.severity, found.count, found.repair) == ("warning", case.count, case.check)
    assert found.summary.startswith(str(case.count))
    assert found.evidence

    with address.connect(read_only=False) as session:
        head, target_head = read_head(session), release(case.target).head
        result = repair(session, head=head, target_head=target_head, migration_id="m", listener=lambda _: None)
        moved = moved_rows(session, "m")
    done = {each.id: each.count for each in result.repairs}
    assert done[case.check] == case.count
    totals: dict[str, int] = {}
    for each in moved:
        if each.repair == case.check:
            totals[each.origin] = totals.get(each.origin, 0) + each.count
    assert totals == dict(case.origins)
    after = look(address, case.target)
    assert case.check not in after or after[case.check].severity == "ok"
    left = {finding.repair for finding in after.values() if finding.repair}
    # What an upgrade drops is copied, and of long URIs only those are moved that the index really does not take.
    assert left <= {dropped.REPAIR, NOT_INDEXABLE.id}, "every repairable fault is repaired"


@pytest.mark.parametrize(("source", "target"), [("2.2.5", "2.11.2"), ("2.10.5", "3.3.2"), ("2.10.5", "3.0.6")])
def test_healthy_database_needs_no_repair(corpus: Corpus, source: str, target: str) -> None:
    findings = look(corpus(source), target)
    assert {finding.severity for finding in findings.values()} <= {"ok", "info"}
    assert "ok" in {finding.severity for finding in findings.values()}


def test_only_what_the_hop_meets_is_asked(corpus: Corpus) -> None:
    old = corpus("1.10.15")
    spoil(old, OLD_XCOM + BAD_VALUES)
    assert "xcom_not_json" not in look(old, "2.11.2"), "the cast comes with 3.0"
    assert look(old, "3.3.2")["xcom_not_json"].count == 4, "preflight looks down the whole path"
    assert "connection_type" not in look(corpus("2.10.5"), "3.3.2")


def test_pickles_and_values_that_airflow_rewrites_are_told(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    spoil(address, FEW_XCOMS + NEW_XCOM)
    findings = look(address, "3.3.2")
    pickled = findings["xcom_pickled"]
    assert (pickled.severity, pickled.count, pickled.repair) == ("info", 1, "xcom_pickled")
    assert (findings["xcom_rewritten"].severity, findings["xcom_rewritten"].count) == ("info", 2)
    assert "xcom_rewritten" not in look(address, "3.0.6")


def test_duplicate_task_failures_stay(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, "INSERT INTO task_fail (dag_id, task_id, execution_date)"
          f" SELECT dag_id, task_id, execution_date FROM {ONE_TASK} t, generate_series(1, 3)")  # fmt: skip
    found = look(address, "2.11.2")["task_fail_duplicate"]
    assert (found.severity, found.repair) == ("info", None)
    assert found.count >= 3


def test_teams_of_3_1_block_because_no_repair_can_know_their_names(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    spoil(address, f"""ALTER TABLE variable ADD team_id uuid; UPDATE variable SET team_id = '{"0" * 32}';
        UPDATE alembic_version SET version_num = '{release("3.1.8").head}'""")  # fmt: skip
    found = look(address, "3.3.2")["variable_of_a_team"]
    assert (found.severity, found.repair) == ("blocker", None)


def test_tables_and_columns_that_an_old_release_lacks_are_passed_over(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, """
        DROP TABLE rendered_task_instance_fields, task_reschedule, xcom, ab_register_user, task_fail;
        ALTER TABLE task_instance DROP pool_slots;
        ALTER TABLE connection DROP is_extra_encrypted""")  # fmt: skip
    assert look(address, "3.3.2")["task_instance_without_run"].count == 1


def test_database_between_two_releases_can_be_checked(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    # Where 2.0.2 stops at a NULL conn_type: run_type and xcom's key are done, the connections are not.
    spoil(address, "UPDATE alembic_version SET version_num = '3c20cacc0044'; ALTER TABLE xcom DROP id")
    findings = look(address, "2.11.2")
    assert findings["connection_type"].count == 1
    assert "xcom_duplicate" not in findings


def test_unknown_head_is_refused(corpus: Corpus) -> None:
    with corpus("2.10.5").connect() as session, pytest.raises(InvalidInputError):
        find_problems(session, head="no such head", target_head=release("3.3.2").head)
