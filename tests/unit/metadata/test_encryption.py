"""Keys and tokens, without a database."""

from __future__ import annotations

import traceback
from base64 import urlsafe_b64encode

import pytest
from cryptography.fernet import Fernet

from airflow_migration.exceptions import InvalidInputError
from airflow_migration.metadata.encryption import EncryptedValue, decrypt_one, looks_encrypted, read_keys
from airflow_migration.secret import Secret

OLD, NEW = (urlsafe_b64encode(letter * 32).decode() for letter in (b"o", b"n"))


def encrypt(key: str, text: str) -> str:
    return Fernet(key.encode()).encrypt(text.encode()).decode()


@pytest.mark.parametrize("keys", [OLD, f"{NEW},{OLD}", f" {NEW} , {OLD} "])
def test_any_of_the_keys_reads_a_value(keys: str) -> None:
    assert decrypt_one(read_keys(Secret(keys)), encrypt(OLD, "přístup")) == "přístup"


def test_another_key_reads_nothing() -> None:
    assert decrypt_one(read_keys(Secret(NEW)), encrypt(OLD, "x")) is None


@pytest.mark.parametrize(
    "token",
    ["", "plain", "gAAAAAB", "ž", encrypt(OLD, "x")[:-4]],
    ids=["empty", "plain", "short", "not ASCII", "cut off"],
)
def test_what_is_no_token_is_not_read(token: str) -> None:
    assert decrypt_one(read_keys(Secret(OLD)), token) is None


@pytest.mark.parametrize("keys", ["not-a-key", f"{OLD},not-a-key", OLD[:-8], "žluťoučký", ",", ""])
def test_a_wrong_key_is_refused_and_not_shown(keys: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_keys(Secret(keys))
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(part and part in shown for part in keys.split(","))
    assert caught.value.__cause__ is None


def test_the_bad_key_is_named_by_its_place() -> None:
    with pytest.raises(InvalidInputError, match="key 2 of 3"):
        read_keys(Secret(f"{NEW},nonsense,{OLD}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (encrypt(OLD, ""), True),
        (encrypt(OLD, "x" * 5000), True),
        (encrypt(OLD, "x")[:-4], False),
        ("gAAAAA but somebody's words", False),
        ("gAAAA" + "é" * 100, False),
        ("{}", False),
        ("", False),
    ],
    ids=["of nothing", "long", "cut off", "words", "not ASCII", "JSON", "empty"],
)
def test_a_token_is_known_by_its_shape(text: str, expected: bool) -> None:
    assert looks_encrypted(text) is expected


def test_a_value_does_not_show_itself() -> None:
    value = EncryptedValue(
        table="connection",
        column="password",
        row_key="1",
        name="db",
        condition="plain",
        value=Secret("hunter2"),
    )
    assert "hunter2" not in f"{value!r} {value}"
