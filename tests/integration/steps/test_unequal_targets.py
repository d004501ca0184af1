"""A fresh target of the source's release whose tables, rights or processes are not what the rows need."""

from __future__ import annotations

import pytest
from psycopg import sql
from tests.integration.steps.fresh_targets import NewPair, Pair, compare, ignore, rows, write
from tests.integration.steps.test_data_only import kill

from airflow_migration.exceptions import OwnershipError, PreflightError
from airflow_migration.metadata.replaced_rows import read_replaced
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret
from airflow_migration.steps import copy, data_only


def drop_foreign_keys(pair: Pair) -> None:
    """A source that was mended by hand, years ago."""
    with pair.source.address.connect(read_only=False) as conn:
        for table, name in conn.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype='f'"
        ):
            statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
            conn.execute(statement.format(sql.SQL(str(table)), sql.Identifier(str(name))))


def test_rows_that_the_targets_tables_would_refuse_are_blockers(pair: NewPair) -> None:
    made = pair("2.10.5")
    drop_foreign_keys(made)
    write(
        made.source.address,
        "DELETE FROM log_template; ALTER TABLE dag ALTER max_active_tasks DROP NOT NULL;"
        "UPDATE dag SET max_active_tasks = NULL; ALTER TABLE connection DROP CONSTRAINT connection_conn_id_uq;"
        "INSERT INTO connection (conn_id, conn_type, is_encrypted, is_extra_encrypted)"
        " SELECT min(conn_id), 'http', false, false FROM connection;"
        "INSERT INTO variable (key, val, is_encrypted) VALUES (repeat('k', 200), 'x', false)",
    )
    write(
        made.target.address,
        "ALTER TABLE variable ALTER key TYPE varchar(100); ALTER TABLE slot_pool ADD owner text NOT NULL",
    )
    with pytest.raises(PreflightError) as caught:
        made.planned()
    refused = {each["summary"] for each in caught.value.findings if each["check"] == "stricter_target"}
    what = {str(summary).partition(": ")[2] for summary in refused}
    assert what == {
        "connection can have each conn_id once (connection_conn_id_uq)",
        "dag.max_active_tasks must be filled",
        "dag_run points at log_template by log_template_id, and there is no such row",
        "slot_pool.owner must be filled, and the source has no such column",
        "variable.key holds 100 characters",
    }


def test_tables_are_filled_in_the_order_of_the_targets_foreign_keys(pair: NewPair, fernet_key: Secret) -> None:
    made = pair("2.10.5")
    drop_foreign_keys(made)
    migration = made.migration()
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()


def test_what_the_targets_login_lacks_is_said_with_its_remedy(
    pair: NewPair, fernet_key: Secret, newer_server: DatabaseAddress
) -> None:
    made = pair("2.10.5", homes=("public", "public"))
    admin = newer_server.on(made.target.address.database)
    write(
        admin,
        "ALTER TABLE ab_user OWNER TO CURRENT_USER; CREATE SCHEMA airflow_migration; CREATE SCHEMA hidden;"
        "CREATE TABLE hidden.theirs (pool int REFERENCES slot_pool)",
    )
    role = sql.Identifier(made.target.address.user).as_string()
    for said, mend in (
        ("belongs to", "DROP SCHEMA airflow_migration CASCADE"),
        ("may not read", f"GRANT SELECT ON public.ab_user TO {role}"),
        ("may not see", f"GRANT SELECT ON hidden.theirs TO {role}"),
    ):
        with pytest.raises(PreflightError, match=said) as caught:
            made.planned()
        (remedy,) = (str(each["remedy"]) for each in caught.value.findings if each["severity"] == "blocker")
        assert mend in remedy
        write(admin, mend)
    write(admin, f"GRANT USAGE ON SCHEMA hidden TO {role}")
    # Its ids count on from a sequence of its own, which stays as hidden as it was.
    migration = made.migration()
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()


def test_what_a_target_writes_between_two_tables_is_kept(
    pair: NewPair, fernet_key: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_only, "AT_ONCE", 0)
    made = pair("2.10.5")
    before = rows(made.target.address)
    migration = made.migration()
    kill(migration, "Load: ")
    run = "INSERT INTO dag_run (dag_id, run_id, run_type, execution_date) VALUES ('own', 'own', 'manual', now())"
    write(
        made.target.address,
        "INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('default_pool', 128, false);"
        "INSERT INTO job (job_type, state) VALUES ('SchedulerJob', 'running');" + run,
    )
    with pytest.raises(OwnershipError, match="goes on while it is filled"):
        copy.make_working_database(migration, ignore)
    write(made.target.address, "DELETE FROM dag_run")
    copy.make_working_database(migration, ignore)
    assert compare(migration, fernet_key).problems == ()
    with migration.final.connect() as conn:
        kept = {each.table: each.own_rows for each in read_replaced(conn, migration.id)}
    assert kept["job"] == 1
    data_only.restore_target_rows(migration.final, migration.id, ignore)
    after = rows(made.target.address)
    assert {table for table in after if after[table] != before[table]} == {"job", "slot_pool"}


def test_what_an_upgrade_to_3_left_in_the_source_is_not_asked_of_a_fresh_target(pair: NewPair) -> None:
    made = pair("3.3.2")
    write(made.source.address, "CREATE TABLE airflow.sla_miss AS SELECT 'a' AS dag_id")
    choice = made.planned().plan.choice
    assert "sla_miss" not in choice.travel
    assert "upgrade from 2.x" in choice.left_out["sla_miss"]
    with pytest.raises(PreflightError, match="table sla_miss"):
        made.planned(tables=("sla_miss",))
