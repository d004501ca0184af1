"""No secret and no row passes, in whatever spelling or over how many lines."""

from __future__ import annotations

import pytest

from airflow_migration.runtimes.redaction import Redactor


@pytest.mark.parametrize(
    "line", ["x s3cr t/ y", "postgres://me:s3cr%20t%2F@host", "s3cr+t%2F", "\x1b[31ms3cr t/\x1b[0m"]
)
def test_secrets_are_taken_out_in_every_spelling(line: str) -> None:
    assert "s3cr" not in Redactor(["s3cr t/"]).clean(line)


def test_logins_in_urls_are_taken_out_though_not_known() -> None:
    assert Redactor([]).clean("index https://me:token@host/simple failed") == "index https://***@host/simple failed"


@pytest.mark.parametrize(
    "line",
    [
        "DETAIL:  Failing row contains (1, aws, gAAAA-row).",
        "[parameters: {'val': 'gAAAA-row'}]",
        "CONTEXT:  JSON data, line 1: gAAAA-row{",
        "DETAIL:  Key (conn_id)=(gAAAA-row) already exists.",
        'DETAIL:  Token "gAAAA-row" is invalid.',
    ],
)
def test_rows_are_taken_out(line: str) -> None:
    assert "gAAAA" not in Redactor([]).clean(line)


def test_a_row_over_several_lines_is_hidden_to_its_end() -> None:
    redactor = Redactor([])
    lines = ["DETAIL:  Failing row contains (1, first", "", "gAAAA-row, 2).", "", "[SQL: ALTER TABLE xcom]"]
    cleaned = [redactor.clean(line) for line in lines]
    assert "gAAAA" not in "".join(cleaned)
    assert cleaned[-1] == "[SQL: ALTER TABLE xcom]"


def test_other_lines_pass_as_they_are() -> None:
    assert Redactor(["", "ab"]).clean("about 5 revisions") == "about 5 revisions"
