"""What a migration writes into the source's own database about itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import pytest

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata import journal
from airflow_migration.postgres.address import DatabaseAddress, Session

NewDatabase = Callable[..., DatabaseAddress]


def open_in(address: DatabaseAddress, migration_id: str) -> None:
    with address.connect(read_only=False) as conn:
        journal.open_migration(conn, migration_id, "a target")


def state_of(address: DatabaseAddress, migration_id: str) -> str | None:
    with address.connect() as conn:
        entry = journal.read_entry(conn, migration_id)
        return entry.state if entry else None


def test_a_database_without_a_journal_says_nothing(new_database: NewDatabase) -> None:
    with new_database().connect() as conn:
        assert not journal.exists(conn)
        assert journal.read_entry(conn, "run 1") is None
        assert journal.read_open_entry(conn) is None
        assert journal.read_act(conn, "run 1", "an act") is None


def test_the_journal_stays_out_of_the_way_of_a_search_path(new_database: NewDatabase) -> None:
    address = new_database()
    open_in(address, "run 1")
    with address.connect() as conn:
        rows = conn.execute(
            "SELECT DISTINCT schemaname::text FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    assert rows == [("airflow_migration",)]


def test_nothing_is_left_of_a_migration_whose_transaction_fails(new_database: NewDatabase) -> None:
    address = new_database()
    with address.connect(read_only=False) as conn, conn.transaction(force_rollback=True):
        journal.open_migration(conn, "run 1", "a target")
        assert journal.exists(conn)
    with address.connect() as conn:
        assert not journal.exists(conn)


def test_opening_again_goes_on(new_database: NewDatabase) -> None:
    address = new_database()
    for _ in range(2):
        open_in(address, "run 1")
    assert state_of(address, "run 1") == journal.OPEN


@pytest.mark.parametrize("within_a_transaction", [True, False])
def test_a_second_migration_is_refused_with_the_id_of_the_first(
    new_database: NewDatabase, within_a_transaction: bool
) -> None:
    address = new_database()
    open_in(address, "the first")
    with address.connect(read_only=False) as conn:
        scope = conn.transaction() if within_a_transaction else nullcontext()
        with scope, pytest.raises(InvalidInputError, match="the first"):
            journal.open_migration(conn, "the second", "a target")
    assert state_of(address, "the second") is None
    assert state_of(address, "the first") == journal.OPEN


def test_of_two_that_open_at_once_one_is_refused_with_the_id_of_the_other(new_database: NewDatabase) -> None:
    address = new_database()
    together = Barrier(2)

    def attempt(migration_id: str) -> str:
        with address.connect(read_only=False) as conn:
            conn.execute("SELECT 1")
            together.wait()
            try:
                journal.open_migration(conn, migration_id, "a target")
            except InvalidInputError as err:
                return err.problem
        return "opened"

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(attempt, ("run 1", "run 2"))
    opened, refused = ("run 1", second) if first == "opened" else ("run 2", first)
    assert "opened" in (first, second)
    assert opened in refused
    assert state_of(address, opened) == journal.OPEN


@pytest.mark.parametrize("state", [journal.CLOSED, journal.COPIED])
def test_a_migration_that_has_ended_is_not_opened_again(new_database: NewDatabase, state: str) -> None:
    address = new_database()
    open_in(address, "run 1")
    with address.connect(read_only=False) as conn:
        journal.set_state(conn, "run 1", state)
    with pytest.raises(InvalidInputError, match="run 1"):
        open_in(address, "run 1")
    assert state_of(address, "run 1") == state


def test_a_migration_that_was_given_up_may_be_tried_again(new_database: NewDatabase) -> None:
    address = new_database()
    open_in(address, "run 1")
    with address.connect(read_only=False) as conn:
        journal.set_state(conn, "run 1", journal.RESUMED)
    open_in(address, "run 1")
    assert state_of(address, "run 1") == journal.OPEN


def test_a_copy_is_no_source_in_the_middle_of_a_migration(new_database: NewDatabase) -> None:
    address = new_database()
    open_in(address, "run 1")
    with address.connect(read_only=False) as conn:
        journal.mark_as_copy(conn)
        journal.mark_as_copy(conn)
    assert state_of(address, "run 1") == journal.COPIED
    open_in(address, "run 2")
    assert state_of(address, "run 2") == journal.OPEN


def test_the_first_record_of_an_act_stays(new_database: NewDatabase) -> None:
    address = new_database()
    open_in(address, "run 1")

    def record(conn: Session, value: object) -> None:
        journal.record_act(conn, "run 1", "an act", {"value": value, "ü": None})

    with address.connect(read_only=False) as conn:
        record(conn, "before")
    with address.connect(read_only=False) as conn:
        record(conn, "our own doing")
        assert journal.read_act(conn, "run 1", "an act") == {"value": "before", "ü": None}
        assert journal.read_act(conn, "run 1", "another") is None


def test_a_token_stands_for_one_migration_of_one_database_and_fits_into_names(new_database: NewDatabase) -> None:
    ids = [f"scheduled__2026-11-22T00:00:0{number}+00:00" for number in range(5)]
    one, two = new_database(), new_database()
    tokens = [token_of(address, migration_id) for address in (one, two) for migration_id in ids]
    assert len(set(tokens)) == 10
    assert {len(token) for token in tokens} == {10}
    assert all(token.isalnum() for token in tokens)
    assert token_of(one, ids[0]) == tokens[0]


def token_of(address: DatabaseAddress, migration_id: str) -> str:
    with address.connect() as conn:
        return journal.read_token(conn, migration_id)


def test_a_new_try_after_a_resume_is_another_opening(new_database: NewDatabase) -> None:
    address = new_database()

    def opening() -> object:
        open_in(address, "run 1")
        with address.connect() as conn:
            return journal.read_opening(conn, "run 1")

    first = opening()
    assert first
    assert opening() == first
    with address.connect(read_only=False) as conn:
        journal.set_state(conn, "run 1", journal.RESUMED)
    again = opening()
    assert again != first
    assert opening() == again


def test_a_journal_of_before_roll_backs_is_brought_up_to_date(new_database: NewDatabase) -> None:
    address = new_database()
    open_in(address, "run 1")
    with address.connect(read_only=False) as conn:
        conn.execute(
            "ALTER TABLE airflow_migration.migration DROP CONSTRAINT migration_state_check,"
            " ADD CONSTRAINT migration_state_check CHECK (state IN ('open', 'resumed', 'closed', 'copied'))"
        )
        conn.execute("DROP INDEX airflow_migration.one_open_migration")
        conn.execute("CREATE UNIQUE INDEX one_open_migration ON airflow_migration.migration ((1)) WHERE state = 'open'")
    with address.connect(read_only=False) as conn:
        assert journal.begin_roll_back(conn, "run 1").state == journal.ROLLING_BACK
    with pytest.raises(InvalidInputError, match="run 1"):
        open_in(address, "run 2")
    with address.connect(read_only=False) as conn, pytest.raises(InvalidInputError, match="being rolled back"):
        journal.record_act(conn, "run 1", "an act", {})
    with address.connect(read_only=False) as conn:
        journal.set_state(conn, "run 1", journal.ROLLED_BACK)
    with pytest.raises(InvalidInputError, match="rolled_back"):
        open_in(address, "run 1")
    open_in(address, "run 2")
    with address.connect(read_only=False) as conn:
        assert journal.begin_roll_back(conn, "run 1").state == journal.ROLLED_BACK


def test_the_earlier_of_two_migrations_is_not_rolled_back_first(new_database: NewDatabase) -> None:
    address = new_database()
    for name in ("run 1", "run 2"):
        open_in(address, name)
        with address.connect(read_only=False) as conn:
            journal.set_state(conn, name, journal.CLOSED)
    with address.connect(read_only=False) as conn, pytest.raises(InvalidInputError, match="run 2"):
        journal.begin_roll_back(conn, "run 1")
    with address.connect(read_only=False) as conn:
        journal.begin_roll_back(conn, "run 2")
        journal.set_state(conn, "run 2", journal.ROLLED_BACK)
        assert journal.begin_roll_back(conn, "run 1").state == journal.ROLLING_BACK


def test_a_migration_that_is_not_known_is_not_rolled_back(new_database: NewDatabase) -> None:
    address = new_database()
    with address.connect(read_only=False) as conn, pytest.raises(InvalidInputError, match='"run 1"'):
        journal.begin_roll_back(conn, "run 1")
    with address.connect() as conn:
        assert not journal.exists(conn)
