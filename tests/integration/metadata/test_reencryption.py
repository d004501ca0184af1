"""Encrypted values change their key and nothing else changes, in old and new releases' databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import psycopg
import pytest
from cryptography.fernet import Fernet

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encryption import digests, survey
from airflow_migration.metadata.reencryption import RewrittenColumn, reencrypt
from airflow_migration.postgres.address import DatabaseAddress, Session
from airflow_migration.progress import Progress
from airflow_migration.secret import Secret

NEW, OLDER, STRANGE = (Secret(Fernet.generate_key().decode()) for _ in range(3))
BOTH = Secret(f"{NEW.reveal()},{OLDER.reveal()}")
SALT = b"0123456789abcdef"
MANY = 4500

Corpus = Callable[[str], DatabaseAddress]


def encrypt(key: Secret, text: str) -> str:
    return Fernet(key.reveal().encode()).encrypt(text.encode()).decode()


def run(conn: Session, old: Secret, new: Secret = NEW) -> dict[str, RewrittenColumn]:
    result = reencrypt(conn, old=old, new=new, listener=lambda message: None)
    return {f"{each.table}.{each.column}": each for each in result}


def everything_but_tokens(conn: Session) -> list[tuple[object, ...]]:
    """Every row of the tables concerned, encrypted values left out, with the flags."""
    return [
        *conn.execute(
            "SELECT to_jsonb(c) - 'password' - 'extra', CASE WHEN NOT is_encrypted THEN password END,"
            " CASE WHEN NOT is_extra_encrypted THEN extra END FROM connection c ORDER BY id"
        ).fetchall(),
        *conn.execute(
            "SELECT to_jsonb(v) - 'val', CASE WHEN NOT is_encrypted THEN val END FROM variable v ORDER BY id"
        ).fetchall(),
    ]


@pytest.mark.parametrize("release", ["1.10.15", "2.2.5", "2.10.5"])
def test_the_values_are_what_they_were_with_the_new_key_and_the_old_one_reads_none(
    corpus: Corpus, fernet_key: Secret, release: str
) -> None:
    with corpus(release).connect(read_only=False) as conn:
        conn.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('by hand', 'plain', false)")
        conn.commit()
        before, rows = digests(conn, fernet_key, SALT), everything_but_tokens(conn)
        encrypted = survey(conn, fernet_key).encrypted
        conn.rollback()
        done = run(conn, fernet_key)
        assert sum(each.rewritten for each in done.values()) == encrypted > 0
        assert digests(conn, NEW, SALT) == before
        assert survey(conn, fernet_key).verdict == "wrong key"
        assert everything_but_tokens(conn) == rows


def test_a_second_call_finds_nothing_to_do(corpus: Corpus, fernet_key: Secret) -> None:
    with corpus("1.10.15").connect(read_only=False) as conn:
        first = run(conn, fernet_key)
        rows = conn.execute("SELECT xmin::text, * FROM connection ORDER BY id").fetchall()
        conn.commit()
        again = run(conn, fernet_key)
        assert {name: each.left for name, each in again.items()} == {
            name: each.rewritten for name, each in first.items()
        }
        assert not any(each.rewritten for each in again.values())
        assert conn.execute("SELECT xmin::text, * FROM connection ORDER BY id").fetchall() == rows


def test_what_one_of_the_new_keys_reads_is_left(corpus: Corpus, fernet_key: Secret) -> None:
    token = encrypt(OLDER, "kept")
    with corpus("2.2.5").connect(read_only=False) as conn:
        conn.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('older', %s, true)", (token,))
        conn.commit()
        done = run(conn, Secret(f"{STRANGE.reveal()},{fernet_key.reveal()}"), BOTH)
        assert done["variable.val"].left == 1
        assert conn.execute("SELECT val FROM variable WHERE key = 'older'").fetchone() == (token,)
        assert survey(conn, BOTH).verdict == "readable"
        assert survey(conn, NEW).unreadable == 1


def test_triggers_and_connection_tests_in_batches(corpus: Corpus, fernet_key: Secret) -> None:
    old = Fernet(fernet_key.reveal().encode())
    with corpus("2.10.5").connect(read_only=False) as conn:
        conn.execute("INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('plain', '{\"a\": 1}', now())")
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('t', %s, now())",
                [(old.encrypt(b'{"n": %d}' % number).decode(),) for number in range(MANY)],
            )
        # As 3.3.0 makes it (models/connection_test.py), with ids that are no integers.
        conn.execute(
            "CREATE TABLE connection_test_request (id uuid PRIMARY KEY, connection_id text, password text,"
            " is_encrypted boolean, extra text, is_extra_encrypted boolean)"
        )
        conn.execute(
            "INSERT INTO connection_test_request VALUES (gen_random_uuid(), 'c', %s, true, '{}', false)",
            (old.encrypt(b"pass").decode(),),
        )
        conn.commit()
        heard: list[Progress | str] = []
        done = {
            each.table + "." + each.column: each.rewritten
            for each in reencrypt(conn, old=fernet_key, new=NEW, listener=heard.append)
        }
        assert (done["trigger.kwargs"], done["connection_test_request.password"]) == (MANY, 1)
        assert done["connection_test_request.extra"] == 0
        assert survey(conn, NEW).verdict == "readable"
        assert conn.execute("SELECT kwargs FROM trigger WHERE classpath = 'plain'").fetchone() == ('{"a": 1}',)
        assert {each.done for each in heard if isinstance(each, Progress)} >= {MANY}


def test_a_value_that_no_key_reads_is_named_and_nothing_is_changed(corpus: Corpus, fernet_key: Secret) -> None:
    lost = encrypt(STRANGE, "secret text")
    with corpus("2.2.5").connect(read_only=False) as conn:
        conn.execute("INSERT INTO variable (key, val, is_encrypted) VALUES ('lost one', %s, true)", (lost,))
        conn.commit()
        before = survey(conn, fernet_key)
        conn.rollback()
        with pytest.raises(InvalidInputError, match="lost one") as caught:
            run(conn, fernet_key)
        assert survey(conn, fernet_key) == before
    for secret in (lost, fernet_key.reveal(), NEW.reveal()):
        assert secret not in str(caught.value)


def test_a_kill_in_the_middle_leaves_everything_as_it_was(corpus: Corpus, fernet_key: Secret) -> None:
    address = corpus("2.2.5")

    def die(message: Progress | str) -> None:
        with address.maintenance().connect(read_only=False, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,))

    victim = address.connect(read_only=False)
    with pytest.raises(psycopg.OperationalError), victim:
        reencrypt(victim, old=fernet_key, new=NEW, listener=die)
    with address.connect(read_only=False) as conn:
        assert survey(conn, fernet_key).verdict == "readable"
        conn.rollback()
        run(conn, fernet_key)
        assert survey(conn, NEW).verdict == "readable"


@pytest.mark.parametrize("new", [NEW, Secret("")])
def test_where_nothing_is_encrypted_nothing_is_done(corpus: Corpus, new: Secret) -> None:
    with corpus("2.2.5").connect(read_only=False) as conn:
        conn.execute("UPDATE connection SET password = 'clear', is_encrypted = false, extra = NULL")
        conn.execute("UPDATE variable SET val = 'clear', is_encrypted = false")
        conn.commit()
        rows = everything_but_tokens(conn)
        assert not any(each.rewritten or each.left for each in run(conn, Secret(""), new).values())
        assert everything_but_tokens(conn) == rows


def test_the_result_holds_no_value(corpus: Corpus, fernet_key: Secret) -> None:
    with corpus("2.2.5").connect(read_only=False) as conn:
        text = json.dumps([asdict(each) for each in run(conn, fernet_key).values()])
    assert "gAAAA" not in text
    assert NEW.reveal() not in text
