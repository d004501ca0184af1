"""Text that is only bytes to the source's database is found before anything reads it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from psycopg import sql

from airflow_migration.deployments.deployment import Deployment
from airflow_migration.exceptions import PreflightError
from airflow_migration.planning.from_outside import look_at_source
from airflow_migration.planning.plan import Plan
from airflow_migration.planning.text_checks import check_readable_text, check_text_for
from airflow_migration.postgres.address import DatabaseAddress

BYTES = "SET LOCAL client_encoding TO 'SQL_ASCII'; UPDATE variable SET val = E'caf\\xe9' WHERE NOT is_encrypted"
numbers = itertools.count(1)
NewEncoded = Callable[[str], DatabaseAddress]


@pytest.fixture
def encoded(postgres_server: DatabaseAddress) -> NewEncoded:
    """Makes an empty database of an encoding."""

    def make(encoding: str) -> DatabaseAddress:
        name = sql.Identifier(f"encoded {next(numbers)}")
        with postgres_server.connect(read_only=False, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
                    name, sql.Literal(encoding)
                )
            )
        return postgres_server.on(name.as_string()[1:-1])

    return make


@pytest.mark.parametrize(
    ("source", "target", "text", "found"),
    [
        ("UTF8", "LATIN1", "5 €", "variable"),
        ("UTF8", "LATIN1", "Zürich", None),
        ("UTF8", "SQL_ASCII", "5 €", None),
        ("SQL_ASCII", "UTF8", "5 €", None),
        ("LATIN1", "UTF8", "Zürich", None),
    ],
)
def test_text_must_exist_in_the_targets_encoding(
    encoded: NewEncoded, source: str, target: str, text: str, found: str | None
) -> None:
    old, new = encoded(source), encoded(target)
    with old.connect(read_only=False) as there, new.connect() as conn:
        there.execute(sql.SQL("CREATE TABLE variable AS SELECT {}::text AS val").format(sql.Literal(text)))
        findings = list(check_text_for(there, conn, ("variable", "dag")))
        assert [finding.evidence for finding in findings] == ([(found,)] if found else [])
        assert not list(check_readable_text(there))


def test_bytes_that_are_no_text_stop_every_preflight_with_their_table(
    encoded: NewEncoded,
    load_database: Callable[[DatabaseAddress, str], None],
    deployment: Callable[..., Deployment],
    plan_for: Callable[..., Plan],
) -> None:
    source = deployment(encoded("SQL_ASCII"))
    load_database(source.address, "2.10.5")
    with source.address.connect(read_only=False) as conn:
        conn.execute("INSERT INTO variable (key, is_encrypted) VALUES ('text', false)")
        conn.execute(BYTES)
    with pytest.raises(PreflightError, match=r"does not exist in UTF8, in which it is read \(variable\)"):
        plan_for(source, deployment(source.address.on("new")))
    findings = look_at_source(source, to=None, history_days=None, may_run=(), listener=lambda _: None).findings
    assert [(finding.check, finding.evidence) for finding in findings if finding.severity == "blocker"] == [
        ("text", ("variable",))
    ]
