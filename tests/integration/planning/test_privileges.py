"""A role that is a member of another is told what its membership lacks, on servers old and new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from psycopg import sql

from airflow_migration.planning.privileges import check_membership
from airflow_migration.postgres.address import DatabaseAddress
from airflow_migration.secret import Secret


@pytest.fixture(params=["postgres_server", "newer_server"])
def server(request: pytest.FixtureRequest) -> DatabaseAddress:
    address: DatabaseAddress = request.getfixturevalue(request.param)
    return address


@pytest.fixture
def problems(server: DatabaseAddress) -> Callable[..., list[str]]:
    """Makes two roles by some statements; returns the remedies for what the source's lacks."""

    def look(*statements: str) -> list[str]:
        with server.connect(read_only=False, autocommit=True) as admin:
            for statement in (
                "DROP ROLE IF EXISTS the_source, the_target",
                "CREATE ROLE the_target",
                "CREATE ROLE the_source LOGIN PASSWORD 'x'",
                *statements,
            ):
                admin.execute(sql.SQL(statement))
        with replace(server, user="the_source", password=Secret("x")).connect() as there:
            return [finding.remedy for finding in check_membership(there, "the_source", "the_target")]

    return look


def major(server: DatabaseAddress) -> int:
    with server.connect() as session:
        return session.info.server_version // 10000


def test_a_member_with_all_rights_is_enough(problems: Callable[..., list[str]]) -> None:
    assert problems("GRANT the_target TO the_source") == []


def test_who_is_no_member_is_told_the_grant(problems: Callable[..., list[str]]) -> None:
    (remedy,) = problems()
    assert remedy.startswith('GRANT "the_target" TO "the_source"')


def test_a_member_who_inherits_nothing(problems: Callable[..., list[str]], server: DatabaseAddress) -> None:
    (remedy,) = problems("ALTER ROLE the_source NOINHERIT", "GRANT the_target TO the_source")
    mended = remedy.partition(",")[0] if major(server) < 16 else remedy.partition(", or")[0]
    assert problems("ALTER ROLE the_source NOINHERIT", "GRANT the_target TO the_source", mended) == []


def test_a_membership_by_which_the_role_cannot_be_taken_on(
    problems: Callable[..., list[str]], server: DatabaseAddress
) -> None:
    if major(server) < 16:
        pytest.skip("memberships have options from PostgreSQL 16 on")
    (remedy,) = problems("GRANT the_target TO the_source WITH SET FALSE")
    assert problems("GRANT the_target TO the_source WITH SET FALSE", remedy.partition(", or")[0]) == []
