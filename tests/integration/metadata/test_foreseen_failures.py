"""What preflight says of an upgrade comes true: the real one stops, changes or loses exactly that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from psycopg import sql

from airflow_migration.exceptions import MigrationError
from airflow_migration.metadata.checks import find_problems
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import repair
from airflow_migration.metadata.repairs.crossing import Crossing
from airflow_migration.metadata.schema_changes import schema_changes
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.runtimes.venv import VenvRuntime
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]

# Incompressible, as the index of name and uri compresses what it can.
LONG_URI = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 44) n)"


@dataclass(frozen=True, kw_only=True)
class Case:
    """:param stops_at: the last revision before the one that stops"""

    check: str
    source: str
    target: str
    statement: str
    stops_at: str

    def __str__(self) -> str:
        return f"{self.check}-{self.source}"


CASES = (
    Case(check="schema_object_missing", source="2.10.5", target="3.3.2", stops_at="5f2621c13b39",
        statement="ALTER TABLE dag_run_note RENAME CONSTRAINT dag_run_note_user_fkey TO by_hand"),
    Case(check="schema_object_in_the_way", source="2.2.5", target="2.11.2", stops_at="290244fb8b83",
        statement="CREATE INDEX idx_log_dttm ON log (dttm)"),
    Case(check="schema_object_held", source="2.10.5", target="3.3.2", stops_at="6a9e7a527a88",
        statement="CREATE VIEW runs AS SELECT dag_id, external_trigger FROM dag_run"),
    Case(check="dag_resource_name", source="1.10.15", target="2.11.2", stops_at="45ba3f1493b9", statement="""
        INSERT INTO ab_permission (id, name) SELECT 901, 'can_dag_read'
         WHERE NOT EXISTS (SELECT FROM ab_permission WHERE name = 'can_dag_read');
        INSERT INTO ab_view_menu (id, name) VALUES (901, 'taken'), (902, 'DAG:taken');
        INSERT INTO ab_permission_view (id, permission_id, view_menu_id)
        SELECT 901, id, 901 FROM ab_permission WHERE name = 'can_dag_read'"""),
    Case(check="run_duplicate", source="2.7.3", target="2.11.2", stops_at="bff083ad727d", statement="""
        ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_execution_date_key;
        INSERT INTO dag_run (dag_id, run_id, execution_date, run_type)
        SELECT dag_id, run_id || ' twin', execution_date, run_type FROM dag_run LIMIT 1"""),
    Case(check="dataset_uri_not_indexable", source="2.10.5", target="3.3.2", stops_at="44eabb1904b4",
        statement=f"""INSERT INTO dataset (uri, extra, created_at, updated_at)
        VALUES ({LONG_URI}, '{{}}', now(), now())"""),
)  # fmt: skip


def mend(address: DatabaseAddress, target: str) -> None:
    with address.connect(read_only=False) as session:
        head = read_head(session)
        repair(
            session, head=head, target_head=release(target).head, migration_id="m", listener=lambda message: None
        )  # fmt: skip


def spoil(address: DatabaseAddress, statements: str) -> None:
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statements))


def look(address: DatabaseAddress, target: str) -> dict[str, Finding]:
    with address.connect() as session:
        found = find_problems(session, head=read_head(session), target_head=release(target).head)
    return {finding.check: finding for finding in found}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_upgrade_stops_where_it_was_said(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret, case: Case
) -> None:
    address = corpus(case.source)
    mend(address, case.target)  # what else is wrong with it
    spoil(address, case.statement)
    found = look(address, case.target)
    assert found[case.check].count >= 1

    with pytest.raises(MigrationError):
        runtimes.upgrade(case.target, address, fernet_key, lambda message: None)
    with address.connect() as session:
        assert read_head(session) == case.stops_at


def test_runs_of_one_date_or_run_id_and_uris_too_long_for_the_index_no_longer_stop_it(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    address = corpus("2.7.3")
    spoil(address, f"""
        ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_execution_date_key;
        ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_run_id_key CASCADE;
        INSERT INTO dag_run (id, dag_id, run_id, execution_date, run_type)
        SELECT 901, dag_id, 'same date', execution_date, run_type FROM dag_run WHERE id = 1;
        INSERT INTO dag_run (id, dag_id, run_id, execution_date, run_type)
        SELECT 902, dag_id, run_id, '2001-01-01', run_type FROM dag_run WHERE id = 1;
        INSERT INTO task_instance (dag_id, task_id, run_id, map_index, pool, pool_slots)
        SELECT dag_id, 'of the later', 'same date', -1, 'default_pool', 1 FROM dag_run WHERE id = 1;
        INSERT INTO dataset (id, uri, extra, created_at, updated_at)
        VALUES (901, {LONG_URI}, '{{}}', now(), now()), (902, repeat('fits, compressed', 90), '{{}}', now(), now())
    """)  # fmt: skip
    found = look(address, "3.3.2")
    assert (found["run_duplicate"].count, found["dataset_uri_not_indexable"].count) == (2, 2)
    mend(address, "3.3.2")
    mend(address, "3.3.2")
    runtimes.upgrade("3.3.2", address, fernet_key, lambda message: None)
    with address.connect() as session:
        answers = [
            session.execute(sql.SQL(query)).fetchall()
            for query in (
                "SELECT id, right(run_id, 5) = '__902' FROM dag_run WHERE id > 900",
                "SELECT id, run_id FROM airflow_migration.moved_dag_run",
                "SELECT task_id FROM airflow_migration.moved_task_instance",
                "SELECT id, changed_columns FROM airflow_migration.changed_dag_run",
                "SELECT id FROM asset WHERE id > 900",
                "SELECT id FROM airflow_migration.moved_dataset",
            )
        ]
    assert answers == [
        [(902, True)], [(901, "same date")], [("of the later",)], [(902, ["run_id"])], [(902,)], [(901,)],
    ]  # fmt: skip


BY_HAND = """
    SELECT c.relname::text, k.conname::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
     WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT c.relname::text, i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
      JOIN pg_class c ON c.oid = x.indrelid WHERE c.relnamespace = 'public'::regnamespace
       AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype <> 'f')"""


def rename_what_the_upgrade_drops(address: DatabaseAddress, target: str) -> list[str]:
    """Give every constraint another name, and every other index; the rest of the indexes are dropped.

    :returns: the names as they were
    """
    with address.connect(read_only=False) as session:
        crossing = Crossing.between(read_head(session), release(target).head)
        dropped = {
            change.name
            for change in schema_changes(crossing)
            if change.act in ("drop index", "drop constraint") and not change.lenient
        }
        objects = [(table, name) for table, name in session.execute(BY_HAND) if name in dropped]
        constraints = {name for (name,) in session.execute("SELECT conname::text FROM pg_constraint")}
        for number, (table, name) in enumerate(objects):
            if name in constraints:
                text = "ALTER TABLE {table} RENAME CONSTRAINT {name} TO {other}"
            else:
                text = "ALTER INDEX {name} RENAME TO {other}" if number % 2 else "DROP INDEX {name}"
            names = {"table": table, "name": name, "other": f"by hand {number}"}
            session.execute(sql.SQL(text).format(**{k: sql.Identifier(str(v)) for k, v in names.items()}))
        return [str(name) for _, name in objects]


@pytest.mark.parametrize(("source", "target"), [("1.10.15", "2.11.2"), ("2.10.5", "3.3.2")])
def test_whatever_was_renamed_or_dropped_by_hand_the_upgrade_passes(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret, source: str, target: str
) -> None:
    address = corpus(source)
    renamed = rename_what_the_upgrade_drops(address, target)
    assert len(renamed) > 5
    new_index = "idx_log_dttm" if target == "2.11.2" else "idx_dag_run_run_after"
    spoil(address, f"CREATE INDEX {new_index} ON dag_run (state)")
    found = look(address, target)
    for check in ("schema_object_missing", "schema_object_in_the_way"):
        assert (found[check].severity, found[check].repair) == ("warning", check), found[check]

    mend(address, target)
    runtimes.upgrade(target, address, fernet_key, lambda message: None)
    with address.connect() as session:
        assert read_head(session) == release(target).head
        names = {str(name) for _, name in session.execute(BY_HAND)}
    assert not [name for name in names if name.startswith("by hand")]
    assert {new_index, f"{new_index}__by_hand"} <= names


def test_what_is_said_to_change_changes_so(corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret) -> None:
    address = corpus("2.10.5")
    mend(address, "3.3.2")
    spoil(address, """
        INSERT INTO slot_pool (pool, include_deferred) VALUES ('empty', false);
        INSERT INTO variable (id, key) VALUES (901, 'bare'); INSERT INTO variable (id, val) VALUES (902, 'v');
        UPDATE dag SET is_paused = NULL, is_active = NULL WHERE dag_id = 'etl_daily';
        UPDATE log SET event = NULL WHERE id = (SELECT min(id) FROM log)
    """)  # fmt: skip
    found = look(address, "3.3.2")
    for check in (
        "pool_without_slots", "variable_without_value", "variable_without_key", "dag_pause_unknown",
        "dag_activity_unknown", "log_without_event",
    ):  # fmt: skip
        assert found[check].count == 1, check
    runtimes.upgrade("3.3.2", address, fernet_key, lambda message: None)
    with address.connect() as session:
        answers = [
            session.execute(query).fetchall()
            for query in (
                "SELECT slots FROM slot_pool WHERE pool = 'empty'",
                "SELECT val FROM variable WHERE id = 901",
                "SELECT key FROM variable WHERE id = 902",
                "SELECT is_paused, is_stale FROM dag WHERE dag_id = 'etl_daily'",
                "SELECT count(*) FROM log WHERE event = ''",
            )
        ]
    assert answers == [
        [(0,)], [("",)], [("__airflow_var_fix_888b59e02a5b_902",)], [(False, False)], [(1,)],
    ]  # fmt: skip
