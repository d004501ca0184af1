"""Repairs let real upgrades through, lose nothing, and can be run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from airflow_migration.exceptions import InvalidInputError, ToolError
from airflow_migration.metadata.releases import read_head, release
from airflow_migration.metadata.repairs import RepairResult, fix_sequences, moved_rows, repair
from airflow_migration.metadata.repairs.connection_types import guess_type
from airflow_migration.metadata.repairs.ledger import changed_rows, prepare
from airflow_migration.metadata.repairs.registry import SAFE_REPAIRS
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Progress
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from airflow_migration.runtimes.venv import VenvRuntime

Corpus = Callable[[str], DatabaseAddress]
FAB = {"AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"}

ALL_FAULTS_OF_1_10 = r"""
INSERT INTO connection (conn_id, conn_type, host, extra, is_extra_encrypted) VALUES
    ('warehouse', NULL, NULL, '{"extra__google_cloud_platform__num_retries": "5",
     "extra__jdbc__drv_path": ""}', false),
    ('google_cloud_prod', NULL, NULL, NULL, NULL), ('partner', NULL, 'https://api.example.org', NULL, NULL),
    (NULL, 'http', NULL, NULL, NULL), (NULL, 'http', NULL, NULL, NULL), ('', 'http', NULL, NULL, NULL),
    ('http_x__2', 'http', 'was here first', NULL, NULL);
UPDATE task_instance SET pool_slots = NULL;
INSERT INTO dag_run (dag_id, execution_date, run_id, state) VALUES
    ('nameless', '2021-03-01 01:02:03.5+00', NULL, 'success'), ('nameless', '2021-03-02', NULL, 'success'),
    ('nameless', '2021-03-03', 'manual__2021-03-02T00:00:00+00:00', 'success'),
    (NULL, now(), 'x', 'success'), ('hourly', NULL, 'y', 'success');
INSERT INTO task_instance (dag_id, task_id, execution_date, pool, state)
    SELECT 'nameless', 'kept', execution_date, 'default_pool', 'success' FROM dag_run
     WHERE dag_id = 'nameless';
INSERT INTO task_instance (dag_id, task_id, execution_date, pool, state)
    SELECT 'hourly', 'orphan', '2019-01-01'::timestamptz + n * interval '1 h', 'default_pool', 'success'
      FROM generate_series(1, 10) n;
INSERT INTO task_reschedule (dag_id, task_id, execution_date, try_number, start_date, end_date, duration,
                             reschedule_date)
    SELECT dag_id, task_id, execution_date, 1, now(), now(), 1, now() FROM task_instance
     WHERE task_id IN ('orphan', 'kept');
INSERT INTO task_fail (dag_id, task_id, execution_date) SELECT dag_id, task_id, execution_date
    FROM task_instance, generate_series(1, 2) WHERE task_id = 'kept';
INSERT INTO task_fail (dag_id, task_id, execution_date) VALUES ('hourly', 'nobody', now());
INSERT INTO rendered_task_instance_fields VALUES ('hourly', 'nobody', now(), '{}');
INSERT INTO xcom (key, value, timestamp, dag_id, task_id, execution_date)
    SELECT v.key, v.value, now(), dag_id, task_id, execution_date FROM task_instance,
    (VALUES ('fine', '{"a": 1}'::bytea), (NULL, '1'), ('twice', '"old"'), ('twice', '"new"'), ('empty', ''),
     ('latin', '\xff41'), ('words', 'hello'), ('protocol 0', convert_to('I1', 'UTF8')), ('none', NULL),
     ('nan', '[NaN]'), ('nul', convert_to('"a\u0000b"', 'UTF8'))) v (key, value) WHERE task_id = 'kept';
INSERT INTO xcom (key, value, timestamp, dag_id, task_id, execution_date)
    VALUES ('k', '1', now(), 'hourly', 'nobody', now());
CREATE TABLE _airflow_moved__2_2__dangling__task_instance AS SELECT * FROM task_instance LIMIT 1;
CREATE TABLE _airflow_moved__2_3__dangling__xcom AS SELECT * FROM xcom LIMIT 1;
INSERT INTO ab_user (id, first_name, last_name, username, email) VALUES
    (101, '', '', 'Bob', 'a'), (102, '', '', 'bob', 'A'), (103, '', '', 'BOB', 'c'),
    (104, '', '', 'bob__2', 'd');
ALTER TABLE ab_permission ALTER id DROP DEFAULT;
ALTER TABLE ab_role ALTER id DROP DEFAULT;
DROP SEQUENCE ab_role_id_seq;
SELECT setval('ab_view_menu_id_seq', 1), setval('dag_run_id_seq', 1);
"""

HISTORY = (
    "connection",
    "dag_run",
    "task_instance",
    "task_reschedule",
    "task_fail",
    "rendered_task_instance_fields",
    "xcom",
    "ab_user",
    "ab_permission",
    "variable",
)


def spoil(address: DatabaseAddress, statements: str) -> None:
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute(sql.SQL(statements))


def mend(
    address: DatabaseAddress, target: str, listener: Callable[[Progress | str], None] = lambda _: None
) -> RepairResult:
    with address.connect(read_only=False) as session:
        head = read_head(session)
        return repair(session, head=head, target_head=release(target).head, migration_id="m 1", listener=listener)


def ask(address: DatabaseAddress, query: str) -> list[tuple[object, ...]]:
    with address.connect() as session:
        return session.execute(sql.SQL(query)).fetchall()


def counts(address: DatabaseAddress, tables: tuple[str, ...] = HISTORY) -> dict[str, int]:
    found = {}
    for table in tables:
        ((number,),) = ask(address, f"SELECT count(*) FROM {table}")
        found[table] = int(str(number))
    return found


def moved(address: DatabaseAddress) -> dict[str, int]:
    """Rows by origin, counted in the tables where they are kept."""
    totals: dict[str, int] = {}
    with address.connect() as session:
        kept = {each.kept_in.partition(".")[2]: each.origin for each in moved_rows(session, "m 1")}
        for table, origin in kept.items():
            totals[origin] = totals.get(origin, 0) + count_kept(session, table)
    return totals


def count_kept(session: Session, table: str) -> int:
    row = session.execute(
        sql.SQL("SELECT count(*) FROM airflow_migration.{} WHERE migration_id = 'm 1' AND reason <> ''").format(
            sql.Identifier(table)
        )
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def content(address: DatabaseAddress) -> dict[str, object]:
    """A digest of every table of both schemas, without the times at which the repairs ran."""
    digests: dict[str, object] = {}
    with address.connect() as session:
        tables = session.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema IN (current_schema(), 'airflow_migration') ORDER BY 1, 2"
        ).fetchall()
        for schema, table in tables:
            row = session.execute(
                sql.SQL(
                    "SELECT count(*), md5(string_agg(line, '' ORDER BY line))"
                    " FROM (SELECT (to_jsonb(t) - 'moved_at' - 'done_at' - 'number')::text AS line"
                    " FROM {} t) x"
                ).format(sql.Identifier(str(schema), str(table)))
            ).fetchone()
            digests[f"{schema}.{table}"] = row
    return digests


def test_every_fault_of_1_10_at_once_is_mended_and_the_upgrades_pass(
    corpus: Corpus,
    new_database: Callable[..., DatabaseAddress],
    runtimes: VenvRuntime,
    fernet_key: Secret,
) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10)
    before = counts(address)
    unmended = new_database(template=address.database)
    with pytest.raises(ToolError):
        runtimes.upgrade("2.11.2", unmended, fernet_key, lambda _: None)

    mend(address, "2.11.2")
    after = counts(address)
    for table, number in before.items():
        assert after[table] + moved(address).get(table, 0) == number, table
    assert moved(address) == {
        "dag_run": 2,
        "task_instance": 11,
        "task_reschedule": 10,
        "task_fail": 1,
        "rendered_task_instance_fields": 2,
        "xcom": 9,
        "chart": 2,
        "users": 1,
    }
    assert runtimes.upgrade("2.11.2", address, fernet_key, lambda _: None).to_head == release("2.11.2").head
    assert counts(address, ("dag_run", "task_instance", "xcom", "connection")) == {
        table: after[table] for table in ("dag_run", "task_instance", "xcom", "connection")
    }
    assert not ask(address, "SELECT 1 FROM pg_tables WHERE schemaname = 'public' AND tablename ~ '^_airflow_moved'")

    mend(address, "3.3.2")
    assert moved(address)["xcom"] == 9 + 3 * 4
    assert runtimes.upgrade("3.3.2", address, fernet_key, lambda _: None, FAB).to_head == release("3.3.2").head
    assert ask(address, "SELECT DISTINCT value FROM xcom WHERE key = 'twice'") == [("new",)]
    assert ask(address, "SELECT count(*) FROM _xcom_archive") == [(0,)]
    assert ask(address, "SELECT DISTINCT value FROM xcom WHERE key = 'rows'") == [({"a": 1, "b": [1, 2]},)]
    run_ids = [run for (run,) in ask(address, "SELECT run_id FROM dag_run WHERE dag_id = 'nameless' ORDER BY 1")]
    assert run_ids[:2] == ["manual__2021-03-01T01:02:03.500000+00:00", "manual__2021-03-02T00:00:00+00:00"]
    assert len(set(run_ids)) == 3
    types = {row[0]: row[1] for row in ask(address, "SELECT conn_id, conn_type FROM connection")}
    assert {name: types[name] for name in ("warehouse", "google_cloud_prod", "partner", "no_type")} == {
        "warehouse": "google_cloud_platform",
        "google_cloud_prod": "google_cloud_platform",
        "partner": "http",
        "no_type": "generic",
    }
    assert {"http_x", "http_x__2", "http_x__3"} <= types.keys()
    assert len([name for name in types if str(name).startswith("unnamed_")]) == 3
    names = [name for (name,) in ask(address, "SELECT username FROM ab_user WHERE id > 100 ORDER BY id")]
    assert names == ["Bob", "bob__3", "BOB__4", "bob__2"]


def test_second_run_changes_nothing_and_tells_the_same(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10)
    first, state = mend(address, "2.11.2"), content(address)
    assert len(first.repairs) == 15
    assert mend(address, "2.11.2") == first
    assert content(address) == state


def test_run_killed_between_and_within_repairs_ends_as_if_it_had_not_been(
    corpus: Corpus, new_database: Callable[..., DatabaseAddress]
) -> None:
    whole = corpus("1.10.15")
    spoil(whole, ALL_FAULTS_OF_1_10)
    killed = new_database(template=whole.database)
    expected = mend(whole, "2.11.2")

    def die(_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(4):  # dies after the first repair that still finds something
        with pytest.raises(KeyboardInterrupt):
            mend(killed, "2.11.2", die)
    with killed.connect(read_only=False, autocommit=True) as session:  # and within one: its rows come back
        session.execute(
            "CREATE FUNCTION airflow_migration.refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'killed'; END$$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON airflow_migration.moved FOR EACH ROW"
            " WHEN (new.origin = 'task_instance') EXECUTE FUNCTION airflow_migration.refuse()"
        )
    with pytest.raises(Exception, match="killed"):
        mend(killed, "2.11.2")
    assert counts(killed)["task_reschedule"] == 13, "moved before the failure, and back again"
    spoil(killed, "DROP FUNCTION airflow_migration.refuse() CASCADE")

    assert mend(killed, "2.11.2") == expected
    assert content(killed) == content(whole)


def test_moved_rows_keep_every_value(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10)
    rows = "SELECT to_jsonb(t) - 'reason' - 'migration_id' - 'moved_at' FROM {} t WHERE task_id = 'orphan' ORDER BY 1"
    before = ask(address, rows.format("task_instance"))
    mend(address, "2.11.2")
    assert len(before) == 10
    assert ask(address, rows.format("airflow_migration.moved_task_instance")) == before


def test_changed_rows_are_kept_as_they_were_and_counted(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10)
    added = "'{reason,migration_id,moved_at,repair_id,changed_columns,became}'::text[]"
    faults = {
        ("connection", "connection_type"): "t.conn_type IS NULL",
        ("connection", "connection_id"): """coalesce(t.conn_id, '') = ''
            OR t.id > (SELECT min(id) FROM connection o WHERE o.conn_id = t.conn_id)""",
        ("dag_run", "run_without_run_id"): "t.run_id IS NULL AND t.dag_id IS NOT NULL AND t.execution_date IS NOT NULL",
        ("ab_user", "username_case"): "t.username IN ('bob', 'BOB')",
    }
    before = {
        key: ask(address, f"SELECT to_jsonb(t) FROM {key[0]} t WHERE {fault} ORDER BY 1")
        for key, fault in faults.items()
    }
    # The corpus itself has one connection without a type, which has an id, and the repair of types comes first.
    for row in (row for (row,) in before["connection", "connection_id"]):
        assert isinstance(row, dict)
        assert row["conn_type"]
    mend(address, "2.11.2")
    for (table, repair_id), rows in before.items():
        assert len(rows) > 1
        kept = f"FROM airflow_migration.changed_{table} t WHERE repair_id = '{repair_id}' AND migration_id = 'm 1'"
        assert ask(address, f"SELECT to_jsonb(t) - {added} {kept} ORDER BY 1") == rows, repair_id
    with address.connect() as session:
        changes = [each for each in changed_rows(session, "m 1") if each.repair == "connection_id"]
        totals = {(each.origin, each.repair): 0 for each in changed_rows(session, "m 1")}
        for each in changed_rows(session, "m 1"):
            totals[each.origin, each.repair] += each.count
    assert totals == {key: len(rows) for key, rows in before.items()}
    assert {(each.columns, each.reason, each.count) for each in changes} == {
        (("conn_id",), "it had no id", 3),
        (("conn_id",), "another connection has that id", 1),
    }


def test_a_change_that_is_killed_leaves_neither_change_nor_copy(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10)
    with address.connect(read_only=False) as session, session.transaction():
        prepare(session)
    spoil(
        address,
        "CREATE FUNCTION airflow_migration.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'killed'; END$$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON dag_run FOR EACH ROW"
        " WHEN (new.run_id LIKE '%__2021-03-02%') EXECUTE FUNCTION airflow_migration.refuse()",
    )
    with pytest.raises(Exception, match="killed"):
        mend(address, "2.11.2")
    assert ask(address, "SELECT to_regclass('airflow_migration.changed_dag_run')") == [(None,)]
    assert ask(address, "SELECT count(*) FROM dag_run WHERE run_id IS NULL") == [(2,)]
    assert ask(address, "SELECT 1 FROM airflow_migration.changed WHERE origin = 'dag_run'") == []

    spoil(address, "DROP FUNCTION airflow_migration.refuse() CASCADE")
    mend(address, "2.11.2")
    assert ask(address, "SELECT count(*) FROM airflow_migration.changed_dag_run") == [(2,)]


def test_a_repair_that_may_not_run_ends_it_before_anything_of_it_is_changed(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10)
    with address.connect(read_only=False) as session:
        ids = SAFE_REPAIRS - {"connection_id"}
        with pytest.raises(InvalidInputError, match="connection_id") as caught:
            repair(
                session, head=read_head(session), target_head=release("2.11.2").head, migration_id="m 1",
                listener=lambda _: None, allowed=ids,
            )  # fmt: skip
    assert "connection_id" in caught.value.remedy
    assert ask(address, "SELECT count(*) FROM connection WHERE conn_id IS NULL") == [(2,)]
    assert ask(address, "SELECT DISTINCT repair_id FROM airflow_migration.changed_connection") == [("connection_type",)]


def test_what_an_upgrade_drops_is_kept_with_every_value(
    corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret
) -> None:
    address = corpus("2.10.5")
    spoil(
        address,
        "INSERT INTO task_fail (task_id, dag_id, run_id, map_index, duration)"
        " SELECT task_id, dag_id, run_id, map_index, n FROM task_instance, generate_series(1, 2) n;"
        "INSERT INTO dag_pickle (pickle, pickle_hash) VALUES ('\\x80', 7)",
    )
    rows = "SELECT to_jsonb(t) - 'reason' - 'migration_id' - 'moved_at' FROM {} t ORDER BY id"
    before = [ask(address, rows.format(table)) for table in ("task_fail", "dag_pickle")]
    assert len(before[0]) > 2
    for _ in range(2):
        mend(address, "3.3.2")
    runtimes.upgrade("3.3.2", address, fernet_key, lambda _: None)
    assert ask(address, "SELECT to_regclass('task_fail'), to_regclass('dag_pickle')") == [(None, None)]
    kept = ("airflow_migration.moved_task_fail", "airflow_migration.moved_dag_pickle")
    assert [ask(address, rows.format(table)) for table in kept] == before
    assert moved(address) == {"task_fail": len(before[0]), "dag_pickle": 1}


def test_names_that_need_quoting(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(address, ALL_FAULTS_OF_1_10 + 'ALTER SCHEMA public RENAME TO "Air ""flow"')
    plain = corpus("1.10.15")
    spoil(plain, ALL_FAULTS_OF_1_10)
    quoted = DatabaseAddress(
        host=address.host, port=address.port, user=address.user, password=address.password,
        database=address.database, schema='Air "flow',
    )  # fmt: skip
    assert mend(quoted, "2.11.2") == mend(plain, "2.11.2")
    spoil(
        quoted,
        "INSERT INTO ab_role (name) VALUES ('counts on'); INSERT INTO ab_view_menu (name) VALUES ('too')",
    )


def test_encrypted_extra_is_read_only_with_the_key(corpus: Corpus) -> None:
    for decrypt, expected in ((None, "generic"), (lambda _: '{"extra__grpc__auth_type": "x"}', "grpc")):
        address = corpus("1.10.15")
        spoil(
            address,
            "UPDATE connection SET extra = 'gAAAA', is_extra_encrypted = true WHERE conn_id = 'no_type'",
        )
        with address.connect(read_only=False) as session:
            head, target = read_head(session), release("2.11.2").head
            repair(
                session,
                head=head,
                target_head=target,
                migration_id="m",
                listener=lambda _: None,
                decrypt=decrypt,
            )
        assert ask(address, "SELECT conn_type FROM connection WHERE conn_id = 'no_type'") == [(expected,)]


def test_renamed_connection_fits_its_column(corpus: Corpus) -> None:
    address = corpus("1.10.15")
    spoil(
        address,
        "INSERT INTO connection (conn_id, conn_type) SELECT repeat('x', 250), 'http' FROM generate_series(1, 2)",
    )
    mend(address, "2.11.2")
    assert ask(address, "SELECT conn_id FROM connection WHERE conn_id LIKE 'xxx%' ORDER BY id") == [
        ("x" * 250,), ("x" * 247 + "__2",),
    ]  # fmt: skip


def test_sequences_are_found_whatever_order_the_server_asks_in(corpus: Corpus) -> None:
    with corpus("2.2.5").connect(read_only=False) as session:
        session.execute("SET enable_indexscan = off")
        session.execute("SET enable_bitmapscan = off")
        assert fix_sequences(session) == ()


def test_sequences_are_put_above_the_ids_of_3_x_too(corpus: Corpus, runtimes: VenvRuntime, fernet_key: Secret) -> None:
    address = corpus("2.10.5")
    runtimes.upgrade("3.3.2", address, fernet_key, lambda _: None)
    spoil(address, "INSERT INTO log (id, dttm, event) VALUES (5000, now(), 'x')")
    with address.connect(read_only=False) as session, session.transaction():
        assert len(fix_sequences(session)) == 1
        assert fix_sequences(session) == ()
    spoil(address, "INSERT INTO log (dttm, event) VALUES (now(), 'y')")
    assert ask(address, "SELECT max(id) FROM log") == [(5001,)]


@pytest.mark.parametrize(
    ("conn_id", "host", "keys", "expected"),
    [
        ("x", "", {"extra__google_cloud_platform__project"}, "google_cloud_platform"),
        ("x", "", {"extra__google_cloud_platform__project", "extra__jdbc__drv_path"}, "generic"),
        ("postgres_default", "", set(), "postgres"),
        ("local_mysql", "", set(), "mysql"),
        ("metastore_default", "", set(), "hive_metastore"),
        ("google-cloud-prod", "", set(), "google_cloud_platform"),
        ("prod_postgres", "db.example.org", set(), "postgres"),
        ("mysql_to_postgres", "https://x", set(), "generic"),
        ("sshd", "", set(), "generic"),
        ("my_http_gateway", "10.0.0.1", set(), "generic"),
        ("partner", "https://api.example.org", set(), "http"),
        ("partner", "api.example.org", set(), "generic"),
        ("", "", set(), "generic"),
    ],
)
def test_type_is_guessed_only_where_it_is_certain(conn_id: str, host: str, keys: set[str], expected: str) -> None:
    assert guess_type(conn_id, host, frozenset(keys)).conn_type == expected
