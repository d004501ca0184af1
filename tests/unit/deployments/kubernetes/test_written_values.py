"""What charts write into secrets is read as Airflow and PgBouncer read it, and only the database's name changes."""

from __future__ import annotations

import base64

import pytest

from airflow_migration.deployments.kubernetes import pgbouncer, uri
from airflow_migration.deployments.kubernetes.fernet import read_fernet_keys
from airflow_migration.deployments.kubernetes.secrets import NAME_LENGTH, kept_name
from airflow_migration.deployments.kubernetes.workloads import selector_of
from airflow_migration.exceptions import InvalidInputError
from airflow_migration.secret import Secret

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.mark.parametrize(
    ("text", "host", "port", "user", "password", "database"),
    [
        ("postgresql://u:p@h:5433/d?sslmode=disable", "h", 5433, "u", "p", "d"),
        ("postgres://u:p@h/d\n", "h", 5432, "u", "p", "d"),
        ("postgresql+psycopg2://u%40x:p%2Fa%3As@h.a.svc:1/d-e", "h.a.svc", 1, "u@x", "p/a:s", "d-e"),
        ("db+postgresql://u:p@[::1]:5432/d", "::1", 5432, "u", "p", "d"),
        ("postgresql://h/d", "h", 5432, "", "", "d"),
    ],
)
def test_a_connection_string_is_read(text: str, host: str, port: int, user: str, password: str, database: str) -> None:
    read = uri.read_uri(text, "here")
    assert (read.host, read.port, read.user, read.database) == (host, port, user, database)
    assert read.password == Secret(password)
    assert uri.read_uri(uri.with_database(text, "other"), "here").database == "other"
    assert uri.with_database(text, database) == text


@pytest.mark.parametrize(
    "text", ["", "sqlite:////a", "postgresql://u:shown@a:1,b:2/d", "postgresql://u:shown@h", "u:shown@h/d"]
)
def test_another_value_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        uri.read_uri(text, "here")
    assert "shown" not in str(caught.value)


INI = """;[databases]
[databases]
; airflow = host=old
airflow = host=db port=5433 dbname='it''s' pool_size=1
"results" = port=5433 host=db dbname='it''s'
plain = host=db
socket = dbname=x
service = host=db port=named
[pgbouncer]
listen_port = 6543
server_tls_sslmode = verify-ca
airflow = host=db"""


def test_pgbouncers_databases_are_read() -> None:
    behind = pgbouncer.read_databases(INI)
    assert set(behind) == {"airflow", "results", "plain"}
    assert behind["airflow"] == behind["results"] == pgbouncer.Behind(host="db", port=5433, database="it's")
    assert behind["plain"] == pgbouncer.Behind(host="db", port=5432, database="plain")
    assert pgbouncer.read_options(INI)["server_tls_sslmode"] == "verify-ca"


def test_a_database_is_changed_behind_every_name_that_led_to_it() -> None:
    changed = pgbouncer.with_database(INI, "airflow", "new one's")
    assert changed == INI.replace("dbname='it''s'", "dbname='new one''s'")
    assert pgbouncer.read_databases(changed)["results"].database == "new one's"
    assert "plain = host=db dbname=other\n" in pgbouncer.with_database(INI, "plain", "other")


def test_keys_are_read_and_what_is_none_is_named() -> None:
    assert read_fernet_keys(f" {KEY}, {KEY}\n", "here") == Secret(f"{KEY},{KEY}")
    assert not read_fernet_keys("", "here")
    with pytest.raises(InvalidInputError, match="2 of 2") as caught:
        read_fernet_keys(f"{KEY},shown", "here")
    assert "shown" not in str(caught.value)


def encode(text: str) -> str:
    """As ``base64`` writes it, which wraps its lines."""
    return base64.encodebytes(text.encode()).decode()


@pytest.mark.parametrize(
    "value", [encode(KEY).strip(), encode(f"{KEY},{KEY}\n"), encode(encode(KEY)), f"{KEY},{encode(KEY)}"]
)
def test_keys_that_are_encoded_once_too_often_are_told_so(value: str) -> None:
    with pytest.raises(InvalidInputError, match="encoded in base64 twice"):
        read_fernet_keys(value, "here")


def test_a_connection_string_that_is_encoded_once_too_often_is_told_so() -> None:
    with pytest.raises(InvalidInputError, match="encoded in base64 twice") as caught:
        uri.read_uri(encode("postgresql://u:shown@h/d\n"), "here")
    assert "shown" not in str(caught.value)


def test_the_name_of_a_copy_is_never_too_long() -> None:
    assert kept_name("a-fernet-key") == "a-fernet-key-before-migration"
    long = kept_name("a" * 235 + "-" * 5 + "b" * 13)
    assert len(long) <= NAME_LENGTH
    assert long == "a" * 235 + "-before-migration"


def test_selectors_are_written_as_the_api_takes_them() -> None:
    expressions = [
        {"key": "b", "operator": "In", "values": ["1", "2"]},
        {"key": "c", "operator": "NotIn", "values": ["3"]},
        {"key": "d", "operator": "Exists"},
        {"key": "e", "operator": "DoesNotExist"},
    ]
    written = selector_of({"matchLabels": {"a": "x"}, "matchExpressions": expressions})
    assert written == "a=x,b in (1,2),c notin (3),d,!e"
