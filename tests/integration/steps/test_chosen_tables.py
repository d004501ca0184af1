"""What goes with rows alone and what stays: tables that are named, users, old history, keys; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from psycopg import sql
from tests.integration.steps.fresh_targets import NewPair, Pair, compare, ignore, rows, write

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import InvalidInputError, OwnershipError, PreflightError
from airflow_migration.metadata.replaced_rows import read_replaced
from airflow_migration.planning.privileges import find_unreadable
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, data_only, verify

OWN_KEY = Secret("b3duLWtleS1vZi10aGUtdGFyZ2V0LTAwMDAwMDAwMDA=")
NOTE = """
    INSERT INTO dag_run_note (user_id, dag_run_id, content, created_at, updated_at)
    SELECT (SELECT min(id) FROM {schema}.ab_user), max(id), 'by somebody', now(), now() FROM dag_run
"""


def write_note(pair: Pair) -> None:
    write(pair.source.address, NOTE.format(schema=pair.source.address.schema))


def test_connections_and_variables_alone(pair: NewPair, fernet_key: Secret) -> None:
    made = pair("3.3.2")
    before = rows(made.target.address)
    migration = made.migration(tables=("connection", "variable"))
    copy.make_working_database(migration, ignore)
    after = rows(made.target.address)
    assert {table for table in after if after[table] != before[table]} == {"connection", "variable"}
    assert compare(migration, fernet_key).problems == ()
    with migration.final.connect() as conn:
        assert {each.table for each in read_replaced(conn, migration.id)} == {"connection", "variable"}


def test_what_a_chosen_table_points_at_comes_along(pair: NewPair) -> None:
    choice = pair("2.10.5").planned(tables=("dag_tag", "task_instance")).plan.choice
    assert set(choice.travel) == {"dag_run", "dag_tag", "log_template", "task_instance"}
    assert choice.added["dag_run"] == "task_instance points at it"
    order = choice.travel.index
    assert order("log_template") < order("dag_run") < order("task_instance")


@pytest.mark.parametrize("tables", [("no_such_table",), ("default", "alembic_version")])
def test_a_table_that_cannot_travel_is_named(pair: NewPair, tables: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match=tables[-1]):
        pair("2.10.5").planned(tables=tables)


def test_notes_keep_their_text_and_lose_an_author_who_stays_behind(pair: NewPair, fernet_key: Secret) -> None:
    made = pair("2.10.5")
    write_note(made)
    migration = made.migration()
    assert any("dag_run_note" in each.summary and each.severity == "warning" for each in migration.plan.findings)
    copy.make_working_database(migration, ignore)
    with migration.final.connect() as conn:
        assert conn.execute("SELECT user_id, content FROM dag_run_note").fetchall() == [(None, "by somebody")]
    result = compare(migration, fernet_key)
    assert result.problems == ()
    (entry,) = [entry for entry in result.ledger if entry.table == "dag_run_note"]
    assert (entry.rows_in, entry.rows_out, entry.nulled[0].rows) == (1, 1, 1)


def test_users_travel_by_choice_and_authors_with_them(pair: NewPair, fernet_key: Secret) -> None:
    made = pair("2.10.5")
    write_note(made)
    migration = made.migration(tables=("default", "users"))
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()
    source, target = rows(migration.frozen), rows(migration.final)
    assert source["ab_user"] == target["ab_user"]
    assert source["dag_run_note"] == target["dag_run_note"]


def test_only_newer_history_travels(pair: NewPair, fernet_key: Secret) -> None:
    made = pair("2.10.5")
    write(
        made.source.address,
        "UPDATE dag_run SET data_interval_end = now();"
        "INSERT INTO dag_run (dag_id, run_id, run_type, execution_date, queued_at, state, log_template_id)"
        " SELECT 'old', 'run ' || n, 'scheduled', '2001-01-01'::timestamptz + n * interval '1 day', now(), 'success',"
        " (SELECT max(id) FROM log_template) FROM generate_series(1, 9) n",
    )
    key = fernet_key.reveal()
    made = replace(made, target=replace(made.target, fernet_keys=Secret(key)))
    migration = made.migration(history_days=30, fernet="keep")
    done = copy.make_working_database(migration, ignore)
    assert isinstance(done, data_only.FilledTarget)
    assert done.history is not None
    assert done.history.rows >= 8
    with migration.final.connect() as conn:
        assert conn.execute("SELECT count(*) FROM dag_run WHERE dag_id = 'old'").fetchone() == (1,)
    result = verify.verify_working_database(migration, ignore)
    assert result.problems == ()
    assert data_only.restore_target_rows(migration.final, migration.id, ignore)


def test_old_history_needs_runs_that_travel(pair: NewPair) -> None:
    with pytest.raises(PreflightError, match="history_days"):
        pair("2.10.5").planned(tables=("connection", "variable"), history_days=7)


def test_a_swapped_key_must_not_lose_what_the_target_keeps(pair: NewPair) -> None:
    made = pair("2.10.5")
    write(made.target.address, "INSERT INTO variable (key, val, is_encrypted) VALUES ('own', 'gAAAA', true)")
    with pytest.raises(PreflightError, match=r"variable\.val"):
        made.planned(tables=("connection",))
    assert made.planned().plan.choice


def test_a_table_of_the_target_that_points_at_an_emptied_one_is_named(pair: NewPair) -> None:
    made = pair("2.10.5")
    theirs = (
        "INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('own', 1, false);"
        "CREATE TABLE theirs (pool int REFERENCES slot_pool); INSERT INTO theirs SELECT max(id) FROM slot_pool"
    )
    migration = made.migration()
    write(made.target.address, theirs)
    before = rows(made.target.address)
    with pytest.raises(OwnershipError, match="theirs"):
        copy.make_working_database(migration, ignore)
    assert rows(made.target.address) == before
    with pytest.raises(PreflightError, match="theirs"):
        made.planned()
    write(made.target.address, "DELETE FROM theirs")
    copy.make_working_database(migration, ignore)
    assert data_only.restore_target_rows(migration.final, migration.id, ignore)
    after = rows(made.target.address)
    assert {table for table in after if after[table] != before[table]} == {"theirs"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE xcom", "table xcom"),
        ("ALTER TABLE variable DROP COLUMN description", r"variable\.description"),
        ("DROP TABLE alembic_version", "not an Airflow metadata database"),
    ],
)
def test_a_target_that_lacks_something_is_refused(pair: NewPair, change: str, said: str) -> None:
    made = pair("2.10.5")
    write(made.target.address, change)
    with pytest.raises(PreflightError, match=said):
        made.planned()


def test_a_target_that_is_not_there_or_empty_is_refused(pair: NewPair, deployment: Callable[..., Deployment]) -> None:
    made = pair("2.10.5")
    with pytest.raises(PreflightError, match='no database "elsewhere"'):
        made.planned(target_database="elsewhere")
    elsewhere = replace(made, target=deployment(replace(made.target.address, schema="elsewhere")))
    with pytest.raises(PreflightError, match='schema "elsewhere"'):
        elsewhere.planned()


def test_a_login_that_does_not_own_the_tables_is_refused(pair: NewPair, newer_server: DatabaseAddress) -> None:
    made = pair("2.10.5", homes=("public", "public"))
    database, owner = made.target.address.database, made.target.address.user
    with newer_server.on(database).connect(read_only=False) as conn:
        conn.execute("ALTER TABLE xcom OWNER TO CURRENT_USER")
        conn.execute(sql.SQL("GRANT ALL ON xcom TO {}").format(sql.Identifier(owner)))
    with pytest.raises(PreflightError, match="does not own all tables"):
        made.planned()


def test_tables_that_the_sources_login_may_not_read_are_named_with_their_grant(
    pair: NewPair,
    new_role: Callable[..., DatabaseAddress],
    owned: Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress],
) -> None:
    made = pair("2.10.5")
    admin = made.source.address
    role = owned(admin, new_role())
    made = replace(made, source=replace(made.source, address=replace(role, schema=admin.schema)))
    write(admin, "ALTER TABLE airflow.xcom OWNER TO CURRENT_USER; ALTER TABLE airflow.ab_role OWNER TO CURRENT_USER")
    write(admin, "CREATE SCHEMA hidden; CREATE TABLE hidden.theirs ()")
    with pytest.raises(PreflightError) as caught:
        made.planned()
    (finding,) = caught.value.findings
    assert (finding["severity"], finding["evidence"]) == ("blocker", ("ab_role", "xcom"))
    assert role.user in caught.value.problem
    write(admin, str(finding["remedy"]).rpartition(", or use")[0])
    migration = made.migration()
    copy.make_working_database(migration, ignore)
    assert rows(migration.final)["xcom"] == rows(migration.frozen)["xcom"]


def test_many_tables_that_may_not_be_read_are_granted_by_schema(
    pair: NewPair, new_role: Callable[..., DatabaseAddress]
) -> None:
    made = pair("2.10.5")
    role = new_role()
    name = sql.Identifier(role.user)
    with made.source.address.connect(read_only=False) as conn:
        conn.execute(sql.SQL("GRANT USAGE ON SCHEMA airflow TO {}").format(name))
        conn.execute(sql.SQL("GRANT SELECT ON airflow.alembic_version TO {}").format(name))
    theirs = replace(made.source.address, user=role.user, password=role.password)
    with theirs.connect() as conn:
        (finding,) = find_unreadable(conn, role.user)
    assert finding.count > len(finding.evidence) == 10
    write(made.source.address, finding.remedy.rpartition(", or use")[0])
    with theirs.connect() as conn:
        assert not list(find_unreadable(conn, role.user))
