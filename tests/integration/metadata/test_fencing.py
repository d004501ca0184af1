"""A fenced source can be read and schedules nothing; the fence can be lifted."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from tests.polling import until

from airflow_migration.metadata import journal, pausing
from airflow_migration.metadata.fencing import close_source, lift_fence
from airflow_migration.postgres.address import APPLICATION_NAME, DatabaseAddress, Session

Corpus = Callable[[str], DatabaseAddress]
NewRole = Callable[..., DatabaseAddress]
Owned = Callable[[DatabaseAddress, DatabaseAddress], DatabaseAddress]
Hold = Callable[[DatabaseAddress], Session]


def ignore(_: object) -> None:
    pass


@pytest.fixture
def source(corpus: Corpus, new_role: NewRole, owned: Owned) -> DatabaseAddress:
    """A paused source, reached by its owner."""
    address = owned(corpus("2.10.5"), new_role())
    with address.connect(read_only=False) as conn:
        pausing.pause_dags(conn, migration_id="run 1", target="a target")
    return address


def wait_until_left(source: DatabaseAddress) -> None:
    """Our own sessions that were closed are listed for another moment, and would count as ended."""
    ours = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = %s"
    with source.maintenance().connect(autocommit=True) as session:
        until(
            lambda: session.execute(ours, (source.database, APPLICATION_NAME)).fetchall(), lambda present: not present
        )


def fence(source: DatabaseAddress, on: bool = True) -> tuple[bool, int]:
    wait_until_left(source)
    result = close_source(source, migration_id="run 1", fence=on, listener=ignore)
    return result.fenced, result.sessions_ended


def state_of(source: DatabaseAddress) -> str:
    with source.connect() as conn:
        entry = journal.read_entry(conn, "run 1")
        assert entry
        return entry.state


def test_new_sessions_can_read_and_not_write(source: DatabaseAddress, hold: Hold) -> None:
    assert fence(source) == (True, 0)
    session = hold(source)
    assert session.execute("SELECT count(*) FROM dag_run").fetchone()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        session.execute("UPDATE dag SET is_paused = false")
    assert state_of(source) == journal.CLOSED


def test_the_old_sessions_are_ended(source: DatabaseAddress, hold: Hold) -> None:
    old = [hold(source) for _ in range(3)]
    assert fence(source) == (True, 3)
    for session in old:
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_session_that_the_role_may_not_end_is_named(
    source: DatabaseAddress, hold: Hold, postgres_server: DatabaseAddress
) -> None:
    old, stranger = hold(source), hold(postgres_server.on(source.database))
    wait_until_left(source)
    result = close_source(source, migration_id="run 1", fence=True, listener=ignore)
    assert result.sessions_ended == 1
    (left,) = result.sessions_left
    assert str(stranger.info.backend_pid) in left
    assert postgres_server.user in left
    (warning,) = result.warnings
    assert left in warning
    with pytest.raises(psycopg.OperationalError):
        old.execute("SELECT 1")
    stranger.execute("SELECT 1")


def test_a_retry_says_the_same(source: DatabaseAddress, hold: Hold) -> None:
    fence(source)
    assert fence(source) == (True, 0)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        hold(source).execute("DELETE FROM dag_run")


def test_we_ourselves_come_in_with_pen_and_paper(source: DatabaseAddress) -> None:
    fence(source)
    with source.connect(read_only=False) as conn:
        journal.record_act(conn, "run 1", "another act", {})


def test_the_fence_is_lifted_and_that_can_be_repeated(source: DatabaseAddress, hold: Hold) -> None:
    fence(source)
    for _ in range(2):
        assert lift_fence(source, migration_id="run 1", listener=ignore)
        session = hold(source)
        session.execute("UPDATE dag SET is_paused = is_paused")
        session.commit()


def test_a_session_that_began_behind_the_fence_is_ended_or_it_could_only_read_for_ever(
    source: DatabaseAddress, hold: Hold
) -> None:
    fence(source)
    session = hold(source)
    session.rollback()
    assert lift_fence(source, migration_id="run 1", listener=ignore)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


def test_a_fence_of_another_migration_stays(source: DatabaseAddress, hold: Hold) -> None:
    fence(source)
    assert not lift_fence(source, migration_id="run 2", listener=ignore)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        hold(source).execute("DELETE FROM dag_run")


def test_without_a_fence_the_migration_ends_and_the_source_can_write(source: DatabaseAddress, hold: Hold) -> None:
    session = hold(source)
    assert fence(source, on=False) == (False, 0)
    session.execute("UPDATE dag SET is_paused = is_paused")
    assert state_of(source) == journal.CLOSED
    assert not lift_fence(source, migration_id="run 1", listener=ignore)


def test_other_databases_stay_as_they_are(source: DatabaseAddress, corpus: Corpus, hold: Hold) -> None:
    other = corpus("2.2.5")
    session = hold(other)
    fence(source)
    session.execute("UPDATE dag SET is_paused = is_paused")
