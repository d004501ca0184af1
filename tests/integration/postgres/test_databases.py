"""Whole databases: renamed, dropped, described, and never one that is not ours."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql
from tests.polling import until

from airflow_migration.exceptions import MigrationError, OwnershipError, ServerUnreachableError
from airflow_migration.postgres import databases
from airflow_migration.postgres.address import DatabaseAddress, Session

NewDatabase = Callable[..., DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]


def ignore(_: object) -> None:
    pass


def names(server: DatabaseAddress) -> set[str]:
    with server.connect() as session:
        return {str(name) for (name,) in session.execute("SELECT datname FROM pg_database").fetchall()}


def is_open(session: Session) -> bool:
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_a_rename_ends_the_sessions_and_only_those(new_database: NewDatabase, hold: Hold) -> None:
    address, bystander = new_database(), new_database()
    inside, beside = hold(address), hold(bystander)
    new = address.database + ' "now" ü'
    databases.rename_database(address, address.database, new, ignore)
    assert new in names(address.maintenance())
    assert address.database not in names(address.maintenance())
    assert not is_open(inside)
    assert is_open(beside)
    databases.rename_database(address, new, address.database, ignore)


def test_a_rename_under_reconnecting_sessions_succeeds(
    new_database: NewDatabase, busy: Callable[[DatabaseAddress], None]
) -> None:
    address = new_database()
    busy(address)
    databases.rename_database(address, address.database, address.database + " later", ignore)
    assert address.database + " later" in names(address.maintenance())


def test_a_rename_can_be_repeated(new_database: NewDatabase) -> None:
    address = new_database()
    for _ in range(2):
        databases.rename_database(address, address.database, address.database + " 2", ignore)
    assert address.database + " 2" in names(address.maintenance())


def test_a_rename_onto_another_database_is_refused(new_database: NewDatabase, hold: Hold) -> None:
    one, two = new_database(), new_database()
    sessions = hold(one), hold(two)
    with pytest.raises(OwnershipError, match=two.database):
        databases.rename_database(one, one.database, two.database, ignore)
    assert {one.database, two.database} <= names(one.maintenance())
    assert all(map(is_open, sessions))


def test_a_rename_of_nothing_is_refused(postgres_server: DatabaseAddress) -> None:
    with pytest.raises(OwnershipError, match="not there at all"):
        databases.rename_database(postgres_server, "not there at all", "nor there", ignore)


def test_a_drop_ends_the_sessions_and_can_be_repeated(new_database: NewDatabase, hold: Hold) -> None:
    address, bystander = new_database(), new_database()
    inside, beside = hold(address), hold(bystander)
    assert databases.drop_database(address, address.database, ignore)
    assert address.database not in names(address.maintenance())
    assert not is_open(inside)
    assert is_open(beside)
    assert not databases.drop_database(address, address.database, ignore)


def test_two_workers_on_one_name_go_one_after_the_other(new_database: NewDatabase) -> None:
    address = new_database()
    events: list[str] = []

    def second() -> None:
        with databases.sole_worker(address, "a name"):
            events.append("second")

    with databases.sole_worker(address, "a name") as first:
        thread = threading.Thread(target=second)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

        def goes_on() -> None:
            assert thread.is_alive()

        until(lambda: first.execute(waiting).fetchone(), lambda row: row != (0,), check=goes_on)
        with databases.sole_worker(address, "another name"):
            events.append("first")
    thread.join()
    assert events == ["first", "second"]


def test_a_name_held_too_long_is_told(new_database: NewDatabase) -> None:
    address = new_database()
    with databases.sole_worker(address, "held"), pytest.raises(ServerUnreachableError, match="held"):
        databases.sole_worker(address, "held", deadline=0.1).__enter__()


def test_sessions_of_other_roles_are_ended_where_we_may(
    new_database: NewDatabase, new_role: NewRole, hold: Hold, postgres_server: DatabaseAddress
) -> None:
    # Of these, pg_stat_activity hides the kind of backend from us.
    ours, theirs = new_role(), new_role()
    with postgres_server.connect(read_only=False, autocommit=True) as admin:
        admin.execute(sql.SQL("GRANT pg_signal_backend TO {}").format(sql.Identifier(ours.user)))
    address = new_database()
    session = hold(theirs.on(address.database))
    with ours.connect(read_only=False, autocommit=True) as conn:
        assert databases.terminate_sessions(conn, address.database) == 1
    assert not is_open(session)


def test_a_superusers_session_stays_where_we_are_none(new_database: NewDatabase, new_role: NewRole, hold: Hold) -> None:
    address = new_database()
    session = hold(address)
    with new_role().connect(read_only=False, autocommit=True) as conn:
        assert databases.terminate_sessions(conn, address.database) == 0
    assert is_open(session)


def test_what_keeps_a_database_in_use_is_told(new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "EXCLUSIVE_ATTEMPTS", 1)
    address = new_database()
    with address.connect(read_only=False, autocommit=True) as session:
        session.execute("BEGIN; CREATE TABLE t (i int); PREPARE TRANSACTION 'left over'")
        try:
            with pytest.raises(ServerUnreachableError, match="prepared transaction") as caught:
                databases.drop_database(address, address.database, ignore)
        finally:
            with address.connect(read_only=False, autocommit=True) as cleaner:
                cleaner.execute("ROLLBACK PREPARED 'left over'")
    assert address.database in str(caught.value)


def test_a_server_is_described_to_an_ordinary_role(
    postgres_server: DatabaseAddress, new_role: NewRole, new_database: NewDatabase
) -> None:
    with new_role("NOCREATEDB").connect() as ordinary, new_database().connect() as superuser:
        low, high = databases.describe_server(ordinary), databases.describe_server(superuser)
    assert low.identity == high.identity
    assert low.version == high.version == low.major * 10000 + low.version % 10000
    assert (low.user_is_superuser, low.user_can_create_databases) == (False, False)
    assert (high.user_is_superuser, high.user_can_create_databases) == (True, True)


def test_a_databases_default_is_set_and_taken_back(new_database: NewDatabase) -> None:
    address = new_database()
    with address.connect(read_only=False, autocommit=True) as session:
        databases.set_database_default(session, address.database, "work_mem", "123MB")
        with address.connect() as fresh:
            assert fresh.execute("SHOW work_mem").fetchone() == ("123MB",)
        databases.set_database_default(session, address.database, "work_mem", None)
        with address.connect() as fresh:
            assert fresh.execute("SHOW work_mem").fetchone() != ("123MB",)


def test_row_data_of_a_server_error_is_left_out(new_database: NewDatabase) -> None:
    with new_database().connect(read_only=False, autocommit=True) as session:
        session.execute("CREATE TABLE t (secret text PRIMARY KEY)")
        with pytest.raises(psycopg.Error) as caught:
            session.execute("INSERT INTO t VALUES ('hidden'), ('hidden')")
    assert "hidden" in str(caught.value)
    tidied = databases.tidy(caught.value, "the step")
    assert "hidden" not in str(tidied)
    assert "duplicate key" in tidied.problem
    assert not tidied.retryable


def test_a_lost_connection_may_be_tried_again(new_database: NewDatabase, hold: Hold) -> None:
    address = new_database()
    session = hold(address)
    with address.maintenance().connect(read_only=False, autocommit=True) as admin:
        databases.terminate_sessions(admin, address.database)
    with pytest.raises(psycopg.Error) as caught:
        session.execute("SELECT 1")
    tidied: MigrationError = databases.tidy(caught.value, "the step")
    assert tidied.retryable
