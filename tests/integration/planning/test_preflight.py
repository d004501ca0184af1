"""Whatever is wrong is told in one clear sentence, before anything is changed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import (
    InvalidInputError,
    MigrationError,
    PreflightError,
    ServerUnreachableError,
)
from airflow_migration.metadata import journal, pausing
from airflow_migration.metadata.findings import Finding
from airflow_migration.metadata.releases import read_head
from airflow_migration.metadata.users_schema import find_users_schema
from airflow_migration.planning import server_checks
from airflow_migration.planning.plan import Plan
from airflow_migration.postgres import databases
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.secret import Secret

Corpus = Callable[[str], DatabaseAddress]
NewDatabase = Callable[..., DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]
PlanFor = Callable[..., Plan]

OTHER_KEY = "u5MYnb3OKJ5eVA4v2uZ_Dxsj1Bz6T6yYc5AuSlhtTsE="


@dataclass
class Case:
    """A source of 1.10.15 and a target on the same server, both of one ordinary role; all is well."""

    source: Deployment
    target: Deployment
    role: DatabaseAddress
    superuser: DatabaseAddress
    plan_for: PlanFor

    def plan(self, **options: Any) -> Plan:
        return self.plan_for(self.source, self.target, **options)

    def on_source(self, statement: str, *values: object) -> None:
        with self.superuser.on(self.source.address.database).connect(read_only=False) as conn:
            conn.execute(statement, values or None)

    @contextmanager
    def refused(self, kind: type[MigrationError], *names: str) -> Iterator[None]:
        """It raises that error, which names these things and no secret, and nothing has changed."""
        before = self._state()
        with pytest.raises(kind) as caught:
            yield
        assert type(caught.value) is kind
        text = str(caught.value)
        for name in names:
            assert name in text, text
        for secret in ("never-shown", OTHER_KEY, self.source.fernet_keys.reveal() or OTHER_KEY):
            assert secret not in text
        assert self._state() == before

    def _state(self) -> tuple[object, ...]:
        with self.superuser.connect() as conn:
            names = conn.execute("SELECT datname, datdba FROM pg_database ORDER BY 1").fetchall()
        with self.superuser.on(self.source.address.database).connect() as conn:
            schemas = conn.execute("SELECT nspname FROM pg_namespace ORDER BY 1").fetchall()
            if conn.execute("SELECT to_regclass('dag')").fetchone() == (None,):
                return names, schemas
            return names, schemas, conn.execute("SELECT dag_id, is_paused FROM dag ORDER BY 1").fetchall()


@pytest.fixture
def case(
    corpus: Corpus, new_role: NewRole, owned: Owned, deployment: Callable[..., Deployment], plan_for: PlanFor,
    fernet_key: Secret, postgres_server: DatabaseAddress,
) -> Case:  # fmt: skip
    role = new_role()
    source = owned(corpus("1.10.15"), role)
    return Case(
        source=deployment(source, fernet_keys=fernet_key),
        target=deployment(role.on(source.database + " target")),
        role=role,
        superuser=postgres_server,
        plan_for=plan_for,
    )


def test_an_ordinary_owner_gets_a_plan_and_nothing_is_changed(case: Case) -> None:
    before = case._state()
    plan = case.plan()
    assert case._state() == before
    assert (plan.source_release, plan.target_release, plan.transfer) == ("1.10.13 to 1.10.15", "3.3.2", "clone")
    assert [hop.release for hop in plan.hops][-1] == "3.3.2"
    assert plan.target_database == case.target.address.database
    assert plan.source_size > 1_000_000
    assert plan.set_aside_as is None
    assert not [finding for finding in plan.findings if finding.severity == "blocker"]


def test_every_fault_blocks_where_no_repair_may_run(case: Case) -> None:
    repairable = {finding.check for finding in case.plan().findings if finding.repair}
    assert {"connection_type", "connection_id", "task_instance_without_run", "task_fail_lost"} <= repairable
    before = case._state()
    with pytest.raises(PreflightError, match="connection") as caught:
        case.plan(repairs=())
    assert case._state() == before
    blockers = {str(each["check"]): each for each in caught.value.findings if each["severity"] == "blocker"}
    assert blockers.keys() == repairable
    for each in blockers.values():
        assert str(each["repair"]) in str(each["remedy"])


def test_a_list_of_repairs_is_enough_where_it_has_what_is_needed(case: Case) -> None:
    needed = {str(finding.repair) for finding in case.plan().findings if finding.repair}
    assert case.plan(repairs=tuple(needed)).repairs == tuple(sorted(needed))
    with case.refused(PreflightError, "connection"):
        case.plan(repairs=tuple(needed - {"connection_type"}))


def test_a_second_preflight_of_the_same_migration_says_the_same(case: Case) -> None:
    case.on_source("UPDATE dag SET is_paused = false WHERE dag_id = (SELECT min(dag_id) FROM dag)")
    first = case.plan()
    with case.source.address.connect(read_only=False) as conn:
        pausing.pause_dags(conn, migration_id=first.migration_id, target="t")
    second = case.plan()
    assert second.active_dags == first.active_dags > 0
    assert second.frozen_database == first.frozen_database


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_wrong_password(case: Case, side: str) -> None:
    deployment = getattr(case, side)
    wrong = replace(deployment, address=replace(deployment.address, password=Secret("wrong-and-never-shown")))
    setattr(case, side, wrong)
    with case.refused(InvalidInputError, case.role.user, "password"):
        case.plan()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_host_that_does_not_answer(case: Case, side: str) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        deployment = getattr(case, side)
        setattr(case, side, replace(deployment, address=replace(deployment.address, port=port)))
        good = (
            case.source
            if side == "target"
            else replace(case.source, address=replace(case.source.address, port=case.superuser.port))
        )
        with replace(case, source=good).refused(ServerUnreachableError, f"127.0.0.1:{port}"):
            case.plan()


def test_a_source_database_that_is_not_there(case: Case, new_database: NewDatabase) -> None:
    missing = replace(case.source, address=case.source.address.on("no such database"))
    with case.refused(InvalidInputError, "no such database"):
        case.plan_for(missing, case.target)


def test_a_source_that_is_no_airflow(case: Case, new_database: NewDatabase, owned: Owned) -> None:
    case.source = replace(case.source, address=owned(new_database(), case.role))
    with case.refused(InvalidInputError, case.source.address.database, "not Airflow"):
        case.plan()


def test_a_source_with_a_table_that_is_called_like_airflow_s(
    case: Case, new_database: NewDatabase, owned: Owned
) -> None:
    other = new_database()
    with other.connect(read_only=False) as conn:
        conn.execute("CREATE TABLE dag_run (of_something_else int)")
    case.source = replace(case.source, address=owned(other, case.role))
    with case.refused(InvalidInputError, other.database, "not Airflow"):
        case.plan()


def existing_target(case: Case, address: DatabaseAddress, owned: Owned, role: DatabaseAddress | None = None) -> None:
    """Give a database the target's name."""
    name = case.target.address.database
    databases.rename_database(case.superuser, address.database, name, lambda _: None)
    owned(case.superuser.on(name), role or case.role)


@pytest.mark.parametrize("content", ["nothing", "other tables", "another alembic", "runs"])
def test_a_target_database_that_is_no_fresh_airflow(
    case: Case, corpus: Corpus, new_database: NewDatabase, owned: Owned, content: str
) -> None:
    address = corpus("2.10.5") if content == "runs" else new_database()
    with address.connect(read_only=False) as conn:
        if content == "other tables":
            conn.execute("CREATE TABLE customers ()")
        if content == "another alembic":
            conn.execute("CREATE TABLE alembic_version (); CREATE TABLE customers ()")
    existing_target(case, address, owned)
    with case.refused(PreflightError, case.target.address.database):
        case.plan()


def test_a_fresh_airflow_is_set_aside(case: Case, corpus: Corpus, owned: Owned) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as conn:
        conn.execute("TRUNCATE dag_run, task_instance CASCADE")
    existing_target(case, address, owned)
    plan = case.plan()
    assert plan.set_aside_as
    assert plan.set_aside_as.startswith(case.target.address.database)
    assert len({plan.set_aside_as, plan.target_database, plan.working_database, plan.frozen_database}) == 4


def test_a_fresh_airflow_that_the_target_s_login_may_not_rename(
    case: Case, corpus: Corpus, owned: Owned, new_role: NewRole
) -> None:
    address = corpus("2.10.5")
    with address.connect(read_only=False) as conn:
        conn.execute("TRUNCATE dag_run, task_instance CASCADE")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC")
    existing_target(case, address, owned, new_role())
    with case.refused(PreflightError, case.target.address.database, case.role.user):
        case.plan()


def test_another_target_database_by_param(case: Case) -> None:
    plan = case.plan(target_database='chosen "by hand"')
    assert plan.target_database == 'chosen "by hand"'
    assert plan.working_database.startswith('chosen "by hand"__')


@pytest.mark.parametrize("name", ["x" * 64, "ü" * 32])
def test_a_name_that_postgres_would_cut(case: Case, name: str) -> None:
    with case.refused(PreflightError, name, "63"):
        case.plan(target_database=name)


def test_a_name_that_no_connection_string_can_hold(case: Case) -> None:
    with case.refused(PreflightError, "what?"):
        case.plan(target_database="what?")


def test_a_wrong_key(case: Case) -> None:
    case.source = replace(case.source, fernet_keys=Secret(OTHER_KEY))
    with case.refused(PreflightError, "key"):
        case.plan()


def test_no_key(case: Case) -> None:
    case.source = replace(case.source, fernet_keys=Secret(""))
    with case.refused(PreflightError, "key"):
        case.plan()


def test_a_second_key_is_enough(case: Case, fernet_key: Secret) -> None:
    case.source = replace(case.source, fernet_keys=Secret(f"{OTHER_KEY},{fernet_key.reveal()}"))
    assert case.plan()


def test_one_value_that_no_key_reads(case: Case) -> None:
    case.on_source(
        "UPDATE variable SET val = 'gAAAAA' || val WHERE id = (SELECT min(id) FROM variable WHERE is_encrypted)"
    )
    with case.refused(PreflightError, "variable.val"):
        case.plan()


def keys(*parts: Secret | str) -> Secret:
    return Secret(",".join(part.reveal() if isinstance(part, Secret) else part for part in parts))


@pytest.mark.parametrize("fernet", ["reencrypt", "keep"])
def test_the_target_s_key_must_be_known_when_it_stays(case: Case, fernet: str) -> None:
    with case.refused(PreflightError, "target's fernet key is not known", "secret_fernet_key"):
        case.plan(fernet=fernet)


@pytest.mark.parametrize("fernet", ["reencrypt", "keep"])
def test_the_target_s_key_may_be_in_its_file(case: Case, fernet: str, fernet_key: Secret, tmp_path: Path) -> None:
    path = tmp_path / "airflow.cfg"
    path.write_text(f"[core]\nfernet_key = {OTHER_KEY},{fernet_key.reveal()}\n")
    case.target = replace(case.target, control={"kind": "airflow_cfg", "path": str(path)})
    assert case.plan(fernet=fernet).fernet == fernet


def test_a_key_that_the_target_has_of_its_own_is_not_asked_for_in_a_swap(case: Case) -> None:
    case.target = replace(case.target, fernet_keys=Secret(OTHER_KEY))
    assert case.plan().fernet == "swap"


def test_keep_needs_a_target_that_reads_everything(case: Case, fernet_key: Secret) -> None:
    case.target = replace(case.target, fernet_keys=Secret(OTHER_KEY))
    with case.refused(PreflightError, "fernet is keep", "connection.password", "reencrypt"):
        case.plan(fernet="keep")
    assert case.plan(fernet="reencrypt").fernet == "reencrypt"
    case.target = replace(case.target, fernet_keys=keys(OTHER_KEY, fernet_key))
    case.source = replace(case.source, fernet_keys=Secret(""))
    assert case.plan(fernet="keep").fernet == "keep"


@pytest.mark.parametrize("fernet", ["reencrypt", "keep"])
def test_a_target_of_which_two_keys_are_told(case: Case, fernet: str, fernet_key: Secret, tmp_path: Path) -> None:
    path = tmp_path / "airflow.env"
    path.write_text(f"AIRFLOW__CORE__FERNET_KEY='{OTHER_KEY}, {fernet_key.reveal()}'\n")
    control = {"kind": "env_file", "path": str(path)}
    case.target = replace(case.target, control=control, fernet_keys=fernet_key)
    with case.refused(PreflightError, "other fernet keys"):
        case.plan(fernet=fernet)
    case.target = replace(case.target, fernet_keys=keys(OTHER_KEY, fernet_key))
    assert case.plan(fernet=fernet)


@pytest.mark.parametrize("fernet", ["reencrypt", "keep"])
def test_a_file_whose_key_is_none(case: Case, fernet: str, tmp_path: Path) -> None:
    path = tmp_path / "airflow.env"
    path.write_text("AIRFLOW__CORE__FERNET_KEY=never-shown\n")
    case.target = replace(case.target, control={"kind": "env_file", "path": str(path)})
    with case.refused(PreflightError, "target", "not a Fernet key"):
        case.plan(fernet=fernet)


@pytest.mark.parametrize("fernet", ["swap", "reencrypt", "keep"])
@pytest.mark.parametrize("target_key", [OTHER_KEY, ""])
def test_a_source_that_encrypts_nothing_leaves_the_target_its_key(case: Case, fernet: str, target_key: str) -> None:
    case.on_source("UPDATE connection SET is_encrypted = false, password = 'p'")
    case.on_source("UPDATE connection SET is_extra_encrypted = false, extra = NULL")
    case.on_source("UPDATE variable SET is_encrypted = false, val = 'v'")
    case.source = replace(case.source, fernet_keys=Secret(""))
    case.target = replace(case.target, fernet_keys=Secret(target_key))
    assert case.plan(fernet=fernet).fernet == ("keep" if fernet == "swap" else fernet)


@pytest.mark.parametrize("fernet", ["reencrypt", "keep"])
def test_rows_whose_key_is_lost_are_named_whatever_the_target_has(case: Case, fernet: str, fernet_key: Secret) -> None:
    case.target = replace(case.target, fernet_keys=keys(OTHER_KEY, fernet_key))
    first = "(SELECT min(id) FROM variable WHERE is_encrypted)"
    case.on_source(f"UPDATE variable SET val = 'gAAAAA' || val WHERE id = {first}")
    with case.refused(PreflightError, "1 encrypted value(s) of the source cannot be decrypted", "variable.val"):
        case.plan(fernet=fernet)


def test_source_equals_target(case: Case) -> None:
    case.target = replace(case.target, address=case.source.address)
    with case.refused(PreflightError, case.source.address.database):
        case.plan()


def test_source_equals_target_by_another_name_of_the_host(case: Case) -> None:
    case.target = replace(case.target, address=replace(case.source.address, host="localhost"))
    with case.refused(PreflightError, case.source.address.database):
        case.plan()


def test_source_equals_target_by_param(case: Case) -> None:
    with case.refused(PreflightError, case.source.address.database):
        case.plan(target_database=case.source.address.database)


def test_the_source_is_the_control_airflow_s_own_database(case: Case) -> None:
    case.on_source(
        "INSERT INTO dag_run SELECT (jsonb_populate_record(r, jsonb_build_object('id', 99999, 'dag_id', %s::text,"
        " 'run_id', %s::text, 'state', 'running', 'execution_date', now()))).* FROM dag_run r LIMIT 1",
        "migrate_airflow",
        "manual__of_the_tests",
    )
    with case.refused(PreflightError, "control Airflow"):
        case.plan()
    case.on_source("UPDATE dag_run SET state = 'success' WHERE id = 99999")
    assert case.plan()


def test_an_open_migration_of_another_id(case: Case) -> None:
    with case.source.address.connect(read_only=False) as conn:
        journal.open_migration(conn, "the other one", "t")
    with case.refused(PreflightError, "the other one"):
        case.plan()


def test_a_migration_that_has_ended(case: Case) -> None:
    with case.source.address.connect(read_only=False) as conn:
        journal.open_migration(conn, "run 1", "t")
        journal.set_state(conn, "run 1", journal.CLOSED)
    with case.refused(PreflightError, "run 1"):
        case.plan()
    assert case.plan(migration_id="run 2")


def test_a_database_with_a_name_that_we_need(case: Case, new_database: NewDatabase) -> None:
    for name in (case.plan().frozen_database, case.plan().working_database):
        new_database(name)
        with case.refused(PreflightError, name):
            case.plan()
        databases.drop_database(case.superuser, name, lambda _: None)


def alter(case: Case, statement: str, *names: str) -> None:
    with case.superuser.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def test_a_role_that_may_not_create_databases(case: Case) -> None:
    alter(case, "ALTER ROLE {} NOCREATEDB", case.role.user)
    with case.refused(PreflightError, f'ALTER ROLE "{case.role.user.replace(chr(34), chr(34) * 2)}" CREATEDB'):
        case.plan()


def test_a_source_of_which_the_role_is_not_the_owner(case: Case, new_role: NewRole) -> None:
    other = new_role()
    name = sql.Identifier(other.user)
    with case.superuser.on(case.source.address.database).connect(read_only=False) as conn:
        conn.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(name))
    case.source = replace(case.source, address=other.on(case.source.address.database))
    with case.refused(PreflightError, other.user, "own"):
        case.plan()


def test_a_source_that_the_role_may_not_even_read(case: Case, new_role: NewRole) -> None:
    other = new_role()
    case.source = replace(case.source, address=other.on(case.source.address.database))
    with case.refused(InvalidInputError, case.source.address.database, "may not read"):
        case.plan()


def test_a_target_role_to_which_nothing_can_be_given(case: Case, new_role: NewRole) -> None:
    other = new_role()
    case.target = replace(case.target, address=other.on(case.target.address.database))
    with case.refused(PreflightError, other.user, case.role.user):
        case.plan()
    alter(case, "GRANT {} TO {}", other.user, case.role.user)
    assert case.plan()


def test_a_table_of_the_source_that_the_role_could_not_give_away(case: Case, new_role: NewRole) -> None:
    other = new_role()
    name = sql.Identifier(other.user)
    with case.superuser.on(case.source.address.database).connect(read_only=False) as conn:
        conn.execute(sql.SQL("ALTER TABLE xcom OWNER TO {}").format(name))
        conn.execute(sql.SQL("GRANT ALL ON xcom TO {}").format(sql.Identifier(case.role.user)))
    with case.refused(PreflightError, other.user, case.role.user):
        case.plan()


@pytest.mark.parametrize("head", ["3c20cacc0044", "cafebabe0000"])
def test_a_head_between_two_releases_or_of_none(case: Case, head: str) -> None:
    case.on_source("UPDATE alembic_version SET version_num = %s", head)
    with case.refused(InvalidInputError, head):
        case.plan()


def test_a_downgrade(case: Case, corpus: Corpus, owned: Owned) -> None:
    case.source = replace(case.source, address=owned(corpus("2.10.5"), case.role))
    case.target = replace(case.target, airflow_version="2.2.5")
    with case.refused(InvalidInputError, "2.2.5"):
        case.plan()


def test_a_release_that_nobody_knows(case: Case) -> None:
    case.target = replace(case.target, airflow_version="9.9.9")
    with case.refused(InvalidInputError, "9.9.9"):
        case.plan()


def test_a_connection_that_names_another_release_than_the_database(case: Case) -> None:
    case.source = replace(case.source, airflow_version="2.2.5")
    with case.refused(InvalidInputError, "2.2.5", "1.10.15"):
        case.plan()


def set_schemas(case: Case, source: str, target: str) -> None:
    case.source = replace(case.source, address=replace(case.source.address, schema=source))
    case.target = replace(case.target, address=replace(case.target.address, schema=target))


def test_another_schema_at_the_target_is_part_of_the_plan(case: Case) -> None:
    set_schemas(case, "public", 'air "flow"')
    (found,) = [finding for finding in case.plan().findings if finding.check == "metadata_schema"]
    assert found.severity == "info"
    assert 'air "flow"' in found.summary


def test_the_source_s_tables_are_in_another_schema_than_the_connection_says(case: Case) -> None:
    case.on_source('ALTER SCHEMA public RENAME TO "air ""flow"""')
    with case.refused(InvalidInputError, 'air "flow"', "metadata_schema"):
        case.plan()


def test_the_target_s_schema_holds_tables_of_the_same_names(case: Case) -> None:
    case.on_source("CREATE SCHEMA airflow CREATE TABLE dag_run (id int) CREATE TABLE something_else (id int)")
    set_schemas(case, "public", "airflow")
    with case.refused(PreflightError, "airflow", "dag_run", "metadata_schema"):
        case.plan()


def test_a_schema_of_somebody_else_in_which_the_target_could_make_no_tables(case: Case) -> None:
    case.on_source("ALTER SCHEMA public RENAME TO airflow")
    case.on_source("ALTER SCHEMA airflow OWNER TO postgres")
    case.on_source(f"REVOKE CREATE ON SCHEMA airflow FROM {sql.Identifier(case.role.user).as_string()}")
    set_schemas(case, "airflow", "airflow")
    with case.refused(PreflightError, "schema", "airflow", "GRANT ALL"):
        case.plan()
    grant_on(case, "airflow", "CREATE")
    case.plan()


def grant_on(case: Case, schema: str, what: str) -> None:
    case.on_source(f"GRANT {what} ON SCHEMA {schema} TO {sql.Identifier(case.role.user).as_string()}")


def move_users(case: Case, schema: str) -> None:
    case.on_source(f"CREATE SCHEMA {schema}")
    with case.superuser.on(case.source.address.database).connect() as conn:
        tables = conn.execute("SELECT relname::text FROM pg_stat_user_tables WHERE relname LIKE 'ab\\_%'").fetchall()
    for (table,) in tables:
        case.on_source(f"ALTER TABLE public.{table} SET SCHEMA {schema}")
    grant_on(case, schema, "ALL")


def test_users_in_a_schema_of_their_own_are_found_and_looked_at(case: Case) -> None:
    case.on_source(
        "INSERT INTO ab_user (id, first_name, last_name, username, email)"
        " SELECT 1000 + id, 'a', 'b', upper(username), 'c@d' FROM ab_user ORDER BY id LIMIT 1"
    )
    at_home = case.plan()
    move_users(case, "fab")
    plan = case.plan()
    assert (at_home.users_schema, plan.users_schema) == (None, "fab")
    names = {finding.check for finding in plan.findings}
    assert {"users_schema", "username_case"} <= names
    assert names - {"users_schema"} == {finding.check for finding in at_home.findings}


def test_users_of_another_application_are_left_alone(case: Case) -> None:
    move_users(case, "other")
    case.on_source("CREATE TABLE other.dashboard (owner int REFERENCES other.ab_user)")
    case.on_source(f"ALTER TABLE other.dashboard OWNER TO {sql.Identifier(case.role.user).as_string()}")
    # They are not Airflow's, which has none then: 2.0 stops at that (measured 1.10.15 → 2.11.2).
    with case.refused(PreflightError, "table ab_user"):
        case.plan()
    with case.source.address.connect() as conn:
        assert find_users_schema(conn, read_head(conn)) is None


def test_users_in_two_other_schemas(case: Case) -> None:
    move_users(case, "one")
    case.on_source("CREATE SCHEMA two")
    for table in ("ab_user", "ab_role", "ab_user_role", "ab_permission_view"):
        case.on_source(f"CREATE TABLE two.{table} ()")
    with case.refused(PreflightError, "one", "two", "ab_user"):
        case.plan()


def test_a_target_whose_own_settings_name_another_schema(case: Case, tmp_path: Path) -> None:
    settings = tmp_path / "airflow.env"
    settings.write_text("AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA=elsewhere\n")
    case.target = replace(case.target, control={"kind": "env_file", "path": str(settings)})
    with case.refused(PreflightError, "elsewhere", "metadata_schema"):
        case.plan()
    set_schemas(case, "public", "elsewhere")
    case.plan()


def test_a_table_that_no_dump_could_read(case: Case) -> None:
    case.on_source("CREATE SCHEMA secrets CREATE TABLE hidden (id int)")
    other = replace(case.target, address=replace(case.target.address, user=case.role.user))
    with case.refused(PreflightError, "hidden", "dump"):
        case.plan_for(case.source, other, transfer="dump")


def test_an_environment_file_that_is_not_there(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.env"
    case.target = replace(case.target, control={"kind": "env_file", "path": str(path)})
    with case.refused(PreflightError, str(path)):
        case.plan()


@pytest.mark.parametrize(("require_approval", "severity"), [(True, "info"), (False, "warning")])
def test_a_target_without_control_is_left_to_a_person(case: Case, require_approval: bool, severity: str) -> None:
    found = [each for each in case.plan(require_approval=require_approval).findings if each.check == "control"]
    assert [each.severity for each in found] == [severity]
    assert ("waits" in found[0].summary) is require_approval


def test_an_airflow_cfg_that_cannot_be_pointed_there(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "airflow.cfg"
    path.write_text("[core]\nhost = h\n[database]\nsql_alchemy_conn = postgresql://u:never-shown@%(host)s/one\n")
    case.target = replace(case.target, control={"kind": "airflow_cfg", "path": str(path)})
    with case.refused(PreflightError, str(path)):
        case.plan()


def test_sessions_that_the_role_may_not_end_are_named(case: Case, hold: Hold, new_role: NewRole) -> None:
    other = new_role()
    hold(case.superuser.on(case.source.address.database))
    hold(other.on(case.source.address.database))
    found = [finding for finding in case.plan().findings if finding.check == "sessions"]
    assert [set(finding.evidence) for finding in found] == [{case.superuser.user, other.user}]
    assert found[0].severity == "warning"


def test_every_finding_is_told_to_the_listener(case: Case) -> None:
    heard: list[str] = []
    plan = case.plan(heard=heard)
    for finding in plan.findings:
        assert any(finding.summary in line for line in heard)


def found(plan: Plan, check: str) -> Finding:
    (finding,) = [each for each in plan.findings if each.check == check]
    return finding


def test_a_prepared_transaction_keeps_the_clone_from_being_made(case: Case) -> None:
    with case.superuser.on(case.source.address.database).connect(read_only=False) as conn:
        transaction = conn.xid(1, "left", "over")
        conn.tpc_begin(transaction)
        conn.execute("SELECT 1")
        conn.tpc_prepare()
        try:
            with case.refused(PreflightError, "prepared transaction", case.superuser.user):
                case.plan()
        finally:
            conn.tpc_rollback()
    case.plan()


def test_time_limits_of_roles_and_of_the_database_are_named(case: Case) -> None:
    name, role = case.source.address.database, case.role.user
    with case.superuser.connect(read_only=False, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '90s'").format(sql.Identifier(name)))
        conn.execute(sql.SQL("ALTER ROLE {} SET lock_timeout = '7s'").format(sql.Identifier(role)))
        conn.execute(sql.SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = 0").format(
            sql.Identifier(name)))  # fmt: skip
    limits = found(case.plan(), "statement_timeout")
    assert (limits.severity, limits.count) == ("info", 2)
    assert any("statement_timeout=90s" in each for each in limits.evidence)
    assert any("lock_timeout=7s" in each and role in each for each in limits.evidence)


def test_a_database_that_is_not_in_utf8(case: Case) -> None:
    with case.superuser.connect(read_only=False, autocommit=True) as conn:
        conn.execute("CREATE DATABASE in_latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    assert not [each for each in case.plan().findings if each.check == "encoding"]
    # The names of the roles of these tests are none in Latin 1, so no plan is made of it.
    with case.superuser.on("in_latin1").connect() as there:
        (encoding,) = server_checks.check_encoding(there, converted=False)
    assert encoding.severity == "warning"
    assert "LATIN1" in encoding.summary


def test_a_collation_of_another_version_of_the_system(case: Case) -> None:
    name = case.source.address.database
    with case.superuser.connect(read_only=False, autocommit=True) as conn:
        row = conn.execute("SELECT datcollversion FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if row == (None,):
            pytest.skip("the collation of this server has no version")
        conn.execute("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = %s", (name,))
    assert "1.0" in found(case.plan(), "collation_version").summary


def test_another_way_of_sorting_is_said_where_the_database_is_dumped(case: Case) -> None:
    with case.superuser.connect(read_only=False, autocommit=True) as conn:
        row = conn.execute("SELECT datcollate FROM pg_database WHERE datname = 'template0'").fetchone()
        other = "C" if row and row[0] != "C" else "C.UTF-8"
        conn.execute(
            sql.SQL(
                "CREATE DATABASE sorted_otherwise TEMPLATE template0 ENCODING UTF8 LC_COLLATE {0} LC_CTYPE {0}"
            ).format(sql.Literal(other))
        )
    with case.superuser.on("sorted_otherwise").connect() as there, case.superuser.connect() as here:
        (finding,) = server_checks.check_sorting(there, here)
        assert not list(server_checks.check_sorting(here, here))
    assert finding.severity == "info"
    assert other in finding.summary


def test_the_large_tables_are_told_with_their_sizes(case: Case) -> None:
    space = found(case.plan(), "space")
    assert {each.partition(":")[0] for each in space.evidence} == {"task_instance", "xcom", "dag_run", "log"}


def log_control(path: Path, **settings: str) -> dict[str, str]:
    path.write_text("".join(f"AIRFLOW__LOGGING__{name}={value}\n" for name, value in settings.items()))
    return {"kind": "env_file", "path": str(path)}


def test_logs_that_the_target_looks_for_elsewhere(case: Case, tmp_path: Path) -> None:
    assert found(case.plan(), "log_folder").severity == "info", "neither can be seen"
    old = log_control(tmp_path / "old.env", REMOTE_LOGGING="True", REMOTE_BASE_LOG_FOLDER="s3://never-shown/logs")
    new = log_control(tmp_path / "new.env", REMOTE_LOGGING="True", REMOTE_BASE_LOG_FOLDER="s3://others/logs")
    case.source = replace(case.source, control=old)
    case.target = replace(case.target, control=new)
    logs = found(case.plan(), "log_folder")
    assert (logs.severity, logs.evidence) == ("warning", ("remote_base_log_folder",))
    assert "never-shown" not in str(logs)
    case.target = replace(case.target, control=old)
    assert not [each for each in case.plan().findings if each.check == "log_folder"]


def test_old_names_of_the_settings_of_logging(case: Case, tmp_path: Path) -> None:
    old = tmp_path / "airflow.cfg"
    old.write_text("[core]\nremote_base_log_folder = s3://ours/logs\n")
    case.source = replace(case.source, control={"kind": "airflow_cfg", "path": str(old)})
    new = log_control(tmp_path / "new.env", REMOTE_BASE_LOG_FOLDER="s3://ours/logs")
    case.target = replace(case.target, control=new)
    assert not [each for each in case.plan().findings if each.check == "log_folder"]


def test_every_finding_of_the_rows_says_which_upgrade_meets_it(case: Case) -> None:
    plan = case.plan()
    releases = [hop.release for hop in plan.hops]
    assert len(releases) == 2
    assert found(plan, "connection_type").hops == (releases[0],)
    assert found(plan, "xcom_not_json").hops == (releases[1],)
    assert found(plan, "sequence_behind").hops == tuple(releases)
    assert found(plan, "space").hops == ()


def test_a_refused_plan_names_every_blocker_and_keeps_all_findings(case: Case) -> None:
    case.on_source("ALTER TABLE dag DROP COLUMN last_scheduler_run")
    with case.source.address.connect(read_only=False) as conn:
        conn.execute("CREATE TABLE backfill (id int)")
    with pytest.raises(PreflightError, match=r"last_scheduler_run.*table backfill") as caught:
        case.plan()
    checks = {str(finding["check"]) for finding in caught.value.findings}
    assert {"schema_object_missing", "schema_object_in_the_way", "connection_type", "space"} <= checks


def test_a_locked_table_leaves_its_checks_without_an_answer_and_the_plan_is_made(case: Case) -> None:
    with case.superuser.on(case.source.address.database).connect(read_only=False) as conn:
        conn.execute("LOCK TABLE xcom IN ACCESS EXCLUSIVE MODE")
        plan = case.plan()
    for check in ("xcom_not_json", "xcom_without_task_instance"):
        assert found(plan, check).severity == "warning"
        assert "no answer" in found(plan, check).summary
    assert found(plan, "connection_type").count > 0
