"""What no repair mends is found too: each case is a database of a real release, made bad in exactly that way."""

from __future__ import annotations

import math
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from airflow_migration.metadata.checks import checks_for, find_problems
from airflow_migration.metadata.findings import EXAMPLES, Finding, Severity
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs.catalog import read_tables
from airflow_migration.metadata.repairs.registry import REPAIRS
from airflow_migration.postgres.address import DatabaseAddress, clean_environment
from airflow_migration.postgres.tools import find_tool

Corpus = Callable[[str], DatabaseAddress]

CORPORA = ("1.10.10", "1.10.15", "2.0.2", "2.2.5", "2.7.3", "2.10.5", "2.11.2", "3.0.6", "3.1.8", "3.3.2")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A database made bad, and what must be found, with words that the evidence holds."""

    check: str
    source: str
    count: int
    statement: str
    severity: Severity = "warning"
    target: str = "3.3.2"
    shows: tuple[str, ...] = ()
    hops: tuple[str, ...] = ("3.3.2",)
    repair: str | None = None

    def __str__(self) -> str:
        return f"{self.check}-{self.source}"


def confs(*values: object) -> str:
    """Gives the first runs these confs, pickled as Airflow does, and no other run any."""
    rows = ", ".join(f"({n}, '\\x{pickle.dumps(value).hex()}'::bytea)" for n, value in enumerate(values, 1))
    return f"""UPDATE dag_run SET conf = NULL; UPDATE dag_run r SET conf = v.conf FROM (VALUES {rows}) v (n, conf),
        (SELECT id, row_number() OVER (ORDER BY id) AS n FROM dag_run) o WHERE o.n = v.n AND o.id = r.id"""


def xcoms(*values: bytes) -> str:
    """Adds these to a task that has some, under the keys k0, k1, …"""
    rows = ", ".join(f"('k{n}', '\\x{value.hex()}'::bytea)" for n, value in enumerate(values))
    return f"""INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)
        SELECT dag_run_id, task_id, map_index, v.key, dag_id, run_id, v.value, timestamp
          FROM (SELECT * FROM xcom LIMIT 1) one, (VALUES {rows}) v (key, value)"""


FIRST_DAG = "(SELECT min(dag_id) FROM dag)"
ONE_TASK = "ctid = (SELECT ctid FROM task_instance LIMIT 1)"

CASES = (
    Case(check="run_duplicate", source="2.7.3", count=1, repair="run_duplicate", target="2.11.2", hops=("2.11.2",),
        statement="""ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_execution_date_key;
        INSERT INTO dag_run (dag_id, run_id, execution_date, run_type)
        SELECT dag_id, run_id || ' twin', execution_date, run_type FROM dag_run LIMIT 1""", shows=("twin",)),
    Case(check="run_duplicate", source="1.10.15", count=2, repair="run_duplicate", hops=("2.11.2", "3.3.2"),
        statement="""ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_run_id_key;
        INSERT INTO dag_run (dag_id, run_id, execution_date)
        SELECT dag_id, run_id, execution_date + n * interval '1 us' FROM generate_series(1, 2) n,
            (SELECT * FROM dag_run LIMIT 1) r"""),
    Case(check="dag_resource_name", source="1.10.15", count=2, severity="blocker", hops=("2.11.2",), statement="""
        INSERT INTO ab_permission (id, name) SELECT 901, 'can_dag_read'
         WHERE NOT EXISTS (SELECT FROM ab_permission WHERE name = 'can_dag_read');
        INSERT INTO ab_view_menu (id, name) VALUES (901, 'taken'), (902, 'DAG:taken'), (903, repeat('x', 247)),
            (904, repeat('x', 246)), (905, 'no DAG'), (906, 'DAG:no DAG');
        INSERT INTO ab_permission_view (id, permission_id, view_menu_id)
        SELECT 900 + n, p.id, 900 + n FROM ab_permission p, generate_series(1, 4) n WHERE p.name = 'can_dag_read'""",
        shows=("taken",)),
    Case(check="pool_slots", source="1.10.15", count=21, severity="info", hops=("2.11.2",), statement="""
        UPDATE task_instance t SET pool_slots = NULL FROM dag_run r
         WHERE r.dag_id = t.dag_id AND r.execution_date = t.execution_date"""),
    Case(check="subdags", source="2.7.3", count=1, hops=("3.3.2",),
        statement=f"UPDATE dag SET is_subdag = dag_id = {FIRST_DAG}"),
    Case(check="sensing_task_instances", source="2.2.5", count=1, severity="info", hops=("2.11.2",),
        statement=f"UPDATE task_instance SET state = 'sensing' WHERE {ONE_TASK}"),
    Case(check="dataset_uri_not_indexable", source="2.10.5", count=2, repair="dataset_uri_not_indexable", statement="""
        INSERT INTO dataset (uri, extra, created_at, updated_at)
        SELECT repeat(what, n), '{}', now(), now() FROM (VALUES ('x', 1340), ('y', 1341), ('ü', 700), ('z', 1501)) v
            (what, n)"""),
    Case(check="xcom_too_large", source="2.10.5", count=1, statement="""
        UPDATE xcom SET value = convert_to('"' || repeat('x', 200000000) || '"', 'UTF8')
         WHERE ctid = (SELECT ctid FROM xcom LIMIT 1)"""),
    Case(check="pool_without_slots", source="2.10.5", count=1, shows=("empty",),
        statement="INSERT INTO slot_pool (pool, include_deferred) VALUES ('empty', false)"),
    Case(check="pool_without_slots", source="3.1.8", count=1, shows=("empty",),
        statement="INSERT INTO slot_pool (pool, include_deferred) VALUES ('empty', false)"),
    Case(check="variable_without_value", source="2.10.5", count=1, severity="info", shows=("bare",),
        statement="INSERT INTO variable (key) VALUES ('bare')"),
    Case(check="variable_without_key", source="2.10.5", count=1, severity="info",
        statement="INSERT INTO variable (val) VALUES ('never-shown')"),
    Case(check="dag_pause_unknown", source="2.10.5", count=1,
        statement=f"UPDATE dag SET is_paused = NULL WHERE dag_id = {FIRST_DAG}"),
    Case(check="dag_activity_unknown", source="2.10.5", count=1, severity="info",
        statement=f"UPDATE dag SET is_active = NULL WHERE dag_id = {FIRST_DAG}"),
    Case(check="task_instance_without_tries", source="2.10.5", count=1, severity="info",
        statement=f"UPDATE task_instance SET max_tries = NULL WHERE {ONE_TASK}"),
    Case(check="log_without_event", source="2.10.5", count=12, severity="info",
        statement="INSERT INTO log (owner) SELECT 'o' FROM generate_series(1, 12)"),
    Case(check="fab_without_version", source="3.0.6", count=0, severity="info",
        statement="DROP TABLE alembic_version_fab"),
    Case(check="trigger_kwargs", source="2.2.5", count=2, severity="info", hops=("2.11.2",),
        statement="""INSERT INTO trigger (classpath, kwargs, created_date)
        SELECT 'a.B', '{}', now() FROM generate_series(1, 2)"""),
    Case(check="dag_in_two_files", source="2.10.5", count=1, statement=f"""
        UPDATE serialized_dag SET fileloc = '/dags/another.py' WHERE dag_id = {FIRST_DAG}""",
        shows=("/dags/another.py",)),
    Case(check="dag_in_two_files", source="2.2.5", count=1, statement=f"""
        INSERT INTO dag_code (fileloc_hash, fileloc, source_code, last_updated)
        SELECT -1, '/dags/copy.py', 'with DAG(' || chr(10) || ' dag_id="' || {FIRST_DAG} || '",', now();
        INSERT INTO dag_code (fileloc_hash, fileloc, source_code, last_updated)
        SELECT -2, '/dags/mention.py', 'TriggerDagRunOperator(trigger_dag_id="' || {FIRST_DAG} || '")', now()""",
        shows=("/dags/copy.py",)),
    Case(check="schema_object_missing", source="2.10.5", count=2, repair="schema_object_missing", statement="""
        DROP INDEX idx_log_dag; ALTER TABLE dag_run_note RENAME CONSTRAINT dag_run_note_user_fkey TO by_hand""",
        shows=("idx_log_dag", "16cbcb1c8c36", "dag_run_note_user_fkey")),
    Case(check="schema_object_missing", source="1.10.15", count=1, severity="blocker", hops=("2.11.2", "3.3.2"),
        statement="ALTER TABLE dag DROP COLUMN last_scheduler_run", shows=("dag.last_scheduler_run", "2e42bb497a22")),
    Case(check="schema_object_in_the_way", source="2.2.5", count=2, severity="blocker", target="2.11.2",
        hops=("2.11.2",), statement="""CREATE INDEX idx_log_dttm ON log (dttm);
        ALTER TABLE dag_run ADD COLUMN clear_number int""", shows=("idx_log_dttm", "dag_run.clear_number")),
    Case(check="schema_object_in_the_way", source="2.10.5", count=1, severity="blocker",
        statement="CREATE TABLE backfill (id int)", shows=("table backfill",)),
    Case(check="schema_object_held", source="2.10.5", count=2, severity="blocker", statement="""
        CREATE VIEW runs AS SELECT dag_id, external_trigger FROM dag_run;
        CREATE VIEW harmless AS SELECT dag_id, execution_date FROM dag_run;
        CREATE MATERIALIZED VIEW failures AS SELECT count(*) FROM task_fail""", shows=("runs", "failures")),
    Case(check="schema_object_held", source="2.0.2", count=1, severity="blocker", target="2.11.2", hops=("2.11.2",),
        statement="""CREATE TABLE notes (dag_id varchar, task_id varchar, execution_date timestamptz,
        FOREIGN KEY (task_id, dag_id, execution_date) REFERENCES task_instance (task_id, dag_id, execution_date))""",
        shows=("task_instance", "notes")),
    Case(check="conf_not_json", source="1.10.15", count=4, repair="conf_not_json", shows=("daily",), statement=confs(
        {"a": {1}}, {"a": date(2026, 1, 1)}, {"a": math.nan}, {"a": "\0"}, {"a": b"x"}, {"a": [1.5, None]})),
    Case(check="conf_not_json", source="2.10.5", count=2, repair="conf_not_json", target="3.0.6", hops=("3.0.6",),
        statement=confs({"a": math.nan}, OrderedDict(a=1), {"a": 1}, {})),
    Case(check="conf_changed", source="2.10.5", count=2, severity="info", repair="conf_not_json",
        statement=confs({"a": "\ud800"}, OrderedDict(a=1), {"a": math.nan}, {"a": 1})),
    Case(check="conf_lost", source="2.10.5", count=2, repair="conf_not_json",
        statement=confs({"a": b"x"}, {"a": 1j}, {"a": {1}}, {"a": 1})),
    Case(check="xcom_pickled", source="2.10.5", count=2, severity="info", repair="xcom_pickled",
        statement=xcoms(b"I1\n.", b"\x80\x02K\x02.", b"words."), shows=("k0",)),
    Case(check="xcom_changed", source="2.10.5", count=1, severity="info", repair="xcom_pickled",
        statement=xcoms(b"\x80\x02K\x02.", b"\x80\x02}K\x01K\x02s.")),
    Case(check="xcom_lost", source="2.10.5", count=1, shows=("k1",),
        statement=xcoms(b"\x80\x02K\x02.", b"\x80\x02cw\nh\n)R.")),
)  # fmt: skip


def look(address: DatabaseAddress, target: str) -> dict[str, Finding]:
    """Every finding by its id, as preflight sees it: on the way that a plan takes, in a session that cannot write."""
    with address.connect(read_only=True) as session:
        head = read_head(session)
        path = [(target, release(target).head)]
        if target.startswith("3.") and release("2.11.2").number > _number(head):
            path.insert(0, ("2.11.2", release("2.11.2").head))
        findings = find_problems(session, head=head, target_head=path[-1][1], path=path)
    assert len({finding.check for finding in findings}) == len(findings)
    return {finding.check: finding for finding in findings}


def _number(head: str) -> tuple[int, ...]:
    """2.7.0 and later go straight to 3.x."""
    found = next(each for each in map(release, CORPORA) if each.head == head)
    return (99,) if found.number >= (2, 7) else found.number


def spoil(address: DatabaseAddress, statements: str) -> None:
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statements))


def by_hand(address: DatabaseAddress, query: str) -> list[str]:
    """What psql prints for a query as it stands."""
    with address.connect() as session:
        psql = find_tool("psql", session.info.server_version)
    done = subprocess.run(
        [psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
        input=query,
        env=clean_environment() | address.environment() | {"PGOPTIONS": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (query, done.stderr)
    return done.stdout.splitlines()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault_is_found_with_its_hops_and_a_query_that_shows_it(corpus: Corpus, case: Case) -> None:
    address = corpus(case.source)
    before = look(address, case.target).get(case.check)
    assert before is None or before.severity == "ok"
    spoil(address, case.statement)

    found = look(address, case.target)[case.check]
    assert (found.severity, found.count, found.repair) == (case.severity, case.count, case.repair), found
    assert found.hops == case.hops
    assert found.remedy
    assert len(found.evidence) == min(case.count, EXAMPLES)
    for word in case.shows:
        assert any(word in each for each in found.evidence), found.evidence
    assert "never-shown" not in str(found)
    assert len(by_hand(address, found.sql)) >= case.count


@pytest.mark.parametrize("source", CORPORA)
@pytest.mark.parametrize("target", ["2.11.2", "3.0.6", "3.1.8", "3.3.2"])
def test_no_database_of_a_real_release_is_blocked(corpus: Corpus, source: str, target: str) -> None:
    if release(source).number > release(target).number:
        return
    address = corpus(source)
    found = look(address, target)
    assert not [each for each in found.values() if each.severity == "blocker"]
    assert {each.repair for each in found.values()} <= {None, *REPAIRS}
    by_hand(address, "\n;\n".join(each.sql for each in found.values()))


def test_a_schema_of_another_name_is_said_in_the_query(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    spoil(address, """UPDATE slot_pool SET slots = NULL WHERE pool = 'default_pool'""")
    spoil(address, 'ALTER SCHEMA public RENAME TO "Air ""flow"')
    with replace(address, schema='Air "flow').connect() as session:
        found = find_problems(session, head=read_head(session), target_head=release("3.3.2").head)
    pools = next(each for each in found if each.check == "pool_without_slots")
    assert by_hand(address, pools.sql) == ["default_pool"]


def test_a_pgdump_that_checked_no_foreign_key_left_rows_that_belong_to_nothing(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    spoil(address, """SET session_replication_role = replica; DELETE FROM dag WHERE dag_id = 'etl_daily';
        DELETE FROM task_instance; SET session_replication_role = origin""")  # fmt: skip
    found = look(address, "3.3.2")
    assert found["xcom_without_task_instance"].count > 0, "although the foreign key is there and valid"


@contextmanager
def locked(address: DatabaseAddress, table: str) -> Iterator[None]:
    with psycopg.connect(
        host=address.host, port=address.port, user=address.user, password=address.password.reveal(),
        dbname=address.database,
    ) as other:  # fmt: skip
        other.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
        yield
        other.rollback()


def test_a_locked_table_costs_its_own_checks_only(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    spoil(address, "UPDATE slot_pool SET slots = NULL WHERE pool = 'default_pool'")
    with locked(address, "xcom"), address.connect(lock_timeout=0.2) as session:
        findings = find_problems(session, head=read_head(session), target_head=release("3.3.2").head)
    found = {each.check: each for each in findings}
    for check in ("xcom_not_json", "xcom_without_task_instance"):
        assert (found[check].severity, found[check].count) == ("warning", 0)
        assert "lock" in found[check].summary
        assert found[check].remedy
    assert found["pool_without_slots"].count == 1


def test_a_question_that_takes_too_long_is_given_up_and_told(
    corpus: Corpus, new_role: Callable[..., DatabaseAddress]
) -> None:
    address, reader = corpus("2.10.5"), new_role()
    # Whoever does not own the table waits for each of its rows.
    spoil(address, """INSERT INTO log (event) VALUES (NULL); ALTER TABLE log ENABLE ROW LEVEL SECURITY;
        CREATE POLICY slow ON log USING (pg_sleep(600) IS NOT NULL);
        UPDATE slot_pool SET slots = NULL WHERE pool = 'default_pool'""")  # fmt: skip
    with address.connect(read_only=False) as session:
        for what in ("TABLES", "SEQUENCES"):
            statement = sql.SQL("GRANT SELECT ON ALL " + what + " IN SCHEMA public TO {}")
            session.execute(statement.format(sql.Identifier(reader.user)))
    with reader.on(address.database).connect(statement_timeout=1) as session:
        findings = find_problems(session, head=read_head(session), target_head=release("3.3.2").head)
    found = {each.check: each for each in findings}
    assert "time limit" in found["log_without_event"].summary
    assert found["log_without_event"].severity == "warning"
    assert found["pool_without_slots"].count == 1, "asked after it, in the same transaction"


def test_all_questions_see_one_moment(corpus: Corpus) -> None:
    address = corpus("2.10.5")
    with address.connect() as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        head = read_head(session)
        spoil(address, "UPDATE slot_pool SET slots = NULL WHERE pool = 'default_pool'")
        found = {each.check: each for each in find_problems(session, head=head, target_head=release("3.3.2").head)}
    assert found["pool_without_slots"].severity == "ok"
    assert look(address, "3.3.2")["pool_without_slots"].count == 1


def test_what_no_hop_meets_is_not_asked(corpus: Corpus) -> None:
    address = corpus("3.1.8")
    with address.connect() as session:
        asked = {
            each.check for each in find_problems(session, head=read_head(session), target_head=release("3.3.2").head)
        }
        every = {check for each in checks_for(read_tables(session)) for check in each.ids}
    assert {"pool_without_slots", "serialized_dag_nul", "schema_object_missing", "sequence_behind"} <= asked
    assert not asked & {"conf_lost", "xcom_not_json", "connection_type", "run_duplicate", "dataset_uri_too_long"}
    assert asked < every


def test_nothing_is_written(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    with address.connect(read_only=True) as session:
        session.read_only = True
        find_problems(session, head=read_head(session), target_head=release("3.3.2").head)
        assert session.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)


def test_every_check_is_in_the_guide(corpus: Corpus) -> None:
    text = (Path(__file__).parents[3] / "docs" / "checks.md").read_text(encoding="utf-8")
    with corpus("2.10.5").connect() as session:
        checks = checks_for(read_tables(session))
    for check in checks:
        for name in check.ids:
            assert f"`{name}`" in text
        for revision in check.revisions:
            assert revision in text, (check.ids, revision)
