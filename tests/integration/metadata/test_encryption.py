"""What is found in databases that real releases wrote, and in rows that people really have."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encryption import digests, survey
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER = Secret(Fernet.generate_key().decode())


@pytest.fixture
def session(corpus: Callable[[str], DatabaseAddress]) -> Iterator[Session]:
    with corpus("1.10.15").connect(read_only=False) as session:
        yield session


@pytest.mark.parametrize("release", ["1.10.15", "2.2.5", "2.10.5"])
def test_the_source_s_key_reads_everything(
    corpus: Callable[[str], DatabaseAddress], fernet_key: Secret, release: str
) -> None:
    with corpus(release).connect() as session:
        found = survey(session, fernet_key)
    assert found.verdict == "readable"
    assert found.encrypted > 3
    assert found.unreadable == 0


def test_a_new_key_before_the_old_one_changes_nothing(session: Session, fernet_key: Secret) -> None:
    both = Secret(f"{OTHER.reveal()},{fernet_key.reveal()}")
    assert survey(session, both) == survey(session, fernet_key)


def test_a_wrong_key_reads_nothing(session: Session) -> None:
    found = survey(session, OTHER)
    assert found.verdict == "wrong key"
    assert found.unreadable == found.encrypted > 0
    variables = next(column for column in found.columns if column.table == "variable")
    assert "token" in variables.unreadable_rows


def test_no_key_is_told_from_a_wrong_one(session: Session) -> None:
    assert survey(session, Secret("")).verdict == "no key given"


def test_a_source_without_encryption_needs_no_key(session: Session) -> None:
    session.execute("UPDATE connection SET is_encrypted = false, password = 'clear', is_extra_encrypted = false")
    session.execute("UPDATE connection SET extra = NULL")
    session.execute("UPDATE variable SET is_encrypted = NULL, val = 'clear'")
    found = survey(session, Secret(""))
    assert (found.verdict, found.encrypted) == ("nothing encrypted", 0)


def test_an_invalid_key_is_refused(session: Session) -> None:
    with pytest.raises(InvalidInputError):
        survey(session, Secret("nonsense"))


def test_odd_rows_are_counted_and_named(session: Session, fernet_key: Secret) -> None:
    stray = Fernet(OTHER.reveal().encode()).encrypt(b"lost").decode()
    session.execute("UPDATE variable SET val = %s WHERE key = 'token'", (stray,))
    session.execute("UPDATE variable SET val = 'written by hand' WHERE key = 'env'")
    session.execute("UPDATE variable SET val = %s WHERE key = 'plain'", (stray,))
    session.execute("UPDATE connection SET conn_id = NULL, password = %s WHERE conn_id = 'pg_dwh'", (stray,))
    found = survey(session, fernet_key)
    assert found.verdict == "partly unreadable"
    variables = next(column for column in found.columns if column.table == "variable")
    assert variables.unreadable_rows == ("token",)
    assert variables.flagged_plain_text_rows == ("env",)
    assert variables.unflagged_ciphertext_rows == ("plain",)
    passwords = next(column for column in found.columns if column.column == "password")
    assert passwords.unreadable_rows == ("row 39",)
    text = json.dumps(dataclasses.asdict(found))
    assert stray not in text
    assert "lost" not in text


def test_at_most_ten_rows_are_named(session: Session, fernet_key: Secret) -> None:
    session.execute(
        "INSERT INTO variable (key, val, is_encrypted)"
        " SELECT 'v' || n, 'gAAAAAbroken', true FROM generate_series(1, 25) n"
    )
    variables = next(column for column in survey(session, fernet_key).columns if column.table == "variable")
    assert variables.unreadable == 25
    assert len(variables.unreadable_rows) == 10


def test_triggers_say_themselves_whether_they_are_encrypted(
    corpus: Callable[[str], DatabaseAddress], fernet_key: Secret
) -> None:
    token = Fernet(fernet_key.reveal().encode()).encrypt(b"{}").decode()
    with corpus("2.10.5").connect(read_only=False) as session:
        session.execute(
            "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a', '{}', now()), ('b', %s, now())",
            (token,),
        )
        found = next(column for column in survey(session, fernet_key).columns if column.table == "trigger")
    assert (found.values, found.encrypted, found.readable) == (2, 1, 1)


def test_an_autocommit_session_will_do(corpus: Callable[[str], DatabaseAddress], fernet_key: Secret) -> None:
    with corpus("2.10.5").connect(autocommit=True) as session:
        assert survey(session, fernet_key).verdict == "readable"


def test_tables_and_columns_that_are_missing_are_left_out(session: Session, fernet_key: Secret) -> None:
    session.execute("DROP TABLE variable")
    session.execute("ALTER TABLE connection DROP COLUMN is_extra_encrypted")
    assert [(column.table, column.column) for column in survey(session, fernet_key).columns] == [
        ("connection", "password")
    ]


def test_digests_do_not_depend_on_the_key_but_on_the_value_and_the_salt(session: Session, fernet_key: Secret) -> None:
    salt = os.urandom(32)
    before = digests(session, fernet_key, salt)
    rows = session.execute("SELECT id, val FROM variable WHERE key = 'token'").fetchone()
    assert rows is not None
    row, val = str(rows[0]), Fernet(fernet_key.reveal().encode()).decrypt(str(rows[1]).encode())
    again = Fernet(OTHER.reveal().encode()).encrypt(val).decode()
    session.execute("UPDATE variable SET val = %s WHERE key = 'token'", (again,))
    both = Secret(f"{OTHER.reveal()},{fernet_key.reveal()}")
    assert digests(session, both, salt) == before
    assert digests(session, both, os.urandom(32)) != before
    changed = digests(session, fernet_key, salt)
    assert {where for where in before if before[where] != changed[where]} == {("variable", row, "val")}
